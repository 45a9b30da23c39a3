// Package quantize makes smaller and faster forms of a trained model: graph
// passes that store weights, and compute products, in few bits.
//
//	Find  -> the sites of a graph: products and tables with constant weights
//	Apply -> the graph with its sites quantised by one of four methods
//
// The methods are [Dynamic] (8-bit products, ranges of activations found at
// each run), [Static] (8-bit products, ranges found once by [Calibrate], the
// QDQ form), [WeightOnly] (4-bit weights in blocks, MatMulNBits) and [Float16].
// What they make runs in stock ONNX Runtime.
//
// Calibration streams: batches run through the graph and each activation is
// reduced to a [Histogram] at once, or to its range in the graph itself, so that
// memory does not grow with rows.
// [Budgeted] looks for the sites that cost most accuracy and leaves them in
// float until a stated drop is met. [Driver] does all of this as an attempt of
// a job of kind Quantize.
package quantize
