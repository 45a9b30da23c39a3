package partner

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"hash"
	"io"
	"os"
	"path/filepath"
	"slices"

	"google.golang.org/grpc"

	federationpb "galley/api/federation/v1"

	"galley"
	"galley/internal/durable"
	"galley/task"
)

// modelFiles are the files of a model, and the only names that are made paths.
var modelFiles = []string{task.ModelFile, task.ConfigFile, task.TokenizerFile}

// listFile says, in a model's folder, that it is whole.
const listFile = "files.json"

const (
	maxList     = 64 << 10
	maxSettings = 64 << 20 // of galley.json and of tokenizer.json
)

// A modelFile is a file of a model, as the coordinator described it.
type modelFile struct {
	Name   string        `json:"name"`
	Size   int64         `json:"size"`
	Digest galley.Digest `json:"digest"`
}

// modelDir returns the folder of a run's model, which is fetched once. Another
// run's is removed.
func (a *agent) modelDir(ctx context.Context, l *link, run string) (string, error) {
	if err := a.home.keepNames(modelFolder, run); err != nil {
		return "", err
	}
	dir := a.home.path(modelFolder, run)
	if err := checkModel(dir); err == nil {
		return dir, nil
	} else if !errors.Is(err, os.ErrNotExist) {
		a.log.Warn("the model's files are damaged, and are fetched again", "run", run, "error", err)
	}
	if err := os.RemoveAll(dir); err != nil {
		return "", durable.WriteError(dir, err)
	}
	part := dir + ".part"
	if err := errors.Join(os.RemoveAll(part), os.Mkdir(part, 0o700)); err != nil {
		return "", durable.WriteError(part, err)
	}
	defer os.RemoveAll(part)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // ends a stream that has said too much
	stream, err := l.client.FetchModel(ctx, &federationpb.FetchModelRequest{Federation: a.membership.Terms.Federation, Run: run})
	if err != nil {
		return "", l.explain(err)
	}
	files, err := receiveModel(stream, part, a.options.MaxModel)
	if err != nil {
		return "", l.explain(err)
	}
	if err := writeJSON(filepath.Join(part, listFile), files); err != nil {
		return "", err
	}
	if err := os.Rename(part, dir); err != nil {
		return "", durable.WriteError(dir, err)
	}
	size := int64(0)
	for _, f := range files {
		size += f.Size
	}
	a.log.Info("the run's model was fetched", "run", run, "bytes", size)
	return dir, durable.WriteError(dir, durable.SyncFolder(filepath.Dir(dir)))
}

// checkModel reports whether a model's folder is whole.
func checkModel(dir string) error {
	var files []modelFile
	data, err := os.ReadFile(filepath.Join(dir, listFile))
	if err != nil {
		return err
	}
	if err := readJSON(filepath.Join(dir, listFile), maxList, &files); err != nil || len(data) > maxList {
		return errors.New("its list cannot be read")
	}
	for _, f := range files {
		if !slices.Contains(modelFiles, f.Name) {
			return errors.New("its list names another file")
		}
		if digest, err := digestFile(filepath.Join(dir, f.Name)); err != nil || digest != f.Digest {
			return errors.New(f.Name + " is not what was fetched")
		}
	}
	return nil
}

// wrongModel is the error of a model that is not what it should be.
func wrongModel(format string, args ...any) error {
	return galley.Errorf(galley.DataLoss, "model", format, args...).WithRemedy("nothing is sent; ask the coordinator what happened")
}

// receiveModel writes the files of a stream into dir: each of the names that a
// model has once, no more bytes than were said, and no more than most in all.
// What was said of a size allocates nothing.
func receiveModel(stream grpc.ServerStreamingClient[federationpb.ModelChunk], dir string, most int64) ([]modelFile, error) {
	var files []modelFile
	var open *receiving
	defer func() {
		if open != nil {
			open.file.Close()
		}
	}()
	for {
		chunk, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		if chunk.GetName() != "" {
			if open != nil {
				return nil, wrongModel("%s ends %d bytes short", open.Name, open.left)
			}
			if open, err = begin(dir, chunk, files, most); err != nil {
				return nil, err
			}
			most -= open.Size
		} else if open == nil || len(chunk.GetData()) == 0 {
			return nil, wrongModel("a piece of no file came")
		}
		done, err := open.write(chunk.GetData())
		if err != nil {
			return nil, err
		}
		if done {
			files = append(files, open.modelFile)
			open = nil
		}
	}
	if open != nil || len(files) != len(modelFiles) {
		return nil, wrongModel("%d of its %d files came whole", len(files), len(modelFiles))
	}
	return files, nil
}

// A receiving is a file under way.
type receiving struct {
	modelFile
	file *os.File
	sum  hash.Hash
	left int64
}

// begin opens the file that a chunk begins.
func begin(dir string, chunk *federationpb.ModelChunk, have []modelFile, most int64) (*receiving, error) {
	f := modelFile{chunk.GetName(), chunk.GetSize(), galley.Digest(chunk.GetDigest())}
	limit := most
	if f.Name != task.ModelFile {
		limit = min(limit, maxSettings)
	}
	switch _, err := galley.ParseDigest(string(f.Digest)); {
	case !slices.Contains(modelFiles, f.Name):
		return nil, wrongModel("%q is no file of a model", galley.Clip(printable(f.Name), 80))
	case slices.ContainsFunc(have, func(h modelFile) bool { return h.Name == f.Name }):
		return nil, wrongModel("%s came twice", f.Name)
	case err != nil:
		return nil, wrongModel("%s has no digest", f.Name)
	case f.Size < 1 || f.Size > limit:
		return nil, galley.Errorf(galley.ResourceExhausted, "model", "%s is said to have %d bytes, and %d are the most", f.Name, f.Size, limit).
			WithRemedy("raise --max-model if the model is known to be as large")
	}
	path := filepath.Join(dir, f.Name)
	file, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, durable.WriteError(path, err)
	}
	return &receiving{modelFile: f, file: file, sum: sha256.New(), left: f.Size}, nil
}

// write adds a piece; done says that the file is whole, flushed, and what it was
// said to be.
func (r *receiving) write(data []byte) (done bool, err error) {
	if r.left -= int64(len(data)); r.left < 0 {
		return false, wrongModel("%s goes on after its end", r.Name)
	}
	if _, err := io.Copy(io.MultiWriter(r.file, r.sum), bytes.NewReader(data)); err != nil {
		return false, durable.WriteError(r.file.Name(), err)
	}
	if r.left > 0 {
		return false, nil
	}
	if err := errors.Join(r.file.Sync(), r.file.Close()); err != nil {
		return false, durable.WriteError(r.file.Name(), err)
	}
	if got := galley.SumDigest(r.sum); got != r.Digest {
		return false, wrongModel("%s has the digest %s, and was said to have %s", r.Name, got.Short(), r.Digest.Short())
	}
	return true, nil
}
