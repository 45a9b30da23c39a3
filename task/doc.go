// Package task says what goes into a model and what comes out of it. Training,
// evaluation and serving share it, so that a text is read the same way in all
// three.
//
// A [Config] lies beside each graph as galley.json: the task, the labels, the
// longest input, the names of the graph's inputs and outputs. With a tokenizer
// it makes a [TextEncoder], from texts to tensors, and a [TextClassifier],
// which also reads the logits; a [TextPredictor] runs one over a session.
// [Masker] makes the examples of masked-language pretraining. [OpenBundle]
// reads the folder that a model is kept and exported in.
package task
