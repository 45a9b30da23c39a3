package control

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"galley"
	"galley/feature/text"
	"galley/internal/durable"
	"galley/onnx"
	"galley/onnx/grad"
	"galley/registry"
	"galley/task"
	"galley/trainer/architecture"
)

// labelsFile holds the labels of an outside classifier, a JSON list in the
// order of its scores.
const labelsFile = "labels.json"

// Upload stores the files of an outside model and returns the digest that a
// job's `from` or an import names it by. The graph must be one that can be
// read.
func (c *Control) Upload(ctx context.Context, files *Spool) (galley.Digest, error) {
	if err := files.finish(); err != nil {
		return "", err
	}
	if _, ok := files.files[task.ModelFile]; !ok {
		return "", galley.Errorf(galley.InvalidArgument, "upload", "has no file %s", task.ModelFile)
	}
	if _, err := readGraph(files.dir); err != nil {
		return "", err
	}
	if _, err := readTokenizer(files.dir); err != nil {
		return "", err
	}
	ctx, release := c.blobs.Hold(ctx)
	defer release()
	artifacts, err := c.collect(ctx, files.dir)
	if err != nil {
		return "", err
	}
	digest, err := c.putUpload(ctx, artifacts)
	if err != nil {
		return "", err
	}
	return digest, c.store.AddUpload(ctx, digest, c.now())
}

func readGraph(dir string) (*onnx.Model, error) {
	m, err := onnx.ReadFile(filepath.Join(dir, task.ModelFile), onnx.ReadOptions{})
	if err != nil {
		return nil, err
	}
	return m, onnx.Check(m)
}

