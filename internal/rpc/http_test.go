package rpc

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"pgregory.net/rapid"

	controlpb "galley/api/control/v1"

	"galley"
)

// newHTTP serves s as galley's HTTP port does.
func newHTTP(t testing.TB, s *Inference) *httptest.Server {
	t.Helper()
	server := httptest.NewUnstartedServer(nil)
	server.Config = NewHTTPServer(NewHTTPHandler(NewServer(s, controlpb.UnimplementedControlServer{}, quiet())), quiet())
	server.Start()
	t.Cleanup(server.Close)
	return server
}

func call(t testing.TB, server *httptest.Server, method, path, body string, headers ...string) (int, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, server.URL+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	a, err := server.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Body.Close()
	b, err := io.ReadAll(a.Body)
	if err != nil {
		t.Fatal(err)
	}
	return a.StatusCode, strings.TrimSuffix(string(b), "\n")
}

func TestHTTPRoutes(t *testing.T) {
	server := newHTTP(t, newInference(t))
	const pair = `"platform":"onnxruntime_onnx","inputs":[{"name":"a","datatype":"FP32","shape":[-1,2]},{"name":"b","datatype":"INT64","shape":[-1]}],"outputs":[{"name":"sum","datatype":"FP32","shape":[-1]}]}`
	for _, c := range []struct {
		method, path string
		status       int
		want         string
	}{
		{"GET", "/", 200, "galley serves the Open Inference Protocol, version 2, at /v2, and its control API at /v1"},
		{"GET", "/v2", 200, `{"name":"galley","version":"test","extensions":["binary_tensor_data","model_configuration","model_repository(index)","statistics"]}`},
		{"GET", "/v2/health/live", 200, `{"live":true}`},
		{"GET", "/v2/health/ready", 200, `{"ready":true}`},
		{"HEAD", "/v2/health/ready", 200, ``},
		{"GET", "/v2/models/pair", 200, `{"name":"pair","versions":["1","2","3"],` + pair},
		{"GET", "/v2/models/pair/versions/3", 200, `{"name":"pair","versions":["3"],` + pair},
		{"GET", "/v2/models/pair/versions/prod", 200, `{"name":"pair","versions":["2"],` + pair},
		{"GET", "/v2/models/nan", 200, `{"name":"nan","versions":["1","2","3"],"platform":"onnxruntime_onnx","inputs":[{"name":"x","datatype":"BOOL","shape":[]}],"outputs":[{"name":"y","datatype":"FP32","shape":[]}]}`},
		{"GET", "/v2/models/pair/ready", 200, `{"name":"pair","ready":true}`},
		{"GET", "/v2/models/pair/versions/1/ready", 200, `{"name":"pair","ready":true}`},
		{"GET", "/v2/models/broken/ready", 400, `{"error":"not ready"}`},
		{"GET", "/v2/models/sports", 404, `{"error":"sports: no such model — list them with galley models list"}`},
		{"GET", "/v2/models/sports/ready", 404, `{"error":"sports: no such model — list them with galley models list"}`},
		{"GET", "/v2/models/pair/versions/9", 404, `{"error":"pair@9: there is no such version; the newest is pair@3 — list them with galley models show pair"}`},
		{"GET", "/nope", 404, `{"error":"/nope is not served here; routes begin with /v1, /v2/models and /v2/health"}`},
		{"GET", "/v2/models", 404, `{"error":"/v2/models is not served here; routes begin with /v1, /v2/models and /v2/health"}`},
		{"POST", "/", 404, `{"error":"/ is not served here; routes begin with /v1, /v2/models and /v2/health"}`},
		{"GET", "/v2/models/pair/infer", 405, `{"error":"/v2/models/pair/infer does not take GET; use POST"}`},
		{"DELETE", "/v2/models/pair", 405, `{"error":"/v2/models/pair does not take DELETE; use GET"}`},
	} {
		status, got := call(t, server, c.method, c.path, "")
		if status != c.status || got != c.want {
			t.Errorf("%s %s: %d %s", c.method, c.path, status, got)
		}
	}
	if status, got := call(t, server, "GET", "/v2/models/..%2f..%2fetc", ""); status != 400 || !strings.HasPrefix(got, `{"error":"name: `) {
		t.Errorf("%d %s", status, got)
	}
}

