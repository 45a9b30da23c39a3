package dataset

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"
)

func TestJSONL(t *testing.T) {
	in := "\ufeff\n{\"text\":\"a\",\"label\":1,\"extra\":[1]}\r\n" +
		"{\"label\":true,\"text\":null}\n" +
		"{\"text\":\"b\",}\n" +
		"[1]\n" +
		"null\n" +
		"{\"text\":1.5}\n" +
		"{\"text\":\"\xff\"}\n" +
		"{\"text\":\"" + strings.Repeat("x", maxRecord) + "\"}\n" +
		"{\"text\":\"新\\u0061\"}"
	src, err := newJSONLSource("f.jsonl", strings.NewReader(in))
	if err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(src.columns()); got != "[extra label text]" {
		t.Fatal(got)
	}
	src.header = []string{"text", "label"}
	rows, lines, bad := scan(t, src)
	if got, want := fmt.Sprintf("%q %v", rows, lines), `[["a" "1"] ["" "true"] ["新a" ""]] [2 3 10]`; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	want := []badRow{
		{4, "invalid JSON at column 13: invalid character '}' looking for beginning of object key string"},
		{5, "wrong type: the line is array, not an object"},
		{6, "wrong type: the line is null, not an object"},
		{7, `wrong type: "text" is not a string, an integer or a boolean`},
		{8, "invalid UTF-8"},
		{9, "the line is longer than 4 MiB"},
	}
	if !slices.Equal(bad, want) {
		t.Errorf("%+v", bad)
	}
}

func TestJSONLBadFirstLines(t *testing.T) {
	src, err := newJSONLSource("f.jsonl", strings.NewReader("{\n{\"text\":\"a\"}\n"))
	if err != nil {
		t.Fatal(err)
	}
	if rows, lines, bad := scan(t, src); len(rows) != 1 || lines[0] != 2 || len(bad) != 1 || bad[0].line != 1 {
		t.Fatal(rows, lines, bad)
	}
	for _, in := range []string{"", "[]\n[]\n", strings.Repeat("x\n", 2000)} {
		if _, err := newJSONLSource("f.jsonl", strings.NewReader(in)); err == nil {
			t.Errorf("%.10q is accepted", in)
		}
	}
}

func FuzzJSONL(f *testing.F) {
	f.Add([]byte("{\"text\":\"a\"}\n{\"text\":1}\n{"))
	f.Fuzz(func(t *testing.T, in []byte) {
		src, err := newJSONLSource("f.jsonl", bytes.NewReader(in))
		if err != nil {
			return
		}
		scan(t, src)
	})
}
