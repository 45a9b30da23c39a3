package control

import (
	"context"
	"fmt"
	"strings"

	"galley"
	"galley/dataset"
	"galley/evals"
	"galley/registry"
)

// A Promotion asks for an alias to point at a version.
type Promotion struct {
	Ref    galley.Ref
	Alias  string
	Expect *int64 // the alias' generation that the request is based on; nil for any
	Force  bool   // do not ask the gate; Reason says why
	Reason string
	// Dataset and Split are the rows on which the gate compares, unless it says
	// so itself; empty for the test split of what the version was trained on.
	Dataset string
	Split   dataset.Split
}

// A Promoted is what became of a promotion, and what the gate said.
type Promoted struct {
	registry.Change
	Gate evals.Verdict
}

// A Refusal is the error of a promotion that the gate refuses.
type Refusal struct {
	Err  *galley.Error
	Gate evals.Verdict
}

// Error implements error.
func (r *Refusal) Error() string { return r.Err.Error() }

// Unwrap returns the error as programs know it.
func (r *Refusal) Unwrap() error { return r.Err }

// maxMoves is how often a promotion is judged anew because someone else moved
// the alias meanwhile.
const maxMoves = 3

// Promote points an alias at a version. If the alias has a gate, as prod has
// one, the version is compared with the one that it would follow, and what the
// gate judged by is recorded. The alias moves only if it is still where it was
// then.
func (c *Control) Promote(ctx context.Context, by galley.Actor, p Promotion) (Promoted, error) {
	v, err := c.resolveVersion(ctx, p.Ref)
	if err != nil {
		return Promoted{}, err
	}
	r := registry.Request{
		Model: v.Name, Alias: p.Alias, Target: v.Number, Expect: registry.AnyGeneration,
		By: by, At: c.now(), Reason: p.Reason, Force: p.Force,
	}
	if p.Expect != nil {
		if r.Expect = *p.Expect; r.Expect < 0 {
			return Promoted{}, galley.Errorf(galley.InvalidArgument, "expect", "%d is not a generation", *p.Expect)
		}
	}
	if err := r.Check(); err != nil {
		return Promoted{}, err
	}
	gating, err := c.GateOf(ctx, v.Name, p.Alias)
	if err != nil {
		return Promoted{}, err
	}
	if gating.Gate == nil || p.Force {
		change, err := c.moved(ctx, r, c.store.Promote)
		return Promoted{Change: change, Gate: ungated(p)}, err
	}
	if p, err = onGateData(p, gating); err != nil {
		return Promoted{}, err
	}
	for try := 1; ; try++ {
		promoted, err := c.promoteGated(ctx, v, r, p, *gating.Gate)
		if galley.CodeOf(err) == galley.Aborted && p.Expect == nil && try < maxMoves {
			continue
		}
		return promoted, err
	}
}

// onGateData holds a promotion to the rows that its gate names, if it does.
func onGateData(p Promotion, g Gating) (Promotion, error) {
	if g.Gate.Data == "" {
		return p, nil
	}
	if p.Dataset != "" {
		return p, galley.Errorf(galley.InvalidArgument, "data", "the gate of %s:%s compares on %s alone", g.Model, g.Alias, g.Gate.Data).
			WithRemedy("name no data, or ask who set the gate: galley models gate %s %s", g.Model, g.Alias)
	}
	p.Dataset, p.Split = g.Gate.Data, g.Gate.Split
	return p, nil
}

// ungated is the verdict where no gate was asked.
func ungated(p Promotion) evals.Verdict {
	check := evals.Check{Name: "gate", Passed: true, Detail: fmt.Sprintf("alias %s has no gate", p.Alias)}
	if p.Force {
		check.Detail = "not asked: " + p.Reason
	}
	return evals.Verdict{Passed: true, Checks: []evals.Check{check}}
}

// promoteGated judges the version beside the one that the alias points at now,
// and moves it if it still does.
func (c *Control) promoteGated(ctx context.Context, v registry.Version, r registry.Request, p Promotion, gate evals.Gate) (Promoted, error) {
	m, err := c.store.Outline(ctx, v.Name, v.Number)
	if err != nil {
		return Promoted{}, err
	}
	prod, _ := m.Alias(p.Alias)
	if r.Expect == registry.AnyGeneration {
		r.Expect = prod.Generation
	}
	verdict := evals.Verdict{Passed: true, Checks: []evals.Check{}}
	if r.Expect == prod.Generation && prod.Target != v.Number { // else the move says what is wrong, or is none
		if verdict, r.Report, err = c.judge(ctx, r.By, v, m, p, gate); err != nil {
			return Promoted{}, err
		}
		if !verdict.Passed {
			return Promoted{}, refuse(v, prod, verdict)
		}
	}
	change, err := c.moved(ctx, r, c.store.Promote)
	return Promoted{Change: change, Gate: verdict}, err
}

