package task

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"unicode"
	"unicode/utf8"

	"galley"
	"galley/onnx"
)

// ConfigFormat is the version of the form of galley.json.
const ConfigFormat = 1

// Bounds of a configuration.
const (
	MinLength = 3    // the two special tokens around one
	MaxLength = 8192 // tokens
	MaxLabels = 10_000
	maxLabel  = 256 // bytes
	maxName   = 256 // bytes of a tensor's name
	maxConfig = 16 << 20
)

// A Config is galley.json, the file beside a model.onnx that says how the
// graph is fed and read.
type Config struct {
	Format    int      `json:"format"`
	Task      Kind     `json:"task"`
	Labels    []string `json:"labels,omitempty"` // in the order of the logits
	MaxLength int      `json:"max_length"`       // tokens, special ones included
	Inputs    Inputs   `json:"inputs"`
	Outputs   Outputs  `json:"outputs"`
}

// Inputs names the graph's inputs, each int64 [batch, length]. Mask and Types
// are empty if the graph has none.
type Inputs struct {
	IDs   string `json:"ids"`
	Mask  string `json:"mask,omitempty"`
	Types string `json:"types,omitempty"`
}

// Outputs names the graph's outputs: logits are float32 [batch, labels] of a
// classifier.
type Outputs struct {
	Logits string `json:"logits"`
}

// DefaultInputs and DefaultOutputs are the names in graphs that galley builds.
var (
	DefaultInputs  = Inputs{IDs: "input_ids", Mask: "attention_mask"}
	DefaultOutputs = Outputs{Logits: "logits"}
)

// DecodeConfig reads and checks a galley.json.
func DecodeConfig(r io.Reader) (*Config, error) {
	limited := &io.LimitedReader{R: r, N: maxConfig + 1}
	dec := json.NewDecoder(limited)
	dec.DisallowUnknownFields()
	c := new(Config)
	err := dec.Decode(c)
	if err == nil {
		if _, extra := dec.Token(); !errors.Is(extra, io.EOF) {
			err = errors.New("more follows its end")
		}
	}
	if limited.N == 0 {
		err = errors.New("it is larger than 16 MiB")
	}
	if err != nil {
		return nil, galley.Errorf(galley.InvalidArgument, ConfigFile, "not a configuration: %w", err)
	}
	return c, c.Validate()
}

// Encode returns the file's canonical bytes.
func (c *Config) Encode() ([]byte, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(c); err != nil {
		return nil, galley.Errorf(galley.Internal, ConfigFile, "%w", err)
	}
	return b.Bytes(), nil
}

// Validate checks the configuration.
func (c *Config) Validate() error {
	wrong := func(format string, args ...any) error {
		return galley.Errorf(galley.InvalidArgument, ConfigFile, format, args...)
	}
	if c.Format != ConfigFormat {
		return galley.Errorf(galley.InvalidArgument, ConfigFile, "format %d is not %d", c.Format, ConfigFormat).
			WithRemedy("it was written by another version of galley")
	}
	if _, err := ParseKind(string(c.Task)); err != nil {
		return err
	}
	if c.MaxLength < MinLength || c.MaxLength > MaxLength {
		return wrong("max_length is %d, not between %d and %d", c.MaxLength, MinLength, MaxLength)
	}
	if c.Task == TextMLM && c.Labels != nil {
		return wrong("a %s model has no labels", TextMLM)
	}
	if c.Task == TextClassification {
		if err := checkLabels(c.Labels); err != nil {
			return wrong("%w", err)
		}
	}
	if c.Inputs.IDs == "" || c.Outputs.Logits == "" {
		return wrong("inputs.ids and outputs.logits must be named")
	}
	seen := map[string]bool{}
	for _, name := range []string{c.Inputs.IDs, c.Inputs.Mask, c.Inputs.Types, c.Outputs.Logits} {
		if len(name) > maxName || !utf8.ValidString(name) {
			return wrong("the tensor name %q is not UTF-8 of at most %d bytes", galley.Clip(name, 80), maxName)
		}
		if name != "" && seen[name] {
			return wrong("two tensors are named %q", name)
		}
		seen[name] = true
	}
	return nil
}

func checkLabels(labels []string) error {
	if len(labels) < 2 || len(labels) > MaxLabels {
		return galley.Errorf(galley.InvalidArgument, "labels", "%d labels, not between 2 and %d", len(labels), MaxLabels)
	}
	seen := make(map[string]bool, len(labels))
	for _, label := range labels {
		switch {
		case label == "" || len(label) > maxLabel || !utf8.ValidString(label) || strings.ContainsFunc(label, unicode.IsControl):
			return galley.Errorf(galley.InvalidArgument, "labels", "%q is not 1 to %d bytes of printable UTF-8", galley.Clip(label, 80), maxLabel)
		case seen[label]:
			return galley.Errorf(galley.InvalidArgument, "labels", "%q occurs twice", galley.Clip(label, 80))
		}
		seen[label] = true
	}
	return nil
}

// CheckGraph checks that a graph with these inputs and outputs can be fed and
// read as the configuration says.
func (c *Config) CheckGraph(inputs, outputs []onnx.Value) error {
	wrong := func(format string, args ...any) error {
		return galley.Errorf(galley.FailedPrecondition, ModelFile, format, args...).
			WithRemedy("%s must name the graph's inputs and outputs", ConfigFile)
	}
	named := map[string]bool{c.Inputs.IDs: true, c.Inputs.Mask: true, c.Inputs.Types: true}
	delete(named, "")
	for _, in := range inputs {
		switch {
		case !named[in.Name]:
			return wrong("nothing is known of the graph's input %q", galley.Clip(in.Name, 80))
		case in.Type != onnx.Int64 || in.Shape != nil && len(in.Shape) != 2:
			return wrong("the graph's input %q is not int64 [batch, length]", galley.Clip(in.Name, 80))
		}
		delete(named, in.Name)
	}
	for name := range named {
		return wrong("the graph has no input %q", galley.Clip(name, 80))
	}
	for _, out := range outputs {
		if out.Name != c.Outputs.Logits {
			continue
		}
		if out.Type != onnx.Float {
			return wrong("the graph's output %q is not float32", galley.Clip(out.Name, 80))
		}
		if c.Task == TextClassification && out.Shape != nil {
			if len(out.Shape) != 2 || out.Shape[1].Size >= 0 && out.Shape[1].Size != int64(len(c.Labels)) {
				return wrong("the graph's output %q is %v, not [batch, %d], one for each label", galley.Clip(out.Name, 80), out.Shape, len(c.Labels))
			}
		}
		return nil
	}
	return wrong("the graph has no output %q", galley.Clip(c.Outputs.Logits, 80))
}
