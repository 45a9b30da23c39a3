// Package trainer holds what a training job is: its immutable Spec, its Job,
// which changes only through the pure function Step, and the parts of a
// recipe that every engine shares: schedules, objectives and checkpoints.
//
// How a job is trained is the business of trainer/engine, where its attempt
// runs that of trainer/launch.
package trainer

import (
	"encoding/json"

	"galley"
)

// APIVersion is the version of the job file format.
const APIVersion = "galley/v1"

// A Spec is a whole request to make one model, or a Pipeline of several: what a
// job file says, with each default filled in. It is immutable once submitted, and its digest names it.
//
// A field that the spec's kind does not have is empty, and is left out of its
// JSON; see kindFields.
type Spec struct {
	APIVersion string `yaml:"apiVersion" json:"apiVersion"`
	Kind       string `yaml:"kind" json:"kind"`
	Name       string `yaml:"name" json:"name"` // the model's name in the registry
	Task       string `yaml:"task" json:"task,omitempty"`
	Data       Data   `yaml:"data" json:"data,omitzero"`
	From       string `yaml:"from" json:"from,omitempty"` // a version, or an .onnx file, to go on from
	Model      Model  `yaml:"model" json:"model,omitzero"`
	Distill
	Quantize
	Federate
	Measure
	Pipeline
	Recipe    Recipe    `yaml:"recipe" json:"recipe,omitzero"`
	Engine    string    `yaml:"engine" json:"engine,omitempty"`
	Resources Resources `yaml:"resources" json:"resources,omitzero"`
	Priority  int       `yaml:"priority" json:"priority,omitempty"` // 0 to 100, higher ones first
	Needs     []string  `yaml:"needs" json:"needs,omitempty"`       // jobs that have to succeed first
	Retries   int       `yaml:"retries" json:"retries,omitempty"`   // crashes in a row without a new checkpoint that are tried again
}

// Data names a registered dataset, or the files to register as one.
type Data struct {
	Dataset  string  `yaml:"dataset" json:"dataset,omitempty"` // name or name@version
	Train    string  `yaml:"train" json:"train,omitempty"`     // a file, with the fields below
	Valid    string  `yaml:"valid" json:"valid,omitempty"`
	Test     string  `yaml:"test" json:"test,omitempty"`
	Format   string  `yaml:"format" json:"format,omitempty"`
	Columns  string  `yaml:"columns" json:"columns,omitempty"`
	Fraction float64 `yaml:"fraction" json:"fraction"` // of the training rows, stratified by label
	// Unlabelled is a registered dataset whose training rows a student learns
	// from, too, by its teachers' answers alone. Labels that it has are not used.
	Unlabelled string `yaml:"unlabelled" json:"unlabelled,omitempty"`
	Split      string `yaml:"split" json:"split,omitempty"` // of Dataset, to measure on
}

// Model is an architecture and its sizes. With From it says only what is
// added to the model gone on from.
type Model struct {
	Architecture string  `yaml:"architecture" json:"architecture,omitempty"`
	Layers       int     `yaml:"layers" json:"layers,omitempty"`
	Hidden       int     `yaml:"hidden" json:"hidden,omitempty"`
	Heads        int     `yaml:"heads" json:"heads,omitempty"`
	FeedForward  int     `yaml:"feed_forward" json:"feed_forward,omitempty"`
	MaxLength    int     `yaml:"max_length" json:"max_length,omitempty"` // tokens
	Dropout      float64 `yaml:"dropout" json:"dropout"`
	NGrams       NGrams  `yaml:"ngrams" json:"ngrams"`
	Tokenizer    string  `yaml:"tokenizer" json:"tokenizer,omitempty"`         // wordpiece or character
	Vocabulary   int     `yaml:"vocabulary" json:"vocabulary,omitempty"`       // most tokens to learn
	MinFrequency int     `yaml:"min_frequency" json:"min_frequency,omitempty"` // occurrences below which no word piece is learnt
	Features     string  `yaml:"features" json:"features,omitempty"`           // the value of an outside graph that the head is put on
}

// NGrams are hashed n-grams of token ids joined to an encoder.
type NGrams struct {
	Orders  int `yaml:"orders" json:"orders"`   // longest n-gram; 0 for none
	Buckets int `yaml:"buckets" json:"buckets"` // rows of the table
	Width   int `yaml:"width" json:"width"`     // columns of the table
}

// Recipe is how to train.
type Recipe struct {
	Epochs          int          `yaml:"epochs" json:"epochs"`
	MaxSteps        int          `yaml:"max_steps" json:"max_steps"` // 0: as many as the epochs have
	BatchSize       int          `yaml:"batch_size" json:"batch_size"`
	Accumulate      int          `yaml:"accumulate" json:"accumulate"` // batches a step
	Optimizer       Optimizer    `yaml:"optimizer" json:"optimizer"`
	Schedule        Schedule     `yaml:"schedule" json:"schedule"`
	ClipNorm        float64      `yaml:"clip_norm" json:"clip_norm"` // 0: no clipping
	LabelSmoothing  float64      `yaml:"label_smoothing" json:"label_smoothing"`
	ClassWeights    ClassWeights `yaml:"class_weights" json:"class_weights"`
	MaskRate        float64      `yaml:"mask_rate" json:"mask_rate,omitempty"`     // text-mlm only
	BranchLoss      float64      `yaml:"branch_loss" json:"branch_loss"`           // share of the loss that encoder and n-grams have each alone
	TokenDropout    float64      `yaml:"token_dropout" json:"token_dropout"`       // tokens hidden while training
	EarlyStop       int          `yaml:"early_stop" json:"early_stop"`             // validations without gain; 0: never
	ValidateEvery   int          `yaml:"validate_every" json:"validate_every"`     // steps; 0: each epoch
	CheckpointEvery int          `yaml:"checkpoint_every" json:"checkpoint_every"` // steps
	Seed            uint64       `yaml:"seed" json:"seed"`
}

// ClassWeights weigh the loss of each class.
type ClassWeights struct {
	Mode   string             `yaml:"mode" json:"mode"` // none, balanced or given
	Values map[string]float64 `yaml:"values" json:"values,omitempty"`
}

// Optimizer is AdamW (Loshchilov and Hutter, 2019) with decoupled decay;
// vectors (biases, norms) do not decay.
type Optimizer struct {
	Name        string  `yaml:"name" json:"name"`
	LR          float64 `yaml:"lr" json:"lr"`
	Beta1       float64 `yaml:"beta1" json:"beta1"`
	Beta2       float64 `yaml:"beta2" json:"beta2"`
	Epsilon     float64 `yaml:"epsilon" json:"epsilon"`
	WeightDecay float64 `yaml:"weight_decay" json:"weight_decay"`
	TableRate   float64 `yaml:"table_rate" json:"table_rate"` // factor on lr for the n-gram table
}

// Resources are what an attempt may use.
type Resources struct {
	CPUs   int    `yaml:"cpus" json:"cpus"`
	Memory string `yaml:"memory" json:"memory,omitempty"` // as 4GiB; estimated if empty
	GPUs   int    `yaml:"gpus" json:"gpus"`
}

// Digest names the spec by its content, but for what only decides when and
// how often it is tried: the model is the same.
func (s Spec) Digest() galley.Digest {
	s.Priority, s.Needs, s.Retries, s.Resources.Memory = 0, nil, 0, ""
	data, err := json.Marshal(s)
	if err != nil {
		// Reached only by NaN or infinite floats, which Validate refuses.
		return ""
	}
	return galley.DigestBytes(data)
}
