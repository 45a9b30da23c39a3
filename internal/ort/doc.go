// Package ort runs ONNX graphs with ONNX Runtime: it implements the contract
// of onnx/session.
//
// The environment, session options and sessions are those of
// github.com/yalue/onnxruntime_go. What that binding leaves out is reached
// through api.c, a thin layer over the same function table: values over pinned
// Go memory of any rank, cancellation of bound runs, outputs without a copy,
// names and types of the session at hand, and the memory it holds.
//
// The process loads one library and keeps it until it ends. Without cgo the
// package builds, and Load says what is missing.
package ort
