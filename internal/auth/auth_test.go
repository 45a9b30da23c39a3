package auth

import (
	"context"
	"errors"
	"regexp"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"galley"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func issue(name string, role Role, lifetime time.Duration) (Token, string) {
	secret, id, digest := NewSecret()
	t := Token{ID: id, Name: name, Role: role, Digest: digest, Created: noon}
	if lifetime != 0 {
		t.Expires = noon.Add(lifetime)
	}
	return t, secret
}

func TestSecret(t *testing.T) {
	seen := map[string]bool{}
	for range 200 {
		secret, id, _ := NewSecret()
		if !regexp.MustCompile(`^glt_[a-z2-7]{16}_[a-z2-7]{52}$`).MatchString(secret) || seen[id] || seen[secret] {
			t.Fatalf("%s, %s", secret, id)
		}
		if got, ok := idOf(secret); !ok || got != id {
			t.Errorf("%s, %v", got, ok)
		}
		seen[id], seen[secret] = true, true
	}
}

func TestAuthenticate(t *testing.T) {
	live, secret := issue("cms", Application, time.Hour)
	forever, foreverSecret := issue("root", Admin, 0)
	gone, goneSecret := issue("gone", Viewer, time.Hour)
	gone.Revoked = noon
	_, foreign := issue("cms", Application, time.Hour)
	k := NewKeyring([]Token{live, forever, gone})
	for what, tt := range map[string]struct {
		secret string
		at     time.Time
		want   string // of the error
	}{
		"live":              {secret, noon, ""},
		"for ever":          {foreverSecret, noon, ""},
		"revoked":           {goneSecret, noon, "was revoked on 2026-03-01"},
		"of another server": {foreign, noon, "not known"},
		"empty":             {"", noon, "not known"},
		"no secret":         {"hello", noon, "not known"},
		"huge":              {Prefix + strings.Repeat("a", 1<<20), noon, "not known"},
		"another's id":      {Prefix + live.ID + foreverSecret[len(Prefix)+idDigits:], noon, "not known"},
		"upper case":        {strings.ToUpper(secret), noon, "not known"},
		"cut off":           {secret[:len(secret)-1], noon, "not known"},
		"with a space":      {secret + " ", noon, "not known"},
	} {
		got, err := k.Authenticate(tt.secret, tt.at)
		if tt.want == "" {
			if err != nil || got.ID == "" {
				t.Errorf("%s: %v", what, err)
			}
			continue
		}
		if galley.CodeOf(err) != galley.Unauthenticated || !strings.Contains(err.Error(), tt.want) || galley.AsError(err).Remedy == "" || got != (Token{}) {
			t.Errorf("%s: %v", what, err)
		}
		if len(tt.secret) > 20 && strings.Contains(err.Error(), tt.secret) {
			t.Errorf("%s: the error shows the secret", what)
		}
	}
}

func TestKeyring(t *testing.T) {
	root, _ := issue("root", Admin, time.Hour)
	k := NewKeyring(nil)
	if k.HasLive(Admin, noon) {
		t.Error("an empty ring has an admin")
	}
	k.Put(root)
	if !k.HasLive(Admin, noon) || k.HasLive(Viewer, noon) {
		t.Error("a live admin is not found")
	}
	root.Revoked = noon
	k.Put(root)
	if k.HasLive(Admin, noon) || len(k.List()) != 1 {
		t.Error("a revoked admin is live")
	}
	if _, ok := k.Get("absent"); ok {
		t.Error("an absent token is found")
	}
}

func TestRoles(t *testing.T) {
	for _, r := range Roles() {
		if got, err := ParseRole(string(r)); got != r || err != nil {
			t.Errorf("%s: %v", r, err)
		}
		if !r.May(Open) || !r.May(Describe) {
			t.Errorf("%s may not even see what is served", r)
		}
	}
	for _, bad := range []string{"", "Admin", "root", strings.Repeat("x", 1000)} {
		if _, err := ParseRole(bad); galley.CodeOf(err) != galley.InvalidArgument || len(err.Error()) > 400 {
			t.Errorf("%q: %v", bad, err)
		}
	}
	for _, p := range Permissions() {
		if !Admin.May(p) {
			t.Errorf("an admin lacks %s", p)
		}
		if Role("").May(p) || Role("king").May(p) {
			t.Errorf("a role that is none has %s", p)
		}
	}
	if Admin.May("fly") || Admin.May("") {
		t.Error("a permission that is none is granted")
	}
}

// The table asks for permissions that there are.
func TestTablePermissions(t *testing.T) {
	for _, table := range []map[string]Permission{methods, routes} {
		for name, p := range table {
			if len(With(p)) == 0 {
				t.Errorf("%s asks for %q, which no role has", name, p)
			}
		}
	}
	for _, name := range []string{"", "/", "galley.control.v1.Control/Promote", "/galley.control.v1.Control/promote", "/galley.control.v1.Control/Promote/", "//galley.control.v1.Control/Promote"} {
		if _, ok := OfMethod(name); ok {
			t.Errorf("%q is in the table", name)
		}
	}
}

func TestCaller(t *testing.T) {
	if _, ok := CallerOf(context.Background()); ok {
		t.Error("nobody is a caller")
	}
	c := Caller{Actor: "cms", Role: Application, Token: "id"}
	if got, ok := CallerOf(WithCaller(context.Background(), c)); got != c || !ok {
		t.Errorf("%+v", got)
	}
	err := c.Require(Promote, "/Promote")
	if e := galley.AsError(err); e.Code != galley.PermissionDenied || e.Subject != "/Promote" || e.Remedy != "ask with a token whose role is engineer, operator or admin" || !errors.Is(err, ErrRefused) {
		t.Errorf("%v", err)
	}
	if err := (Caller{}).Require(Describe, "x"); !errors.Is(err, ErrRefused) {
		t.Errorf("%v", err)
	}
}

func TestLimiter(t *testing.T) {
	l := NewLimiter(3, time.Second, 2)
	allowed := func(key string, at time.Duration) bool {
		_, ok := l.Allow(key, noon.Add(at))
		return ok
	}
	for i := range 3 {
		if l.Spent("a", noon) || !allowed("a", 0) {
			t.Errorf("the %dth is refused", i+1)
		}
	}
	if wait, ok := l.Allow("a", noon); ok || wait <= 0 || wait > time.Second || !l.Spent("a", noon) {
		t.Errorf("%s, %v", wait, ok)
	}
	if !allowed("a", time.Second) || allowed("a", time.Second) {
		t.Error("one second gives one")
	}
	// A clock that jumps back neither locks out for long nor gives anything.
	if allowed("a", -time.Hour) || !allowed("a", -time.Hour+2*time.Second) {
		t.Error("after a jump back")
	}
	// A third key takes the place of the one that waited longest.
	allowed("b", 0)
	allowed("c", 0)
	if l.Spent("a", noon) || len(l.buckets) != 2 {
		t.Error("the oldest is not forgotten")
	}
}

// Whatever happens, memory is bounded and no key gets more than its rate.
func TestLimiterBounds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		most := rapid.IntRange(1, 4).Draw(t, "keys")
		l := NewLimiter(2, time.Second, most)
		at := noon
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			at = at.Add(time.Duration(rapid.IntRange(0, 1500).Draw(t, "ms")) * time.Millisecond)
			key := rapid.SampledFrom([]string{"a", "b", "c", "d", "e"}).Draw(t, "key")
			l.Allow(key, at)
			n := 0
			for b := l.oldest; b != nil; b = b.next {
				if n++; b.next == l.oldest {
					break
				}
			}
			if n != len(l.buckets) || n > most {
				t.Fatalf("%d in the ring, %d in the map, %d are allowed", n, len(l.buckets), most)
			}
		}
	})
	l := NewLimiter(2, time.Second, 8)
	got := 0
	for ms := range 10_000 {
		if _, ok := l.Allow("a", noon.Add(time.Duration(ms)*time.Millisecond)); ok {
			got++
		}
	}
	if got < 11 || got > 12 {
		t.Errorf("%d in ten seconds", got)
	}
}

func FuzzSecret(f *testing.F) {
	secret, _, _ := NewSecret()
	for _, s := range []string{"", Prefix, secret, secret[:30], strings.ToUpper(secret), "glt_\x00", "Bearer " + secret} {
		f.Add(s)
	}
	token, own := issue("cms", Application, 0)
	k := NewKeyring([]Token{token})
	f.Fuzz(func(t *testing.T, s string) {
		if _, err := k.Authenticate(s, noon); (err == nil) != (s == own) {
			t.Errorf("%q: %v", s, err)
		}
	})
}