// refuse says which checks failed, a line each.
func refuse(v registry.Version, alias registry.Alias, verdict evals.Verdict) *Refusal {
	var lines strings.Builder
	for _, check := range verdict.Checks {
		if !check.Passed {
			fmt.Fprintf(&lines, "\n%s: %s", check.Name, check.Detail)
		}
	}
	e := galley.Errorf(galley.FailedPrecondition, alias.Model+":"+alias.Name, "the gate refuses %s in the place of %s%s",
		v.Ref(), galley.Ref{Name: alias.Model, Version: alias.Target}, lines.String()).
		WithRemedy("train a better version, measure again with galley eval %s --data NAME, or promote it all the same with --force --reason TEXT, which is recorded", v.Ref())
	return &Refusal{e, verdict}
}

// judge holds a version to a gate, beside the one that the alias points at.
func (c *Control) judge(ctx context.Context, by galley.Actor, v registry.Version, m registry.Model, p Promotion, gate evals.Gate) (evals.Verdict, galley.Digest, error) {
	one := func(passed bool, name, format string, args ...any) (evals.Verdict, galley.Digest, error) {
		check := evals.Check{Name: name, Passed: passed, Detail: fmt.Sprintf(format, args...)}
		return evals.Verdict{Passed: passed, Checks: []evals.Check{check}}, "", nil
	}
	r, err := c.rivalOf(ctx, v, m, p.Alias)
	if err != nil {
		return evals.Verdict{}, "", err
	}
	switch {
	case r == nil:
		return one(true, "production", "nothing is in production yet: there is nothing to compare with")
	case r.apart != nil:
		return one(r.apart.Passed, r.apart.Name, "%s", r.apart.Detail)
	}
	e, err := c.gateRows(ctx, v, r.version, p)
	if err != nil {
		return evals.Verdict{}, "", err
	}
	if e.Dataset == "" {
		return one(false, "rows", "neither %s nor %s says what data they were trained on that is still here; name a dataset to compare on with --data NAME", v.Ref(), r.version.Ref())
	}
	report, digest, err := c.recorded(ctx, v, r.version, e)
	if err != nil {
		return evals.Verdict{}, "", err
	}
	if report == nil {
		e.Ref, e.beside = galley.Ref{Name: v.Name, Version: v.Number}, p.Alias
		made, ref, err := c.Evaluate(ctx, by, e, nil)
		if err != nil {
			return evals.Verdict{}, "", err
		}
		report, digest = made, ref.Digest
	}
	prod, ok := report.Beside(r.version.Digest)
	if !ok { // prod moved while it was measured
		return evals.Verdict{}, "", galley.Errorf(galley.Aborted, m.Name+":"+p.Alias, "was moved while %s was compared with it", v.Ref())
	}
	return gate.Judge(report, &prod), digest, nil
}

// gateRows decides on which rows two versions are compared: those asked for,
// or the test split of what the one, else the other, was trained on; the
// validation split where there is no test.
func (c *Control) gateRows(ctx context.Context, v, prod registry.Version, p Promotion) (Evaluation, error) {
	type candidate struct {
		name   string
		digest galley.Digest // empty for any
	}
	candidates := []candidate{{p.Dataset, ""}}
	if p.Dataset == "" {
		candidates = []candidate{{v.Lineage.Dataset, v.Lineage.DatasetDigest}, {prod.Lineage.Dataset, prod.Lineage.DatasetDigest}}
	}
	for _, at := range candidates {
		if at.name == "" {
			continue
		}
		d, err := c.dataset(ctx, at.name)
		// An imported version names data of another home.
		if p.Dataset == "" && (galley.CodeOf(err) == galley.NotFound || err == nil && at.digest != "" && at.digest != d.Digest) {
			continue
		}
		if err != nil {
			return Evaluation{}, err
		}
		splits := []dataset.Split{dataset.Test, dataset.Valid}
		if p.Split != "" {
			splits = []dataset.Split{p.Split}
		}
		for _, split := range splits {
			if d.Manifest.Splits[split].Rows > 0 && len(d.Manifest.Labels) > 0 {
				return Evaluation{Dataset: d.Ref(), Split: split}, nil
			}
		}
		if p.Dataset != "" {
			return Evaluation{}, galley.Errorf(galley.FailedPrecondition, d.Ref(), "has no labelled rows in the split to compare on").
				WithRemedy("name a split with rows: --split valid")
		}
	}
	return Evaluation{}, nil
}

// recorded finds the newest report of a version beside another on the same
// rows, nil if there is none.
func (c *Control) recorded(ctx context.Context, v, prod registry.Version, e Evaluation) (*evals.Report, galley.Digest, error) {
	d, err := c.dataset(ctx, e.Dataset)
	if err != nil {
		return nil, "", err
	}
	for i := len(v.Reports) - 1; i >= 0; i-- {
		ref := v.Reports[i]
		if ref.Against != prod.Digest || ref.Split != string(e.Split) || ref.Dataset != d.Ref() {
			continue
		}
		report, err := c.store.Report(ctx, ref.Digest)
		if err != nil {
			return nil, "", err
		}
		if _, ok := report.Beside(prod.Digest); ok && report.Dataset.Digest == d.Digest {
			return report, ref.Digest, nil
		}
	}
	return nil, "", nil
}
