package rpc

import (
	"bytes"
	"compress/gzip"
	"compress/zlib"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	controlpb "galley/api/control/v1"
	inferencepb "galley/api/inference/v2"
)

// post sends a body with its JSON's length and returns the answer's parts.
func post(t *testing.T, server *httptest.Server, path, head, tensors string, headers ...string) (status int, answered, behind string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), "POST", server.URL+path, strings.NewReader(head+tensors))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set(binaryHeader, strconv.Itoa(len(head)))
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	a, err := server.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Body.Close()
	body, err := io.ReadAll(a.Body)
	if err != nil {
		t.Fatal(err)
	}
	if n, err := strconv.Atoi(a.Header.Get(binaryHeader)); err == nil {
		if a.Header.Get("Content-Type") != "application/octet-stream" || a.ContentLength != int64(len(body)) {
			t.Errorf("headers %v", a.Header)
		}
		return a.StatusCode, string(body[:n]), string(body[n:])
	}
	return a.StatusCode, strings.TrimSuffix(string(body), "\n"), ""
}

func floats(values ...float32) string {
	var b bytes.Buffer
	_ = binary.Write(&b, binary.LittleEndian, values) // into memory
	return b.String()
}

func TestHTTPBinaryTensors(t *testing.T) {
	server := newHTTP(t, newInference(t))
	const head = `{"id":"1","inputs":[{"name":"a","datatype":"FP32","shape":[2,2],"parameters":{"binary_data_size":16}},{"name":"b","datatype":"INT64","shape":[2],"data":[10,-20]}]`
	for name, c := range map[string]struct{ rest, want, behind string }{
		"as JSON":           {`}`, `"data":[13,-13]`, ""},
		"all as bytes":      {`,"parameters":{"binary_data_output":true}}`, `"parameters":{"binary_data_size":8}`, floats(13, -13)},
		"one as bytes":      {`,"outputs":[{"name":"sum","parameters":{"binary_data":true}}]}`, `"parameters":{"binary_data_size":8}`, floats(13, -13)},
		"all but this":      {`,"parameters":{"binary_data_output":true},"outputs":[{"name":"sum","parameters":{"binary_data":false}}]}`, `"data":[13,-13]`, ""},
		"of the name, else": {`,"parameters":{"binary_data_output":true},"outputs":[{"name":"sum"}]}`, `"parameters":{"binary_data_size":8}`, floats(13, -13)},
	} {
		status, answered, behind := post(t, server, "/v2/models/pair/infer", head+c.rest, floats(1, 2, 3, 4))
		if status != 200 || !strings.Contains(answered, c.want) || behind != c.behind || !json.Valid([]byte(answered)) {
			t.Errorf("%s: %d %s %q", name, status, answered, behind)
		}
	}
}

// A body without JSON is the model's one input.
func TestHTTPRawRequest(t *testing.T) {
	server := newHTTP(t, newInference(t))
	status, answered, behind := post(t, server, "/v2/models/news/infer", "", "Sport, of all things")
	var a answer
	if err := json.Unmarshal([]byte(answered), &a); err != nil || status != 200 || a.ModelVersion != "2" || len(a.Outputs) != 4 || !strings.HasPrefix(behind, string(rawTexts("sport"))) {
		t.Errorf("%d %s %q", status, answered, behind)
	}
	for model, want := range map[string]string{"pair": "pair: has 2 inputs; a body without JSON can be one only — send JSON, and its length as Inference-Header-Content-Length",
		"echo-fp32": "x: 5 bytes do not make a FP32 of the shape [] — send JSON that says the shape, and its length as Inference-Header-Content-Length",
		"sports":    "sports: no such model — list them with galley models list"} {
		status, answered, _ := post(t, server, "/v2/models/"+model+"/infer", "", "12345")
		var read map[string]string
		if err := json.Unmarshal([]byte(answered), &read); err != nil || status == 200 || read["error"] != want {
			t.Errorf("%s: %d %s", model, status, answered)
		}
	}
	tensor := func(datatype string, shape ...int64) *inferencepb.ModelMetadataResponse_TensorMetadata {
		return &inferencepb.ModelMetadataResponse_TensorMetadata{Name: "x", Datatype: datatype, Shape: shape}
	}
	for _, c := range []struct {
		in   *inferencepb.ModelMetadataResponse_TensorMetadata
		size int
		want string
	}{
		{tensor("FP32", -1, 2), 16, "[2 2]"}, {tensor("FP32", -1, 2), 12, ""}, {tensor("FP32", -1, -1), 16, ""}, {tensor("FP32", 4), 16, "[4]"},
		{tensor("FP32", 3), 16, ""}, {tensor("INT64", -1), 7, ""}, {tensor("UINT8", 0, -1), 0, ""}, {tensor("FP64"), 8, "[]"}, {tensor("BYTES", -1), 5, "[1]"},
		{tensor("BYTES", -1, 1), 0, "[1 1]"}, {tensor("FP32", 1<<40, 1<<40, -1), 4, ""}, {tensor("ODD", 1), 1, ""},
	} {
		shape, _, err := rawShape(c.in, make([]byte, c.size))
		if c.want == "" && err == nil || c.want != "" && fmt.Sprint(shape) != c.want {
			t.Errorf("%v of %d bytes: %v, %v", c.in, c.size, shape, err)
		}
	}
}

