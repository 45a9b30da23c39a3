package control

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"

	"galley"
	"galley/dataset"
	"galley/internal/durable"
	"galley/internal/store"
)

// AddData freezes the files "train", "valid" and "test" of a spool as a new
// version of a dataset. Rejections are returned also beside an error.
func (c *Control) AddData(ctx context.Context, by galley.Actor, o dataset.FreezeOptions, files *Spool) (store.Dataset, *dataset.Rejections, error) {
	if err := files.finish(); err != nil {
		return store.Dataset{}, nil, err
	}
	for name := range files.files {
		if name != string(dataset.Train) && name != string(dataset.Valid) && name != string(dataset.Test) {
			return store.Dataset{}, nil, galley.Errorf(galley.InvalidArgument, "upload", "%q is not a split", galley.Clip(name, 80)).
				WithRemedy("send train, valid and test")
		}
	}
	ctx, release := c.blobs.Hold(ctx)
	defer release()
	dir, err := os.MkdirTemp(c.temp(), "freeze-*")
	if err != nil {
		return store.Dataset{}, nil, durable.WriteError(c.temp(), err)
	}
	defer os.RemoveAll(dir)
	o.TempDir = dir
	m, rejected, err := freeze(ctx, o, files, dir)
	if err != nil {
		return store.Dataset{}, rejected, durable.WriteError(dir, err)
	}
	for split, info := range m.Splits {
		if err := c.putSplit(ctx, filepath.Join(dir, string(split)), info); err != nil {
			return store.Dataset{}, rejected, err
		}
	}
	d, _, err := c.store.AddDataset(ctx, m, store.Commit{By: by, At: c.now(), Action: "data.add"})
	return d, rejected, err
}

// freeze writes the record files of a dataset into dir.
func freeze(ctx context.Context, o dataset.FreezeOptions, files *Spool, dir string) (m *dataset.Manifest, rejected *dataset.Rejections, err error) {
	var in dataset.Inputs
	for _, s := range []struct {
		split dataset.Split
		to    **dataset.Input
	}{{dataset.Train, &in.Train}, {dataset.Valid, &in.Valid}, {dataset.Test, &in.Test}} {
		if f, ok := files.input(string(s.split)); ok {
			*s.to = &f
		}
	}
	var open []*os.File
	defer func() {
		for _, f := range open {
			err = errors.Join(err, f.Close())
		}
		if err != nil {
			m = nil
		}
	}()
	return dataset.Freeze(ctx, o, in, func(split dataset.Split) (io.Writer, error) {
		f, err := os.Create(filepath.Join(dir, string(split)))
		if err != nil {
			return nil, durable.WriteError(dir, err)
		}
		open = append(open, f)
		return f, nil
	})
}

func (c *Control) putSplit(ctx context.Context, path string, info dataset.SplitInfo) error {
	f, err := os.Open(path)
	if err != nil {
		return durable.WriteError(path, err)
	}
	defer f.Close()
	_, err = c.blobs.PutExpect(ctx, info.Digest, f)
	return err
}

// Dataset returns the dataset that a ref stands for.
func (c *Control) Dataset(ctx context.Context, ref string) (store.Dataset, error) {
	return c.dataset(ctx, ref)
}

// Datasets returns the first versions of all datasets, by name and version.
func (c *Control) Datasets(ctx context.Context) ([]store.Dataset, error) {
	return c.store.Datasets(ctx, "", store.MaxList)
}
