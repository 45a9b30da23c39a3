package federation

import (
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"galley"
)

const agreementText = `apiVersion: galley/v1
kind: Agreement
federation: headlines
partner: harbour-gazette
purpose: topics of headlines
models: [news-topic, news-base]
rounds: 50
min_cohort: 3
expires: 2027-06-30
leaves:
  weights: true
  rows: {report: rounded, unit: 100, most: 20000}
  metrics: [loss, accuracy]
clip: 5
`

func TestParseAgreement(t *testing.T) {
	a, problems := ParseAgreement([]byte(agreementText))
	if problems != nil {
		t.Fatal(problems)
	}
	if want := time.Date(2027, 7, 1, 0, 0, 0, 0, time.UTC); !a.Expires.Equal(want) {
		t.Errorf("ends at %s; its last day is the one written", a.Expires)
	}
	if a.Partner != "harbour-gazette" || a.Rounds != 50 || a.Leaves.Rows.Unit != 100 || !a.Leaves.Weights || a.Clip != 5 {
		t.Errorf("%+v", a)
	}
	if err := a.Validate(); err != nil {
		t.Error(err)
	}
}

func TestAgreementMistakes(t *testing.T) {
	for _, tt := range []struct{ name, from, to, want string }{
		{"unknown field", "rounds: 50", "round: 50", `line 7, column 1: round: is not a field here — did you mean "rounds"?`},
		{"kind", "kind: Agreement", "kind: Train", `line 2, column 7: kind: "Train" is not known here — write kind: Agreement`},
		{"version", "galley/v1", "galley/v9", `line 1, column 13: apiVersion: "galley/v9" is not known here — write apiVersion: galley/v1`},
		{"no rounds", "rounds: 50\n", "", "line 1, column 1: rounds: is missing — write a number from 1 to 10000"},
		{"too many rounds", "rounds: 50", "rounds: 50000", "line 7, column 9: rounds: is 50000 — write a number from 1 to 10000"},
		{"alone", "min_cohort: 3", "min_cohort: 1", "line 8, column 13: min_cohort: is 1 — write a number from 2 to 500"},
		{"no end", "expires: 2027-06-30\n", "", "line 1, column 1: expires: is missing — write the last day, as in 2027-06-30"},
		{"no day", "2027-06-30", "2027-06-31", `line 9, column 10: expires: "2027-06-31" is no day — write a day, as in 2027-06-30, or a time, as in 2027-06-30T12:00:00Z`},
		{"no purpose", "purpose: topics of headlines\n", "", "line 1, column 1: purpose: is missing — say what the model is for, in the coordinator's words"},
		{"no models", "[news-topic, news-base]", "[]", "line 6, column 9: models: is empty — list the models that may be trained"},
		{"a model twice", "news-base", "news-topic", `line 6, column 9: models: names "news-topic" twice — keep one`},
		{"weights unsaid", "  weights: true\n", "", "line 11, column 3: leaves.weights: is missing — write weights: true if they may leave"},
		{"rows unsaid", "  rows: {report: rounded, unit: 100, most: 20000}\n", "", "line 11, column 3: leaves.rows.report: is missing — write exact, rounded or hidden"},
		{"report", "report: rounded", "report: about", `line 12, column 18: leaves.rows.report: "about" is not known here — write exact, rounded or hidden`},
		{"no unit", "unit: 100, ", "", "line 12, column 9: leaves.rows.unit: is missing — write a number from 2 to 1000000000000"},
		{"unit of exact", "report: rounded", "report: exact", "line 12, column 31: leaves.rows.unit: belongs to rounded — write report: rounded, or leave unit out"},
		{"hidden and told", "report: rounded", "report: hidden", "line 12, column 9: leaves.rows: is hidden, and says how it is told — leave unit and most out"},
		{"most below unit", "most: 20000", "most: 20", "line 12, column 44: leaves.rows.most: is 20 — write a number from 100 to 1000000000000"},
		{"clip", "clip: 5", "clip: -1", "line 14, column 7: clip: is -1 — write a number from 0, for no bound, to 1e12"},
		{"metric", "[loss, accuracy]", "[loss, 'A b']", `line 13, column 19: leaves.metrics[1]: "A b" is not a name — use 1 to 63 lower-case letters, digits, dots, dashes or underscores, beginning with a letter or digit`},
		{"requires", "clip: 5", "requires: [secure-agregation]", `line 14, column 12: requires[0]: "secure-agregation" is not known here — did you mean "secure-aggregation"?`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			text := strings.Replace(agreementText, tt.from, tt.to, 1)
			_, problems := ParseAgreement([]byte(text))
			if problems == nil || problems[0].String() != tt.want || len(problems) != 1 {
				t.Errorf("got\n%v\nwant\n%s", problems, tt.want)
			}
		})
	}
}

