package rpc

import (
	"slices"
	"strings"
	"testing"

	controlpb "galley/api/control/v1"

	"galley"
)

func TestCheckChunk(t *testing.T) {
	for name, texts := range map[string][]string{
		"none":       nil,
		"too many":   slices.Repeat([]string{"a"}, maxChunkTexts+1),
		"too large":  slices.Repeat([]string{strings.Repeat("a", 1<<20)}, 5),
		"too large ": {strings.Repeat("a", maxChunkBytes+1)},
	} {
		if err := checkChunk(&controlpb.PredictChunk{Texts: texts}); galley.CodeOf(err) != galley.InvalidArgument {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := checkChunk(nil); galley.CodeOf(err) != galley.InvalidArgument {
		t.Errorf("no chunk: %v", err)
	}
	if err := checkChunk(&controlpb.PredictChunk{Texts: slices.Repeat([]string{"a"}, maxChunkTexts)}); err != nil {
		t.Error(err)
	}
}
