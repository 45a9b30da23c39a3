package registry

import (
	"cmp"
	"encoding/json"
	"fmt"
	"math"
	"path"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"galley"
)

// Bounds on a version.
const (
	maxArtifacts = 1000
	maxPath      = 255
	maxSpec      = 1 << 20
	maxLabels    = 10_000
	maxLabel     = 256
	maxMetrics   = 1000
	maxText      = 1000 // of a line of lineage
	maxSplits    = 10
	maxTeachers  = 100
)

// A Version is one model, as registered. Nothing of it changes afterwards;
// Reports are what has been recorded about it since.
type Version struct {
	Name      string             `json:"name"`   // of the model
	Number    int                `json:"number"` // from 1, given by the store
	Digest    galley.Digest      `json:"digest"` // see ContentDigest
	Task      string             `json:"task"`
	Labels    []string           `json:"labels,omitempty"` // of a classifier, in the order of its scores
	Artifacts []Artifact         `json:"artifacts"`        // in the order of their paths
	Lineage   Lineage            `json:"lineage"`
	Metrics   map[string]float64 `json:"metrics,omitempty"` // on the validation split, as training left them
	Creator   galley.Actor       `json:"creator,omitempty"`
	Created   time.Time          `json:"created"`
	Reports   []ReportRef        `json:"reports,omitempty"`
}

// An Artifact is a file of a version; its bytes are in the blob store.
type Artifact struct {
	Path   string        `json:"path"` // with slashes, relative: "model.onnx"
	Digest galley.Digest `json:"digest"`
	Size   int64         `json:"size"`
}

// Lineage says where a version comes from. A field that does not apply is
// empty: an imported model has no spec.
type Lineage struct {
	Spec          json.RawMessage `json:"spec,omitempty"`
	SpecDigest    galley.Digest   `json:"spec_digest,omitempty"`
	Job           string          `json:"job,omitempty"`     // of this home; what has none was not trained here
	Dataset       string          `json:"dataset,omitempty"` // name@n
	DatasetDigest galley.Digest   `json:"dataset_digest,omitempty"`
	Splits        map[string]Data `json:"splits,omitempty"` // of the dataset, by name
	Parent        string          `json:"parent,omitempty"` // name@n
	ParentDigest  galley.Digest   `json:"parent_digest,omitempty"`
	// DistilledFrom are the teachers that it learnt from, Unlabelled the dataset
	// whose texts it learnt from by their answers alone.
	DistilledFrom    []Teacher     `json:"distilled_from,omitempty"`
	Unlabelled       string        `json:"unlabelled,omitempty"` // name@n
	UnlabelledDigest galley.Digest `json:"unlabelled_digest,omitempty"`
	Federation       *Federation   `json:"federation,omitempty"` // of a version that partners trained
	Engine           string        `json:"engine,omitempty"`
	EngineVersion    string        `json:"engine_version,omitempty"`
	Revision         string        `json:"revision,omitempty"` // of galley
	Hardware         string        `json:"hardware,omitempty"`
	// External says which version of which job it was in the home that it was
	// exported from: all of this lineage is what the export says.
	External string `json:"external,omitempty"`
}

// A Teacher is a version that another one learnt from.
type Teacher struct {
	Ref    string        `json:"ref"` // name@n
	Digest galley.Digest `json:"digest"`
}

// Data is a split of the dataset that a version was made from.
type Data struct {
	Rows   int64         `json:"rows"`
	Digest galley.Digest `json:"digest"`
}

// Ref returns the version as "name@n".
func (v Version) Ref() string { return galley.Ref{Name: v.Name, Version: v.Number}.String() }

// Artifact returns the artifact at the path.
func (v Version) Artifact(path string) (Artifact, bool) {
	for _, a := range v.Artifacts {
		if a.Path == path {
			return a, true
		}
	}
	return Artifact{}, false
}

// content is what the digest of a version covers.
type content struct {
	Task      string        `json:"task"`
	Labels    []string      `json:"labels"`
	Artifacts []Artifact    `json:"artifacts"`
	Spec      galley.Digest `json:"spec"`
	Dataset   galley.Digest `json:"dataset"`
	Parent    galley.Digest `json:"parent"`

	// Left out where there are none: digests of versions without them stay.
	Teachers   []galley.Digest `json:"teachers,omitempty"`
	Unlabelled galley.Digest   `json:"unlabelled,omitempty"`
}

// ContentDigest names a version by what it is and what it was asked to be
// made from: task, labels, artifacts, and the digests of spec, datasets, parent
// and teachers. It leaves out everything that differs between two runs of the same
// request: name, number, job, times, hardware and engine version. Training is
// reproducible to the bit, so the same spec, seed and data give the same
// digest, however often the job was interrupted.
func (v Version) ContentDigest() galley.Digest {
	c := content{
		Task:      v.Task,
		Labels:    append([]string{}, v.Labels...),
		Artifacts: sortArtifacts(v.Artifacts),
		Spec:      v.Lineage.SpecDigest,
		Dataset:   v.Lineage.DatasetDigest,
		Parent:    v.Lineage.ParentDigest,

		Unlabelled: v.Lineage.UnlabelledDigest,
	}
	for _, t := range v.Lineage.DistilledFrom {
		c.Teachers = append(c.Teachers, t.Digest)
	}
	data, err := json.Marshal(c)
	if err != nil { // strings and numbers can be marshalled
		return ""
	}
	return galley.DigestBytes(data)
}

