package headlines_test

import (
	"encoding/csv"
	"strings"
	"testing"
	"unicode"

	"galley/examples/headlines"
)

type row struct{ split, text, label, language string }

func read(t *testing.T) []row {
	t.Helper()
	var rows []row
	for _, split := range []string{"train", "valid", "test"} {
		f, err := headlines.Files.Open(split + ".csv")
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		records, err := csv.NewReader(f).ReadAll()
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(records[0], ","); got != "text,label,language" {
			t.Fatalf("%s.csv has the header %s", split, got)
		}
		for _, r := range records[1:] {
			rows = append(rows, row{split, r[0], r[1], r[2]})
		}
	}
	return rows
}

func TestBalance(t *testing.T) {
	cells := map[string]int{}
	for _, r := range read(t) {
		cells[r.label+" "+r.language]++
	}
	if len(cells) != 12 {
		t.Fatalf("%d cells of topic and language, want 12: %v", len(cells), cells)
	}
	for cell, n := range cells {
		if n != 200 {
			t.Errorf("%s has %d headlines, want 200", cell, n)
		}
	}
}

// TestNoOverlap holds that no two headlines share five words or ten Chinese
// characters in a row, whatever the splits they are in.
func TestNoOverlap(t *testing.T) {
	seen := map[string]row{}
	rows := read(t)
	for _, r := range rows {
		own := map[string]bool{}
		for _, run := range append(runs(words(r.text), 5, " "), runs(han(r.text), 10, "")...) {
			own[run] = true
		}
		for run := range own {
			if other, ok := seen[run]; ok {
				t.Errorf("%q is in %q (%s) and %q (%s)", run, other.text, other.split, r.text, r.split)
			}
			seen[run] = r
		}
	}
	if len(seen) < len(rows) {
		t.Fatalf("only %d runs were compared", len(seen))
	}
}

// TestNoLeak holds that no text is twice in the data, case, punctuation and
// spaces aside.
func TestNoLeak(t *testing.T) {
	seen := map[string]row{}
	for _, r := range read(t) {
		key := strings.Join(words(r.text), " ") + strings.Join(han(r.text), "")
		if other, ok := seen[key]; ok {
			t.Errorf("%q (%s) and %q (%s) are the same text", other.text, other.split, r.text, r.split)
		}
		seen[key] = r
	}
}

// words are the lower-case words of letters and digits, without Han.
func words(s string) []string {
	return strings.FieldsFunc(strings.ToLower(s), func(r rune) bool {
		return unicode.Is(unicode.Han, r) || !(unicode.IsLetter(r) || unicode.IsDigit(r))
	})
}

// han are the Han characters.
func han(s string) []string {
	var chars []string
	for _, r := range s {
		if unicode.Is(unicode.Han, r) {
			chars = append(chars, string(r))
		}
	}
	return chars
}

func runs(items []string, n int, separator string) []string {
	var out []string
	for i := 0; i+n <= len(items); i++ {
		out = append(out, strings.Join(items[i:i+n], separator))
	}
	return out
}
