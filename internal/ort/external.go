package ort

import (
	"strconv"

	"google.golang.org/protobuf/encoding/protowire"
)

// externalBytes walks the bytes of a model and adds up the external data that
// its tensors name, wherever they are; any is false if none names any. Broken
// bytes end the walk: the runtime says what is wrong with them.
func externalBytes(model []byte) (bytes int64, any bool) {
	walk := externalWalk{}
	walk.message(model, modelProto, 0)
	return walk.bytes, walk.any
}

// The published field numbers of the messages that lead to a tensor.
type messageKind int

const (
	modelProto messageKind = iota
	graphProto
	nodeProto
	attributeProto
	functionProto
	sparseTensorProto
	tensorProto
)

var children = map[messageKind]map[protowire.Number]messageKind{
	modelProto:        {7: graphProto, 25: functionProto},
	graphProto:        {1: nodeProto, 5: tensorProto, 15: sparseTensorProto},
	nodeProto:         {5: attributeProto},
	functionProto:     {7: nodeProto, 11: attributeProto},
	attributeProto:    {5: tensorProto, 6: graphProto, 10: tensorProto, 11: graphProto, 22: sparseTensorProto, 23: sparseTensorProto},
	sparseTensorProto: {1: tensorProto, 2: tensorProto},
}

const (
	tensorExternalData = 13 // repeated entries of key (1) and value (2)
	tensorDataLocation = 14 // 1 is external
	maxDepth           = 100
)

type externalWalk struct {
	bytes int64
	any   bool
}

func (w *externalWalk) message(data []byte, kind messageKind, depth int) {
	if depth > maxDepth {
		return
	}
	for len(data) > 0 {
		field, wire, n := protowire.ConsumeTag(data)
		if n < 0 {
			return
		}
		data = data[n:]
		if wire != protowire.BytesType {
			if kind == tensorProto && field == tensorDataLocation && wire == protowire.VarintType {
				if v, n := protowire.ConsumeVarint(data); n > 0 && v == 1 {
					w.any = true
				}
			}
			if n = protowire.ConsumeFieldValue(field, wire, data); n < 0 {
				return
			}
			data = data[n:]
			continue
		}
		inner, n := protowire.ConsumeBytes(data)
		if n < 0 {
			return
		}
		data = data[n:]
		if kind == tensorProto && field == tensorExternalData {
			w.entry(inner)
		} else if child, ok := children[kind][field]; ok {
			w.message(inner, child, depth+1)
		}
	}
}

// entry adds the value of the entry whose key is "length".
func (w *externalWalk) entry(data []byte) {
	var key, value string
	for len(data) > 0 {
		field, wire, n := protowire.ConsumeTag(data)
		if n < 0 || wire != protowire.BytesType {
			return
		}
		text, m := protowire.ConsumeString(data[n:])
		if m < 0 {
			return
		}
		data = data[n+m:]
		switch field {
		case 1:
			key = text
		case 2:
			value = text
		}
	}
	if length, err := strconv.ParseInt(value, 10, 64); key == "length" && err == nil && length > 0 && w.bytes+length > w.bytes {
		w.bytes += length
	}
}
