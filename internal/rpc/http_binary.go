package rpc

import (
	"encoding/binary"
	"encoding/json"
	"net/http"
	"slices"
	"strconv"

	inferencepb "galley/api/inference/v2"

	"galley"
	"galley/onnx"
	"galley/task"
)

// Triton's binary tensor extension: a body of JSON and, behind it, the raw
// contents of the tensors whose parameters say so.
const (
	binaryHeader = "Inference-Header-Content-Length" // the bytes of the JSON
	binarySize   = "binary_data_size"                // of a tensor: its bytes
	binaryOutput = "binary_data"                     // of a wanted output: as bytes
	binaryAll    = "binary_data_output"              // of a request: all outputs as bytes
)

// cutBody parts a body into its JSON and the tensors behind it. A header of 0
// announces a raw request, whose whole body is one tensor: its head is nil.
func cutBody(h http.Header, body []byte) (head, tensors []byte, err error) {
	said := h.Get(binaryHeader)
	if said == "" {
		return body, nil, nil
	}
	n, err := strconv.ParseUint(said, 10, 63)
	if err != nil || n > uint64(len(body)) {
		return nil, nil, galley.Errorf(galley.InvalidArgument, binaryHeader, "%s is not the number of the JSON's bytes in a body of %d", printable(said), len(body))
	}
	if n == 0 {
		return nil, body, nil
	}
	return body[:n], body[n:], nil
}

// cutTensor takes a tensor's bytes from what is left of a body.
func cutTensor(name string, size parameter, left []byte) (raw, rest []byte, err error) {
	n, ok := size.value.GetParameterChoice().(*inferencepb.InferParameter_Int64Param)
	if !ok || n.Int64Param < 0 {
		return nil, nil, galley.Errorf(galley.InvalidArgument, printable(name), "its %s is not a number of bytes", binarySize)
	}
	if n.Int64Param > int64(len(left)) {
		return nil, nil, galley.Errorf(galley.InvalidArgument, printable(name), "its %s is %d, and %d bytes are left of the body", binarySize, n.Int64Param, len(left)).
			WithRemedy("send the tensors' bytes behind the JSON, and its length as %s", binaryHeader)
	}
	return left[:n.Int64Param], left[n.Int64Param:], nil
}

// rawRequest makes the request of a body without JSON: its model's one input,
// whose one open size follows from the number of bytes; of text, one element.
// All outputs come as bytes.
func rawRequest(m *inferencepb.ModelMetadataResponse, body []byte) (*inferencepb.ModelInferRequest, error) {
	if len(m.GetInputs()) != 1 {
		return nil, galley.Errorf(galley.InvalidArgument, m.GetName(), "has %d inputs; a body without JSON can be one only", len(m.GetInputs())).
			WithRemedy("send JSON, and its length as %s", binaryHeader)
	}
	in := m.GetInputs()[0]
	shape, raw, err := rawShape(in, body)
	if err != nil {
		return nil, err
	}
	return &inferencepb.ModelInferRequest{
		Parameters:       map[string]*inferencepb.InferParameter{binaryAll: {ParameterChoice: &inferencepb.InferParameter_BoolParam{BoolParam: true}}},
		Inputs:           []*inferencepb.ModelInferRequest_InferInputTensor{{Name: in.GetName(), Datatype: in.GetDatatype(), Shape: shape}},
		RawInputContents: [][]byte{raw},
	}, nil
}

// rawShape finds the shape that a body of so many bytes has.
func rawShape(in *inferencepb.ModelMetadataResponse_TensorMetadata, body []byte) (shape []int64, raw []byte, err error) {
	unfit := func() error {
		return galley.Errorf(galley.InvalidArgument, in.GetName(), "%d bytes do not make a %s of the shape %v", len(body), in.GetDatatype(), in.GetShape()).
			WithRemedy("send JSON that says the shape, and its length as %s", binaryHeader)
	}
	t, ok := task.ParseDatatype(in.GetDatatype())
	shape = slices.Clone(in.GetShape())
	open, fixed := -1, int64(1)
	for i, d := range shape {
		switch {
		case d >= 0:
			if d > maxElements || fixed*d > maxElements {
				return nil, nil, unfit()
			}
			fixed *= d
		case open >= 0:
			return nil, nil, unfit()
		default:
			open = i
		}
	}
	if !ok {
		return nil, nil, unfit()
	}
	elements := int64(1)
	if t == onnx.String {
		raw = append(binary.LittleEndian.AppendUint32(make([]byte, 0, 4+len(body)), uint32(len(body))), body...)
	} else {
		width := t.Bits() / 8
		if int64(len(body))%width != 0 {
			return nil, nil, unfit()
		}
		raw, elements = body, int64(len(body))/width
	}
	if open >= 0 {
		if fixed == 0 || elements%fixed != 0 {
			return nil, nil, unfit()
		}
		shape[open] = elements / fixed
	} else if elements != fixed {
		return nil, nil, unfit()
	}
	return shape, raw, nil
}

// wantsBinary reports whether a request wants an output as bytes: what is said
// of the output goes before what is said of all.
func wantsBinary(r *inferencepb.ModelInferRequest, output string) bool {
	for _, o := range r.GetOutputs() {
		if p, ok := o.GetParameters()[binaryOutput]; ok && o.GetName() == output {
			return p.GetBoolParam()
		}
	}
	return r.GetParameters()[binaryAll].GetBoolParam()
}

// A binaryAnswer is an answer with tensors behind its JSON.
type binaryAnswer struct {
	head    *inferResponse
	tensors [][]byte
}

func (a *binaryAnswer) write(w http.ResponseWriter) {
	head, err := json.Marshal(a.head)
	if err != nil { // its parts have been written as JSON before
		http.Error(w, `{"error":"the server failed"}`, http.StatusInternalServerError)
		return
	}
	size := len(head)
	for _, t := range a.tensors {
		size += len(t)
	}
	h := w.Header()
	h.Set("Content-Type", "application/octet-stream")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Content-Length", strconv.Itoa(size))
	h.Set(binaryHeader, strconv.Itoa(len(head)))
	w.WriteHeader(http.StatusOK)
	for _, part := range append([][]byte{head}, a.tensors...) {
		if _, err := w.Write(part); err != nil {
			return // who asked has gone
		}
	}
}
