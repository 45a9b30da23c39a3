package rpc

import (
	"context"
	"math"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	inferencepb "galley/api/inference/v2"

	"galley"
	"galley/serving"
)

func TestInfer(t *testing.T) {
	client := newInferenceClient(t, newInference(t))
	r := asked("Sport!", "money, money", "sport sport sport sport sport sport money")
	r.Id = "7"
	for version, want := range map[string]string{"": "2", "prod": "2", "3": "3"} {
		r.ModelVersion = version
		a, err := client.ModelInfer(t.Context(), r)
		if err != nil {
			t.Fatal(err)
		}
		if a.GetModelName() != "news" || a.GetModelVersion() != want || a.GetId() != "7" || len(a.GetParameters()["prediction_id"].GetStringParam()) != 72 {
			t.Errorf("version %q: %v", version, a)
		}
		var names []string
		for _, o := range a.GetOutputs() {
			names = append(names, o.GetName())
		}
		if !slices.Equal(names, []string{"label", "score", "scores", "truncated"}) || len(a.GetRawOutputContents()) != 4 {
			t.Fatalf("outputs %v", names)
		}
		if got := a.GetRawOutputContents()[0]; string(got) != string(rawTexts("sport", "money", "sport")) {
			t.Errorf("labels %q", got)
		}
		if got := a.GetRawOutputContents()[3]; string(got) != "\x00\x00\x01" {
			t.Errorf("truncated %v", got)
		}
	}
	// Typed contents are the same request; outputs come in the signature's order.
	r.RawInputContents = nil
	r.Inputs[0].Contents = &contents{BytesContents: [][]byte{[]byte("Sport!"), []byte("money, money"), []byte("sport")}}
	r.Outputs = []*output{{Name: "truncated"}, {Name: "label"}}
	a, err := client.ModelInfer(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	if len(a.GetOutputs()) != 2 || a.GetOutputs()[0].GetName() != "label" || string(a.GetRawOutputContents()[0]) != string(rawTexts("sport", "money", "sport")) {
		t.Errorf("%v", a)
	}
}

// Whatever a client gets wrong is an error that names it.
func TestInferRefuses(t *testing.T) {
	client := newInferenceClient(t, newInference(t))
	pair := func(change func(*inferencepb.ModelInferRequest)) *inferencepb.ModelInferRequest {
		r := &inferencepb.ModelInferRequest{ModelName: "pair", Inputs: []*input{
			{Name: "a", Datatype: "FP32", Shape: []int64{1, 2}, Contents: &contents{Fp32Contents: []float32{1, 2}}},
			{Name: "b", Datatype: "INT64", Shape: []int64{1}, Contents: &contents{Int64Contents: []int64{3}}},
		}}
		change(r)
		return r
	}
	bytesOf := func(raw string) *inferencepb.ModelInferRequest {
		r := asked("one")
		r.RawInputContents[0] = []byte(raw)
		return r
	}
	for name, c := range map[string]struct {
		request *inferencepb.ModelInferRequest
		code    codes.Code
		subject string
		text    string
	}{
		"no name":         {pair(func(r *inferencepb.ModelInferRequest) { r.ModelName = "" }), codes.InvalidArgument, "model_name", ""},
		"a path":          {pair(func(r *inferencepb.ModelInferRequest) { r.ModelName = "../etc" }), codes.InvalidArgument, "model_name", ""},
		"unknown model":   {pair(func(r *inferencepb.ModelInferRequest) { r.ModelName = "sports" }), codes.NotFound, "sports", "no such model"},
		"unknown version": {pair(func(r *inferencepb.ModelInferRequest) { r.ModelVersion = "9" }), codes.NotFound, "", ""},
		"version 0":       {pair(func(r *inferencepb.ModelInferRequest) { r.ModelVersion = "0" }), codes.InvalidArgument, "pair", "0 is not a version number"},
		"unknown alias":   {pair(func(r *inferencepb.ModelInferRequest) { r.ModelVersion = "canary" }), codes.NotFound, "", ""},
		"not an alias":    {pair(func(r *inferencepb.ModelInferRequest) { r.ModelVersion = "a b" }), codes.InvalidArgument, "model version", ""},
		"cannot be opened": {pair(func(r *inferencepb.ModelInferRequest) { r.ModelName = "broken" }),
			codes.FailedPrecondition, "broken@2", "has no graph"},
		"no inputs": {pair(func(r *inferencepb.ModelInferRequest) { r.Inputs = nil }), codes.InvalidArgument, "a", "the input is missing"},
		"one input": {pair(func(r *inferencepb.ModelInferRequest) { r.Inputs = r.Inputs[:1] }), codes.InvalidArgument, "b", "the input is missing"},
		"twice":     {pair(func(r *inferencepb.ModelInferRequest) { r.Inputs[1] = r.Inputs[0] }), codes.InvalidArgument, "inputs", `input "a" is given twice`},
		"extra": {pair(func(r *inferencepb.ModelInferRequest) {
			r.Inputs = append(r.Inputs, &input{Name: "c", Datatype: "BOOL", Shape: []int64{0}})
		}), codes.InvalidArgument, "c", "is not an input of pair@2"},
		"datatype": {pair(func(r *inferencepb.ModelInferRequest) { r.Inputs[0].Datatype = "FLOAT" }), codes.InvalidArgument, "a", `has the unknown datatype "FLOAT"`},
		"wrong type": {pair(func(r *inferencepb.ModelInferRequest) {
			r.Inputs[0].Datatype, r.Inputs[0].Contents = "FP64", &contents{Fp64Contents: []float64{1, 2}}
		}), codes.InvalidArgument, "a", "its datatype is FP64 instead of FP32"},
		"contents of another type": {pair(func(r *inferencepb.ModelInferRequest) {
			r.Inputs[0].Contents = &contents{Fp64Contents: []float64{1, 2}}
		}),
			codes.InvalidArgument, "a", "has 0 elements for the shape [1 2], which has 2"},
		"rank":     {pair(func(r *inferencepb.ModelInferRequest) { r.Inputs[0].Shape = []int64{2} }), codes.InvalidArgument, "a", "its shape is [2] instead of [-1 2]"},
		"shape":    {pair(func(r *inferencepb.ModelInferRequest) { r.Inputs[0].Shape = []int64{2, 1} }), codes.InvalidArgument, "a", "its shape is [2 1] instead of [-1 2]"},
		"elements": {pair(func(r *inferencepb.ModelInferRequest) { r.Inputs[0].Shape = []int64{2, 2} }), codes.InvalidArgument, "a", "has 2 elements for the shape [2 2], which has 4"},
		"negative": {pair(func(r *inferencepb.ModelInferRequest) { r.Inputs[0].Shape = []int64{-1, -2} }), codes.InvalidArgument, "a", "has the impossible shape [-1 -2]"},
		"huge":     {pair(func(r *inferencepb.ModelInferRequest) { r.Inputs[0].Shape = []int64{math.MaxInt64, 2} }), codes.InvalidArgument, "a", "has the impossible shape [9223372036854775807 2]"},
		"overflow": {pair(func(r *inferencepb.ModelInferRequest) { r.Inputs[0].Shape = []int64{1 << 26, 1 << 26, 1 << 12} }), codes.InvalidArgument, "a", "has the impossible shape [67108864 67108864 4096]"},
		"dimensions": {pair(func(r *inferencepb.ModelInferRequest) { r.Inputs[0].Shape = make([]int64, 1<<20) }),
			codes.InvalidArgument, "a", "has a shape of 1048576 dimensions"},
		"both contents": {pair(func(r *inferencepb.ModelInferRequest) {
			r.RawInputContents = [][]byte{make([]byte, 8), make([]byte, 8)}
		}),
			codes.InvalidArgument, "a", "has both contents and raw_input_contents"},
		"entries": {pair(func(r *inferencepb.ModelInferRequest) { r.RawInputContents = [][]byte{make([]byte, 8)} }),
			codes.InvalidArgument, "raw_input_contents", "has 1 entries for 2 inputs"},
		"short raw": {pair(func(r *inferencepb.ModelInferRequest) {
			r.Inputs[0].Contents, r.Inputs[1].Contents = nil, nil
			r.RawInputContents = [][]byte{make([]byte, 8), make([]byte, 7)}
		}), codes.InvalidArgument, "b", "has 7 bytes for the shape [1] of INT64, which takes 8"},
		"output": {pair(func(r *inferencepb.ModelInferRequest) { r.Outputs = []*output{{Name: "product"}} }), codes.InvalidArgument, "product", "is not an output of pair@2"},
		"tensors": {pair(func(r *inferencepb.ModelInferRequest) {
			for range maxTensors {
				r.Inputs = append(r.Inputs, &input{})
			}
		}), codes.InvalidArgument, "inputs", "258 tensors in one request"},
		"bool": {&inferencepb.ModelInferRequest{ModelName: "nan", Inputs: []*input{{Name: "x", Datatype: "BOOL", Shape: []int64{2}}}, RawInputContents: [][]byte{{1, 2}}},
			codes.InvalidArgument, "x", "has a BOOL that is neither 0 nor 1"},
		"typed half": {&inferencepb.ModelInferRequest{ModelName: "echo-fp16", Inputs: []*input{{Name: "x", Datatype: "FP16", Shape: []int64{1}, Contents: &contents{Fp32Contents: []float32{1}}}}},
			codes.InvalidArgument, "x", "FP16 has no typed contents"},
		"narrow": {&inferencepb.ModelInferRequest{ModelName: "echo-int8", Inputs: []*input{{Name: "x", Datatype: "INT8", Shape: []int64{1}, Contents: &contents{IntContents: []int32{128}}}}},
			codes.InvalidArgument, "x", "128 does not fit INT8"},

		"empty text":       {asked("sport", " \n"), codes.InvalidArgument, "text[1]", "the text is empty"},
		"not UTF-8":        {asked("caf\xe9"), codes.InvalidArgument, "text[0]", "the text is not valid UTF-8"},
		"more than 1 MiB":  {asked(strings.Repeat("a", 1<<20+1)), codes.InvalidArgument, "text[0]", "the text has 1048577 bytes, more than 1 MiB"},
		"many texts":       {asked(slices.Repeat([]string{"a"}, serving.MaxTexts+1)...), codes.InvalidArgument, "text", "4097 texts in one request"},
		"length cut":       {bytesOf("\x03\x00\x00"), codes.InvalidArgument, "text", "its bytes are not 1 elements of a length and that many bytes"},
		"element cut":      {bytesOf("\x03\x00\x00\x00ab"), codes.InvalidArgument, "text", "its bytes are not 1 elements of a length and that many bytes"},
		"length of 4 GiB":  {bytesOf("\xff\xff\xff\xffab"), codes.InvalidArgument, "text", "its bytes are not 1 elements of a length and that many bytes"},
		"one element more": {bytesOf(string(rawTexts("a", "b"))), codes.InvalidArgument, "text", "its bytes are not 1 elements of a length and that many bytes"},
		"no element":       {bytesOf(""), codes.InvalidArgument, "text", "has 0 elements for the shape [1], which has 1"},
		"matrix of texts": {&inferencepb.ModelInferRequest{ModelName: "news", Inputs: []*input{{Name: "text", Datatype: "BYTES", Shape: []int64{1, 1}}}, RawInputContents: [][]byte{rawTexts("a")}},
			codes.InvalidArgument, "text", "its shape is [1 1] instead of [-1]"},

		"fails":  {&inferencepb.ModelInferRequest{ModelName: "fails", Inputs: []*input{{Name: "x", Datatype: "BOOL", Shape: []int64{0}}}}, codes.Unknown, "", "the server failed; its log says why"},
		"panics": {&inferencepb.ModelInferRequest{ModelName: "panics", Inputs: []*input{{Name: "x", Datatype: "BOOL", Shape: []int64{0}}}}, codes.Internal, "", "internal error; the server's log has the details"},
	} {
		_, err := client.ModelInfer(t.Context(), c.request, grpc.MaxCallSendMsgSize(maxMessage))
		e := FromStatus(err)
		if status.Code(err) != c.code || c.subject != "" && e.Subject != c.subject || c.text != "" && e.Message != c.text {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestLargeTextIsRead(t *testing.T) {
	client := newInferenceClient(t, newInference(t))
	a, err := client.ModelInfer(t.Context(), asked("money "+strings.Repeat("a", 1<<20-6)))
	if err != nil || string(a.GetRawOutputContents()[0]) != string(rawTexts("money")) {
		t.Errorf("%v, %v", a, err)
	}
}

func TestMetadata(t *testing.T) {
	client, ctx := newInferenceClient(t, newInference(t)), t.Context()
	server, err := client.ServerMetadata(ctx, &inferencepb.ServerMetadataRequest{})
	if err != nil || server.GetName() != "galley" || server.GetVersion() != "test" {
		t.Errorf("%v, %v", server, err)
	}
	m, err := client.ModelMetadata(ctx, &inferencepb.ModelMetadataRequest{Name: "pair"})
	if err != nil || !slices.Equal(m.GetVersions(), []string{"1", "2", "3"}) || m.GetPlatform() != "onnxruntime_onnx" ||
		len(m.GetInputs()) != 2 || m.GetInputs()[0].GetDatatype() != "FP32" || !slices.Equal(m.GetInputs()[0].GetShape(), []int64{-1, 2}) {
		t.Errorf("%v, %v", m, err)
	}
	if m, err = client.ModelMetadata(ctx, &inferencepb.ModelMetadataRequest{Name: "news", Version: "prod"}); err != nil || !slices.Equal(m.GetVersions(), []string{"2"}) {
		t.Errorf("%v, %v", m, err)
	}
	for name, want := range map[string]codes.Code{"news": codes.OK, "broken": codes.OK, "sports": codes.NotFound, "": codes.InvalidArgument} {
		r, err := client.ModelReady(ctx, &inferencepb.ModelReadyRequest{Name: name})
		if status.Code(err) != want || r.GetReady() != (name == "news") {
			t.Errorf("%s: %v, %v", name, r, err)
		}
	}
}

func TestCancelledRequest(t *testing.T) {
	s := newInference(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.ModelInfer(ctx, asked("sport")); galley.CodeOf(err) != galley.Canceled {
		t.Error(err)
	}
	if _, err := s.ModelInfer(t.Context(), asked("sport")); err != nil {
		t.Error(err)
	}
}

// The parameter timeout is a deadline that the server keeps.
func TestTimeoutParameter(t *testing.T) {
	client := newInferenceClient(t, newInference(t))
	micros := func(n int64) *inferencepb.InferParameter {
		return &inferencepb.InferParameter{ParameterChoice: &inferencepb.InferParameter_Int64Param{Int64Param: n}}
	}
	for name, c := range map[string]struct {
		parameter *inferencepb.InferParameter
		code      codes.Code
	}{
		"none":      {micros(0), codes.OK},
		"long":      {micros(60_000_000), codes.OK},
		"passed":    {micros(1), codes.DeadlineExceeded},
		"negative":  {micros(-1), codes.InvalidArgument},
		"for ages":  {micros(math.MaxInt64), codes.InvalidArgument},
		"of a word": {&inferencepb.InferParameter{ParameterChoice: &inferencepb.InferParameter_StringParam{StringParam: "1"}}, codes.InvalidArgument},
		"of naught": {&inferencepb.InferParameter{}, codes.InvalidArgument},
	} {
		r := asked("sport")
		r.Parameters = map[string]*inferencepb.InferParameter{"timeout": c.parameter}
		if _, err := client.ModelInfer(t.Context(), r); status.Code(err) != c.code {
			t.Errorf("%s: %v", name, err)
		}
	}
}
