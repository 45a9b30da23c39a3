package rpc

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"log/slog"
	"math"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"

	controlpb "galley/api/control/v1"
	inferencepb "galley/api/inference/v2"

	"galley"
	tokenizer "galley/feature/text"
	"galley/onnx"
	"galley/onnx/session"
	"galley/registry"
	"galley/serving"
	"galley/task"
)

// A graph is a session.Session in memory: it answers with what run returns.
type graph struct {
	inputs, outputs []onnx.Value
	run             func(map[string]*session.Tensor) (map[string]*session.Tensor, error)
	closed          *atomic.Int32
}

func (g *graph) Inputs() []onnx.Value  { return g.inputs }
func (g *graph) Outputs() []onnx.Value { return g.outputs }

func (g *graph) Run(ctx context.Context, in map[string]*session.Tensor, _ ...string) (map[string]*session.Tensor, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return g.run(in)
}

func (g *graph) Bind() (session.Binding, error) { return nil, errors.New("not here") }
func (g *graph) Bytes() int64                   { return 0 }
func (g *graph) Close() error                   { g.closed.Add(1); return nil }

// models is a registry with three versions of each name in it; prod is 2.
type models struct {
	registry.Store
	names []string
}

func (m models) Model(_ context.Context, name string) (registry.Model, error) {
	if !slices.Contains(m.names, name) {
		return registry.Model{}, galley.Errorf(galley.NotFound, name, "no such model").WithRemedy("list them with galley models list")
	}
	return registry.Model{
		Name: name, Versions: []registry.Summary{{Number: 1}, {Number: 2}, {Number: 3}},
		Aliases: []registry.Alias{{Model: name, Name: registry.Prod, Target: 2, Generation: 1}},
	}, nil
}

func (m models) Outline(ctx context.Context, name string, _ int) (registry.Model, error) {
	return m.Model(ctx, name)
}

func (m models) Version(_ context.Context, name string, number int) (registry.Version, error) {
	return registry.Version{Name: name, Number: number}, nil
}

// datatypes are all of the protocol, with the bytes of an element.
var datatypes = map[string]int{
	"BOOL": 1, "UINT8": 1, "UINT16": 2, "UINT32": 4, "UINT64": 8, "INT8": 1, "INT16": 2, "INT32": 4, "INT64": 8,
	"FP16": 2, "BF16": 2, "FP32": 4, "FP64": 8, "BYTES": 0,
}

// newInference serves, by name:
//
//	news           classifies texts: sport or money
//	pair           FP32 a [-1,2], INT64 b [-1] -> FP32 sum [-1], all of a + b
//	echo-DATATYPE  x of any shape -> y, the same (names are lower case)
//	nan, latin     BOOL x -> what JSON cannot hold: FP32 y, BYTES y
//	fails, panics  BOOL x -> not
//	broken         cannot be opened
func newInference(t testing.TB) *Inference {
	t.Helper()
	store := models{names: []string{"news", "pair", "nan", "latin", "fails", "panics", "broken"}}
	for d := range datatypes {
		store.names = append(store.names, "echo-"+strings.ToLower(d))
	}
	var opened, closed atomic.Int32
	table := serving.NewTable(store, func(_ context.Context, v registry.Version) (*serving.Servable, error) {
		if v.Name == "broken" {
			return nil, galley.Errorf(galley.FailedPrecondition, v.Ref(), "has no graph")
		}
		opened.Add(1)
		g := &graph{closed: &closed}
		if v.Name == "news" {
			return classifier(t, v, g)
		}
		g.build(v.Name)
		return serving.NewGraph(v, g), nil
	})
	t.Cleanup(func() {
		table.Close()
		if o, c := opened.Load(), closed.Load(); o != c {
			t.Errorf("%d versions were opened and %d closed", o, c)
		}
	})
	metrics := NewMetrics()
	metrics.WatchModels(table)
	return &Inference{Table: table, Store: store, Name: "galley", Version: "test", Metrics: metrics}
}

func (g *graph) build(name string) {
	x := onnx.Value{Name: "x", Type: onnx.Bool}
	y := onnx.Value{Name: "y", Type: onnx.Float}
	answer := func(t *session.Tensor, err error) (map[string]*session.Tensor, error) {
		return map[string]*session.Tensor{"y": t}, err
	}
	switch name {
	case "pair":
		g.inputs = []onnx.Value{
			{Name: "a", Type: onnx.Float, Shape: onnx.Shape{onnx.Symbol("n"), {Size: 2}}},
			{Name: "b", Type: onnx.Int64, Shape: onnx.Shape{onnx.Symbol("n")}},
		}
		g.outputs = []onnx.Value{{Name: "sum", Type: onnx.Float, Shape: onnx.Shape{onnx.Symbol("n")}}}
		g.run = func(in map[string]*session.Tensor) (map[string]*session.Tensor, error) {
			a, b := session.Data[float32](in["a"]), session.Data[int64](in["b"])
			sum := make([]float32, len(b))
			for i := range sum {
				sum[i] = a[2*i] + a[2*i+1] + float32(b[i])
			}
			t, err := session.New(sum, int64(len(sum)))
			return map[string]*session.Tensor{"sum": t}, err
		}
		return
	case "nan":
		g.run = func(map[string]*session.Tensor) (map[string]*session.Tensor, error) {
			return answer(session.New([]float32{1, float32(math.NaN())}, 2))
		}
	case "latin":
		y.Type = onnx.String
		g.run = func(map[string]*session.Tensor) (map[string]*session.Tensor, error) {
			return answer(session.NewStrings([]string{"caf\xe9"}, 1))
		}
	case "fails":
		g.run = func(map[string]*session.Tensor) (map[string]*session.Tensor, error) {
			return nil, errors.New("open /secret/file: no")
		}
	case "panics":
		g.run = func(map[string]*session.Tensor) (map[string]*session.Tensor, error) { panic("at the graph") }
	default: // echo
		x.Type, _ = task.ParseDatatype(strings.ToUpper(strings.TrimPrefix(name, "echo-")))
		y.Type = x.Type
		g.run = func(in map[string]*session.Tensor) (map[string]*session.Tensor, error) {
			return map[string]*session.Tensor{"y": in["x"]}, nil
		}
	}
	g.inputs, g.outputs = []onnx.Value{x}, []onnx.Value{y}
}

