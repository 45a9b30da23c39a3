// Package kernel has the few numeric loops of training that are not worth a
// graph: the optimizer's step, norms, sums of gradients, dropout masks.
//
// Each loop exists twice: in C, compiled for several instruction sets of which
// the processor's best is taken as the program starts, and in Go, for builds
// without cgo. Both give the same bits, on any number of threads: additions
// have a fixed order, and no multiplication is fused with an addition.
//
// Slices that belong together must have the same length; a function panics
// otherwise, as an index out of range does.
package kernel
