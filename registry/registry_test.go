package registry

import (
	"math"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"galley"
)

func version() Version {
	return Version{
		Name: "news", Task: "text-classification", Labels: []string{"culture", "sports"},
		Artifacts: []Artifact{
			{Path: "model.onnx", Digest: galley.DigestBytes([]byte("model")), Size: 5},
			{Path: "data/vocabulary.txt", Digest: galley.DigestBytes([]byte("words")), Size: 5},
		},
		Lineage: Lineage{
			Spec: []byte(`{"seed":1}`), SpecDigest: galley.DigestBytes([]byte("spec")), Job: "job-1",
			Dataset: "headlines@1", DatasetDigest: galley.DigestBytes([]byte("data")),
			Parent: "base@1", ParentDigest: galley.DigestBytes([]byte("base")),
			Engine: "onnx", EngineVersion: "1.2", Revision: "abc", Hardware: "2 cores",
		},
		Metrics: map[string]float64{"accuracy": .9}, Creator: "editor",
		Created: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC),
	}
}

func TestContentDigest(t *testing.T) {
	base := version().ContentDigest()
	// The value is fixed: it names versions in stored lineage.
	if want := galley.Digest("sha256:a4bd45822e91f2738b674be544116a53fe6ce6556d103c09401f0235175d08bb"); base != want {
		t.Errorf("digest %s, want %s", base, want)
	}
	same := map[string]func(*Version){
		"order":    func(v *Version) { slices.Reverse(v.Artifacts) },
		"name":     func(v *Version) { v.Name, v.Number = "other", 7 },
		"job":      func(v *Version) { v.Lineage.Job = "job-2" },
		"place":    func(v *Version) { v.Lineage.Hardware, v.Lineage.EngineVersion, v.Lineage.Revision = "", "", "" },
		"time":     func(v *Version) { v.Created, v.Creator = time.Time{}, "someone" },
		"metrics":  func(v *Version) { v.Metrics = nil },
		"splits":   func(v *Version) { v.Lineage.Splits = map[string]Data{"train": {Rows: 1}} },
		"external": func(v *Version) { v.Lineage.External = "news@3" },
		"reports":  func(v *Version) { v.Reports = []ReportRef{{}} },
		"ref":      func(v *Version) { v.Lineage.Dataset, v.Lineage.Parent = "copy@1", "copy@2" },
		"the spec": func(v *Version) { v.Lineage.Spec = nil }, // its digest stays
	}
	for name, change := range same {
		v := version()
		if change(&v); v.ContentDigest() != base {
			t.Errorf("%s changes the digest", name)
		}
	}
	other := map[string]func(*Version){
		"task":     func(v *Version) { v.Task = "text-mlm" },
		"labels":   func(v *Version) { slices.Reverse(v.Labels) },
		"bytes":    func(v *Version) { v.Artifacts[0].Digest = galley.DigestBytes(nil) },
		"path":     func(v *Version) { v.Artifacts[0].Path = "m.onnx" },
		"artifact": func(v *Version) { v.Artifacts = v.Artifacts[:1] },
		"spec":     func(v *Version) { v.Lineage.SpecDigest = "" },
		"data":     func(v *Version) { v.Lineage.DatasetDigest = "" },
		"parent":   func(v *Version) { v.Lineage.ParentDigest = "" },
	}
	for name, change := range other {
		v := version()
		if change(&v); v.ContentDigest() == base {
			t.Errorf("%s does not change the digest", name)
		}
	}
}

func TestComplete(t *testing.T) {
	v, err := version().Complete()
	if err != nil || v.Digest != v.ContentDigest() || v.Artifacts[0].Path != "data/vocabulary.txt" {
		t.Errorf("%+v, %v", v, err)
	}
	if again, err := v.Complete(); err != nil || again.Digest != v.Digest {
		t.Errorf("again: %v", err)
	}
	if a, ok := v.Artifact("model.onnx"); !ok || a.Size != 5 {
		t.Errorf("%+v", a)
	}
	if _, ok := v.Artifact("absent"); ok {
		t.Error("an artifact that is not there")
	}
	// An imported model has neither spec nor data, labels nor task.
	if _, err := (Version{Name: "imported", Artifacts: version().Artifacts}).Complete(); err != nil {
		t.Error(err)
	}
}

