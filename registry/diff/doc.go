// Package diff says in what two versions of models differ: graph, weights,
// data, spec and metrics.
//
//	Versions: labels, spec fields, lineage, metrics on the same rows
//	Graphs:   operators, parameters, shapes, and each tensor's change
//	Data:     the splits of the two manifests
package diff
