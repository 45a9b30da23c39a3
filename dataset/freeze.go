package dataset

import (
	"bufio"
	"context"
	"crypto/sha256"
	"hash"
	"io"
	"maps"
	"slices"

	"galley"
)

// FreezeOptions say what a dataset is to be.
type FreezeOptions struct {
	Name    string
	Format  Format
	Columns Columns
	// Labels fixes the set of labels; rows with others are rejected. If nil,
	// the labels are those of train.
	Labels []string
	// NeedLabel refuses data without labels, which is fit for pretraining
	// only.
	NeedLabel bool
	// Seed decides which rows of train become valid, with ValidFraction, if
	// no valid is given: 0 is a tenth, below 0 is none.
	Seed          uint64
	ValidFraction float64
	Licence       string
	Source        string
	// TempDir is where the hashes of texts are kept while duplicates are
	// counted, 8 bytes a row; empty is the system's.
	TempDir string
}

const defaultValidFraction = 0.1

// Inputs are the files of a dataset; only Train must be given.
type Inputs struct {
	Train, Valid, Test *Input
}

// A Sink gives the writer of a split's record file. It is asked once for each
// split that the dataset has; the caller closes what it gave.
type Sink func(Split) (io.Writer, error)

// Freeze reads the inputs once, each row to the record file of its split, and
// describes the result. Rejected rows are reported also beside an error.
//
// Without a Valid input, a row of train belongs to valid by a hash of seed
// and text, so that texts that are equal but for case and white space land on
// one side. The first row of each label stays in train, and its equals with
// it: every label can be learnt. If no row falls to valid, the dataset has no
// such split, though its writer was asked for.
func Freeze(ctx context.Context, opts FreezeOptions, in Inputs, sink Sink) (m *Manifest, rejected *Rejections, err error) {
	rejected = new(Rejections)
	f, err := newFreezer(opts, in, sink, rejected)
	if err != nil {
		return nil, rejected, err
	}
	defer func() {
		if closeErr := f.census.close(); err == nil && closeErr != nil {
			m, err = nil, closeErr
		}
	}()
	if err := f.train(ctx); err != nil {
		return nil, rejected, err
	}
	if in.Valid != nil {
		if err := f.held(ctx, Valid, *in.Valid); err != nil {
			return nil, rejected, err
		}
	}
	if in.Test != nil {
		if err := f.held(ctx, Test, *in.Test); err != nil {
			return nil, rejected, err
		}
	}
	m, err = f.manifest()
	return m, rejected, err
}

// A freezer is a Freeze under way.
type freezer struct {
	opts     FreezeOptions
	in       Inputs
	sink     Sink
	rejected *Rejections
	labels   map[string]bool
	labelled bool
	columns  Columns
	census   *census
	splits   map[Split]*splitWriter
	cut      float64         // the share of train that becomes valid
	kept     map[uint64]bool // texts that stay in train for their labels' sake
	text     []byte          // normalised text of the row at hand
}

func newFreezer(opts FreezeOptions, in Inputs, sink Sink, rejected *Rejections) (*freezer, error) {
	if err := galley.CheckName("dataset", opts.Name); err != nil {
		return nil, err
	}
	if in.Train == nil {
		return nil, galley.Errorf(galley.InvalidArgument, "train", "no file is given").WithRemedy("give one with --train")
	}
	if !(opts.ValidFraction < 1) {
		return nil, galley.Errorf(galley.InvalidArgument, "valid fraction", "%v is not a share of train", opts.ValidFraction).
			WithRemedy("choose a number between 0 and 1")
	}
	if len(opts.Licence) > maxNote || len(opts.Source) > maxNote {
		return nil, galley.Errorf(galley.InvalidArgument, "licence", "the licence or the source is longer than 64 KiB")
	}
	f := &freezer{
		opts: opts, in: in, sink: sink, rejected: rejected,
		labels: map[string]bool{}, splits: map[Split]*splitWriter{}, kept: map[uint64]bool{},
	}
	for _, label := range opts.Labels {
		if why := checkLabel(label); why != "" {
			return nil, galley.Errorf(galley.InvalidArgument, "labels", "%q: %s", galley.Clip(label, 200), why)
		}
		f.labels[label] = true
	}
	if opts.Labels != nil {
		if err := f.checkLabels("labels"); err != nil {
			return nil, err
		}
	}
	switch {
	case in.Valid != nil || opts.ValidFraction < 0:
	case opts.ValidFraction == 0:
		f.cut = defaultValidFraction
	default:
		f.cut = opts.ValidFraction
	}
	f.census = newCensus(opts.TempDir)
	return f, nil
}

func (f *freezer) checkLabels(subject string) error {
	switch n := len(f.labels); {
	case n == 0:
		return galley.Errorf(galley.InvalidArgument, subject, "there are no labels").
			WithRemedy("a classifier needs at least two; map the column that has them, as in --columns text=title,label=topic")
	case n == 1:
		return galley.Errorf(galley.InvalidArgument, subject, "every row has the label %q", galley.Clip(slices.Collect(maps.Keys(f.labels))[0], 200)).
			WithRemedy("a classifier needs at least two labels; add rows of another")
	case n > MaxLabels:
		return galley.Errorf(galley.InvalidArgument, subject, "more than %d labels", MaxLabels).
			WithRemedy("check that --columns maps label to the column of labels")
	}
	return nil
}

