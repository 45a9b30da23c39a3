package dataset

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"

	"galley"
)

// ManifestFormat is the version of the manifest's form.
const ManifestFormat = 1

const (
	maxManifest = 64 << 20
	maxNote     = 64 << 10 // bytes of a licence or a source
)

// A Split names a part of a dataset.
type Split string

// The splits.
const (
	Train Split = "train"
	Valid Split = "valid"
	Test  Split = "test"
)

// A Manifest describes a frozen dataset. Equal manifests describe equal data:
// the digest of its canonical JSON names the dataset in lineage.
type Manifest struct {
	Format  int      `json:"format"`
	Name    string   `json:"name"`
	Columns Columns  `json:"columns"`          // what the rows of train were read from
	Labels  []string `json:"labels,omitempty"` // in byte order; none if the data has no labels
	Seed    uint64   `json:"seed"`
	// ValidFraction is the share of train that was cut off as valid; 0 if
	// valid was given or is absent.
	ValidFraction float64             `json:"valid_fraction,omitempty"`
	Splits        map[Split]SplitInfo `json:"splits"`
	Licence       string              `json:"licence,omitempty"`
	Source        string              `json:"source,omitempty"`
}

// SplitInfo describes one split.
type SplitInfo struct {
	Rows      int64            `json:"rows"`
	Bytes     int64            `json:"bytes"`  // of the record file
	Digest    galley.Digest    `json:"digest"` // of the record file
	Classes   map[string]int64 `json:"classes,omitempty"`
	Languages map[string]int64 `json:"languages,omitempty"`
	// Duplicates counts rows whose text occurs earlier in the split, Leaks
	// rows of valid and test whose text occurs in train; case and white space
	// aside.
	Duplicates int64 `json:"duplicates"`
	Leaks      int64 `json:"leaks"`
}

// Encode returns the canonical JSON of the manifest.
func (m *Manifest) Encode() ([]byte, error) {
	if err := m.Validate(); err != nil {
		return nil, err
	}
	return m.encode()
}

func (m *Manifest) encode() ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(m); err != nil {
		return nil, galley.Errorf(galley.Internal, "manifest", "%w", err)
	}
	return b.Bytes(), nil
}

// Digest names the dataset: the digest of the canonical JSON.
func (m *Manifest) Digest() (galley.Digest, error) {
	b, err := m.Encode()
	if err != nil {
		return "", err
	}
	return galley.DigestBytes(b), nil
}

// DecodeManifest reads and checks a manifest.
func DecodeManifest(r io.Reader) (*Manifest, error) {
	limited := &io.LimitedReader{R: r, N: maxManifest + 1}
	dec := json.NewDecoder(limited)
	dec.DisallowUnknownFields()
	m := new(Manifest)
	err := dec.Decode(m)
	if err == nil {
		if _, extra := dec.Token(); !errors.Is(extra, io.EOF) {
			err = errors.New("more follows its end")
		}
	}
	if limited.N == 0 {
		err = errors.New("it is larger than 64 MiB")
	}
	if err != nil {
		return nil, galley.Errorf(galley.InvalidArgument, "manifest", "not a manifest: %w", err)
	}
	return m, m.Validate()
}

// Validate checks the manifest's own consistency.
func (m *Manifest) Validate() error {
	wrong := func(format string, args ...any) error {
		return galley.Errorf(galley.InvalidArgument, "manifest", format, args...)
	}
	if m.Format != ManifestFormat {
		return wrong("format %d is not %d", m.Format, ManifestFormat).(*galley.Error).
			WithRemedy("it was written by another version of galley")
	}
	if err := galley.CheckName("manifest", m.Name); err != nil {
		return err
	}
	if len(m.Labels) == 1 || len(m.Labels) > MaxLabels {
		return wrong("%d labels; 0 or 2 to %d can be", len(m.Labels), MaxLabels)
	}
	for i, label := range m.Labels {
		if why := checkLabel(label); why != "" {
			return wrong("label %d: %s", i, why)
		}
		if i > 0 && m.Labels[i-1] >= label {
			return wrong("the labels are not in byte order")
		}
	}
	if len(m.Licence) > maxNote || len(m.Source) > maxNote {
		return wrong("the licence or the source is longer than 64 KiB")
	}
	if !(m.ValidFraction >= 0 && m.ValidFraction < 1) {
		return wrong("the share of valid is %v", m.ValidFraction)
	}
	if _, ok := m.Splits[Train]; !ok {
		return wrong("it has no split train")
	}
	for name, split := range m.Splits {
		if name != Train && name != Valid && name != Test {
			return wrong("%q is not a split", galley.Clip(string(name), 200))
		}
		if err := m.checkSplit(split); err != nil {
			return wrong("split %s: %w", name, err)
		}
	}
	return nil
}

func (m *Manifest) checkSplit(s SplitInfo) error {
	if _, err := galley.ParseDigest(string(s.Digest)); err != nil {
		return err
	}
	if s.Rows < 0 || s.Rows > MaxRows || s.Bytes < 0 || s.Duplicates < 0 || s.Duplicates > s.Rows || s.Leaks < 0 || s.Leaks > s.Rows {
		return errors.New("a count is out of range")
	}
	var classes, languages int64
	for label, n := range s.Classes {
		if _, ok := slices.BinarySearch(m.Labels, label); !ok || n < 0 || n > s.Rows {
			return fmt.Errorf("the count of label %q", galley.Clip(label, 200))
		}
		classes += n
	}
	for language, n := range s.Languages {
		if checkLanguage(language) != "" || n < 0 || n > s.Rows {
			return fmt.Errorf("the count of language %q", galley.Clip(language, 200))
		}
		languages += n
	}
	if len(m.Labels) > 0 && classes != s.Rows || languages != s.Rows {
		return errors.New("the counts do not add up to the rows")
	}
	return nil
}