func TestCompleteRefuses(t *testing.T) {
	path := func(p string) func(*Version) { return func(v *Version) { v.Artifacts[0].Path = p } }
	tests := map[string]func(*Version){
		"name":              func(v *Version) { v.Name = "News" },
		"no artifacts":      func(v *Version) { v.Artifacts = nil },
		"many artifacts":    func(v *Version) { v.Artifacts = make([]Artifact, maxArtifacts+1) },
		"artifact twice":    func(v *Version) { v.Artifacts[1].Path = v.Artifacts[0].Path },
		"negative size":     func(v *Version) { v.Artifacts[0].Size = -1 },
		"artifact digest":   func(v *Version) { v.Artifacts[0].Digest = "sha256:12" },
		"wrong digest":      func(v *Version) { v.Digest = galley.DigestBytes(nil) },
		"lineage digest":    func(v *Version) { v.Lineage.SpecDigest = "md5:1" },
		"spec not JSON":     func(v *Version) { v.Lineage.Spec = []byte("{") },
		"large spec":        func(v *Version) { v.Lineage.Spec = []byte(`"` + strings.Repeat("x", maxSpec) + `"`) },
		"long hardware":     func(v *Version) { v.Lineage.Hardware = strings.Repeat("x", maxText+1) },
		"split digest":      func(v *Version) { v.Lineage.Splits = map[string]Data{"train": {Digest: "md5:1"}} },
		"split name":        func(v *Version) { v.Lineage.Splits = map[string]Data{"Train set": {}} },
		"split rows":        func(v *Version) { v.Lineage.Splits = map[string]Data{"train": {Rows: -1}} },
		"NaN":               func(v *Version) { v.Metrics["loss"] = math.NaN() },
		"empty label":       func(v *Version) { v.Labels[0] = "" },
		"label not UTF-8":   func(v *Version) { v.Labels[0] = "\xff" },
		"path empty":        path(""),
		"path long":         path(strings.Repeat("x", maxPath+1)),
		"path absolute":     path("/etc/passwd"),
		"path above":        path("../x"),
		"path above inside": path("a/../../x"),
		"path dot":          path("."),
		"path not clean":    path("a//b"),
		"path backslash":    path(`..\x`),
		"path drive":        path("c:x"),
		"path zero":         path("a\x00b"),
	}
	for name, spoil := range tests {
		v := version()
		spoil(&v)
		if _, err := v.Complete(); galley.CodeOf(err) != galley.InvalidArgument {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestTraffic(t *testing.T) {
	fresh := Model{Name: "news", Versions: []Summary{{Number: 1}, {Number: 2}, {Number: 5}}}
	live := fresh
	live.Aliases = []Alias{{Name: "candidate", Target: 5}, {Name: Prod, Target: 2}}
	tests := []struct {
		model   Model
		version string
		want    int
		code    galley.Code
	}{
		{fresh, "", 5, ""},
		{live, "", 2, ""},
		{live, "5", 5, ""},
		{live, "candidate", 5, ""},
		{live, "3", 0, galley.NotFound},
		{fresh, "prod", 0, galley.NotFound},
		{live, "-1", 0, galley.InvalidArgument},
		{live, "Not A Name", 0, galley.InvalidArgument},
		{Model{Name: "empty"}, "", 0, galley.NotFound},
	}
	for _, tt := range tests {
		got, err := tt.model.Traffic(tt.version)
		if got != tt.want || galley.CodeOf(err) != tt.code {
			t.Errorf("%q: %d, %v", tt.version, got, err)
		}
	}
}

// Rolling back as often as was promoted returns through the same versions.
func TestPromoteAndRollback(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var a Alias
		var stack []int
		for range rapid.IntRange(1, 150).Draw(t, "promotions") {
			target := rapid.IntRange(1, 5).Draw(t, "target")
			before := a
			after, c, err := Promote(a, Request{Model: "news", Alias: Prod, Target: target, Expect: a.Generation})
			if err != nil || c.From != before.Target || c.To != target || after.Target != target {
				t.Fatalf("%+v to %+v by %+v: %v", before, after, c, err)
			}
			if target != before.Target {
				stack = append(stack, target)
			}
			if a = after; a.Generation != int64(len(stack)) {
				t.Fatalf("generation %d after %d moves", a.Generation, len(stack))
			}
		}
		for range min(len(stack)-1, maxPrevious) {
			stack = stack[:len(stack)-1]
			after, _, err := Rollback(a, Request{Expect: AnyGeneration})
			if err != nil || after.Target != stack[len(stack)-1] || after.Generation != a.Generation+1 {
				t.Fatalf("%+v to %+v, want %v: %v", a, after, stack, err)
			}
			a = after
		}
		if _, _, err := Rollback(a, Request{Model: "news", Alias: Prod, Expect: AnyGeneration}); galley.CodeOf(err) != galley.FailedPrecondition {
			t.Fatalf("rolled back beyond the first version: %v", err)
		}
	})
}

// The pure functions leave their argument as it was.
func TestMovesDoNotShareMemory(t *testing.T) {
	a := Alias{Target: 3, Generation: 3, Previous: append(make([]int, 0, 8), 1, 2)}
	b, _, err := Rollback(a, Request{Expect: AnyGeneration})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := Promote(b, Request{Target: 9, Expect: AnyGeneration}); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(a.Previous, []int{1, 2}) || !slices.Equal(b.Previous, []int{1}) {
		t.Errorf("%v, %v", a.Previous, b.Previous)
	}
}

func TestConflictNamesBothGenerations(t *testing.T) {
	_, _, err := Promote(Alias{Generation: 4, Target: 1}, Request{Model: "news", Alias: Prod, Target: 2, Expect: 3})
	if galley.CodeOf(err) != galley.Aborted || !strings.Contains(err.Error(), "generation 4, not 3") || !strings.Contains(err.Error(), "--expect 4") {
		t.Errorf("%v", err)
	}
}

// A path that is accepted stays below the folder it is joined to.
func FuzzCheckPath(f *testing.F) {
	for _, p := range []string{"model.onnx", "data/vocabulary.txt", "../x", "/x", "a/../../x", `a\..\x`, "", ".", "a//b", "c:x", "..", "...", "a/.."} {
		f.Add(p)
	}
	f.Fuzz(func(t *testing.T, p string) {
		if checkPath(p) == "" && (!filepath.IsLocal(p) || filepath.Clean(p) != p) {
			t.Errorf("%q is accepted", p)
		}
	})
}

// A promotion against the gate says so, and why.
func TestForcedPromotion(t *testing.T) {
	report := galley.DigestBytes([]byte("report"))
	r := Request{Model: "news", Alias: Prod, Target: 2, Expect: AnyGeneration, Force: true, Report: report}
	for _, reason := range []string{"", "  \n"} {
		r.Reason = reason
		if err := r.Check(); galley.CodeOf(err) != galley.InvalidArgument || !strings.Contains(err.Error(), "--reason") {
			t.Errorf("reason %q: %v", reason, err)
		}
	}
	r.Reason = "the old one insults readers"
	if err := r.Check(); err != nil {
		t.Fatal(err)
	}
	a, c, err := Promote(Alias{Target: 1, Generation: 1}, r)
	if err != nil || a.Target != 2 || c.Move != Forced || c.Reason != r.Reason || c.Report != report || c.Generation != 2 {
		t.Errorf("%+v %+v %v", a, c, err)
	}
	if _, c, err = Rollback(a, Request{Expect: AnyGeneration}); err != nil || c.Move != RolledBack || c.To != 1 {
		t.Errorf("%+v %v", c, err)
	}
	for _, spoil := range []func(*Request){func(r *Request) { r.Reason = "\xff" }, func(r *Request) { r.Report = "sha256:1" }} {
		bad := r
		spoil(&bad)
		if err := bad.Check(); galley.CodeOf(err) != galley.InvalidArgument {
			t.Errorf("%+v: %v", bad, err)
		}
	}
}