func TestAgreementDigest(t *testing.T) {
	read := func(text string) galley.Digest {
		a, problems := ParseAgreement([]byte(text))
		if problems != nil {
			t.Fatal(problems)
		}
		return a.Digest()
	}
	digest := read(agreementText)
	for _, same := range []string{
		strings.Replace(agreementText, "[news-topic, news-base]", "[news-base, news-topic]", 1),
		strings.Replace(agreementText, "clip: 5", "clip: 5.0 # as we said on the phone", 1),
		strings.Replace(agreementText, "2027-06-30", "2027-07-01T02:00:00+02:00", 1),
		agreementText + "requires: []\n",
	} {
		if read(same) != digest {
			t.Errorf("says the same and has another digest:\n%s", same)
		}
	}
	seen := map[galley.Digest]bool{digest: true}
	for from, to := range map[string]string{
		"headlines\npartner": "captions\npartner", "harbour-gazette": "hill-gazette", "topics of": "topic of", "[news-topic, news-base]": "[news-topic]",
		"rounds: 50": "rounds: 51", "min_cohort: 3": "min_cohort: 4", "06-30": "06-29", "true": "false", "unit: 100": "unit: 200",
		"most: 20000": "most: 20100", "rounded, unit: 100": "exact", "loss, ": "", "clip: 5": "clip: 6", "clip: 5\n": "clip: 5\nrequires: [privacy-budget]\n",
	} {
		text := strings.Replace(agreementText, from, to, 1)
		if d := read(text); text == agreementText || seen[d] {
			t.Errorf("%q for %q leaves the digest as it is", to, from)
		} else {
			seen[d] = true
		}
	}
}

func permitted() (Agreement, Offer) {
	a := agreementOf("a")
	return a, Offer{
		Protocol: Protocol, Federation: "headlines", Round: 4, Attempt: 1, Partner: "a", Agreement: a.Digest(), Purpose: "topics of headlines",
		Model: "news-topic", MinCohort: 3, Strategy: FedAvg, Weighting: ByRows, Metrics: []string{"loss"}, Within: time.Hour,
	}
}

func TestPermits(t *testing.T) {
	if a, o := permitted(); a.Permits(o, 99, a.Expires.Add(-time.Second)) != nil {
		t.Error(a.Permits(o, 99, a.Expires.Add(-time.Second)))
	}
	for _, tt := range []struct {
		name   string
		change func(*Agreement, *Offer)
		code   galley.Code
		want   string
	}{
		{"federation", func(_ *Agreement, o *Offer) { o.Federation = "captions" }, galley.PermissionDenied, `agreement.federation: is for "headlines", not for "captions"`},
		{"partner", func(_ *Agreement, o *Offer) { o.Partner = "b" }, galley.PermissionDenied, `agreement.partner: is "a"'s, and the offer is for "b"`},
		{"digest", func(_ *Agreement, o *Offer) { o.Agreement = galley.DigestBytes(nil) }, galley.PermissionDenied, "the coordinator holds another: e3b0c44298fc"},
		{"expired", func(a *Agreement, _ *Offer) { a.Expires = began }, galley.PermissionDenied, "agreement.expires: has ended at 2026-03-01T09:00:00Z"},
		{"purpose", func(_ *Agreement, o *Offer) { o.Purpose = "faces" }, galley.PermissionDenied, `agreement.purpose: is "topics of headlines", not "faces"`},
		{"model", func(_ *Agreement, o *Offer) { o.Model = "other" }, galley.PermissionDenied, `agreement.models: does not name "other"`},
		{"rounds", func(a *Agreement, _ *Offer) { a.Rounds = 3 }, galley.PermissionDenied, "agreement.rounds: allows 3 rounds, and as many were answered"},
		{"cohort", func(a *Agreement, _ *Offer) { a.MinCohort = 5 }, galley.PermissionDenied, "agreement.min_cohort: wants 5 partners in an aggregate, and the round would do with 3"},
		{"weights", func(a *Agreement, _ *Offer) { a.Leaves.Weights = false }, galley.PermissionDenied, "agreement.leaves.weights: lets no weights leave"},
		{"rows", func(a *Agreement, _ *Offer) { a.Leaves.Rows = RowCount{Report: Hidden} }, galley.PermissionDenied, "agreement.leaves.rows: hides the number of rows, and the round weighs by it"},
		{"metrics", func(_ *Agreement, o *Offer) { o.Metrics = []string{"texts"} }, galley.PermissionDenied, `agreement.leaves.metrics: does not let "texts" leave`},
		{"requires", func(a *Agreement, _ *Offer) { a.Requires = []Capability{SecureAggregation} }, galley.PermissionDenied, "agreement.requires: wants secure-aggregation, and the round goes without"},
		{"clip", func(_ *Agreement, o *Offer) { o.Clip = math.NaN() }, galley.InvalidArgument, "offer: has a clip of NaN"},
		{"mu", func(_ *Agreement, o *Offer) { o.Mu = -1 }, galley.InvalidArgument, "a mu of -1"},
		{"recipe", func(_ *Agreement, o *Offer) { o.Recipe = []byte("epochs: 1") }, galley.InvalidArgument, "offer.recipe: is no JSON object"},
		{"large recipe", func(_ *Agreement, o *Offer) { o.Recipe = make([]byte, 1<<20) }, galley.InvalidArgument, "offer.recipe: has 1048576 bytes"},
		{"protocol", func(_ *Agreement, o *Offer) { o.Protocol = 2 }, galley.Unimplemented, "protocol: the coordinator speaks version 2, this agent 1"},
		{"capability", func(_ *Agreement, o *Offer) { o.Capabilities = []Capability{PrivacyBudget} }, galley.Unimplemented, `capabilities: the round needs "privacy-budget", which this agent does not have`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a, o := permitted()
			tt.change(&a, &o)
			if tt.name != "digest" {
				o.Agreement = a.Digest()
			}
			err := a.Permits(o, 3, began)
			if galley.CodeOf(err) != tt.code || !strings.Contains(err.Error(), tt.want) || galley.AsError(err).Remedy == "" {
				t.Errorf("got %v, want %s", err, tt.want)
			}
		})
	}
}

