package task

import "galley"

// A Field is a tensor that clients send or receive, in the terms of the Open
// Inference Protocol.
type Field struct {
	Name     string
	Datatype string  // BYTES, FP32
	Shape    []int64 // -1 where the request decides; nil is any shape, empty a scalar
}

// A Signature is what clients see of a model instead of its graph's own
// inputs and outputs.
type Signature struct {
	Inputs, Outputs []Field
}

// Signature returns what clients of a model with this configuration see.
func (c *Config) Signature() (Signature, error) {
	if c.Task != TextClassification {
		return Signature{}, galley.Errorf(galley.FailedPrecondition, "task", "a %s model answers no requests", c.Task).
			WithRemedy("fine-tune it first: a job with task: %s and from: the version", TextClassification)
	}
	return Signature{
		Inputs: []Field{{"text", "BYTES", []int64{-1}}},
		Outputs: []Field{
			{"label", "BYTES", []int64{-1}},
			{"score", "FP32", []int64{-1}},
			{"scores", "FP32", []int64{-1, int64(len(c.Labels))}}, // in the order of the labels
			{"truncated", "BOOL", []int64{-1}},                    // whether the end of the text was not read
		},
	}, nil
}
