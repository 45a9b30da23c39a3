package rpc

import (
	"context"
	"crypto/sha256"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	grpcmd "google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"

	controlpb "galley/api/control/v1"
	inferencepb "galley/api/inference/v2"

	"galley"
	"galley/internal/audit"
	"galley/internal/auth"
	"galley/internal/control"
	"galley/internal/store"
)

// Without tokens being asked for, everyone is the local caller; who shows one
// is its bearer, and a wrong one is wrong here, too.
func TestLocalCaller(t *testing.T) {
	d := newDoorstep(t, false)
	const list = "/galley.control.v1.Access/ListTokens"
	if err := d.call(t, "", list); err != nil {
		t.Error(err)
	}
	if err := d.call(t, d.secrets[auth.Viewer], list); status.Code(err) != codes.PermissionDenied {
		t.Errorf("%v", err)
	}
	if err := d.call(t, "glt_wrong", list); status.Code(err) != codes.Unauthenticated {
		t.Errorf("%v", err)
	}
	if code, body := call(t, d.http, "GET", "/v1/tokens", ""); code != 200 {
		t.Errorf("%d %s", code, body)
	}
	if code, body := call(t, d.http, "GET", "/v1/tokens", "", "Authorization", "Bearer "+d.secrets[auth.Viewer]); code != 403 {
		t.Errorf("%d %s", code, body)
	}
}

