package control

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"galley"
	"galley/dataset"
	"galley/evals"
	"galley/internal/audit"
	"galley/internal/ort/orttest"
	"galley/internal/store"
	"galley/registry"
)

// lopsided is rows of which this many in a hundred are about sport.
func lopsided(sport int) string {
	var b strings.Builder
	b.WriteString("text,label\n")
	for i := range 100 {
		if i < sport {
			fmt.Fprintf(&b, "the team won match %d with a late goal,sport\n", i)
		} else {
			fmt.Fprintf(&b, "央行第%d次维持利率不变,money\n", i)
		}
	}
	return b.String()
}

// stubborn registers a classifier that always gives one answer: money, for
// even numbers, else sport.
func (w *world) stubborn(t *testing.T, number int, data string, labels ...string) registry.Version {
	t.Helper()
	hash := []byte{byte(10 + number), byte(10 + number)}
	hash[number%2] += 100
	dir := filepath.Join(t.TempDir(), "bundle")
	if err := writeBundle(dir, "text-classification", labels, hash); err != nil {
		t.Fatal(err)
	}
	files, err := w.collect(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	v, _, err := w.store.Register(t.Context(), registry.Version{
		Name: "desk", Task: "text-classification", Labels: labels, Artifacts: files, Lineage: registry.Lineage{Dataset: data}, Created: w.now(),
	})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func (w *world) promote(t *testing.T, p Promotion) (Promoted, *Refusal) {
	t.Helper()
	if p.Alias == "" {
		p.Alias = registry.Prod
	}
	got, err := w.Promote(t.Context(), "ann", p)
	var refusal *Refusal
	if err != nil && !errors.As(err, &refusal) {
		t.Fatal(err)
	}
	return got, refusal
}

func failed(v evals.Verdict) (names []string) {
	for _, c := range v.Checks {
		if !c.Passed {
			names = append(names, c.Name)
		}
	}
	return names
}

// What is worse than production is refused with figures, and can be forced
// with a reason, which stays.
func TestGate(t *testing.T) {
	w := newWorld(t, orttest.Opener(t), 2)
	w.add(t, "news", map[string]string{"train": rows, "test": lopsided(40)})
	money, sport := "money", "sport"
	good := w.stubborn(t, 0, "news@1", money, sport)
	worse := w.stubborn(t, 1, "news@1", money, sport)
	equal := w.stubborn(t, 2, "news@1", money, sport)
	ref := func(v registry.Version) galley.Ref { return galley.Ref{Name: v.Name, Version: v.Number} }

	first, refusal := w.promote(t, Promotion{Ref: ref(good)})
	if refusal != nil || first.Gate.Checks[0].Name != "production" || !first.Gate.Passed || first.Report != "" {
		t.Fatalf("%+v %v", first, refusal)
	}
	// The same again moves nothing and asks nothing.
	if again, refusal := w.promote(t, Promotion{Ref: ref(good)}); refusal != nil || again.From != again.To {
		t.Errorf("%+v %v", again, refusal)
	}

	_, refusal = w.promote(t, Promotion{Ref: ref(worse)})
	if refusal == nil || galley.CodeOf(refusal) != galley.FailedPrecondition || !slices.Equal(failed(refusal.Gate), []string{"accuracy", "accuracy lower bound"}) {
		t.Fatalf("%v", refusal)
	}
	for _, says := range []string{"the gate refuses desk@2 in the place of desk@1", "\naccuracy: 0.4 against 0.6 of desk@1: worse by 0.2, at most 0.01 worse", "--force --reason"} {
		if !strings.Contains(refusal.Error(), says) {
			t.Errorf("%q lacks %q", refusal, says)
		}
	}
	// What it judged by is recorded once, on the test split.
	reports := func(v registry.Version) []registry.ReportRef {
		v, err := w.store.Version(t.Context(), v.Name, v.Number)
		if err != nil {
			t.Fatal(err)
		}
		return v.Reports
	}
	if _, refusal = w.promote(t, Promotion{Ref: ref(worse)}); refusal == nil {
		t.Error("passes the second time")
	}
	kept := reports(worse)
	if len(kept) != 1 || kept[0].Against != good.Digest || kept[0].Split != "test" || kept[0].Passed {
		t.Errorf("%+v", kept)
	}

	forced, refusal := w.promote(t, Promotion{Ref: ref(worse), Force: true, Reason: "the good one insults readers"})
	if refusal != nil || forced.Move != registry.Forced || forced.Generation != 2 {
		t.Fatalf("%+v %v", forced, refusal)
	}
	better, refusal := w.promote(t, Promotion{Ref: ref(equal)})
	if refusal != nil || better.From != worse.Number || better.Report != reports(equal)[0].Digest {
		t.Errorf("%+v %v", better, refusal)
	}
	if _, err := w.Rollback(t.Context(), "ann", "desk", ""); err != nil {
		t.Fatal(err)
	}
	changes, err := w.History(t.Context(), "desk", registry.Prod, 0)
	if err != nil || len(changes) != 4 || changes[2].Reason != "the good one insults readers" || changes[2].Move != registry.Forced || changes[0].Move != registry.RolledBack {
		t.Errorf("%+v %v", changes, err)
	}
	entries, err := w.store.Audit(t.Context(), store.AuditQuery{Limit: 1000})
	if err != nil {
		t.Fatal(err)
	}
	if !slices.ContainsFunc(entries, func(e audit.Entry) bool {
		return e.Action == "alias.promote.forced" && e.Subject == "desk:prod" && e.Actor == "ann" && e.Detail == "desk@2: the good one insults readers"
	}) {
		t.Errorf("%+v", entries)
	}
	// Other aliases have no gate.
	if got, refusal := w.promote(t, Promotion{Ref: ref(worse), Alias: "shadow"}); refusal != nil || !strings.Contains(got.Gate.Checks[0].Detail, "alias shadow has no gate") {
		t.Errorf("%+v %v", got, refusal)
	}
	for alias, code := range map[string]galley.Code{"": "", "shadow": "", "none": galley.NotFound} {
		if changes, err := w.History(t.Context(), "desk", alias, 10); galley.CodeOf(err) != code || code == "" && len(changes) == 0 {
			t.Errorf("%q: %+v %v", alias, changes, err)
		}
	}
}

// The order of labels is a version's own; what cannot be compared is refused,
// and says why.
func TestGateComparesWhatItCan(t *testing.T) {
	w := newWorld(t, orttest.Opener(t), 2)
	w.add(t, "news", map[string]string{"train": rows, "test": lopsided(40)})
	w.add(t, "bare", map[string]string{"train": rows})
	money, sport := "money", "sport"
	good := w.stubborn(t, 0, "news@1", money, sport)
	turned := w.stubborn(t, 1, "news@1", sport, money) // answers money, too
	foreign := w.stubborn(t, 2, "news@1", money, "weather")
	ref := func(v registry.Version) galley.Ref { return galley.Ref{Name: v.Name, Version: v.Number} }
	w.promote(t, Promotion{Ref: ref(good)})

	got, refusal := w.promote(t, Promotion{Ref: ref(turned)})
	if refusal != nil {
		t.Fatal(refusal)
	}
	report, err := w.Report(t.Context(), got.Report)
	if err != nil || report.Metrics[evals.Agreement].Value != 1 || report.Resources.SizeBytes == 0 {
		t.Errorf("%+v %v", report, err)
	}
	if _, refusal = w.promote(t, Promotion{Ref: ref(foreign)}); refusal == nil || !slices.Equal(failed(refusal.Gate), []string{"labels"}) {
		t.Errorf("other labels: %v", refusal)
	}
	// A version that does not say where its rows are is compared on
	// production's; if neither does, rows must be named.
	orphan := func(number int, data string) []string {
		_, refusal := w.promote(t, Promotion{Ref: ref(w.stubborn(t, number, data, money, sport))})
		if refusal == nil {
			return nil
		}
		return failed(refusal.Gate)
	}
	if names := orphan(3, ""); !slices.Equal(names, []string{"accuracy", "accuracy lower bound"}) {
		t.Errorf("compared on production's data: %q", names)
	}
	if names := orphan(4, "elsewhere@3"); names != nil {
		t.Errorf("as good as production: %q", names)
	}
	if names := orphan(6, "elsewhere@3"); !slices.Equal(names, []string{"rows"}) {
		t.Errorf("no rows: %q", names)
	}
	for p, code := range map[Promotion]galley.Code{
		{Dataset: "none"}:                      galley.NotFound,
		{Dataset: "bare", Split: dataset.Test}: galley.FailedPrecondition,
		{Dataset: "bare", Split: "every"}:      galley.FailedPrecondition,
		{Dataset: "No Name"}:                   galley.InvalidArgument,
	} {
		p.Ref, p.Alias = ref(good), registry.Prod
		if _, err := w.Promote(t.Context(), "ann", p); galley.CodeOf(err) != code {
			t.Errorf("%+v: %v", p, err)
		}
	}
	if got, refusal = w.promote(t, Promotion{Ref: ref(good), Dataset: "news"}); refusal != nil || !got.Gate.Passed {
		t.Errorf("rows named: %+v %v", got, refusal)
	}
	for _, bad := range []Promotion{{Ref: ref(good), Alias: registry.Prod, Force: true}, {Ref: ref(good), Alias: "Prod"}} {
		if _, err := w.Promote(t.Context(), "ann", bad); galley.CodeOf(err) != galley.InvalidArgument {
			t.Errorf("%+v: %v", bad, err)
		}
	}
}

// A version is compared with production whenever it is measured, on a file
// too; a row that cannot be is named by its line.
func TestEvaluateBesideProduction(t *testing.T) {
	w := newWorld(t, orttest.Opener(t), 2)
	w.add(t, "news", map[string]string{"train": rows, "test": lopsided(40)})
	good, worse := w.stubborn(t, 0, "news@1", "money", "sport"), w.stubborn(t, 1, "news@1", "money", "sport")
	w.promote(t, Promotion{Ref: galley.Ref{Name: "desk", Version: good.Number}})
	evaluate := func(v registry.Version, data string) (*evals.Report, error) {
		s, err := w.NewSpool()
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		if err := s.Write("data", "fresh.csv", []byte(data)); err != nil {
			t.Fatal(err)
		}
		report, _, err := w.Evaluate(t.Context(), "ann", Evaluation{Ref: galley.Ref{Name: "desk", Version: v.Number}, Format: dataset.CSV}, s)
		return report, err
	}
	report, err := evaluate(worse, lopsided(30))
	if err != nil || report.Gate.Passed || !slices.Equal(failed(report.Gate), []string{"accuracy", "accuracy lower bound"}) || report.Metrics[evals.Agreement].Value != 0 {
		t.Errorf("%+v %v", report, err)
	}
	if report, err = evaluate(good, lopsided(30)); err != nil || !report.Gate.Passed || len(report.Baselines) != 0 {
		t.Errorf("%+v %v", report, err)
	}
	_, err = evaluate(good, "text,label\na goal,sport\n\"two\nlines\",money\nrain,weather\n")
	if galley.CodeOf(err) != galley.InvalidArgument || !strings.Contains(err.Error(), `fresh.csv:5: has the label "weather"`) {
		t.Error(err)
	}
}

// A gate of one's own replaces galley's, and an alias other than prod can have
// one; the log says who set it.
func TestOwnGate(t *testing.T) {
	w := newWorld(t, orttest.Opener(t), 2)
	w.add(t, "news", map[string]string{"train": rows, "test": lopsided(40)})
	good, worse := w.stubborn(t, 0, "news@1", "money", "sport"), w.stubborn(t, 1, "news@1", "money", "sport")
	at := func(x float64) *float64 { return &x }
	ref := func(v registry.Version) galley.Ref { return galley.Ref{Name: v.Name, Version: v.Number} }
	lax := &evals.Gate{Rules: []evals.Rule{{Metric: evals.Accuracy, MaxWorse: at(.5)}}}
	for _, alias := range []string{"", "shadow"} {
		got, err := w.SetGate(t.Context(), "ann", "desk", alias, lax)
		if err != nil || !got.Own || *got.Gate.Rules[0].MaxWorse != .5 {
			t.Fatalf("%+v %v", got, err)
		}
	}
	w.promote(t, Promotion{Ref: ref(good)})
	if _, refusal := w.promote(t, Promotion{Ref: ref(worse)}); refusal != nil {
		t.Errorf("a lax gate: %v", refusal)
	}
	strict := &evals.Gate{Rules: []evals.Rule{{Metric: evals.Accuracy, MaxWorse: at(0)}}}
	if _, err := w.SetGate(t.Context(), "ann", "desk", "shadow", strict); err != nil {
		t.Fatal(err)
	}
	w.promote(t, Promotion{Ref: ref(good), Alias: "shadow"})
	if _, refusal := w.promote(t, Promotion{Ref: ref(worse), Alias: "shadow"}); refusal == nil || !strings.HasPrefix(refusal.Error(), "desk:shadow: ") {
		t.Errorf("a strict gate: %v", refusal)
	}
	if got, err := w.SetGate(t.Context(), "ann", "desk", "shadow", nil); err != nil || got.Own || got.Gate != nil {
		t.Errorf("%+v %v", got, err)
	}
	if got, err := w.SetGate(t.Context(), "ann", "desk", "", nil); err != nil || got.Own || len(got.Gate.Rules) != 3 {
		t.Errorf("%+v %v", got, err)
	}
	entries, err := w.store.Audit(t.Context(), store.AuditQuery{Limit: 1000, Subject: "desk:shadow"})
	if err != nil || !slices.ContainsFunc(entries, func(e audit.Entry) bool { return e.Action == "gate.set" && e.Actor == "ann" }) {
		t.Errorf("%+v %v", entries, err)
	}
	for name, c := range map[string]struct {
		model, alias string
		gate         *evals.Gate
		code         galley.Code
	}{
		"no model": {"none", "", lax, galley.NotFound}, "no name": {"No", "", lax, galley.InvalidArgument}, "no alias": {"desk", "A b", lax, galley.InvalidArgument},
		"no bound": {"desk", "", &evals.Gate{Rules: []evals.Rule{{Metric: evals.Accuracy}}}, galley.InvalidArgument},
	} {
		if _, err := w.SetGate(t.Context(), "ann", c.model, c.alias, c.gate); galley.CodeOf(err) != c.code {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A model that there is not has no gate to show; one whose versions are gone
// has the one that was set, which waits for the next.
func TestGateOfNoModel(t *testing.T) {
	w := newWorld(t, noOpener{}, 1)
	for _, alias := range []string{"", "shadow"} {
		if got, err := w.GateOf(t.Context(), "none", alias); galley.CodeOf(err) != galley.NotFound || got.Gate != nil || !strings.Contains(galley.AsError(err).Remedy, "galley models list") {
			t.Errorf("%+v %v", got, err)
		}
	}
	v := w.stubborn(t, 0, "news@1", "money", "sport")
	if got, err := w.GateOf(t.Context(), "desk", "shadow"); err != nil || got.Gate != nil {
		t.Errorf("%+v %v", got, err)
	}
	least := .5
	if _, err := w.SetGate(t.Context(), "ann", "desk", "", &evals.Gate{Rules: []evals.Rule{{Metric: evals.Accuracy, Min: &least}}}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Delete(t.Context(), "ann", galley.Ref{Name: "desk", Version: v.Number}); err != nil {
		t.Fatal(err)
	}
	if got, err := w.GateOf(t.Context(), "desk", ""); err != nil || !got.Own {
		t.Errorf("%+v %v", got, err)
	}
	if _, err := w.GateOf(t.Context(), "desk", "shadow"); galley.CodeOf(err) != galley.NotFound {
		t.Error(err)
	}
}
