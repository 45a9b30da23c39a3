package trainer

import (
	"encoding/json"
	"strings"
	"testing"

	"galley"
)

// Digest and JSON of a spec of kind Train are in versions and jobs that exist:
// other kinds, and fields that it does not use, must not change them by a bit.
// Another default does, of course, for who relied on it.
func TestDigestsStay(t *testing.T) {
	full := func(file string, change func(*Spec)) Spec {
		s, problems := ParseFile([]byte(file), nil)
		if problems != nil {
			t.Fatal(problems)
		}
		change(&s)
		return s
	}
	mlm := strings.ReplaceAll(shortest, "text-classification", "text-mlm")
	for _, c := range []struct {
		name   string
		spec   Spec
		digest galley.Digest
		json   galley.Digest // of all of its JSON
	}{
		{"shortest", full(shortest, func(*Spec) {}),
			"sha256:c88057c96febeeb1c8aa15797fb21c07605253c5e37235e7ef275d8285c53484",
			"sha256:1003c6eb5f4765d9e823b7e85bcda70d385e61cce3faf7f454550a05f0eabe33"},
		{"from", full(shortest+"from: news-base@2\n", func(*Spec) {}),
			"sha256:c01b75c3166f1d09dea8c330a25aed6fe54ebe8ed990e67f2828a5795599863d",
			"sha256:00eb52d3386764a3a1dc62b4e7f632870e1c47ca0e547f509f7c0227dea391c0"},
		{"mlm", full(mlm, func(*Spec) {}),
			"sha256:90ae011dbae13e7d36ed616b0a7c5c479f57898b0f7a9d70e1e54ca41bd978bf",
			"sha256:a8ddf71587eff9032f964d1f37b4fc7581be5585aa05f4f63fb150ba9862c29e"},
		{"files", full(shortest, func(s *Spec) {
			s.Data = Data{Train: "a.csv", Valid: "b.csv", Test: "c.csv", Format: "csv", Columns: "text=a,label=b", Fraction: 0.2}
		}),
			"sha256:7ad10fe83629b86a23d57d4161c738ffc79cc97e5666f2ebfe3efc7d73e0bc17",
			"sha256:4c590aa87af5c96884f22abd82c84e1d71e4caf5ebd8b165e4357d261051fa23"},
		{"many fields", full(shortest, func(s *Spec) {
			s.Model.NGrams, s.Model.Dropout, s.Model.Features = NGrams{}, 0, "x"
			s.Recipe.ClassWeights = ClassWeights{Mode: "given", Values: map[string]float64{"a": 2, "b": 1}}
			s.Priority, s.Needs, s.Retries, s.Resources.Memory = 3, []string{"a-1"}, 0, "1GiB"
		}),
			"sha256:5046d3af87af5e3578d28bccd6a4b528ee89e2fb0d85f7357bab7ac40e51fcc4",
			"sha256:1af807594e46e85bec1a24987acdf66d14a9548939176e378b51ae15678eb959"},
	} {
		if got := c.spec.Digest(); got != c.digest {
			t.Errorf("%s: digest %s", c.name, got)
		}
		data, err := json.Marshal(c.spec)
		if got := galley.DigestBytes(data); err != nil || got != c.json {
			t.Errorf("%s: JSON %s %v\n%s", c.name, got, err, data)
		}
	}
}
