// Package grad differentiates an ONNX graph: from a model with a scalar loss
// it makes one training graph that computes forward, loss and backward in a
// single run and whose outputs are the loss and the gradients.
//
// The mode is reverse. Each operator's gradient is one Func, registered under
// the operator's domain and name; a Func sees one node and the gradients of
// its outputs, appends nodes to the training graph and returns the gradients
// of the node's inputs. Values of integer, boolean and string type carry no
// gradient, and a path ends there without a word; an operator that has no Func
// is an error that names the node.
//
// Training graphs are run, never stored: beside standard operators they use
// FusedMatMul and Gelu of the domain com.microsoft. Where two formulations
// give the same gradient, the one here is the one that was measured to be
// faster on ONNX Runtime's CPU kernels, and bit for bit the same from run to
// run: embedding gradients are not accumulated by ScatterND, whose order is
// not fixed.
package grad