// train reads the train input into train and, where one is cut off, valid.
func (f *freezer) train(ctx context.Context) error {
	name := f.in.Train.Name
	opts := ReadOptions{Format: f.opts.Format, Columns: f.opts.Columns, NeedLabel: f.opts.NeedLabel || f.opts.Labels != nil}
	if err := f.open(Train); err != nil {
		return err
	}
	if f.cut > 0 {
		if err := f.open(Valid); err != nil {
			return err
		}
	}
	key := derive(f.opts.Seed, hashForCut)
	columns, err := read(ctx, *f.in.Train, opts, f.rejected, func(line int64, row Row) error {
		first := false
		if row.Label != "" && !f.labels[row.Label] {
			if f.opts.Labels != nil {
				f.rejected.add(name, line, notALabel(row.Label))
				return nil
			}
			if len(f.labels) == MaxLabels {
				f.labels[row.Label] = true
				return f.checkLabels(name)
			}
			f.labels[row.Label], first = true, true
		}
		f.text = normalise(f.text[:0], row.Text)
		h := hashBytes(key, f.text)
		if first && f.cut > 0 {
			f.kept[h] = true
		}
		split := Train
		if unit(h) < f.cut && !f.kept[h] {
			split = Valid
		}
		return f.append(split, row)
	})
	if err != nil {
		return err
	}
	f.columns, f.labelled = columns, columns.Label != nil
	if f.splits[Train].records.Rows() == 0 {
		return emptyInput(name, f.rejected)
	}
	if f.labelled {
		return f.checkLabels(name)
	}
	return nil
}

// hashForCut and hashForCensus tell two uses of a text's hash apart.
const (
	hashForCut    = 1
	hashForCensus = 2
)

// held reads a held-out input, whose labels must be known.
func (f *freezer) held(ctx context.Context, split Split, in Input) error {
	if err := f.open(split); err != nil {
		return err
	}
	opts := ReadOptions{Format: f.opts.Format, Columns: f.opts.Columns, NeedLabel: f.labelled}
	_, err := read(ctx, in, opts, f.rejected, func(line int64, row Row) error {
		if !f.labelled {
			row.Label = ""
		} else if !f.labels[row.Label] {
			f.rejected.add(in.Name, line, notALabel(row.Label))
			return nil
		}
		f.text = normalise(f.text[:0], row.Text)
		return f.append(split, row)
	})
	if err == nil && f.splits[split].records.Rows() == 0 {
		return emptyInput(in.Name, f.rejected)
	}
	return err
}

func notALabel(label string) string { return "label not in the set: " + galley.Clip(label, 200) }

// append writes a row, whose normalised text is f.text.
func (f *freezer) append(split Split, row Row) error {
	if err := f.census.add(hashBytes(derive(hashForCensus), f.text), split); err != nil {
		return err
	}
	return f.splits[split].append(row)
}

func (f *freezer) open(split Split) error {
	w, err := f.sink(split)
	if err != nil {
		return err
	}
	f.splits[split] = newSplitWriter(w)
	return nil
}

func (f *freezer) manifest() (*Manifest, error) {
	m := &Manifest{
		Format: ManifestFormat, Name: f.opts.Name, Columns: f.columns, Seed: f.opts.Seed, ValidFraction: f.cut,
		Splits: map[Split]SplitInfo{}, Licence: f.opts.Licence, Source: f.opts.Source,
	}
	if f.labelled {
		m.Labels = slices.Sorted(maps.Keys(f.labels))
	}
	duplicates, leaks, err := f.census.count()
	if err != nil {
		return nil, err
	}
	for split, w := range f.splits {
		info, err := w.close()
		if err != nil {
			return nil, err
		}
		if info.Rows == 0 { // a cut of few rows may take none
			continue
		}
		info.Duplicates, info.Leaks = duplicates[split], leaks[split]
		m.Splits[split] = info
	}
	return m, m.Validate()
}

// A splitWriter writes and digests the record file of a split.
type splitWriter struct {
	records *RecordWriter
	buffer  *bufio.Writer
	hash    hash.Hash
	info    SplitInfo
}

func newSplitWriter(w io.Writer) *splitWriter {
	s := &splitWriter{hash: sha256.New(), info: SplitInfo{Classes: map[string]int64{}, Languages: map[string]int64{}}}
	s.buffer = bufio.NewWriterSize(io.MultiWriter(w, s.hash), 64<<10)
	s.records = NewRecordWriter(s.buffer)
	return s
}

func (s *splitWriter) append(row Row) error {
	if row.Label != "" {
		s.info.Classes[row.Label]++
	}
	s.info.Languages[row.Language]++
	return storageError("record file", s.records.Append(row))
}

func (s *splitWriter) close() (SplitInfo, error) {
	if err := s.records.Close(); err != nil {
		return s.info, storageError("record file", err)
	}
	if err := s.buffer.Flush(); err != nil {
		return s.info, storageError("record file", err)
	}
	s.info.Rows, s.info.Bytes, s.info.Digest = s.records.Rows(), s.records.offset, galley.SumDigest(s.hash)
	return s.info, nil
}
