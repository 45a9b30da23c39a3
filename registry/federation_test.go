package registry

import (
	"strings"
	"testing"

	"galley"
)

func TestFederatedLineage(t *testing.T) {
	federated := func() Version {
		v := version()
		v.Lineage.Federation = &Federation{
			Run: "joint-x7", Name: "topics", Rounds: []FederationRound{{Round: 1, Attempt: 2, Record: galley.DigestBytes([]byte("record"))}},
			Partners: []FederationPartner{
				{Name: "herald", Agreement: galley.DigestBytes([]byte("a")), Rounds: 1}, {Name: "courier", Agreement: galley.DigestBytes([]byte("b")), Rounds: 1},
			},
			SingleUpdatesSeen: true,
		}
		v.Lineage.Federation.Sort()
		return v
	}
	v, err := federated().Complete()
	if err != nil || v.Lineage.Federation.Partners[0].Name != "courier" {
		t.Fatalf("%+v %v", v, err)
	}
	if v.Digest != version().ContentDigest() {
		t.Error("whose training it was changes the digest of the same model")
	}
	for what, c := range map[string]struct {
		change func(*Federation)
		says   string
	}{
		"name":      {func(f *Federation) { f.Name = "../x" }, "is not a name"},
		"run":       {func(f *Federation) { f.Run = strings.Repeat("x", maxText+1) }, "a name of 1001 bytes"},
		"record":    {func(f *Federation) { f.Rounds[0].Record = "sha256:12" }, "digest of its record"},
		"attempt":   {func(f *Federation) { f.Rounds[0].Attempt = 0 }, "digest of its record"},
		"partner":   {func(f *Federation) { f.Partners[0].Name = "" }, "is not a name"},
		"agreement": {func(f *Federation) { f.Partners[0].Agreement = "" }, "no agreement"},
		"rounds":    {func(f *Federation) { f.Rounds = make([]FederationRound, maxFederatedRounds+1) }, "too many"},
	} {
		v := federated()
		c.change(v.Lineage.Federation)
		if _, err := v.Complete(); galley.CodeOf(err) != galley.InvalidArgument || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", what, err)
		}
	}
}
