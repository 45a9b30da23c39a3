package diff

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"galley"
	"galley/dataset"
	"galley/registry"
)

// A Diff is all in which two versions differ.
type Diff struct {
	A, B Side `json:"-"`
	// Same says that the two have one content: task, labels, files, and the
	// digests of spec, data and parent.
	Same    bool     `json:"same"`
	Files   []Field  `json:"files,omitempty"`   // digests, by path
	Labels  []Field  `json:"labels,omitempty"`  // by place
	Spec    []Field  `json:"spec,omitempty"`    // by path: recipe.seed
	Lineage []Field  `json:"lineage,omitempty"` // by name
	Data    []Field  `json:"data,omitempty"`    // rows and digests of splits
	Graph   *Graph   `json:"graph,omitempty"`   // nil if a version has no graph
	Metrics []Metric `json:"metrics,omitempty"` // of reports on the same rows
}

// A Side is one of the two versions.
type Side struct {
	Ref    string        `json:"ref"`
	Digest galley.Digest `json:"digest"`
}

// MarshalJSON puts the sides where readers look for them.
func (d Diff) MarshalJSON() ([]byte, error) {
	type plain Diff
	return json.Marshal(struct {
		A Side `json:"a"`
		B Side `json:"b"`
		plain
	}{d.A, d.B, plain(d)})
}

// A Field has one value in the one and another in the other version; an empty
// one is not there.
type Field struct {
	Name string `json:"name"`
	A    string `json:"a"`
	B    string `json:"b"`
}

// A Metric is a figure that both versions have on the same rows.
type Metric struct {
	Dataset    string  `json:"dataset"`
	Split      string  `json:"split,omitempty"`
	Name       string  `json:"name"`
	A          float64 `json:"a"`
	B          float64 `json:"b"`
	Difference float64 `json:"difference"` // b - a
}

// Versions compares what two versions say of themselves; their graphs and
// data are compared by Graphs and Data.
func Versions(a, b registry.Version) Diff {
	d := Diff{
		A: Side{a.Ref(), a.Digest}, B: Side{b.Ref(), b.Digest}, Same: a.Digest == b.Digest,
		Files:   fields(files(a), files(b)),
		Labels:  fields(labels(a), labels(b)),
		Lineage: fields(lineage(a), lineage(b)),
		Metrics: metrics(a, b),
	}
	x, y := map[string]any{}, map[string]any{}
	flatten(a.Lineage.Spec, x)
	flatten(b.Lineage.Spec, y)
	d.Spec = fields(x, y)
	return d
}

// Data compares two manifests; nil is one that is not here.
func Data(a, b *dataset.Manifest) []Field {
	describe := func(m *dataset.Manifest) map[string]any {
		out := map[string]any{}
		if m == nil {
			return out
		}
		for split, info := range m.Splits {
			out[string(split)+" rows"] = fmt.Sprint(info.Rows)
			out[string(split)+" digest"] = string(info.Digest)
		}
		out["labels"] = fmt.Sprint(len(m.Labels))
		return out
	}
	return fields(describe(a), describe(b))
}

func files(v registry.Version) map[string]any {
	out := map[string]any{"task": v.Task}
	for _, a := range v.Artifacts {
		out[a.Path] = string(a.Digest)
	}
	return out
}

func labels(v registry.Version) map[string]any {
	out := map[string]any{}
	for i, label := range v.Labels {
		out[fmt.Sprintf("label %4d", i)] = label
	}
	return out
}

func lineage(v registry.Version) map[string]any {
	l := v.Lineage
	var teachers []string
	for _, t := range l.DistilledFrom {
		teachers = append(teachers, t.Ref+" "+t.Digest.Short())
	}
	federation, partners := "", []string(nil)
	if f := l.Federation; f != nil {
		federation = fmt.Sprintf("%s, %d rounds of %s", f.Name, len(f.Rounds), f.Run)
		for _, p := range f.Partners {
			partners = append(partners, fmt.Sprintf("%s (%d, %s)", p.Name, p.Rounds, p.Agreement.Short()))
		}
	}
	return map[string]any{
		"federation": federation, "partners": strings.Join(partners, ", "),
		"distilled from": strings.Join(teachers, ", "), "unlabelled": l.Unlabelled, "unlabelled digest": string(l.UnlabelledDigest),
		"dataset": l.Dataset, "dataset digest": string(l.DatasetDigest), "parent": l.Parent, "parent digest": string(l.ParentDigest),
		"spec digest": string(l.SpecDigest), "engine": l.Engine, "engine version": l.EngineVersion, "revision": l.Revision, "hardware": l.Hardware,
	}
}

// maxFields bounds a list; a spec may be large.
const maxFields = 1000

// fields lists the names whose values differ.
func fields(a, b map[string]any) []Field {
	names := maps.Clone(a)
	maps.Copy(names, b)
	var out []Field
	for _, name := range slices.Sorted(maps.Keys(names)) {
		x, y := text(a[name]), text(b[name])
		if x != y && len(out) < maxFields {
			out = append(out, Field{name, x, y})
		}
	}
	return out
}

func text(v any) string {
	switch v := v.(type) {
	case nil:
		return ""
	case string:
		return v
	}
	data, err := json.Marshal(v)
	if err != nil {
		return fmt.Sprint(v)
	}
	return string(data)
}

// flatten writes the leaves of a JSON document by their paths.
func flatten(data json.RawMessage, into map[string]any) {
	var document any
	if len(data) == 0 || json.Unmarshal(data, &document) != nil {
		return
	}
	var walk func(path string, v any)
	walk = func(path string, v any) {
		object, ok := v.(map[string]any)
		if !ok {
			into[path] = v // lists are compared whole
			return
		}
		for name, inner := range object {
			if path != "" {
				name = path + "." + name
			}
			walk(name, inner)
		}
	}
	walk("", document)
}

// metrics compares the newest reports on the same rows.
func metrics(a, b registry.Version) []Metric {
	type rows struct{ dataset, split string }
	newest := func(v registry.Version) map[rows]registry.ReportRef {
		out := map[rows]registry.ReportRef{}
		for _, r := range v.Reports { // the newest last
			if r.Split != "" { // a file's name does not say which rows it had
				out[rows{r.Dataset, r.Split}] = r
			}
		}
		return out
	}
	x, y := newest(a), newest(b)
	var out []Metric
	for at, r := range x {
		other, ok := y[at]
		if !ok || r.N != other.N {
			continue
		}
		for name, value := range r.Metrics {
			if second, ok := other.Metrics[name]; ok {
				out = append(out, Metric{at.dataset, at.split, name, value, second, second - value})
			}
		}
	}
	slices.SortFunc(out, func(a, b Metric) int {
		return slices.Compare([]string{a.Dataset, a.Split, a.Name}, []string{b.Dataset, b.Split, b.Name})
	})
	return out
}
