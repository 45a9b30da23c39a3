package rpc

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"

	"galley"
	"galley/internal/auth"
)

// A Mux is an http.ServeMux behind an entrance. The table of internal/auth
// says who may call a route; one without a line there is denied.
type Mux struct {
	mux      *http.ServeMux
	entrance *Entrance
	fail     func(http.ResponseWriter, *http.Request, error)
	routes   []muxRoute
}

// A muxRoute is a pattern of a Mux with the permission that it asks for.
type muxRoute struct {
	pattern    string
	permission auth.Permission
	listed     bool
}

// NewMux makes an empty mux. fail answers who is not let in; it gives each
// protocol its own shape of errors.
func NewMux(entrance *Entrance, fail func(http.ResponseWriter, *http.Request, error)) *Mux {
	return &Mux{mux: http.NewServeMux(), entrance: entrance, fail: fail}
}

// HandleFunc serves a pattern that the table has a line for.
func (m *Mux) HandleFunc(pattern string, f http.HandlerFunc) {
	p, ok := auth.OfRoute(pattern)
	m.handle(muxRoute{pattern, p, ok}, f)
}

// HandleMethod serves a pattern that stands for a gRPC method.
func (m *Mux) HandleMethod(pattern, fullMethod string, f http.HandlerFunc) {
	p, ok := auth.OfMethod(fullMethod)
	m.handle(muxRoute{pattern, p, ok}, f)
}

// Refuse serves a pattern that is answered with an error only, such as one
// without a method. Who is not known learns no more than that.
func (m *Mux) Refuse(pattern string, f http.HandlerFunc) {
	m.handle(muxRoute{pattern, auth.Describe, true}, f)
}

func (m *Mux) handle(route muxRoute, f http.HandlerFunc) {
	m.routes = append(m.routes, route)
	m.mux.HandleFunc(route.pattern, func(w http.ResponseWriter, r *http.Request) {
		what := r.Method + " " + r.URL.Path
		ctx, err := r.Context(), unlisted(what)
		if route.listed {
			if err = m.entrance.addressed(route.permission, r); err != nil {
				m.fail(w, r, statusOf(err))
				return
			}
			if ctx, err = m.entrance.admit(ctx, route.permission, r.Header.Values("Authorization"), r.RemoteAddr); err == nil {
				err = authorize(ctx, route.permission, what)
			}
		}
		if err != nil {
			m.entrance.noteRefusal(ctx, route.pattern, err)
			if galley.CodeOf(err) == galley.Unauthenticated {
				w.Header().Set("WWW-Authenticate", fmt.Sprintf("Bearer realm=%q", domain))
			}
			m.fail(w, r, statusOf(err))
			return
		}
		f(w, r.WithContext(ctx))
	})
}

// addressed refuses a request without a token that was sent to another name
// than this machine's own, where none is asked for. A page of another site
// whose name it lets stand for 127.0.0.1 could otherwise have its reader's
// browser ask as whoever is on this machine.
func (e *Entrance) addressed(p auth.Permission, r *http.Request) error {
	if p == auth.Open || e.required || r.Header.Get("Authorization") != "" || isLocal(r.Host) {
		return nil
	}
	return galley.Errorf(galley.PermissionDenied, "host", "%s is not this machine's own name for itself", printable(r.Host)).
		WithRemedy("ask localhost or 127.0.0.1, or send a token")
}

// isLocal reports whether a host, with or without a port, is one that no name
// server decides about. A request of HTTP/1.0 has none.
func isLocal(host string) bool {
	name := host
	if h, _, err := net.SplitHostPort(host); err == nil {
		name = h
	}
	name = strings.ToLower(strings.TrimSuffix(strings.Trim(name, "[]"), "."))
	ip, err := netip.ParseAddr(name)
	return err == nil && ip.Unmap().IsLoopback() || name == "" || name == "localhost" || strings.HasSuffix(name, ".localhost")
}

// ServeHTTP implements http.Handler.
func (m *Mux) ServeHTTP(w http.ResponseWriter, r *http.Request) { m.mux.ServeHTTP(w, r) }

// NewMetricsHandler answers Prometheus behind an entrance.
func NewMetricsHandler(m *Metrics, entrance *Entrance) http.Handler {
	mux := NewMux(entrance, func(w http.ResponseWriter, _ *http.Request, err error) {
		e := FromStatus(err)
		setRetry(w, e)
		http.Error(w, e.Error(), httpStatus(e.Code))
	})
	mux.HandleFunc("GET /metrics", m.Handler().ServeHTTP)
	return mux
}