// answer is an inference response as a client reads it.
type answer struct {
	ModelName    string         `json:"model_name"`
	ModelVersion string         `json:"model_version"`
	ID           string         `json:"id"`
	Parameters   map[string]any `json:"parameters"`
	Outputs      []struct {
		Name, Datatype string
		Shape          []int64
		Data           any
	}
}

func TestHTTPInfer(t *testing.T) {
	server := newHTTP(t, newInference(t))
	status, got := call(t, server, "POST", "/v2/models/news/infer",
		`{"id": "7", "more": [1], "parameters": {"binary_data_output": false, "a": 1, "b": 1.5, "c": "d", "e": 18446744073709551615},
		  "inputs": [{"name": "text", "datatype": "BYTES", "shape": [3], "data": ["Sp\u006frt! \ud83d\ude00", "money, \"money\" <b>", "体育"]}]}`)
	var a answer
	if err := json.Unmarshal([]byte(got), &a); err != nil || status != 200 {
		t.Fatal(err, status, got)
	}
	if a.ModelName != "news" || a.ModelVersion != "2" || a.ID != "7" || len(fmt.Sprint(a.Parameters["prediction_id"])) != 72 || len(a.Outputs) != 4 {
		t.Errorf("%+v", a)
	}
	for i, want := range []string{
		"{label BYTES [3] [sport money sport]}", "{score FP32 [3] [0.7310586 0.8807971 0.5]}",
		"{scores FP32 [3 2] [0.7310586 0.26894143 0.11920292 0.8807971 0.5 0.5]}", "{truncated BOOL [3] [false true false]}",
	} {
		if fmt.Sprint(a.Outputs[i]) != want {
			t.Errorf("%v, want %s", a.Outputs[i], want)
		}
	}
	// Nested data, a version, one output.
	for _, data := range []string{`[[1, 2.5] , [-3e0,4]]`, `[1,2.5,-3,4]`} {
		status, got = call(t, server, "POST", "/v2/models/pair/versions/3/infer",
			`{"inputs":[{"name":"b","datatype":"INT64","shape":[2],"data":[10,-20]},{"name":"a","datatype":"FP32","shape":[2,2],"data":`+data+`}],"outputs":[{"name":"sum"}]}`)
		if err := json.Unmarshal([]byte(got), &a); err != nil || status != 200 || a.ModelVersion != "3" || fmt.Sprint(a.Outputs) != "[{sum FP32 [2] [13.5 -19]}]" {
			t.Errorf("%d %s", status, got)
		}
	}
}

// Each datatype leaves as it was sent, over HTTP.
func TestHTTPDatatypesRoundTrip(t *testing.T) {
	handler := NewHTTPHandler(NewServer(newInference(t), controlpb.UnimplementedControlServer{}, quiet()))
	for datatype := range datatypes {
		t.Run(datatype, func(t *testing.T) {
			rapid.Check(t, func(rt *rapid.T) {
				n := rapid.IntRange(0, 4).Draw(rt, "n")
				data, err := elementsJSON("x", datatype, elementBytes(rt, datatype, n, true))
				if err != nil {
					rt.Fatal(err)
				}
				body := fmt.Sprintf(`{"inputs":[{"name":"x","datatype":%q,"shape":[%d],"data":%s}]}`, datatype, n, data)
				w := httptest.NewRecorder()
				handler.ServeHTTP(w, httptest.NewRequest("POST", "http://localhost/v2/models/echo-"+strings.ToLower(datatype)+"/infer", strings.NewReader(body)))
				var a struct {
					Outputs []struct {
						Datatype string
						Shape    []int64
						Data     json.RawMessage
					}
				}
				if err := json.Unmarshal(w.Body.Bytes(), &a); err != nil || w.Code != 200 {
					rt.Fatalf("%s: %d %s", body, w.Code, w.Body)
				}
				if o := a.Outputs[0]; o.Datatype != datatype || len(o.Shape) != 1 || o.Shape[0] != int64(n) || !bytes.Equal(o.Data, data) {
					rt.Fatalf("%s became %s", data, w.Body)
				}
			})
		})
	}
}

