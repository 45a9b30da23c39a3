package trainer

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// The table of docs/operations.md is that of the policies.
func TestPoliciesAreDocumented(t *testing.T) {
	data, err := os.ReadFile("../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := map[string][]string{}
	for line := range strings.Lines(string(data)) {
		if cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|"); len(cells) == 4 {
			for i := range cells {
				cells[i] = strings.TrimSpace(cells[i])
			}
			rows[cells[0]] = cells
		}
	}
	for _, c := range Causes {
		p := PolicyOf(c)
		again := "never"
		switch {
		case p.Free:
			again = "always"
		case p.Retries == 1:
			again = "once"
		case p.Retries == maxRetries:
			again = "`retries` times"
		}
		wait := "none"
		if p.BackOff > 0 {
			wait = p.BackOff.String()
		}
		row := rows["`"+string(c)+"`"]
		if len(row) != 4 || row[2] != again || row[3] != wait {
			t.Errorf("%s is tried again %s after %s; the page says %q", c, again, wait, row)
		}
	}
}

func TestBackOff(t *testing.T) {
	var got []string
	for row := 1; row <= 11; row++ {
		got = append(got, fmt.Sprint(backOff(PolicyOf(Killed).BackOff, row)))
	}
	if want := "1s 2s 4s 8s 16s 32s 1m4s 2m8s 4m16s 5m0s 5m0s"; strings.Join(got, " ") != want {
		t.Errorf("%v", got)
	}
}

func TestMemory(t *testing.T) {
	for text, want := range map[string]int64{
		"64MiB": 64 << 20, "4GiB": 4 << 30, "9999999GiB": 9999999 << 30,
		"": 0, "4": 0, "4GB": 0, "0GiB": 0, "-1GiB": 0, "1.5GiB": 0, "4 GiB": 0, "99999999GiB": 0, "4GiB\n": 0,
	} {
		n, err := ParseMemory(text)
		if n != want || (err != nil) != (want == 0) {
			t.Errorf("%q: %d %v", text, n, err)
		}
	}
	s := defaults(TextClassification, false)
	estimate := s.MemoryNeed(0)
	if estimate < 300<<20 || estimate > 2<<30 {
		t.Errorf("the default model is thought to need %d MiB", estimate>>20)
	}
	s.Recipe.BatchSize *= 8
	if s.MemoryNeed(0) <= estimate {
		t.Error("a larger batch needs no more")
	}
	s.Resources.Memory = "3GiB"
	if s.MemoryNeed(0) != 3<<30 {
		t.Error("what is given does not count")
	}
	from := defaults(TextClassification, true)
	from.From = "base@1"
	if from.MemoryNeed(1<<30) < 6<<30 {
		t.Error("the parent's weights do not count")
	}
}