func TestHTTPBinaryRefuses(t *testing.T) {
	server := newHTTP(t, newInference(t))
	sized := func(shape, size string) string {
		return `{"inputs":[{"name":"x","datatype":"FP32","shape":` + shape + `,"parameters":{"binary_data_size":` + size + `}}]}`
	}
	for _, c := range []struct{ head, tensors, want string }{
		{sized("[1]", "8"), floats(1), "x: its binary_data_size is 8, and 4 bytes are left of the body"},
		{sized("[1]", "4"), floats(1, 2), "body: has 4 bytes behind the last tensor"},
		{sized("[2]", "4"), floats(1), "x: has 4 bytes for the shape [2] of FP32, which takes 8"},
		{sized("[1]", "-4"), floats(1), "x: its binary_data_size is not a number of bytes"},
		{sized("[1]", "9223372036854775808"), floats(1), "x: its binary_data_size is not a number of bytes"},
		{sized("[1]", `"4"`), floats(1), "x: its binary_data_size is not a number of bytes"},
		{sized("[4611686018427387904,4]", "0"), "", "x: has the impossible shape"},
		{sized("[-1]", "4"), floats(1), "x: has the impossible shape"},
		{`{"inputs":[{"name":"x","datatype":"FP32","shape":[1],"data":[1],"parameters":{"binary_data_size":4}}]}`, floats(1), "x: has both data and binary_data_size"},
		{`{"inputs":`, "", "body: is not JSON, at byte 10"},
		{`{"inputs":` + strings.Repeat("[", 20000), "", "body: is not JSON"},
	} {
		status, got, _ := post(t, server, "/v2/models/echo-fp32/infer", c.head, c.tensors)
		var read map[string]string
		if err := json.Unmarshal([]byte(got), &read); err != nil || status != 400 || !strings.HasPrefix(read["error"], c.want) {
			t.Errorf("%.80s: %d %s\nwant %s", c.head, status, got, c.want)
		}
	}
	for _, said := range []string{"-1", "a", "9999999999999999999999", "3"} {
		if status, got := call(t, server, "POST", "/v2/models/echo-fp32/infer", "{}", binaryHeader, said); status != 400 || !strings.Contains(got, "is not the number of the JSON's bytes in a body of 2") {
			t.Errorf("%s: %d %s", said, status, got)
		}
	}
}

// Compressed bodies are read; what unfolds to more than a body may have is
// refused without being held.
func TestHTTPCompressedBodies(t *testing.T) {
	handler := NewHTTPHandler(NewServer(newInference(t), controlpb.UnimplementedControlServer{}, quiet()))
	pack := map[string]func(io.Writer) io.WriteCloser{
		"gzip":    func(w io.Writer) io.WriteCloser { return gzip.NewWriter(w) },
		"deflate": func(w io.Writer) io.WriteCloser { return zlib.NewWriter(w) },
	}
	for name, writer := range pack {
		send := func(from io.Reader) *httptest.ResponseRecorder {
			var body bytes.Buffer
			w := writer(&body)
			if _, err := io.Copy(w, from); err != nil {
				t.Fatal(err)
			}
			w.Close()
			r := httptest.NewRequest("POST", "http://localhost/v2/models/news/infer", &body)
			r.Header.Set("Content-Encoding", name)
			answer := httptest.NewRecorder()
			handler.ServeHTTP(answer, r)
			return answer
		}
		if a := send(strings.NewReader(`{"inputs":[{"name":"text","datatype":"BYTES","shape":[1],"data":["sport"]}]}`)); a.Code != 200 {
			t.Errorf("%s: %d %s", name, a.Code, a.Body)
		}
		if a := send(io.LimitReader(zeros{}, maxMessage+1)); a.Code != http.StatusRequestEntityTooLarge || a.Body.String() != `{"error":"the body has more than 67108864 bytes"}`+"\n" {
			t.Errorf("a bomb of %s: %d %s", name, a.Code, a.Body)
		}
	}
}

// FuzzHTTPBinary holds that whatever a body with bytes behind its JSON says,
// it becomes tensors of exactly those bytes or an error.
func FuzzHTTPBinary(f *testing.F) {
	f.Add("80", []byte(`{"inputs":[{"name":"x","datatype":"FP32","shape":[1],"parameters":{"binary_data_size":4}}]}1234`))
	f.Add("91", []byte(`{"inputs":[{"name":"x","datatype":"FP32","shape":[1],"parameters":{"binary_data_size":4}}]}1234`))
	f.Add("92", []byte(`{"inputs":[{"name":"x","datatype":"BYTES","shape":[1],"parameters":{"binary_data_size":6}}]}\x02\x00\x00\x00ab`))
	f.Add("94", []byte(`{"inputs":[{"name":"x","datatype":"FP32","shape":[-1],"parameters":{"binary_data_size":-4}}]}`))
	f.Add("0", []byte("abcd"))
	f.Fuzz(func(t *testing.T, said string, body []byte) {
		head, tensors, err := cutBody(http.Header{binaryHeader: {said}}, body)
		if err != nil {
			return
		}
		var request *inferencepb.ModelInferRequest
		if head == nil {
			request, err = rawRequest(&inferencepb.ModelMetadataResponse{Inputs: []*inferencepb.ModelMetadataResponse_TensorMetadata{{Name: "x", Datatype: "INT16", Shape: []int64{-1, 3}}}}, tensors)
		} else {
			request, err = parseInferRequest(head, tensors)
		}
		if err != nil {
			return
		}
		if len(request.GetRawInputContents()) != len(request.GetInputs()) {
			t.Fatalf("%v", request)
		}
		if _, err := inputTensors(request); err != nil {
			return
		}
		if _, err := proto.Marshal(request); err != nil {
			t.Fatalf("%v: %v", request, err)
		}
	})
}
