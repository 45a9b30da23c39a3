// Package controlpb is the control API of galley: datasets, jobs, models and
// their evaluation.
package controlpb
