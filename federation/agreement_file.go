package federation

import (
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"galley"
	"galley/internal/strictyaml"
)

// Bounds of an agreement, and of what a federation may ask for.
const (
	MaxPartners = 500
	MaxRounds   = 10_000
	MaxRows     = 1_000_000_000_000
	maxModels   = 100
	maxMetrics  = 32
	maxPurpose  = 200
	maxNorm     = 1e12
)

const (
	apiVersion    = "galley/v1"
	agreementKind = "Agreement"
)

// agreementFile is an agreement as a file writes it.
type agreementFile struct {
	APIVersion string `yaml:"apiVersion"`
	Kind       string `yaml:"kind"`
	Expires    string `yaml:"expires"` // a day, which is its last, or a time of RFC 3339
	Agreement
}

// ParseAgreement reads a partner's agreement. Nothing that it permits has a
// default: what the file does not say is a mistake. Every mistake is a problem
// of its own, with its place; an agreement that comes with problems must not
// be used.
func ParseAgreement(data []byte) (Agreement, strictyaml.Problems) {
	doc, problems := strictyaml.Parse(data)
	if problems != nil {
		return Agreement{}, problems
	}
	var f agreementFile
	if problems := doc.Decode(&f); problems != nil {
		return Agreement{}, problems
	}
	c := &checker{place: doc.Problem, has: doc.Has}
	c.word("apiVersion", f.APIVersion, apiVersion)
	c.word("kind", f.Kind, agreementKind)
	if c.given("expires", "write the last day, as in 2027-06-30") {
		at, ok := parseExpiry(f.Expires)
		if !ok {
			c.wrong("expires", "write a day, as in 2027-06-30, or a time, as in 2027-06-30T12:00:00Z", "%q is no day", galley.Clip(f.Expires, 40))
		}
		f.Agreement.Expires = at
	}
	c.agreement(f.Agreement)
	return f.Agreement, c.problems.Clip()
}

func parseExpiry(s string) (time.Time, bool) {
	if day, err := time.Parse(time.DateOnly, s); err == nil {
		return day.AddDate(0, 0, 1), true
	}
	at, err := time.Parse(time.RFC3339, s)
	return at.UTC(), err == nil
}

// Validate checks an agreement that did not come from a file.
func (a Agreement) Validate() error {
	c := &checker{
		place: func(path, message, remedy string) strictyaml.Problem {
			return strictyaml.Problem{Path: path, Message: message, Remedy: remedy}
		},
		has: func(string) bool { return true },
	}
	if a.Expires.IsZero() {
		c.wrong("expires", "give the agreement an end", "is missing")
	}
	c.agreement(a)
	return c.problems.Clip().AsError("agreement")
}

// A checker collects the problems of a file; place finds a field in it.
type checker struct {
	place    func(path, message, remedy string) strictyaml.Problem
	has      func(path string) bool
	problems strictyaml.Problems
}

func (c *checker) wrong(path, remedy, format string, args ...any) {
	c.problems = append(c.problems, c.place(path, fmt.Sprintf(format, args...), remedy))
}

// given reports whether the file has a value at path, and notes it if not.
func (c *checker) given(path, remedy string) bool {
	if !c.has(path) {
		c.wrong(path, remedy, "is missing")
		return false
	}
	return true
}

func (c *checker) word(path, got, want string) {
	remedy := "write " + path + ": " + want
	if c.given(path, remedy) && got != want {
		c.wrong(path, remedy, "%q is not known here", galley.Clip(got, 80))
	}
}

func (c *checker) name(path, value string) {
	if err := galley.CheckName(path, value); err != nil && c.given(path, "write a name") {
		e := galley.AsError(err)
		c.wrong(path, e.Remedy, "%s", e.Message)
	}
}

