package trainer

import "strings"

// quantizeDriver is the name of the driver that runs jobs of kind Quantize.
const quantizeDriver = "quantize"

// Quantize is what a job of kind Quantize has beside the name of its result
// and the version, From, that it makes smaller. Data, if the file gives none,
// is what From was trained on.
type Quantize struct {
	Method      string      `yaml:"method" json:"method,omitempty"` // dynamic, static, weight-only or float16
	Weights     Weights     `yaml:"weights" json:"weights,omitzero"`
	Activations Activations `yaml:"activations" json:"activations,omitzero"`
	Calibration Calibration `yaml:"calibration" json:"calibration,omitzero"`
	MaxDrop     float64     `yaml:"max_drop" json:"max_drop,omitempty"` // points of accuracy on valid, against From
}

// Weights says how weights are stored.
type Weights struct {
	PerChannel bool   `yaml:"per_channel" json:"per_channel,omitempty"` // a scale for each column, not one for all
	Tables     bool   `yaml:"tables" json:"tables,omitempty"`           // embeddings, too
	Saturation string `yaml:"saturation" json:"saturation,omitempty"`   // auto, prevent or allow
	Block      int    `yaml:"block" json:"block,omitempty"`             // of 4 bits: weights that share a scale
	Symmetric  bool   `yaml:"symmetric" json:"symmetric,omitempty"`     // of 4 bits: without zero points
}

// Activations says how activations are stored while a product is computed.
type Activations struct {
	Type      string `yaml:"type" json:"type,omitempty"` // uint8 or int8
	Symmetric bool   `yaml:"symmetric" json:"symmetric,omitempty"`
}

// Calibration says how the ranges of activations are found: on rows of the
// train split.
type Calibration struct {
	Ranges     string  `yaml:"ranges" json:"ranges,omitempty"` // minmax, percentile, entropy or mse
	Percentile float64 `yaml:"percentile" json:"percentile,omitempty"`
	Rows       int     `yaml:"rows" json:"rows,omitempty"`
}

// defaultQuantize returns what a job file of kind Quantize leaves out.
func defaultQuantize() Spec {
	return Spec{
		APIVersion: APIVersion,
		Kind:       KindQuantize,
		Task:       TextClassification,
		Quantize: Quantize{
			Method:      "dynamic",
			Weights:     Weights{PerChannel: true, Tables: true, Saturation: "auto", Block: 32, Symmetric: true},
			Activations: Activations{Type: "uint8"},
			Calibration: Calibration{Ranges: "mse", Percentile: 99.999, Rows: 512},
			MaxDrop:     0.5,
		},
		Engine:    "onnx",
		Resources: Resources{CPUs: 2},
		Priority:  50,
		Retries:   2,
	}
}

// quantize checks what only jobs of kind Quantize have.
func (c *checker) quantize(s Spec, given func(path string) bool) {
	switch {
	case s.From == "":
		c.wrong("from", "name a version, as in from: news-topic@3", "is missing")
	case strings.HasSuffix(s.From, ".onnx"):
		c.wrong("from", "import it first: galley models import FILE.onnx --name NAME --task "+TextClassification, "names a file")
	}
	if s.Task != TextClassification {
		c.wrong("task", "write task: "+TextClassification+", or leave it out", "%s models are not quantised", s.Task)
	}
	if given("data") {
		c.data(s.Data)
	}
	c.choice("engine", s.Engine, []string{"onnx"}, nil)
	c.choice("method", s.Method, []string{"dynamic", "static", "weight-only", "float16"}, nil)
	c.choice("weights.saturation", s.Weights.Saturation, []string{"auto", "prevent", "allow"}, nil)
	c.choice("activations.type", s.Activations.Type, []string{"uint8", "int8"}, nil)
	c.choice("calibration.ranges", s.Calibration.Ranges, []string{"minmax", "percentile", "entropy", "mse"}, nil)
	if b := s.Weights.Block; b < 16 || b > 256 || b&(b-1) != 0 {
		c.wrong("weights.block", "write 16, 32, 64, 128 or 256", "%d is out of range", b)
	}
}

// quantizeRanges are the numbers of a spec of kind Quantize.
func quantizeRanges(s Spec) ([]whole, []real) {
	return []whole{{"calibration.rows", s.Calibration.Rows, 1, 1_000_000}},
		[]real{{"calibration.percentile", s.Calibration.Percentile, 50, 100, false}, {"max_drop", s.MaxDrop, 0, 100, false}}
}

// quantizeMemory is the memory that an attempt is estimated to need: the
// graph before and after, with a session each that answers.
func (s Spec) quantizeMemory(parent int64) int64 { return runtimeMemory + answering + 4*parent }
