package rpc

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"google.golang.org/grpc/status"

	"galley"
	"galley/internal/telemetry"
)

// NewHTTPServer makes a server of h with the bounds that galley sets to all
// its HTTP connections.
func NewHTTPServer(h http.Handler, log *slog.Logger) *http.Server {
	return &http.Server{
		Handler:           h,
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       time.Minute,
		WriteTimeout:      5 * time.Minute, // from the header's end: the body, the inference and the answer
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    maxHeaders,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
}

// An httpAPI answers routes with JSON.
type httpAPI struct {
	mux *Mux
	log *slog.Logger
}

// An endpoint returns the value that is written as JSON, with status 200.
type endpoint func(r *http.Request) (any, error)

// A refusal is an error of HTTP's own, which gRPC has no code for.
type refusal struct {
	status  int
	message string
}

func (e *refusal) Error() string { return e.message }

// NewHTTPHandler makes the handler of galley's HTTP port: the Open Inference
// Protocol below /v2, and the services that have REST routes below /v1, all
// answered by what s answers over gRPC.
func NewHTTPHandler(s *Server) http.Handler {
	api := newHTTPAPI(s)
	// Pages of other sites may not have a reader's browser ask on their behalf.
	guard := http.NewCrossOriginProtection()
	guard.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		api.fail(w, &refusal{http.StatusForbidden, "a page of another site may not ask"})
	}))
	return namedRequests(guard.Handler(api.mux))
}

// newHTTPAPI makes the routes of galley's HTTP port.
func newHTTPAPI(s *Server) *httpAPI {
	api := &httpAPI{log: s.log}
	api.mux = NewMux(s.httpEntrance, api.failRoute)
	api.mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		fmt.Fprintln(w, "galley serves the Open Inference Protocol, version 2, at /v2, and its control API at /v1")
	})
	api.mux.Refuse("/", func(w http.ResponseWriter, r *http.Request) {
		api.failRoute(w, r, &refusal{http.StatusNotFound, fmt.Sprintf("%s is not served here; routes begin with /v1, /v2/models and /v2/health", printable(r.URL.Path))})
	})
	inferenceRoutes(api, s)
	repositoryRoutes(api, s)
	s.gateway.handle(api)
	openAPIRoute(api)
	return api
}

// namedRequests gives each request a name, its client's own if it sent one,
// and says it in the answer.
func namedRequests(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, id := telemetry.WithRequestID(r.Context(), r.Header.Get(requestIDHeader))
		w.Header().Set("X-Request-Id", id)
		h.ServeHTTP(w, r.WithContext(ctx))
	})
}

// handle serves an endpoint that stands for a gRPC method, and refuses other
// methods of HTTP on its path.
func (a *httpAPI) handle(method, path, fullMethod string, e endpoint) {
	a.serve(method, path, fullMethod, e)
	a.mux.Refuse(path, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Allow", method)
		a.fail(w, &refusal{http.StatusMethodNotAllowed, fmt.Sprintf("%s does not take %s; use %s", printable(r.URL.Path), printable(r.Method), method)})
	})
}

// serve serves an endpoint that stands for a gRPC method.
func (a *httpAPI) serve(method, path, fullMethod string, e endpoint) {
	a.mux.HandleMethod(method+" "+path, fullMethod, func(w http.ResponseWriter, r *http.Request) {
		answer, err := a.guarded(e, r)
		if err != nil {
			a.fail(w, err)
			return
		}
		if raw, ok := answer.(*binaryAnswer); ok {
			raw.write(w)
			return
		}
		a.write(w, http.StatusOK, answer)
	})
}

// guarded does for an endpoint what unaryGuard does for a method.
func (a *httpAPI) guarded(e endpoint, r *http.Request) (answer any, err error) {
	defer func() {
		panicked := recover()
		if own := (*refusal)(nil); panicked != nil || !errors.As(err, &own) {
			err = finish(r.Context(), a.log, r.Pattern, panicked, statusOf(err))
		}
	}()
	return e(r)
}

// failRoute writes an error in the shape of the API that a path belongs to.
func (a *httpAPI) failRoute(w http.ResponseWriter, r *http.Request, err error) {
	if strings.HasPrefix(r.URL.Path, "/v1/") {
		a.failControl(w, err)
		return
	}
	a.fail(w, err)
}

// fail writes an error in the protocol's shape.
func (a *httpAPI) fail(w http.ResponseWriter, err error) {
	code, message := http.StatusInternalServerError, ""
	if own := (*refusal)(nil); errors.As(err, &own) {
		code, message = own.status, own.message
	} else {
		// As it would arrive over gRPC: without what is the server's own.
		e := FromStatus(status.Convert(err).Err())
		code, message = httpStatus(e.Code), e.Error()
		setRetry(w, e)
	}
	a.write(w, code, map[string]string{"error": message})
}

func (a *httpAPI) write(w http.ResponseWriter, code int, answer any) {
	var body bytes.Buffer
	e := json.NewEncoder(&body)
	e.SetEscapeHTML(false)
	if err := e.Encode(answer); err != nil {
		a.log.Error("answer cannot be written", "error", err)
		code = http.StatusInternalServerError
		body.Reset()
		body.WriteString(`{"error":"the server failed; its log says why"}`)
	}
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(code)
	// Who asked may have gone.
	_, _ = w.Write(body.Bytes())
}

// statusClientGone is the status for a request that its client has left; it
// is seen in logs only.
const statusClientGone = 499

// httpStatus maps codes as google.rpc.Code documents it.
func httpStatus(c galley.Code) int {
	switch c {
	case galley.InvalidArgument, galley.FailedPrecondition, galley.OutOfRange:
		return http.StatusBadRequest
	case galley.Unauthenticated:
		return http.StatusUnauthorized
	case galley.PermissionDenied:
		return http.StatusForbidden
	case galley.NotFound:
		return http.StatusNotFound
	case galley.AlreadyExists, galley.Aborted:
		return http.StatusConflict
	case galley.ResourceExhausted:
		return http.StatusTooManyRequests
	case galley.Canceled:
		return statusClientGone
	case galley.Unimplemented:
		return http.StatusNotImplemented
	case galley.Unavailable:
		return http.StatusServiceUnavailable
	case galley.DeadlineExceeded:
		return http.StatusGatewayTimeout
	default:
		return http.StatusInternalServerError
	}
}
