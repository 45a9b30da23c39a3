package partner

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"galley"
	"galley/dataset"
	"galley/internal/durable"
)

// Rows are the partner's own, as files and how they are read. They are read
// here, made into record files below the agent's home, and never sent.
type Rows struct {
	Train, Valid string // paths; without Valid a tenth of the training rows is cut off if metrics may leave
	Format       dataset.Format
	Columns      dataset.Columns
	Seed         uint64 // cuts valid off
}

// A source is the rows' files as they are.
type source struct {
	stamp         string // of the files: tells changed ones apart without reading them
	train, valid  galley.Digest
	rows, dropped int64 // that were read, and left out
}

// records are the record files that a model is trained on.
type records struct {
	manifest *dataset.Manifest
	files    map[string]string // split -> path
}

const manifestFile = "manifest.json"

// stamp tells states of the files apart.
func (r Rows) stamp() (string, error) {
	stamp := ""
	for _, path := range []string{r.Train, r.Valid} {
		if path == "" {
			continue
		}
		info, err := os.Stat(path)
		if err != nil {
			return "", durable.ReadError(path, err)
		}
		stamp += strconv.FormatInt(info.ModTime().UnixNano(), 10) + " " + strconv.FormatInt(info.Size(), 10) + "\n"
	}
	return stamp, nil
}

// look reads the files once, so that what is wrong with them is said before a
// round needs them. It writes nothing.
func (r Rows) look(ctx context.Context, temp string) (source, error) {
	var s source
	var err error
	if s.stamp, err = r.stamp(); err != nil {
		return s, err
	}
	if s.train, err = digestFile(r.Train); err != nil {
		return s, err
	}
	if r.Valid != "" {
		if s.valid, err = digestFile(r.Valid); err != nil {
			return s, err
		}
	}
	m, rejected, err := dataset.Freeze(ctx, r.freeze(nil, -1, temp), r.inputs(), func(dataset.Split) (io.Writer, error) { return io.Discard, nil })
	// A partner may have the rows of one label alone: which others there are, the
	// model says.
	if err != nil && !strings.HasPrefix(galley.AsError(err).Message, "every row has the label") {
		return s, err
	}
	s.dropped = rejected.Total
	if m != nil {
		s.rows = m.Splits[dataset.Train].Rows
	}
	return s, nil
}

func digestFile(path string) (galley.Digest, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", durable.ReadError(path, err)
	}
	defer f.Close()
	d, _, err := galley.DigestReader(f)
	return d, durable.ReadError(path, err)
}

// freeze says how the files become record files.
func (r Rows) freeze(labels []string, cut float64, temp string) dataset.FreezeOptions {
	return dataset.FreezeOptions{
		Name: "rows", Format: r.Format, Columns: r.Columns, Labels: labels, NeedLabel: true, Seed: r.Seed, ValidFraction: cut, TempDir: temp,
	}
}

func (r Rows) inputs() dataset.Inputs {
	input := func(path string) *dataset.Input {
		return &dataset.Input{Name: path, Open: func() (io.ReadCloser, error) { return os.Open(path) }}
	}
	in := dataset.Inputs{Train: input(r.Train)}
	if r.Valid != "" {
		in.Valid = input(r.Valid)
	}
	return in
}

// records returns the record files for a model with such labels. They are made
// once for each state of the files; those of others are removed.
func (a *agent) records(ctx context.Context, labels []string) (records, error) {
	stamp, err := a.options.Rows.stamp()
	if err != nil {
		return records{}, err
	}
	if stamp != a.source.stamp {
		a.log.Info("the rows' files have changed, and are read again")
		if a.source, err = a.options.Rows.look(ctx, a.home.path(workFolder)); err != nil {
			return records{}, err
		}
	}
	cut := -1.0
	if len(a.membership.Terms.Leaves.Metrics) > 0 {
		cut = 0 // the dataset package's own share
	}
	// Strings and numbers are always JSON.
	key, _ := json.Marshal([]any{a.source.train, a.source.valid, a.options.Rows.Format, a.options.Rows.Columns, a.options.Rows.Seed, cut, labels})
	name := galley.DigestBytes(key).Hex()
	if r, ok := a.checked[name]; ok {
		return r, nil
	}
	clear(a.checked)
	if err := a.home.keepNames(dataFolder, name); err != nil {
		return records{}, err
	}
	dir := a.home.path(dataFolder, name)
	r, err := openRecords(dir)
	if err != nil {
		if err := a.makeRecords(ctx, labels, cut, dir); err != nil {
			return records{}, err
		}
		if r, err = openRecords(dir); err != nil {
			return records{}, err
		}
	}
	a.checked[name] = r
	return r, nil
}

// openRecords reads a folder of record files, each of which must be what its
// manifest says.
func openRecords(dir string) (records, error) {
	f, err := os.Open(filepath.Join(dir, manifestFile))
	if err != nil {
		return records{}, durable.ReadError(dir, err)
	}
	defer f.Close()
	m, err := dataset.DecodeManifest(f)
	if err != nil {
		return records{}, err
	}
	r := records{m, map[string]string{}}
	for split, info := range m.Splits {
		path := filepath.Join(dir, string(split))
		digest, err := digestFile(path)
		if err != nil {
			return records{}, err
		}
		if digest != info.Digest {
			return records{}, galley.Errorf(galley.DataLoss, path, "is damaged")
		}
		r.files[string(split)] = path
	}
	return r, nil
}

// makeRecords writes record files; the folder appears whole or not at all.
func (a *agent) makeRecords(ctx context.Context, labels []string, cut float64, dir string) (err error) {
	part := dir + partial
	if err := errors.Join(os.RemoveAll(dir), os.RemoveAll(part), os.Mkdir(part, 0o700)); err != nil {
		return durable.WriteError(part, err)
	}
	defer os.RemoveAll(part)
	var open []*os.File
	m, rejected, err := dataset.Freeze(ctx, a.options.Rows.freeze(labels, cut, part), a.options.Rows.inputs(), func(split dataset.Split) (io.Writer, error) {
		f, err := os.OpenFile(filepath.Join(part, string(split)), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
		if err != nil {
			return nil, durable.WriteError(part, err)
		}
		open = append(open, f)
		return f, nil
	})
	for _, f := range open {
		err = errors.Join(err, f.Sync(), f.Close())
	}
	if err != nil {
		return durable.WriteError(part, err)
	}
	data, err := m.Encode()
	if err != nil {
		return err
	}
	if err := durable.Write(filepath.Join(part, manifestFile), 0o600, data); err != nil {
		return durable.WriteError(part, err)
	}
	if err := os.Rename(part, dir); err != nil {
		return durable.WriteError(dir, err)
	}
	a.log.Info("the rows were read for the model's labels", "train", m.Splits[dataset.Train].Rows, "valid", m.Splits[dataset.Valid].Rows, "left_out", rejected.Total)
	return durable.WriteError(dir, durable.SyncFolder(filepath.Dir(dir)))
}