func TestHTTPInferRefuses(t *testing.T) {
	server := newHTTP(t, newInference(t))
	one := func(model, datatype, shape, data string) string {
		name := "x"
		if model == "news" {
			name = "text"
		}
		return fmt.Sprintf(`{"inputs":[{"name":%q,"datatype":%q,"shape":%s,"data":%s}]}`, name, datatype, shape, data)
	}
	for _, c := range []struct {
		model, body string
		status      int
		want        string
	}{
		{"sports", `{}`, 404, `sports: no such model — list them with galley models list`},
		{"broken", `{}`, 400, `broken@2: has no graph`},
		{"news", ``, 400, `body: is not JSON, at byte 0: unexpected end of JSON input`},
		{"news", `{"inputs":[}`, 400, `body: is not JSON, at byte 12: invalid character '}' looking for beginning of value`},
		{"news", `{} {}`, 400, `body: is not JSON, at byte 4: invalid character '{' after top-level value`},
		{"news", strings.Repeat("[", 20000), 400, `body: is not JSON, at byte 10001: invalid character '[' exceeded max depth`},
		{"news", `[]`, 400, `body: cannot be a JSON array`},
		{"news", `{"inputs":{}}`, 400, `inputs: cannot be a JSON object`},
		{"news", `{"inputs":[{"name":7}]}`, 400, `inputs.name: cannot be a JSON number`},
		{"news", `{"inputs":[{"shape":[1.5]}]}`, 400, `inputs.shape: cannot be a JSON number 1.5`},
		{"news", `{"inputs":[{"shape":[18446744073709551615]}]}`, 400, `inputs.shape: cannot be a JSON number 18446744073709551615`},
		{"news", `{"parameters":{"a":[1]}}`, 400, `parameters: [1] is neither a boolean nor a number nor a string`},
		{"news", "{\"id\":\"caf\xe9\"}", 400, `body: is not valid UTF-8 — convert it to UTF-8`},
		{"news", `{"inputs":[` + strings.Repeat(`{},`, maxTensors) + `{}]}`, 400, `inputs: 257 tensors in one request — send at most 256`},
		{"news", `{}`, 400, `text: the input is missing — news@2 takes text BYTES [-1]`},
		{"news", one("news", "BYTES", "[1]", `["a"],"name":"text"},{"name":"text","datatype":"BYTES","shape":[1],"data":["a"]`), 400, `inputs: input "text" is given twice`},
		{"news", one("news", "BYTES", "[1]", `[" "]`), 400, `text[0]: the text is empty — send at least one word`},
		{"news", one("news", "BYTES", "[1]", `["`+strings.Repeat("a", 1<<20+1)+`"]`), 400, `text[0]: the text has 1048577 bytes, more than 1 MiB — send a part of it: only its beginning is read`},
		{"news", one("news", "BYTES", "[1]", `[1]`), 400, `text: element 1, 1, is not a value of BYTES`},
		{"news", one("news", "BYTES", "[1]", `["a","b"]`), 400, `text: has more than the 1 elements of the shape [1]`},
		{"news", one("news", "BYTES", "[2]", `["a"]`), 400, `text: has 1 elements for the shape [2], which has 2`},
		{"news", one("news", "BYTES", "[1]", `"a"`), 400, `text: its data is not an array — send its elements in an array, also if there is one only`},
		{"news", one("news", "BYTES", "[1]", `null`), 400, `text: its data is not an array — send its elements in an array, also if there is one only`},
		{"news", `{"inputs":[{"name":"text","datatype":"BYTES","shape":[1]}]}`, 400, `text: its data is not an array — send its elements in an array, also if there is one only`},
		{"news", one("news", "TEXT", "[1]", `["a"]`), 400, `text: has the unknown datatype "TEXT" — use one of BOOL, UINT8 to UINT64, INT8 to INT64, FP16, BF16, FP32, FP64, BYTES`},
		{"news", one("news", "BYTES", "[-1]", `["a"]`), 400, `text: has the impossible shape [-1] — send sizes of 0 and more, 67108864 elements at most`},
		{"news", one("news", "BYTES", "[9223372036854775807,2]", `["a"]`), 400, `text: has the impossible shape [9223372036854775807 2] — send sizes of 0 and more, 67108864 elements at most`},
		{"news", one("news", "BYTES", "[67108864]", `["a"]`), 400, `text: has 1 elements for the shape [67108864], which has 67108864`},
		{"echo-fp32", one("", "FP32", "[2,2]", `[[1,2],[3]]`), 400, `x: its data is nested otherwise than its shape [2 2] says — send the elements in one flat array, or nested as the shape says`},
		{"echo-fp32", one("", "FP32", "[2,2]", `[[1,2],3]`), 400, `x: its data is nested otherwise than its shape [2 2] says — send the elements in one flat array, or nested as the shape says`},
		{"echo-fp32", one("", "FP32", "[2,2]", `[[1,2],[[3,4]]]`), 400, `x: its data is nested otherwise than its shape [2 2] says — send the elements in one flat array, or nested as the shape says`},
		{"echo-fp32", one("", "FP32", "[2]", `[1,[2]]`), 400, `x: its data is nested otherwise than its shape [2] says — send the elements in one flat array, or nested as the shape says`},
		{"echo-fp32", one("", "FP32", "[]", `[[1]]`), 400, `x: its data is nested otherwise than its shape [] says — send the elements in one flat array, or nested as the shape says`},
		{"echo-fp32", one("", "FP32", "[1]", `[{"a":[1]}]`), 400, `x: element 1, {"a":[1, is not a value of FP32`},
		{"echo-fp32", one("", "FP32", "[2]", `[1,"2"]`), 400, `x: element 2, "2", is not a value of FP32`},
		{"echo-fp32", one("", "FP32", "[1]", `[1e39]`), 400, `x: element 1, 1e39, is not a value of FP32`},
		{"echo-fp32", one("", "FP32", "[1]", `[null]`), 400, `x: element 1, null, is not a value of FP32`},
		{"echo-fp16", one("", "FP16", "[1]", `[65520]`), 400, `x: element 1, 65520, is not a value of FP16`},
		{"echo-int8", one("", "INT8", "[1]", `[128]`), 400, `x: element 1, 128, is not a value of INT8`},
		{"echo-int8", one("", "INT8", "[1]", `[1.0]`), 400, `x: element 1, 1.0, is not a value of INT8`},
		{"echo-uint64", one("", "UINT64", "[1]", `[-1]`), 400, `x: element 1, -1, is not a value of UINT64`},
		{"echo-bool", one("", "BOOL", "[1]", `[1]`), 400, `x: element 1, 1, is not a value of BOOL`},
		{"echo-fp32", one("", "FP64", "[1]", `[1]`), 400, `x: its datatype is FP64 instead of FP32`},
		{"echo-fp32", `{"inputs":[{"name":"x","datatype":"FP32","shape":[1],"data":[1]}],"outputs":[{"name":"z"}]}`, 400, `z: is not an output of echo-fp32@2 — the model's metadata list its outputs`},
		{"nan", one("", "BOOL", "[0]", `[]`), 400, `y: the output has NaN or an infinity, which JSON has no form for — ask for other outputs by name, or over gRPC`},
		{"latin", one("", "BOOL", "[0]", `[]`), 400, `y: the output has bytes that are not UTF-8, which JSON has no form for — ask for other outputs by name, or over gRPC`},
		{"fails", one("", "BOOL", "[0]", `[]`), 500, `the server failed; its log says why`},
		{"panics", one("", "BOOL", "[0]", `[]`), 500, `internal error; the server's log has the details`},
	} {
		status, got := call(t, server, "POST", "/v2/models/"+c.model+"/infer", c.body)
		var read map[string]string
		if err := json.Unmarshal([]byte(got), &read); err != nil || status != c.status || len(read) != 1 || read["error"] != c.want {
			t.Errorf("%s %.80s: %d %.300s\nwant %s", c.model, c.body, status, got, c.want)
		}
	}
}

