package ort

import (
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
)

// field writes a field that holds a message or text.
func field(number protowire.Number, data ...[]byte) []byte {
	var inner []byte
	for _, d := range data {
		inner = append(inner, d...)
	}
	return protowire.AppendBytes(protowire.AppendTag(nil, number, protowire.BytesType), inner)
}

func TestExternalBytes(t *testing.T) {
	entry := func(key, value string) []byte { return field(13, field(1, []byte(key)), field(2, []byte(value))) }
	external := protowire.AppendVarint(protowire.AppendTag(nil, 14, protowire.VarintType), 1)
	weight := append(entry("location", "w.bin"), append(entry("length", "4096"), external...)...)
	inGraph := field(5, weight)
	inBranch := field(1, field(5, field(6, inGraph))) // a node's attribute's graph
	for name, c := range map[string]struct {
		model []byte
		bytes int64
		any   bool
	}{
		"none":      {field(7, field(5, entry("length", "x"))), 0, false},
		"graph":     {field(7, inGraph), 4096, true},
		"branch":    {field(7, inGraph, inBranch), 8192, true},
		"sparse":    {field(7, field(15, field(1, weight))), 4096, true},
		"function":  {field(25, field(7, field(5, field(5, weight)))), 4096, true},
		"truncated": {field(7, inGraph)[:20], 0, false},
		"empty":     {nil, 0, false},
	} {
		if bytes, any := externalBytes(c.model); bytes != c.bytes || any != c.any {
			t.Errorf("%s: %d, %v; want %d, %v", name, bytes, any, c.bytes, c.any)
		}
	}
}