// Expired, revoked, foreign and malformed tokens open nothing, over gRPC and
// HTTP, also when the clock jumps back.
func TestDeadTokens(t *testing.T) {
	d := newDoorstep(t, true)
	const method = "/galley.control.v1.Control/ListJobs"
	check := func(what, secret string, want codes.Code, part string) {
		t.Helper()
		err := d.call(t, secret, method)
		e := FromStatus(err)
		if status.Code(err) != want || want == codes.Unauthenticated && (!strings.Contains(e.Message, part) || e.Subject == "" || e.Remedy == "") {
			t.Errorf("%s: %v, remedy %q", what, err, e.Remedy)
		}
		code, body := call(t, d.http, "GET", "/v1/jobs", "", "Authorization", "Bearer "+secret)
		if (code == 401) != (want == codes.Unauthenticated) || code == 401 && (!strings.Contains(body, part) || !strings.Contains(body, `"remedy":`) || !strings.Contains(body, `"code":"UNAUTHENTICATED"`)) {
			t.Errorf("%s: %d %s", what, code, body)
		}
		if len(secret) > 8 && (strings.Contains(body, secret) || strings.Contains(d.log.String(), secret)) {
			t.Errorf("%s: the secret is shown", what)
		}
		// So that no attempt is one too many.
		d.pass(time.Minute)
	}
	check("live", d.secrets[auth.Viewer], codes.Unimplemented, "")
	if _, err := d.tokens.Revoke(t.Context(), "test", d.ids[auth.Engineer]); err != nil {
		t.Fatal(err)
	}
	check("revoked", d.secrets[auth.Engineer], codes.Unauthenticated, "was revoked")
	foreign, _, _ := auth.NewSecret()
	check("foreign", foreign, codes.Unauthenticated, "not known")
	check("none", "", codes.Unauthenticated, "")
	check("empty", " ", codes.Unauthenticated, "")
	check("hostile", strings.Repeat("x", 8000), codes.Unauthenticated, "not known")
	next, secret, err := d.tokens.Rotate(t.Context(), "test", d.ids[auth.Operator], 10*time.Minute, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	check("rotated, in the overlap", d.secrets[auth.Operator], codes.Unimplemented, "")
	check("its successor", secret, codes.Unimplemented, "")
	d.pass(10 * time.Minute)
	check("rotated, after the overlap", d.secrets[auth.Operator], codes.Unauthenticated, "expired")
	check("its successor, later", secret, codes.Unimplemented, "")
	d.pass(time.Hour)
	check("expired", d.secrets[auth.Viewer], codes.Unauthenticated, "expired")
	d.set(-100 * time.Hour)
	check("expired, the clock jumped back", d.secrets[auth.Viewer], codes.Unauthenticated, "expired")
	check("rotated, the clock jumped back", d.secrets[auth.Operator], codes.Unauthenticated, "expired")
	// One that was ahead, and is right again, has ended no token for good.
	d.set(100 * time.Hour)
	_, fresh, err := d.tokens.Create(t.Context(), "test", control.TokenRequest{Role: auth.Viewer, Lifetime: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	check("before the clock is set", fresh, codes.Unimplemented, "")
	d.set(1000 * time.Hour)
	check("the clock is ahead", fresh, codes.Unauthenticated, "expired")
	d.set(-1000 * time.Hour)
	check("the clock is right again", fresh, codes.Unimplemented, "")
	check("revoked, after all of that", d.secrets[auth.Engineer], codes.Unauthenticated, "was revoked")

	// Two tokens in one request are none.
	ctx := as(as(t.Context(), secret), secret)
	if err := d.conn.Invoke(ctx, method, &emptypb.Empty{}, &emptypb.Empty{}); status.Code(err) != codes.Unauthenticated {
		t.Errorf("two headers: %v", err)
	}
	// Another process that opens the home sees the same.
	again, err := control.OpenTokens(t.Context(), d.store, nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(again.List()) != len(d.tokens.List()) || next.Digest != sha256.Sum256([]byte(secret)) {
		t.Error("what is stored is not what is held")
	}
}

// Failed attempts of an address are limited; live tokens get in all the same.
func TestFailuresAreLimited(t *testing.T) {
	d := newDoorstep(t, true)
	const method = "/galley.control.v1.Control/ListJobs"
	seen := map[codes.Code]int{}
	for range 3 * failureBurst {
		seen[status.Code(d.call(t, "glt_guess", method))]++
	}
	if seen[codes.Unauthenticated] != failureBurst || seen[codes.ResourceExhausted] != 2*failureBurst {
		t.Errorf("%v", seen)
	}
	if err := d.call(t, d.secrets[auth.Viewer], method); status.Code(err) != codes.Unimplemented {
		t.Errorf("a live token: %v", err)
	}
	// HTTP has the same limit, and says when to come back.
	r, _ := http.NewRequest("GET", d.http.URL+"/v1/jobs", nil)
	answer, err := d.http.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	answer.Body.Close()
	if answer.StatusCode != 429 || answer.Header.Get("Retry-After") == "" {
		t.Errorf("%d, Retry-After %q", answer.StatusCode, answer.Header.Get("Retry-After"))
	}
	if n := strings.Count(d.log.String(), "was not let in"); n != failureBurst {
		t.Errorf("%d lines in the log", n)
	}
	// A large message of an address over its limit is not read.
	big := &inferencepb.ModelInferRequest{RawInputContents: [][]byte{make([]byte, 32<<20)}}
	begun := time.Now()
	if err := d.conn.Invoke(as(t.Context(), "glt_guess"), inferencepb.GRPCInferenceService_ModelInfer_FullMethodName, big, &emptypb.Empty{}, grpc.MaxCallSendMsgSize(64<<20)); status.Code(err) != codes.ResourceExhausted {
		t.Errorf("%v after %s", err, time.Since(begun))
	}
	if n := d.server.grpcEntrance.counts.unknown.Load(); n != failureBurst {
		t.Errorf("%d unauthenticated in the metrics", n)
	}
	d.pass(failureEvery)
	if err := d.call(t, "glt_guess", method); status.Code(err) != codes.Unauthenticated {
		t.Errorf("later: %v", err)
	}
}

func TestHost(t *testing.T) {
	for address, want := range map[string]string{
		"10.0.0.1:80": "10.0.0.1", "[::ffff:10.0.0.1]:80": "10.0.0.1", "[2001:db8::1]:80": "2001:db8::/64", "[2001:db8::ffff]:81": "2001:db8::/64",
		"[fe80::1%eth0]:1": "fe80::/64", "bufconn": "bufconn", "": "",
	} {
		if got := host(address); got != want {
			t.Errorf("%s: %s", address, got)
		}
	}
}

// Creation, revocation and rotation of tokens, and what a known caller is
// refused, are in the audit log with address and token; what a stranger is
// refused is not, and nobody fills the log.
func TestAccessIsAudited(t *testing.T) {
	d := newDoorstep(t, true)
	access := controlpb.NewAccessClient(d.conn)
	admin := as(t.Context(), d.secrets[auth.Admin])
	made, err := access.CreateToken(admin, &controlpb.CreateTokenRequest{Role: "viewer", Name: "anna", Tenant: "sports"})
	if err != nil {
		t.Fatal(err)
	}
	if got := made.GetAbout().GetExpires().AsTime().Sub(d.now); got != control.TokenLifetime {
		t.Errorf("lives %s", got)
	}
	rotated, err := access.RotateToken(admin, &controlpb.RotateTokenRequest{Id: made.GetAbout().GetId()})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := access.RevokeToken(admin, &controlpb.RevokeTokenRequest{Id: rotated.GetAbout().GetId()}); err != nil {
		t.Fatal(err)
	}
	if code, _ := call(t, d.http, "POST", "/v1/jobs/x/cancel", "", "Authorization", "Bearer "+d.secrets[auth.Viewer]); code != 403 {
		t.Errorf("status %d", code)
	}
	for range 2 * refusalBurst {
		if _, err := access.ListTokens(as(t.Context(), made.GetToken()), &controlpb.ListTokensRequest{}); status.Code(err) != codes.PermissionDenied {
			t.Error(err)
		}
	}
	d.call(t, "", "/galley.control.v1.Access/ListTokens")
	entries, err := d.store.Audit(t.Context(), store.AuditQuery{After: int64(len(auth.Roles())), Limit: 1000})
	if err != nil {
		t.Fatal(err)
	}
	if len(entries) != 4+refusalBurst {
		t.Fatalf("%d entries", len(entries))
	}
	for i, want := range []struct{ actor, action, subject, token string }{
		{"the-admin", "auth.create", "anna/" + made.GetAbout().GetId(), d.ids[auth.Admin]},
		{"the-admin", "auth.rotate", "anna/" + rotated.GetAbout().GetId(), d.ids[auth.Admin]},
		{"the-admin", "auth.revoke", "anna/" + rotated.GetAbout().GetId(), d.ids[auth.Admin]},
		{"the-viewer", "auth.refuse", "POST /v1/jobs/{job}/cancel", d.ids[auth.Viewer]},
		{"anna", "auth.refuse", "/galley.control.v1.Access/ListTokens", made.GetAbout().GetId()},
	} {
		e := entries[i]
		if string(e.Actor) != want.actor || e.Action != want.action || e.Subject != want.subject || e.Token != want.token || !strings.HasPrefix(e.Address, "127.0.0.1:") {
			t.Errorf("%+v", e)
		}
	}
	for _, e := range entries {
		if strings.Contains(fmt.Sprint(e), auth.Prefix) {
			t.Errorf("%+v shows a secret", e)
		}
	}
	head, err := d.store.AuditHead(t.Context())
	if err != nil || head == (audit.Head{}) {
		t.Errorf("%+v, %v", head, err)
	}
}

// A promotion past the gate needs another permission than one behind it.
func TestForce(t *testing.T) {
	d := newDoorstep(t, true)
	client := controlpb.NewControlClient(d.conn)
	for role, want := range map[auth.Role]codes.Code{auth.Engineer: codes.PermissionDenied, auth.Operator: codes.Unimplemented, auth.Admin: codes.Unimplemented} {
		_, err := client.Promote(as(t.Context(), d.secrets[role]), &controlpb.PromoteRequest{Ref: "news@1", Alias: "prod", Force: true, Reason: "because"})
		if status.Code(err) != want {
			t.Errorf("%s: %v", role, err)
		}
		if _, err := client.Promote(as(t.Context(), d.secrets[role]), &controlpb.PromoteRequest{Ref: "news@1", Alias: "prod"}); status.Code(err) != codes.Unimplemented {
			t.Errorf("%s: %v", role, err)
		}
	}
}

// Requests for tokens, well and badly made.
func TestTokenRequests(t *testing.T) {
	d := newDoorstep(t, true)
	for body, want := range map[string]int{
		`{"role":"viewer","name":"a"}`: 200, `{"role":"viewer","name":"b","lifetime":"60s"}`: 200, `{"role":"partner","lifetime":"0s"}`: 200,
		`{"role":"king"}`: 400, `{}`: 400, `{"role":"viewer","name":"A B"}`: 400, `{"role":"viewer","name":"galley"}`: 400,
		`{"role":"admin","tenant":"sports"}`: 400, `{"role":"viewer","tenant":"../.."}`: 400, `{"role":"viewer","lifetime":"-1s"}`: 400,
		`{"role":"viewer","lifetime":"1e30s"}`: 400, `{"role":"viewer","lifetime":"0.1s"}`: 400, `{"role":"viewer","name":"the-viewer"}`: 409,
		`{"role":"viewer","name":"` + strings.Repeat("x", 1000) + `"}`: 400, `{"role":1}`: 400, `[]`: 400,
	} {
		code, answer := call(t, d.http, "POST", "/v1/tokens", body, "Authorization", "Bearer "+d.secrets[auth.Admin], "Content-Type", "application/json")
		if code != want {
			t.Errorf("%s: %d %s", body, code, answer)
		}
	}
	for path, want := range map[string]int{"/v1/tokens/absent/revoke": 404, "/v1/tokens/absent/rotate": 404, "/v1/tokens/" + strings.Repeat("x", 2000) + "/revoke": 404} {
		body := ""
		if strings.HasSuffix(path, "rotate") {
			body = "{}"
		}
		if code, answer := call(t, d.http, "POST", path, body, "Authorization", "Bearer "+d.secrets[auth.Admin]); code != want || len(answer) > 1000 {
			t.Errorf("%.40s: %d %s", path, code, answer)
		}
	}
}

// The caller of a request reaches its handler over every way in.
func TestActorReachesHandlers(t *testing.T) {
	d := newDoorstep(t, false)
	var got []string
	record := func(ctx context.Context) {
		origin := galley.OriginOf(ctx)
		got = append(got, fmt.Sprint(actorOf(ctx), " ", origin.Token, " ", strings.HasPrefix(origin.Address, "127.0.0.1:")))
	}
	info := &grpc.UnaryServerInfo{FullMethod: "/galley.control.v1.Control/GetJob"}
	handler := func(ctx context.Context, _ any) (any, error) { record(ctx); return nil, nil }
	ctx := grpcmd.NewIncomingContext(t.Context(), grpcmd.Pairs("authorization", "bearer "+d.secrets[auth.Viewer]))
	if _, err := d.server.grpcEntrance.unary(ctx, proto.Message(nil), info, handler); err != nil {
		t.Error(err)
	}
	mux := NewMux(d.server.httpEntrance, d.api.failRoute)
	mux.HandleMethod("GET /v1/x", info.FullMethod, func(_ http.ResponseWriter, r *http.Request) { record(r.Context()) })
	for _, header := range []string{"", "Bearer " + d.secrets[auth.Viewer]} {
		r := httptest.NewRequest("GET", "http://localhost/v1/x", nil)
		r.RemoteAddr = "127.0.0.1:4000"
		if header != "" {
			r.Header.Set("Authorization", header)
		}
		mux.ServeHTTP(httptest.NewRecorder(), r)
	}
	want := []string{"the-viewer " + d.ids[auth.Viewer] + " false", "local  true", "the-viewer " + d.ids[auth.Viewer] + " true"}
	if !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

// What is turned away, and the next token to expire, are in the metrics.
func TestAccessMetrics(t *testing.T) {
	d := newDoorstep(t, true)
	m := NewMetrics()
	m.WatchAccess(d.server.grpcEntrance.Access)
	d.call(t, "", "/galley.control.v1.Control/ListJobs")
	d.call(t, d.secrets[auth.Viewer], "/galley.control.v1.Control/SubmitJob")
	d.pass(time.Minute)
	for _, r := range auth.Roles()[1:] { // all but the viewer's live on without an end
		if _, _, err := d.tokens.Rotate(t.Context(), "test", d.ids[r], time.Minute, 0); err != nil {
			t.Fatal(err)
		}
	}
	handler := NewMetricsHandler(m, d.server.httpEntrance)
	for secret, want := range map[string]int{"": 401, d.secrets[auth.Application]: 403, d.secrets[auth.Viewer]: 200} {
		w, r := httptest.NewRecorder(), httptest.NewRequest("GET", "http://localhost/metrics", nil)
		if secret != "" {
			r.Header.Set("Authorization", "Bearer "+secret)
		}
		if handler.ServeHTTP(w, r); w.Code != want {
			t.Errorf("%d, want %d", w.Code, want)
		}
	}
	w := httptest.NewRecorder()
	m.Handler().ServeHTTP(w, httptest.NewRequest("GET", "http://localhost/metrics", nil))
	expiry := float64(d.now.Add(59 * time.Minute).Unix())
	for _, want := range []string{
		`galley_access_denied{reason="unauthenticated"} 2`, `galley_access_denied{reason="refused"} 2`, `galley_access_denied{reason="limited"} 0`,
		fmt.Sprintf("galley_token_next_expiry_seconds %v\n", expiry),
	} {
		if !strings.Contains(w.Body.String(), want) {
			t.Errorf("no %s in\n%s", want, w.Body)
		}
	}
}