// readTokenizer returns the folder's tokenizer, nil if it has none.
func readTokenizer(dir string) (*text.Tokenizer, error) {
	f, err := os.Open(filepath.Join(dir, task.TokenizerFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, durable.WriteError(task.TokenizerFile, err)
	}
	defer f.Close()
	return text.Load(f)
}

// An Imported is a version made of an upload.
type Imported struct {
	Version     registry.Version
	Untrainable []string // operators through which the graph's weights cannot be trained
}

// Import registers an upload as a version. With labels and a tokenizer it
// becomes a text classifier if the graph is one; otherwise it has its own
// inputs and outputs, and no task. A task that is asked for must fit.
func (c *Control) Import(ctx context.Context, by galley.Actor, name string, digest galley.Digest, asked string) (Imported, error) {
	if err := galley.CheckName("model", name); err != nil {
		return Imported{}, err
	}
	if asked != "" && asked != string(task.TextClassification) {
		if _, err := task.ParseKind(asked); err != nil {
			return Imported{}, err
		}
		return Imported{}, galley.Errorf(galley.InvalidArgument, "task", "a graph cannot be imported as %s", asked).
			WithRemedy("leave --task out, or write --task %s", task.TextClassification)
	}
	ctx, release := c.blobs.Hold(ctx)
	defer release()
	files, err := c.keepUpload(ctx, digest)
	if err != nil {
		return Imported{}, err
	}
	dir, err := os.MkdirTemp(c.temp(), "import-*")
	if err != nil {
		return Imported{}, durable.WriteError(c.temp(), err)
	}
	defer os.RemoveAll(dir)
	if err := c.materialise(ctx, dir, files); err != nil {
		return Imported{}, err
	}
	m, err := readGraph(dir)
	if err != nil {
		return Imported{}, err
	}
	told, err := readLineage(dir)
	if err != nil {
		return Imported{}, err
	}
	if told != nil {
		return c.importExported(ctx, by, name, asked, *told, files, dir, m)
	}
	config, err := classifierConfig(dir, m)
	switch {
	case err == nil:
	case asked != "":
		return Imported{}, err
	case galley.CodeOf(err) != galley.FailedPrecondition:
		return Imported{}, err // what came is broken, not merely another kind of model
	}
	v := registry.Version{Name: name, Artifacts: files, Creator: by, Created: c.now()}
	if config != nil {
		if files, err = c.withConfig(ctx, files, config); err != nil {
			return Imported{}, err
		}
		v.Task, v.Labels, v.Artifacts = string(config.Task), config.Labels, files
	}
	return c.registerImport(ctx, v, m)
}

func (c *Control) registerImport(ctx context.Context, v registry.Version, m *onnx.Model) (Imported, error) {
	v, created, err := c.store.Register(ctx, v)
	if err != nil {
		return Imported{}, err
	}
	if created {
		c.follow(ctx, registry.Change{Model: v.Name, To: v.Number})
	}
	return Imported{Version: v, Untrainable: untrainable(m)}, nil
}

// withConfig adds a galley.json to the files, if they have none.
func (c *Control) withConfig(ctx context.Context, files []registry.Artifact, config *task.Config) ([]registry.Artifact, error) {
	if slices.ContainsFunc(files, func(a registry.Artifact) bool { return a.Path == task.ConfigFile }) {
		return files, nil
	}
	data, err := config.Encode()
	if err != nil {
		return nil, err
	}
	digest, size, err := c.blobs.Put(ctx, strings.NewReader(string(data)))
	return append(slices.Clone(files), registry.Artifact{Path: task.ConfigFile, Digest: digest, Size: size}), err
}

// defaultLength is the longest input of a graph that does not say: that of
// the encoders most graphs hold.
const defaultLength = 512

// classifierConfig says how a folder's graph is fed and read as a text
// classifier. FailedPrecondition says why it is none.
func classifierConfig(dir string, m *onnx.Model) (*task.Config, error) {
	none := func(format string, args ...any) error {
		return galley.Errorf(galley.FailedPrecondition, "task", "the model is no %s model: "+format, append([]any{task.TextClassification}, args...)...)
	}
	tokenizer, err := readTokenizer(dir)
	if err != nil {
		return nil, err
	}
	if tokenizer == nil {
		return nil, none("it has no %s", task.TokenizerFile)
	}
	if f, err := os.Open(filepath.Join(dir, task.ConfigFile)); err == nil {
		defer f.Close()
		config, err := task.DecodeConfig(f)
		if err != nil {
			return nil, err
		}
		if config.Task != task.TextClassification {
			return nil, none("its %s says %s", task.ConfigFile, config.Task)
		}
		return config, config.CheckGraph(m.Graph.Inputs, m.Graph.Outputs)
	}
	labels, err := readLabels(dir)
	if err != nil {
		return nil, err
	}
	if labels == nil {
		return nil, none("it has no %s", labelsFile)
	}
	in, err := architecture.TextInputs(m)
	if err != nil {
		return nil, none("%s", galley.AsError(err).Message)
	}
	logits, err := logitsOf(m, len(labels))
	if err != nil {
		return nil, none("%w", err)
	}
	config := &task.Config{
		Format: task.ConfigFormat, Task: task.TextClassification, Labels: labels, MaxLength: defaultLength,
		Inputs: task.Inputs{IDs: in.IDs, Mask: in.Mask, Types: in.Types}, Outputs: task.Outputs{Logits: logits},
	}
	if n := tokenizer.MaxLength(); n > 0 {
		config.MaxLength = min(n, task.MaxLength)
	}
	if err := config.Validate(); err != nil {
		return nil, err
	}
	return config, config.CheckGraph(m.Graph.Inputs, m.Graph.Outputs)
}

// logitsOf finds the output with a score for each label.
func logitsOf(m *onnx.Model, labels int) (string, error) {
	types, err := onnx.InferShapes(m)
	if err != nil {
		return "", err
	}
	var found []string
	for _, out := range m.Graph.Outputs {
		v := out
		if inferred, ok := types.Lookup(out.Name); ok && len(v.Shape) == 0 {
			v = inferred
		}
		if v.Type == onnx.Float && len(v.Shape) == 2 && v.Shape[1].Size == int64(labels) {
			found = append(found, out.Name)
		}
	}
	if len(found) != 1 {
		return "", galley.Errorf(galley.FailedPrecondition, task.ModelFile, "%d of its outputs are float [batch,%d]", len(found), labels)
	}
	return found[0], nil
}

// readLabels returns the folder's labels, nil if it has none.
func readLabels(dir string) ([]string, error) {
	const most = 16 << 20
	path := filepath.Join(dir, labelsFile)
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, durable.WriteError(labelsFile, err)
	}
	if info.Size() > most {
		return nil, galley.Errorf(galley.InvalidArgument, labelsFile, "has %d bytes", info.Size()).WithRemedy("it has at most %d", most)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, durable.WriteError(labelsFile, err)
	}
	var labels []string
	if err := json.Unmarshal(data, &labels); err != nil || len(labels) == 0 {
		return nil, galley.Errorf(galley.InvalidArgument, labelsFile, "is not a list of labels").
			WithRemedy(`write ["culture", "sport"], in the order of the model's scores`)
	}
	return labels, nil
}

// untrainable lists the operators without a gradient that stand between a
// graph's weights and its outputs. What works on token ids, say, needs none.
func untrainable(m *onnx.Model) []string {
	types, err := onnx.InferShapes(m)
	if err != nil {
		types = &onnx.Types{} // nothing is known: each value may be a number
	}
	weighed := map[string]bool{} // values that depend on weights
	for _, t := range m.Graph.Initializers {
		weighed[t.Name] = t.Type.IsFloat()
	}
	var names []string
	for _, n := range m.Graph.Nodes {
		if !slices.ContainsFunc(n.Inputs, func(in string) bool { return weighed[in] }) {
			continue
		}
		passes := false
		for _, out := range n.Outputs {
			if t := types.Type(out); t == onnx.Undefined || t.IsFloat() {
				weighed[out], passes = true, true
			}
		}
		if !passes || grad.Supported(n.Domain, n.Op) {
			continue
		}
		name := n.Op
		if n.Domain != "" {
			name = n.Domain + "." + n.Op
		}
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}
