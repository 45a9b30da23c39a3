package onnx_test

import (
	"testing"

	"galley/internal/ort/orttest"
	"galley/trainer/engine/enginetest"
	"galley/trainer/engine/onnx"
)

func TestConformance(t *testing.T) {
	enginetest.Run(t, onnx.Driver{Opener: orttest.Opener(t)})
}
