package text

import (
	"encoding/csv"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
)

// sharedFile returns the path of a file of the shared data, and skips the test
// if it is not there.
func sharedFile(tb testing.TB, elements ...string) string {
	tb.Helper()
	dir, err := os.Getwd()
	if err != nil {
		tb.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			break
		}
		if dir == filepath.Dir(dir) {
			tb.Fatal("no go.mod above the test")
		}
		dir = filepath.Dir(dir)
	}
	path := filepath.Join(append([]string{dir, "..", "shared", "data"}, elements...)...)
	if _, err := os.Stat(path); err != nil {
		tb.Skipf("the shared data is not here: %v", err)
	}
	return path
}

// sharedTexts returns the texts of one shared CSV: all columns but the label,
// joined by a space.
func sharedTexts(tb testing.TB, set, split string) []string {
	tb.Helper()
	f, err := os.Open(sharedFile(tb, set, split+".csv"))
	if err != nil {
		tb.Fatal(err)
	}
	defer f.Close()
	rows, err := csv.NewReader(f).ReadAll()
	if err != nil {
		tb.Fatal(err)
	}
	texts := make([]string, 0, len(rows)-1)
	for _, row := range rows[1:] {
		text := row[1]
		for _, more := range row[2:] {
			text += " " + more
		}
		texts = append(texts, text)
	}
	return texts
}

func loadFile(tb testing.TB, path string) *Tokenizer {
	tb.Helper()
	f, err := os.Open(path)
	if err != nil {
		tb.Fatal(err)
	}
	defer f.Close()
	t, err := Load(f)
	if err != nil {
		tb.Fatal(err)
	}
	return t
}

func miniLM(tb testing.TB) *Tokenizer {
	return loadFile(tb, sharedFile(tb, "models", "all-minilm-l6-v2", "tokenizer.json"))
}

type referenceRow struct {
	Text   string  `json:"text"`
	IDs    []int32 `json:"ids"`
	Tokens int     `json:"tokens_before_truncation"`
}

func referenceRows(tb testing.TB) []referenceRow {
	tb.Helper()
	data, err := os.ReadFile(sharedFile(tb, "models", "all-minilm-l6-v2", "reference.json"))
	if err != nil {
		tb.Fatal(err)
	}
	var file struct{ Rows []referenceRow }
	if err := json.Unmarshal(data, &file); err != nil {
		tb.Fatal(err)
	}
	return file.Rows
}