func TestUniformRoundsNeedNoRows(t *testing.T) {
	a, o := permitted()
	a.Leaves.Rows = RowCount{Report: Hidden}
	o.Agreement, o.Weighting = a.Digest(), Uniform
	if err := a.Permits(o, 0, began); err != nil || a.Told(500) != 0 || !a.tells(0) || a.tells(500) {
		t.Errorf("%v", err)
	}
}

// What an agreement lets be told is what the coordinator takes.
func TestToldIsTaken(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		unit := rapid.Int64Range(2, 1000).Draw(t, "unit")
		most := rapid.Int64Range(unit, 100_000).Draw(t, "most")
		rows := rapid.Int64Range(1, 200_000).Draw(t, "rows")
		for _, r := range []RowCount{{Exact, 0, most}, {Rounded, unit, most}, {Hidden, 0, 0}} {
			a := Agreement{Leaves: Leaves{Rows: r}}
			told := a.Told(rows)
			if !a.tells(told) {
				t.Fatalf("%+v: %d rows are told as %d", r, rows, told)
			}
			if r.Report == Rounded && rows <= most-unit && rows >= unit && (told-rows > unit/2 || rows-told > unit/2) {
				t.Fatalf("%+v: %d rows are told as %d", r, rows, told)
			}
		}
	})
}

func TestBound(t *testing.T) {
	// What is no bound, whoever says it, does not lift the agreement's.
	for _, tt := range []struct{ agreed, offered, want float64 }{
		{0, 0, 0}, {0, 2, 2}, {3, 0, 3}, {3, 2, 2}, {3, 9, 3}, {3, -1, 3}, {3, math.NaN(), 3}, {3, math.Inf(1), 3}, {0, math.NaN(), 0},
	} {
		if got := (Agreement{Clip: tt.agreed}).Bound(Offer{Clip: tt.offered}); got != tt.want {
			t.Errorf("%+v: %g", tt, got)
		}
	}
}

func FuzzAgreement(f *testing.F) {
	f.Add([]byte(agreementText))
	seeds, err := filepath.Glob("testdata/agreement/*.yaml")
	if err != nil || len(seeds) == 0 {
		f.Fatal("no corpus: ", err)
	}
	for _, path := range seeds {
		text, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		a, problems := ParseAgreement(text)
		if problems != nil {
			return
		}
		if err := a.Validate(); err != nil {
			t.Errorf("the file is right, and what it says is not: %v", err)
		}
		if !a.tells(a.Told(1234)) || a.Digest() == "" || slices.Contains(a.Models, "") {
			t.Errorf("%+v", a)
		}
	})
}