// words is a tokenizer that knows sport and money.
func words() (*tokenizer.Tokenizer, error) {
	vocabulary := map[string]int{"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3, "[MASK]": 4, "sport": 5, "money": 6}
	added := []map[string]any{}
	for _, w := range []string{"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"} {
		added = append(added, map[string]any{"id": vocabulary[w], "content": w, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true})
	}
	special := func(name string) map[string]any {
		return map[string]any{"id": name, "ids": []int{vocabulary[name]}, "tokens": []string{name}}
	}
	file, err := json.Marshal(map[string]any{
		"version": "1.0", "truncation": nil, "padding": nil, "added_tokens": added,
		"normalizer":    map[string]any{"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true, "strip_accents": nil, "lowercase": true},
		"pre_tokenizer": map[string]any{"type": "BertPreTokenizer"},
		"post_processor": map[string]any{
			"type": "TemplateProcessing",
			"single": []any{
				map[string]any{"SpecialToken": map[string]any{"id": "[CLS]", "type_id": 0}},
				map[string]any{"Sequence": map[string]any{"id": "A", "type_id": 0}},
				map[string]any{"SpecialToken": map[string]any{"id": "[SEP]", "type_id": 0}},
			},
			"pair":           []any{map[string]any{"Sequence": map[string]any{"id": "A", "type_id": 0}}, map[string]any{"Sequence": map[string]any{"id": "B", "type_id": 1}}},
			"special_tokens": map[string]any{"[CLS]": special("[CLS]"), "[SEP]": special("[SEP]")},
		},
		"decoder": map[string]any{"type": "WordPiece", "prefix": "##", "cleanup": true},
		"model":   map[string]any{"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##", "max_input_chars_per_word": 100, "vocab": vocabulary},
	})
	if err != nil {
		return nil, err
	}
	return tokenizer.Load(strings.NewReader(string(file)))
}

// twoTopics configures a classifier of sport and money.
func twoTopics() *task.Config {
	return &task.Config{
		Format: task.ConfigFormat, Task: task.TextClassification, Labels: []string{"sport", "money"}, MaxLength: 8,
		Inputs: task.DefaultInputs, Outputs: task.DefaultOutputs,
	}
}

// classifier counts the words sport and money.
func classifier(t testing.TB, v registry.Version, g *graph) (*serving.Servable, error) {
	known, err := words()
	if err != nil {
		return nil, err
	}
	c, err := task.NewTextClassifier(twoTopics(), known)
	if err != nil {
		return nil, err
	}
	shape := onnx.Shape{onnx.Symbol("batch"), onnx.Symbol("length")}
	g.inputs = []onnx.Value{{Name: "input_ids", Type: onnx.Int64, Shape: shape}, {Name: "attention_mask", Type: onnx.Int64, Shape: shape}}
	g.outputs = []onnx.Value{{Name: "logits", Type: onnx.Float, Shape: onnx.Shape{onnx.Symbol("batch"), {Size: 2}}}}
	g.run = func(in map[string]*session.Tensor) (map[string]*session.Tensor, error) {
		ids, shape := session.Data[int64](in["input_ids"]), in["input_ids"].Shape
		logits := make([]float32, 2*shape[0])
		for i, id := range ids {
			if id >= 5 {
				logits[2*(int64(i)/shape[1])+id-5]++
			}
		}
		t, err := session.New(logits, shape[0], 2)
		return map[string]*session.Tensor{"logits": t}, err
	}
	return serving.NewTextClassifier(v, c, g)
}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

// newInferenceClient asks s over a connection in memory.
func newInferenceClient(t testing.TB, s *Inference) inferencepb.GRPCInferenceServiceClient {
	t.Helper()
	server := NewServer(s, controlpb.UnimplementedControlServer{}, quiet())
	listener := bufconn.Listen(1 << 20)
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	conn, err := grpc.NewClient("passthrough:test", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		conn.Close()
		server.Shutdown(context.Background())
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return inferencepb.NewGRPCInferenceServiceClient(conn)
}

type (
	input    = inferencepb.ModelInferRequest_InferInputTensor
	output   = inferencepb.ModelInferRequest_InferRequestedOutputTensor
	contents = inferencepb.InferTensorContents
)

// rawTexts are texts as raw contents.
func rawTexts(texts ...string) []byte {
	var b []byte
	for _, s := range texts {
		b = binary.LittleEndian.AppendUint32(b, uint32(len(s)))
		b = append(b, s...)
	}
	return b
}

func asked(texts ...string) *inferencepb.ModelInferRequest {
	return &inferencepb.ModelInferRequest{
		ModelName: "news", Inputs: []*input{{Name: "text", Datatype: "BYTES", Shape: []int64{int64(len(texts))}}},
		RawInputContents: [][]byte{rawTexts(texts...)},
	}
}
