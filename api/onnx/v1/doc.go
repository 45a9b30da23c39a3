// Package onnxpb is the ONNX model format, written from its published field
// numbers. A field that is absent here is unknown, and package galley/onnx
// refuses a file that has one.
package onnxpb
