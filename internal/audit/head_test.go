package audit

import (
	"bytes"
	"crypto/ed25519"
	"encoding/json"
	"math"
	"strconv"
	"strings"
	"testing"
	"time"

	"galley"
)

func testKey() ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{7}, ed25519.SeedSize))
}

func signedHead() SignedHead {
	return Sign(Head{12, galley.DigestBytes([]byte("log"))}, noon.In(time.FixedZone("east", 3600)), testKey())
}

func encoded(t testing.TB, h SignedHead) string {
	t.Helper()
	data, err := h.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestHeadRoundTrip(t *testing.T) {
	for _, h := range []SignedHead{signedHead(), Sign(Head{0, Start}, noon, testKey())} {
		got, err := ReadHead(strings.NewReader(encoded(t, h)))
		if err != nil || got.Head() != h.Head() || !got.Time.Equal(noon) {
			t.Errorf("%+v, %v", got, err)
		}
	}
}

// overHTTP is the head as the gateway answers it.
func overHTTP(t testing.TB, h SignedHead) string {
	t.Helper()
	data, err := json.Marshal(map[string]any{
		"format": h.Format, "entries": strconv.FormatInt(h.Entries, 10), "digest": h.Digest, "time": h.Time, "key": []byte(h.Key), "signature": h.Signature,
	})
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// A head that came over HTTP is read by the same rules.
func TestHeadOverHTTP(t *testing.T) {
	for _, h := range []SignedHead{signedHead(), Sign(Head{0, Start}, noon, testKey()), Sign(Head{math.MaxInt64, galley.DigestBytes(nil)}, noon, testKey())} {
		got, err := ReadHead(strings.NewReader(overHTTP(t, h)))
		if err != nil || got.Head() != h.Head() || !got.Key.Equal(h.Key) {
			t.Errorf("%+v, %v", got, err)
		}
	}
	good := overHTTP(t, signedHead())
	for name, tt := range map[string]struct{ text, says string }{
		"both names":      {strings.Replace(good, `"digest"`, `"head":"`+string(Start)+`","digest"`, 1), "a head and a digest"},
		"no digest":       {strings.Replace(good, `"digest":"`, `"digest":"sha1:`, 1), "no digest"},
		"digest left out": {strings.Replace(good, `"digest":"`+string(signedHead().Digest)+`",`, "", 1), "no digest"},
		"fewer entries":   {strings.Replace(good, `"12"`, `"11"`, 1), "its signature is wrong"},
		"zeros":           {strings.Replace(good, `"12"`, `"012"`, 1), "not a whole number"},
		"a sign":          {strings.Replace(good, `"12"`, `"+12"`, 1), "not a whole number"},
		"a space":         {strings.Replace(good, `"12"`, `" 12"`, 1), "not a whole number"},
		"an exponent":     {strings.Replace(good, `"12"`, `"12e0"`, 1), "not a whole number"},
		"a fraction":      {strings.Replace(good, `"12"`, `12.0`, 1), "not a whole number"},
		"no number":       {strings.Replace(good, `"12"`, `null`, 1), "not a whole number"},
		"a list":          {strings.Replace(good, `"12"`, `["12"]`, 1), "not a whole number"},
		"too many":        {strings.Replace(good, `"12"`, `"9223372036854775808"`, 1), "not a whole number"},
		"long":            {strings.Replace(good, `"12"`, `"`+strings.Repeat("1", 3000)+`"`, 1), "…"},
	} {
		_, err := ReadHead(strings.NewReader(tt.text))
		if galley.CodeOf(err) != galley.InvalidArgument || !strings.Contains(err.Error(), tt.says) || len(err.Error()) > 400 ||
			!strings.Contains(galley.AsError(err).Remedy, "GET /v1/audit/head") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestHeadRefused(t *testing.T) {
	good := encoded(t, signedHead())
	other := signedHead()
	other.Key = ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize)).Public().(ed25519.PublicKey)
	for name, tt := range map[string]struct{ text, says string }{
		"empty":             {"", "cannot be read"},
		"no JSON":           {"12", "cannot be read"},
		"too long":          {good + strings.Repeat(" ", maxHead), "more than"},
		"two":               {good + good, "something follows"},
		"unknown field":     {strings.Replace(good, `"format"`, `"more":1,"format"`, 1), "unknown field"},
		"fewer entries":     {strings.Replace(good, ": 12", ": 11", 1), "its signature is wrong"},
		"negative":          {strings.Replace(good, ": 12", ": -12", 1), "-12 entries"},
		"another format":    {strings.Replace(good, headFormat, "other/1", 1), "is no head"},
		"no digest":         {strings.Replace(good, "sha256:", "sha1:", 1), "no digest"},
		"entries of none":   {encoded(t, Sign(Head{0, galley.DigestBytes(nil)}, noon, testKey())), "no entries"},
		"another key":       {encoded(t, other), "its signature is wrong"},
		"short key":         {encoded(t, SignedHead{Format: headFormat, Digest: Start, Key: []byte{1}}), "its key has 1 bytes"},
		"another time":      {strings.Replace(good, "12:00:00", "12:00:01", 1), "its signature is wrong"},
		"another time zone": {strings.Replace(good, "Z\"", "+01:00\"", 1), "its signature is wrong"},
	} {
		_, err := ReadHead(strings.NewReader(tt.text))
		if galley.CodeOf(err) != galley.InvalidArgument || !strings.Contains(err.Error(), tt.says) || galley.AsError(err).Remedy == "" {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestKeyRoundTrip(t *testing.T) {
	data, err := EncodeKey(testKey())
	if err != nil {
		t.Fatal(err)
	}
	key, err := DecodeKey(data)
	if err != nil || !key.Equal(testKey()) {
		t.Errorf("%v", err)
	}
	for name, bad := range map[string]string{
		"empty": "", "cut": string(data[:40]), "twice": string(data) + string(data),
		"other bytes": strings.Replace(string(data), "MC4C", "MD4C", 1),
	} {
		if _, err := DecodeKey([]byte(bad)); galley.CodeOf(err) != galley.DataLoss {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A head that is read is one that was signed as it is.
func FuzzReadHead(f *testing.F) {
	f.Add([]byte(encoded(f, signedHead())))
	f.Add([]byte(encoded(f, Sign(Head{0, Start}, noon, testKey()))))
	f.Add([]byte(`{"format":"galley-audit-head/1","entries":1e3}`))
	f.Add([]byte(overHTTP(f, signedHead())))
	f.Add([]byte(`{"entries":"-9223372036854775808","head":null,"digest":""}`))
	f.Add([]byte("{"))
	f.Fuzz(func(t *testing.T, data []byte) {
		h, err := ReadHead(bytes.NewReader(data))
		if err != nil {
			if galley.CodeOf(err) != galley.InvalidArgument {
				t.Fatal(err)
			}
			return
		}
		again, err := ReadHead(strings.NewReader(encoded(t, h)))
		if err != nil || again.Head() != h.Head() || h.Check() != nil {
			t.Fatalf("%+v, %v", again, err)
		}
	})
}