func (c *checker) whole(path string, value, low, high int64) {
	if c.given(path, fmt.Sprintf("write a number from %d to %d", low, high)) && (value < low || value > high) {
		c.wrong(path, fmt.Sprintf("write a number from %d to %d", low, high), "is %d", value)
	}
}

func (c *checker) agreement(a Agreement) {
	c.name("federation", a.Federation)
	c.name("partner", a.Partner)
	if c.given("purpose", "say what the model is for, in the coordinator's words") {
		c.line("purpose", a.Purpose)
	}
	if c.given("models", "list the models that may be trained") {
		switch n := len(a.Models); {
		case n == 0:
			c.wrong("models", "list the models that may be trained", "is empty")
		case n > maxModels:
			c.wrong("models", fmt.Sprintf("list at most %d", maxModels), "lists %d", n)
		}
		for i, m := range a.Models[:min(len(a.Models), maxModels)] {
			c.name(fmt.Sprintf("models[%d]", i), m)
		}
		once(c, "models", a.Models)
	}
	c.whole("rounds", int64(a.Rounds), 1, MaxRounds)
	c.whole("min_cohort", int64(a.MinCohort), 2, MaxPartners)
	c.given("leaves.weights", "write weights: true if they may leave")
	c.rows(a.Leaves.Rows)
	c.metrics("leaves.metrics", a.Leaves.Metrics)
	if !(a.Clip >= 0 && a.Clip <= maxNorm) {
		c.wrong("clip", "write a number from 0, for no bound, to 1e12", "is %g", a.Clip)
	}
	for i, r := range a.Requires[:min(len(a.Requires), len(knownCapabilities)+1)] {
		if !slices.Contains(knownCapabilities, r) {
			names := make([]string, len(knownCapabilities))
			for j, k := range knownCapabilities {
				names[j] = string(k)
			}
			c.wrong(fmt.Sprintf("requires[%d]", i), strictyaml.Nearest(string(r), names), "%q is not known here", galley.Clip(string(r), 80))
		}
	}
	once(c, "requires", a.Requires)
}

func (c *checker) rows(r RowCount) {
	const how = "write exact, rounded or hidden"
	if !c.given("leaves.rows.report", how) {
		return
	}
	switch r.Report {
	case Hidden:
		if r.Unit != 0 || r.Most != 0 {
			c.wrong("leaves.rows", "leave unit and most out", "is hidden, and says how it is told")
		}
		return
	case Rounded:
		c.whole("leaves.rows.unit", r.Unit, 2, MaxRows)
	case Exact:
		if r.Unit != 0 {
			c.wrong("leaves.rows.unit", "write report: rounded, or leave unit out", "belongs to rounded")
		}
	default:
		c.wrong("leaves.rows.report", how, "%q is not known here", galley.Clip(r.Report, 80))
		return
	}
	c.whole("leaves.rows.most", r.Most, max(1, r.Unit), MaxRows)
}

func (c *checker) metrics(path string, names []string) {
	if len(names) > maxMetrics {
		c.wrong(path, fmt.Sprintf("list at most %d", maxMetrics), "lists %d", len(names))
		return
	}
	for i, m := range names {
		c.name(fmt.Sprintf("%s[%d]", path, i), m)
	}
	once(c, path, names)
}

// line checks a text of one line.
func (c *checker) line(path, s string) {
	if s == "" || len(s) > maxPurpose || !utf8.ValidString(s) || strings.TrimSpace(s) != s || strings.ContainsFunc(s, func(r rune) bool { return r < ' ' }) {
		c.wrong(path, fmt.Sprintf("write one line of at most %d bytes", maxPurpose), "%q is no line of text", galley.Clip(s, 80))
	}
}

// once holds that a list names nothing twice.
func once[T ~string](c *checker, path string, list []T) {
	seen := make(map[T]bool, len(list))
	for _, s := range list {
		if seen[s] {
			c.wrong(path, "keep one", "names %q twice", galley.Clip(string(s), 80))
			return
		}
		seen[s] = true
	}
}
