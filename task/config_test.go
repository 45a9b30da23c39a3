package task

import (
	"bytes"
	"strings"
	"testing"

	"galley"
	"galley/onnx"
)

func TestParseKind(t *testing.T) {
	for in, code := range map[string]galley.Code{
		"text-classification": "", "text-mlm": "", "speech-ctc": galley.Unimplemented, "text": galley.InvalidArgument, "": galley.InvalidArgument,
	} {
		kind, err := ParseKind(in)
		if galley.CodeOf(err) != code || (err == nil) != (kind != "") || (err == nil) != (len(kind.Metrics()) > 0) {
			t.Errorf("%q: %q %v", in, kind, err)
		}
	}
}

func TestConfigRoundTrip(t *testing.T) {
	b, err := config().Encode()
	if err != nil {
		t.Fatal(err)
	}
	c, err := DecodeConfig(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	again, err := c.Encode()
	if err != nil || !bytes.Equal(b, again) {
		t.Errorf("%s\n%s\n%v", b, again, err)
	}
}

func TestConfigErrors(t *testing.T) {
	for want, change := range map[string]func(*Config){
		"another version of galley":             func(c *Config) { c.Format = 2 },
		`"x" is not a task`:                     func(c *Config) { c.Task = "x" },
		"image-classification is not there yet": func(c *Config) { c.Task = "image-classification" },
		"max_length is 2":                       func(c *Config) { c.MaxLength = 2 },
		"max_length is 8193":                    func(c *Config) { c.MaxLength = MaxLength + 1 },
		"1 labels, not between 2":               func(c *Config) { c.Labels = c.Labels[:1] },
		`"a" occurs twice`:                      func(c *Config) { c.Labels = []string{"a", "a"} },
		`"a\n" is not 1 to 256 bytes`:           func(c *Config) { c.Labels = []string{"a\n", "b"} },
		"a text-mlm model has no labels":        func(c *Config) { c.Task = TextMLM },
		"must be named":                         func(c *Config) { c.Inputs.IDs = "" },
		`two tensors are named "input_ids"`:     func(c *Config) { c.Inputs.Types = "input_ids" },
		"the tensor name":                       func(c *Config) { c.Outputs.Logits = "\xff" },
	} {
		c := config()
		change(c)
		if _, err := c.Encode(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v; want %q", err, want)
		}
	}
	for want, in := range map[string]string{
		"unknown field":        `{"format":1,"colour":2}`,
		"more follows its end": `{"format":1} {}`,
		"cannot unmarshal":     `{"format":"1"}`,
		"not a configuration":  ``,
		"larger than 16 MiB":   `{"task":"` + strings.Repeat("x", maxConfig) + `"}`,
	} {
		if _, err := DecodeConfig(strings.NewReader(in)); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "galley.json") {
			t.Errorf("%v; want %q", err, want)
		}
	}
}

func TestCheckGraph(t *testing.T) {
	ids := onnx.Value{Name: "input_ids", Type: onnx.Int64, Shape: onnx.Shape{onnx.Symbol("b"), onnx.Symbol("l")}}
	mask := onnx.Value{Name: "attention_mask", Type: onnx.Int64}
	logits := onnx.Value{Name: "logits", Type: onnx.Float, Shape: onnx.Shape{onnx.Symbol("b"), {Size: 2}}}
	with := func(v onnx.Value, change func(*onnx.Value)) onnx.Value { change(&v); return v }
	for _, test := range []struct {
		want    string
		in, out []onnx.Value
	}{
		{"", []onnx.Value{ids, mask}, []onnx.Value{{Name: "hidden"}, logits}},
		{`has no input "attention_mask"`, []onnx.Value{ids}, []onnx.Value{logits}},
		{`nothing is known of the graph's input "types"`, []onnx.Value{ids, mask, {Name: "types"}}, []onnx.Value{logits}},
		{"is not int64", []onnx.Value{with(ids, func(v *onnx.Value) { v.Type = onnx.Int32 }), mask}, []onnx.Value{logits}},
		{"is not int64", []onnx.Value{with(ids, func(v *onnx.Value) { v.Shape = onnx.Fixed(3) }), mask}, []onnx.Value{logits}},
		{`has no output "logits"`, []onnx.Value{ids, mask}, nil},
		{"is not float32", []onnx.Value{ids, mask}, []onnx.Value{with(logits, func(v *onnx.Value) { v.Type = onnx.Float16 })}},
		{"[b,3], not [batch, 2]", []onnx.Value{ids, mask}, []onnx.Value{with(logits, func(v *onnx.Value) { v.Shape = onnx.Shape{onnx.Symbol("b"), {Size: 3}} })}},
	} {
		err := config().CheckGraph(test.in, test.out)
		if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
			t.Errorf("%v; want %q", err, test.want)
		}
	}
}

func TestSignature(t *testing.T) {
	s, err := config().Signature()
	if err != nil || s.Inputs[0].Name != "text" || s.Outputs[2].Shape[1] != 2 {
		t.Error(s, err)
	}
	mlm := config()
	mlm.Task, mlm.Labels = TextMLM, nil
	if _, err := mlm.Signature(); galley.CodeOf(err) != galley.FailedPrecondition {
		t.Error(err)
	}
}

func FuzzConfig(f *testing.F) {
	b, err := config().Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := DecodeConfig(bytes.NewReader(b))
		if err != nil {
			return
		}
		first, err := c.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := DecodeConfig(bytes.NewReader(first)); err != nil {
			t.Fatal(err)
		}
	})
}
