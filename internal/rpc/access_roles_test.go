package rpc

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"galley/internal/auth"
)

// Every method, asked by every role and by nobody: the table is what happens.
func TestEveryMethodAgainstEveryRole(t *testing.T) {
	d := newDoorstep(t, true)
	names := d.server.Methods()
	if len(names) < 60 {
		t.Fatalf("%d methods", len(names))
	}
	for _, method := range names {
		p, ok := auth.OfMethod(method)
		if !ok {
			t.Errorf("%s is not in the table of internal/auth", method)
			continue
		}
		if strings.HasSuffix(method, "Health/Watch") {
			continue // never ends; Check and List beside it are asked
		}
		if got := status.Code(d.call(t, "", method)); (got == codes.Unauthenticated || got == codes.ResourceExhausted) != (p != auth.Open) {
			t.Errorf("%s, asked by nobody: %s", method, got)
		}
		for _, role := range auth.Roles() {
			err := d.call(t, d.secrets[role], method)
			if got := status.Code(err); got == codes.Unauthenticated || (got == codes.PermissionDenied) == role.May(p) {
				t.Errorf("%s, asked by %s: %v", method, role, err)
			}
		}
	}
}

// The table names no method that there is not.
func TestTableIsTrue(t *testing.T) {
	d := newDoorstep(t, false)
	served := d.server.Methods()
	protoregistry.GlobalFiles.RangeFiles(func(f protoreflect.FileDescriptor) bool {
		for i := range f.Services().Len() {
			methods := f.Services().Get(i).Methods()
			for j := range methods.Len() {
				served = append(served, fmt.Sprintf("/%s/%s", f.Services().Get(i).FullName(), methods.Get(j).Name()))
			}
		}
		return true
	})
	for _, name := range auth.Methods() {
		if !slices.Contains(served, name) {
			t.Errorf("the table names %s, which does not exist", name)
		}
	}
	patterns := []string{"GET /metrics"}
	for _, r := range d.api.mux.routes {
		patterns = append(patterns, r.pattern)
	}
	for _, pattern := range auth.Routes() {
		if !slices.Contains(patterns, pattern) {
			t.Errorf("the table names %s, which is no route", pattern)
		}
	}
}

// requestOf makes a request that a pattern matches.
func requestOf(t *testing.T, base, pattern string) *http.Request {
	t.Helper()
	verb, path, ok := strings.Cut(pattern, " ")
	if !ok {
		verb, path = "PATCH", pattern // which no route takes
	}
	path = strings.ReplaceAll(path, "{$}", "")
	for strings.Contains(path, "{") {
		i := strings.Index(path, "{")
		path = path[:i] + "x1" + path[i+strings.Index(path[i:], "}")+1:]
	}
	r, err := http.NewRequestWithContext(t.Context(), verb, base+path, strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	return r
}

// Every route, asked by every role and by nobody.
func TestEveryRouteAgainstEveryRole(t *testing.T) {
	d := newDoorstep(t, true)
	if len(d.api.mux.routes) < 60 {
		t.Fatalf("%d routes", len(d.api.mux.routes))
	}
	ask := func(pattern, secret string) (int, string) {
		r := requestOf(t, d.http.URL, pattern)
		if secret != "" {
			r.Header.Set("Authorization", "Bearer "+secret)
		}
		answer, err := d.http.Client().Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Body.Close()
		body, err := io.ReadAll(answer.Body)
		if err != nil {
			t.Fatal(err)
		}
		if answer.StatusCode == 401 && answer.Header.Get("WWW-Authenticate") == "" {
			t.Errorf("%s: no WWW-Authenticate", pattern)
		}
		return answer.StatusCode, string(body)
	}
	for _, route := range d.api.mux.routes {
		if !route.listed {
			t.Errorf("%s is not in the table of internal/auth", route.pattern)
			continue
		}
		if got, body := ask(route.pattern, ""); (got == 401 || got == 429) != (route.permission != auth.Open) {
			t.Errorf("%s, asked by nobody: %d %s", route.pattern, got, body)
		}
		for _, role := range auth.Roles() {
			got, body := ask(route.pattern, d.secrets[role])
			if got == 401 || (got == 403) == role.May(route.permission) {
				t.Errorf("%s, asked by %s: %d %s", route.pattern, role, got, body)
			}
		}
	}
}

// What is not in the table is denied to everyone, the local caller included.
func TestUnlistedIsDenied(t *testing.T) {
	for _, required := range []bool{true, false} {
		d := newDoorstep(t, required)
		mux := NewMux(d.server.httpEntrance, d.api.failRoute)
		called := false
		mux.HandleFunc("GET /new", func(http.ResponseWriter, *http.Request) { called = true })
		mux.HandleMethod("GET /v1/new", "/galley.control.v1.Control/New", func(http.ResponseWriter, *http.Request) { called = true })
		for _, path := range []string{"/new", "/v1/new"} {
			for _, secret := range append(slices.Collect(maps.Values(d.secrets)), "") {
				w, r := httptest.NewRecorder(), httptest.NewRequest("GET", path, nil)
				if secret != "" {
					r.Header.Set("Authorization", "Bearer "+secret)
				}
				if mux.ServeHTTP(w, r); w.Code != 403 || called {
					t.Errorf("%s: %d %s", path, w.Code, w.Body)
				}
			}
		}
		info := &grpc.UnaryServerInfo{FullMethod: "/galley.control.v1.Control/New"}
		for _, ctx := range []context.Context{t.Context(), auth.WithCaller(t.Context(), auth.Local)} {
			_, err := d.server.grpcEntrance.unary(ctx, nil, info, func(context.Context, any) (any, error) { called = true; return nil, nil })
			if status.Code(err) != codes.PermissionDenied || called {
				t.Errorf("%v", err)
			}
		}
	}
}
