package dataset

import (
	"bytes"
	"strings"
	"testing"
)

func TestManifestRoundTrip(t *testing.T) {
	m, _, _ := freeze(t, FreezeOptions{Seed: 1 << 63, Licence: "CC0 <b>"}, Inputs{
		Train: text("t.csv", "text,label\na,x\nb,y\n新,z\n"),
		Test:  text("u.csv", "text,label\na,x\n"),
	})
	b, err := m.Encode()
	if err != nil {
		t.Fatal(err)
	}
	back, err := DecodeManifest(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	again, err := back.Encode()
	if err != nil || !bytes.Equal(b, again) {
		t.Errorf("%s\n%s\n%v", b, again, err)
	}
}

func TestManifestErrors(t *testing.T) {
	m, _, _ := freeze(t, FreezeOptions{ValidFraction: -1}, Inputs{Train: text("t.csv", "text,label\na,x\nb,y\n")})
	good, err := m.Encode()
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ from, to, want string }{
		{`"format":1`, `"format":2`, "another version of galley"},
		{`"name":"news"`, `"name":"News"`, "is not a name"},
		{`"name":"news"`, `"name":"news","colour":1`, "unknown field"},
		{`["x","y"]`, `["y","x"]`, "byte order"},
		{`["x","y"]`, `["x"]`, "1 labels"},
		{`"x":1`, `"q":1`, `the count of label "q"`},
		{`"x":1`, `"x":0`, "do not add up"},
		{`"rows":2`, `"rows":-2`, "out of range"},
		{`"train":{`, `"trian":{`, "no split train"},
		{`sha256:`, `md5:`, "not a digest"},
		{"\n", "{}", "more follows"},
		{"{", "", "not a manifest"},
	} {
		changed := strings.Replace(string(good), test.from, test.to, 1)
		if changed == string(good) {
			t.Fatalf("no %s in %s", test.from, good)
		}
		if _, err := DecodeManifest(strings.NewReader(changed)); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v; want %q", test.to, err, test.want)
		}
	}
}

func FuzzManifest(f *testing.F) {
	f.Add([]byte(`{"format":1,"name":"a","columns":{},"seed":1,"splits":{"train":{"rows":0,"bytes":56,"digest":"sha256:` + strings.Repeat("0", 64) + `"}}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := DecodeManifest(bytes.NewReader(b))
		if err != nil {
			return
		}
		first, err := m.Encode()
		if err != nil {
			t.Fatal(err)
		}
		back, err := DecodeManifest(bytes.NewReader(first))
		if err != nil {
			t.Fatal(err)
		}
		if second, _ := back.Encode(); !bytes.Equal(first, second) {
			t.Fatalf("%s\n%s", first, second)
		}
	})
}