func TestHTTPHeaders(t *testing.T) {
	server := newHTTP(t, newInference(t))
	const infer = "/v2/models/news/infer"
	for _, c := range []struct {
		name, value string
		status      int
		want        string
	}{
		{"Inference-Header-Content-Length", "12", 400, `{"error":"Inference-Header-Content-Length: 12 is not the number of the JSON's bytes in a body of 2"}`},
		{"Content-Encoding", "gzip", 400, `{"error":"body: cannot be read to its end: unexpected EOF"}`},
		{"Content-Encoding", "br", 415, `{"error":"the body is compressed with br; send it as it is, or with gzip or deflate"}`},
		{"Origin", "http://other.example", 403, `{"error":"a page of another site may not ask"}`},
		{"Sec-Fetch-Site", "cross-site", 403, `{"error":"a page of another site may not ask"}`},
	} {
		if status, got := call(t, server, "POST", infer, "{}", c.name, c.value); status != c.status || got != c.want {
			t.Errorf("%s: %d %s", c.name, status, got)
		}
	}
	if status, _ := call(t, server, "GET", "/v2", "", "X-Long", strings.Repeat("a", maxHeaders+8<<10)); status != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("a long header: %d", status)
	}
}

// zeros is a body without an end.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return copy(p, bytes.Repeat([]byte{' '}, len(p))), nil }

