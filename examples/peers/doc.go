// Package peers holds galley from the outside, as those who depend on it meet
// it: the built command with a home on disk, a stock tritonclient, Python's
// onnxruntime with tokenizers, scikit-learn, and processes that are killed.
// It has tests only. Those that need Python have the build tag peers:
//
//	make test-peers
package peers
