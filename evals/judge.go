package evals

import (
	"fmt"
	"strconv"
)

// Judge holds a report to the gate's rules. prod is the version in production
// on the same rows, one of the report's baselines; nil if there is no other,
// so that what is relative to it holds.
func (g Gate) Judge(r *Report, prod *Baseline) Verdict {
	v := Verdict{Passed: true, Checks: []Check{}}
	paired := false
	for _, rule := range g.Rules {
		if rule.relative() && prod == nil {
			v.Add(Check{Name: rule.name(""), Passed: true, Detail: "no other version is in production"})
			continue
		}
		rule.judge(&v, r, prod)
		paired = paired || rule.relative() && figures[rule.Metric].paired
	}
	if paired {
		v.Add(resolution(prod))
	}
	return v
}

// name is what a check of the rule is called.
func (r Rule) name(kind string) string {
	name := r.Metric
	if r.Slice != "" {
		name += " of " + r.Slice
	}
	return name + kind
}

func (r Rule) judge(v *Verdict, report *Report, prod *Baseline) {
	f := figures[r.Metric]
	own, other, difference, why := r.figures(report, prod)
	if why != "" {
		v.Add(Check{Name: r.name(""), Detail: why})
		return
	}
	add := func(kind string, passed bool, format string, args ...any) {
		v.Add(Check{Name: r.name(kind), Passed: passed, Detail: fmt.Sprintf(format, args...)})
	}
	if r.Min != nil {
		add("", own >= *r.Min, "%s, at least %s", show(own), show(*r.Min))
	}
	if r.Max != nil {
		add("", own <= *r.Max, "%s, at most %s", show(own), show(*r.Max))
	}
	if r.MaxWorse != nil {
		worse := own - other
		if f.higher {
			worse = other - own
		}
		add("", !exceeds(worse, *r.MaxWorse), "%s against %s of %s: %s by %s, at most %s worse",
			show(own), show(other), prod.Name, direction(worse), show(abs(worse)), show(*r.MaxWorse))
	}
	if r.MaxWorseBound != nil {
		add(" lower bound", !exceeds(-difference.Low, *r.MaxWorseBound), "the difference is %+.4f, 95 %% %+.4f to %+.4f on %d rows: at most %s worse",
			difference.Value, difference.Low, difference.High, difference.N, show(*r.MaxWorseBound))
	}
	if r.MaxRatio != nil {
		r.judgeRatio(v, own, other, prod)
	}
}

// judgeRatio takes latency by its paired ratio, other figures as they are.
func (r Rule) judgeRatio(v *Verdict, own, other float64, prod *Baseline) {
	if m, ok := prod.Ratios[r.Metric]; ok {
		v.Add(Check{Name: r.name(" ratio"), Passed: !exceeds(m.Value, *r.MaxRatio),
			Detail: fmt.Sprintf("%.3f times that of %s, 95 %% %.3f to %.3f (%s against %s): at most %s times",
				m.Value, prod.Name, m.Low, m.High, show(own), show(other), show(*r.MaxRatio))})
		return
	}
	v.Add(Check{Name: r.name(" ratio"), Passed: !exceeds(own, other**r.MaxRatio),
		Detail: fmt.Sprintf("%s against %s of %s: at most %s times", show(own), show(other), prod.Name, show(*r.MaxRatio))})
}

// figures finds what a rule compares, or says why it cannot.
func (r Rule) figures(report *Report, prod *Baseline) (own, other float64, difference Metric, why string) {
	f := figures[r.Metric]
	missing := func(who string) string { return fmt.Sprintf("%s has no %s", who, r.name("")) }
	if r.Slice != "" {
		return r.sliceFigures(report, prod, missing)
	}
	own, ok := f.of(report)
	if !ok {
		return 0, 0, difference, missing("the report")
	}
	if r.relative() {
		if other, ok = f.beside(*prod); !ok {
			return 0, 0, difference, missing(prod.Name)
		}
		difference = prod.Difference
	}
	return own, other, difference, ""
}

func (r Rule) sliceFigures(report *Report, prod *Baseline, missing func(string) string) (own, other float64, difference Metric, why string) {
	found := false
	for _, s := range report.Slices {
		if m, ok := s.Metrics[r.Metric]; ok && s.Name == r.Slice {
			own, found = m.Value, true
		}
	}
	if !found {
		return 0, 0, difference, missing("the report")
	}
	if !r.relative() {
		return own, 0, difference, ""
	}
	for _, s := range prod.Slices {
		if m, ok := s.Metrics[r.Metric]; ok && s.Name == r.Slice {
			return own, m.Value, s.Difference, ""
		}
	}
	return 0, 0, difference, missing(prod.Name)
}

// resolution says how much the comparison could have shown at all.
func resolution(prod *Baseline) Check {
	p := prod.Pairing
	return Check{Name: "resolution", Passed: true, Detail: fmt.Sprintf(
		"%d rows, of which one version alone has %d right, can show a difference of accuracy of %.4f (power 80 %%, 5 %% two-sided); McNemar p %.3g; %.1f %% of the answers agree",
		p.N, p.OnlyA+p.OnlyB, p.Detectable(), prod.P, 100*prod.Agreement.Value)}
}

// exceeds compares with the room that decimal margins need in binary.
func exceeds(x, limit float64) bool { return x > limit+1e-12 }

func abs(x float64) float64 { return max(x, -x) }

func direction(worse float64) string {
	if worse > 0 {
		return "worse"
	}
	return "better"
}

func show(x float64) string { return strconv.FormatFloat(x, 'g', 5, 64) }