func TestHTTPBodyIsBounded(t *testing.T) {
	w := httptest.NewRecorder()
	r := httptest.NewRequest("POST", "http://localhost/v2/models/news/infer", io.LimitReader(zeros{}, 1<<40))
	NewHTTPHandler(NewServer(newInference(t), controlpb.UnimplementedControlServer{}, quiet())).ServeHTTP(w, r)
	if w.Code != http.StatusRequestEntityTooLarge || w.Body.String() != `{"error":"the body has more than 67108864 bytes"}`+"\n" {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	w = httptest.NewRecorder()
	r = httptest.NewRequest("POST", "http://localhost/v2/models/pair/infer", strings.NewReader(`{"inputs":[{"name":"a","datatype":"FP32","shape":[0,2],"data":[]},{"name":"b","datatype":"INT64","shape":[0],"data":[]}]}`)).WithContext(ctx)
	if NewHTTPHandler(NewServer(newInference(t), controlpb.UnimplementedControlServer{}, quiet())).ServeHTTP(w, r); w.Code != statusClientGone {
		t.Errorf("a client that left: %d %s", w.Code, w.Body)
	}
}

// A client that stops in the middle of its header is cut off, others are
// answered meanwhile.
func TestHTTPSlowHeader(t *testing.T) {
	server := httptest.NewUnstartedServer(nil)
	server.Config = NewHTTPServer(NewHTTPHandler(NewServer(newInference(t), controlpb.UnimplementedControlServer{}, quiet())), quiet())
	if server.Config.ReadTimeout == 0 || server.Config.WriteTimeout == 0 || server.Config.IdleTimeout == 0 {
		t.Error("a bound is missing")
	}
	server.Config.ReadHeaderTimeout = 500 * time.Millisecond
	server.Start()
	defer server.Close()
	conn, err := net.Dial("tcp", server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "GET /v2 HTTP/1.1\r\nHost: localhost\r\nX-"); err != nil {
		t.Fatal(err)
	}
	if status, _ := call(t, server, "GET", "/v2", ""); status != 200 {
		t.Errorf("another client gets %d", status)
	}
	conn.SetReadDeadline(time.Now().Add(5 * time.Second))
	if _, err := io.ReadAll(conn); err != nil {
		t.Errorf("the connection stays open: %v", err)
	}
}

func TestHTTPLogsWhatIsTheServersFault(t *testing.T) {
	for model, want := range map[string]string{"fails": "open /secret/file: no", "panics": "at the graph", "nan": "", "sports": ""} {
		var lines bytes.Buffer
		w := httptest.NewRecorder()
		r := httptest.NewRequest("POST", "http://localhost/v2/models/"+model+"/infer", strings.NewReader(`{"inputs":[{"name":"x","datatype":"BOOL","shape":[0],"data":[]}]}`))
		log := slog.New(slog.NewTextHandler(&lines, nil))
		NewHTTPHandler(NewServer(newInference(t), controlpb.UnimplementedControlServer{}, log)).ServeHTTP(w, r)
		if want == "" && lines.Len() > 0 || !strings.Contains(lines.String(), want) {
			t.Errorf("%s: %s", model, lines.String())
		}
	}
}

func TestHTTPStatus(t *testing.T) {
	for code := range grpcCodes {
		if s := httpStatus(code); s < 400 || s == 500 && code != galley.Unknown && code != galley.Internal && code != galley.DataLoss {
			t.Errorf("%s: %d", code, s)
		}
	}
	if httpStatus(galleyCodes[codes.OK]) != 500 {
		t.Error("no code is the server's fault")
	}
}

// Both transports count in the same place.
func TestMetrics(t *testing.T) {
	s := newInference(t)
	server, client := newHTTP(t, s), newInferenceClient(t, s)
	if _, err := client.ModelInfer(t.Context(), asked("sport")); err != nil {
		t.Error(err)
	}
	call(t, server, "POST", "/v2/models/news/infer", `{"inputs":[{"name":"text","datatype":"BYTES","shape":[1],"data":["a"]}]}`)
	call(t, server, "POST", "/v2/models/news/versions/1/infer", `{"inputs":[{"name":"text","datatype":"BYTES","shape":[1],"data":["a"]}]}`)
	call(t, server, "POST", "/v2/models/news/infer", `{}`)
	for _, model := range []string{"fails", "panics", "sports", "broken"} {
		call(t, server, "POST", "/v2/models/"+model+"/infer", `{"inputs":[{"name":"x","datatype":"BOOL","shape":[0],"data":[]}]}`)
	}
	w := httptest.NewRecorder()
	s.Metrics.Handler().ServeHTTP(w, httptest.NewRequest("GET", "http://localhost/metrics", nil))
	for _, want := range []string{
		`nv_inference_request_success{model="news",version="2"} 2`,
		`nv_inference_request_success{model="news",version="1"} 1`,
		`nv_inference_request_failure{model="news",reason="REJECTED",version="2"} 1`,
		`nv_inference_request_failure{model="fails",reason="BACKEND",version="2"} 1`,
		`nv_inference_request_failure{model="panics",reason="BACKEND",version="2"} 1`,
		`galley_inference_request_unserved{code="NOT_FOUND"} 1`,
		`galley_inference_request_unserved{code="FAILED_PRECONDITION"} 1`,
		`nv_inference_request_duration_us{model="news",version="2"} `,
		`nv_inference_queue_duration_us{model="news",version="2"} `,
		`nv_inference_compute_infer_duration_us{model="news",version="2"} `,
		`nv_inference_count{model="news",version="2"} 2`,
		`nv_inference_exec_count{model="news",version="2"} 2`,
		`nv_inference_pending_request_count{model="news",version="2"} 0`,
		`galley_inference_duration_seconds_bucket{model="news",version="2",le="+Inf"} 2`,
		`galley_inference_duration_seconds_count{model="news",version="1"} 1`,
		`go_goroutines `, `process_cpu_seconds_total `,
	} {
		if !strings.Contains(w.Body.String(), "\n"+want) {
			t.Errorf("no line %s in\n%s", want, w.Body)
		}
	}
	if strings.Contains(w.Body.String(), "sports") {
		t.Error("a name that a client made up is a label")
	}
}
