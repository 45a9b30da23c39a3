package rpc

import (
	"net/http/httptest"
	"strings"
	"testing"

	"galley/internal/auth"
)

// Where no token is asked for, a page whose name its site lets stand for this
// machine cannot ask through its reader's browser.
func TestOtherNamesAreRefused(t *testing.T) {
	open, closed := newDoorstep(t, false), newDoorstep(t, true)
	ask := func(d *doorstep, host, path, secret string) (int, string) {
		r := httptest.NewRequest("GET", path, nil)
		r.Host = host
		if secret != "" {
			r.Header.Set("Authorization", "Bearer "+secret)
		}
		w := httptest.NewRecorder()
		NewHTTPHandler(d.server).ServeHTTP(w, r)
		return w.Code, w.Body.String()
	}
	for _, host := range []string{"localhost", "LOCALHOST:8000", "127.0.0.1:8000", "127.1.2.3", "[::1]:8000", "::1", "[::ffff:127.0.0.1]:1", "galley.localhost:8000", "localhost.", ""} {
		if code, body := ask(open, host, "/v1/tokens", ""); code != 200 {
			t.Errorf("%q: %d %s", host, code, body)
		}
	}
	for _, host := range []string{"evil.example", "evil.example:8000", "localhost.evil.example", "127.0.0.1.evil.example", "10.0.0.1:8000", "[2001:db8::1]:8000", "0.0.0.0:8000", "notlocalhost"} {
		code, body := ask(open, host, "/v1/tokens", "")
		if code != 403 || !strings.Contains(body, "own name for itself") || !strings.Contains(body, "localhost or 127.0.0.1") {
			t.Errorf("%q: %d %s", host, code, body)
		}
		if code, body := ask(open, host, "/v1/tokens", open.secrets[auth.Admin]); code != 200 {
			t.Errorf("%q with a token: %d %s", host, code, body)
		}
		if code, body := ask(open, host, "/v2/health/live", ""); code == 403 {
			t.Errorf("%q for health: %d %s", host, code, body)
		}
		if code, body := ask(closed, host, "/v1/tokens", ""); code != 401 {
			t.Errorf("%q where tokens are asked for: %d %s", host, code, body)
		}
	}
	w, r := httptest.NewRecorder(), httptest.NewRequest("GET", "http://evil.example/metrics", nil)
	if NewMetricsHandler(NewMetrics(), NewOpenAccess(quiet()).Entrance(false)).ServeHTTP(w, r); w.Code != 403 {
		t.Errorf("metrics: %d %s", w.Code, w.Body)
	}
}
