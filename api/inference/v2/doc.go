// Package inferencepb is the Open Inference Protocol, version 2, over gRPC,
// written from its published field numbers.
package inferencepb