func sortArtifacts(in []Artifact) []Artifact {
	return slices.SortedFunc(slices.Values(in), func(a, b Artifact) int { return cmp.Compare(a.Path, b.Path) })
}

// Complete checks a version before it is registered, sorts its artifacts and
// sets its digest. A digest that is already set must be right.
func (v Version) Complete() (Version, error) {
	if err := v.check(); err != nil {
		return Version{}, err
	}
	v.Artifacts = sortArtifacts(v.Artifacts)
	digest := v.ContentDigest()
	if v.Digest != "" && v.Digest != digest {
		return Version{}, galley.Errorf(galley.InvalidArgument, v.Name, "the version's content has the digest %s, not %s", digest.Short(), v.Digest.Short())
	}
	v.Digest = digest
	v.Created = v.Created.UTC()
	return v, nil
}

func (v Version) check() error {
	if err := galley.CheckName("model", v.Name); err != nil {
		return err
	}
	wrong := func(format string, args ...any) error {
		return galley.Errorf(galley.InvalidArgument, v.Name, format, args...)
	}
	if len(v.Artifacts) == 0 || len(v.Artifacts) > maxArtifacts {
		return wrong("a version has 1 to %d artifacts, not %d", maxArtifacts, len(v.Artifacts))
	}
	seen := make(map[string]bool, len(v.Artifacts))
	for _, a := range v.Artifacts {
		if why := checkPath(a.Path); why != "" {
			return wrong("artifact %q %s", galley.Clip(a.Path, 80), why)
		}
		if seen[a.Path] {
			return wrong("artifact %q occurs twice", a.Path)
		}
		seen[a.Path] = true
		if _, err := galley.ParseDigest(string(a.Digest)); err != nil {
			return err
		}
		if a.Size < 0 {
			return wrong("artifact %q has %d bytes", a.Path, a.Size)
		}
	}
	if len(v.Labels) > maxLabels {
		return wrong("%d labels are more than %d", len(v.Labels), maxLabels)
	}
	for _, label := range v.Labels {
		if label == "" || len(label) > maxLabel || !utf8.ValidString(label) {
			return wrong("label %q is empty, longer than %d bytes or not UTF-8", galley.Clip(label, 80), maxLabel)
		}
	}
	if len(v.Metrics) > maxMetrics {
		return wrong("%d metrics are more than %d", len(v.Metrics), maxMetrics)
	}
	for name, value := range v.Metrics {
		if math.IsNaN(value) || math.IsInf(value, 0) {
			return wrong("metric %q is not a finite number", galley.Clip(name, 80))
		}
	}
	return v.checkLineage(wrong)
}

func (v Version) checkLineage(wrong func(string, ...any) error) error {
	l := v.Lineage
	digests := []galley.Digest{l.SpecDigest, l.DatasetDigest, l.ParentDigest, l.UnlabelledDigest}
	texts := []string{v.Task, string(v.Creator), l.Job, l.Dataset, l.Parent, l.Unlabelled, l.Engine, l.EngineVersion, l.Revision, l.Hardware, l.External}
	if len(l.DistilledFrom) > maxTeachers {
		return wrong("%d teachers are more than %d", len(l.DistilledFrom), maxTeachers)
	}
	for _, t := range l.DistilledFrom {
		if t.Digest == "" {
			return wrong("the teacher %q has no digest", galley.Clip(t.Ref, 80))
		}
		digests, texts = append(digests, t.Digest), append(texts, t.Ref)
	}
	if len(l.Splits) > maxSplits {
		return wrong("%d splits are more than %d", len(l.Splits), maxSplits)
	}
	for name, split := range l.Splits {
		if err := galley.CheckName("split", name); err != nil {
			return err
		}
		if split.Rows < 0 {
			return wrong("split %q has %d rows", name, split.Rows)
		}
		digests = append(digests, split.Digest)
	}
	for _, d := range digests {
		if d == "" {
			continue
		}
		if _, err := galley.ParseDigest(string(d)); err != nil {
			return err
		}
	}
	if len(l.Spec) > maxSpec || len(l.Spec) > 0 && !json.Valid(l.Spec) {
		return wrong("the spec is not JSON of at most %d bytes", maxSpec)
	}
	for _, s := range texts {
		if len(s) > maxText || !utf8.ValidString(s) {
			return wrong("%q is longer than %d bytes or not UTF-8", galley.Clip(s, 80), maxText)
		}
	}
	return l.Federation.check(wrong)
}

// checkPath returns why p cannot be the path of an artifact, or "". An export
// writes artifacts below a folder that it must not leave.
func checkPath(p string) string {
	switch {
	case p == "" || len(p) > maxPath:
		return fmt.Sprintf("is empty or longer than %d bytes", maxPath)
	case !utf8.ValidString(p) || strings.ContainsAny(p, "\\:\x00\n\r"):
		return "has a character that a path cannot have"
	case path.IsAbs(p) || path.Clean(p) != p || p == "." || p == ".." || strings.HasPrefix(p, "../"):
		return "does not stay in the version's folder"
	}
	return ""
}
