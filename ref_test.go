package galley_test

import (
	"strings"
	"testing"

	"galley"
)

func TestParseRef(t *testing.T) {
	digest := galley.DigestBytes([]byte("model"))
	for text, want := range map[string]galley.Ref{
		"news-topic":      {Name: "news-topic"},
		"news-topic@3":    {Name: "news-topic", Version: 3},
		"news-topic:prod": {Name: "news-topic", Alias: "prod"},
		string(digest):    {Digest: digest},
	} {
		got, err := galley.ParseRef(text)
		if err != nil || got != want {
			t.Errorf("ParseRef(%q) = %+v, %v", text, got, err)
		}
		if got.String() != text {
			t.Errorf("%+v is written %q, not %q", got, got.String(), text)
		}
	}
}

func TestParseRefRefuses(t *testing.T) {
	for text, subject := range map[string]string{
		"":                      "ref",
		"News":                  "ref",
		"../news":               "ref",
		"news@":                 "ref",
		"news@0":                "ref",
		"news@-1":               "ref",
		"news@one":              "ref",
		"news@99999999999":      "ref",
		"@3":                    "ref",
		"news:":                 "alias",
		"news:Prod":             "alias",
		":prod":                 "ref",
		"sha256:12":             "digest",
		strings.Repeat("n", 64): "ref",
	} {
		_, err := galley.ParseRef(text)
		if e := galley.AsError(err); err == nil || e.Code != galley.InvalidArgument || e.Subject != subject || e.Remedy == "" {
			t.Errorf("ParseRef(%q) = %v, want an error of %s with a remedy", text, err, subject)
		}
	}
}

func TestDigest(t *testing.T) {
	const abc = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad" // FIPS 180-2, appendix B.1
	read, n, err := galley.DigestReader(strings.NewReader("abc"))
	if err != nil || n != 3 || read != abc || galley.DigestBytes([]byte("abc")) != abc {
		t.Errorf("the digest of abc is %s over %d bytes, %v", read, n, err)
	}
	if read.Short() != "ba7816bf8f01" || galley.Digest("").Short() != "" {
		t.Errorf("short: %q, of nothing %q", read.Short(), galley.Digest("").Short())
	}
}
