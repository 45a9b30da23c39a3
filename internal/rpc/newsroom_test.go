package rpc

import (
	"context"
	"net/http/httptest"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	controlpb "galley/api/control/v1"
	newsroompb "galley/api/newsroom/v1"

	"galley"
	"galley/registry"
)

// labelled is a registry whose versions have the labels of news.
type labelled struct{ models }

func (s labelled) Version(ctx context.Context, name string, number int) (registry.Version, error) {
	v, err := s.models.Version(ctx, name, number)
	v.Labels = []string{"sport", "money"}
	return v, err
}

// Models lists them all on one page.
func (m models) Models(ctx context.Context, after string, _ int) ([]registry.Model, error) {
	if after != "" {
		return nil, nil
	}
	var all []registry.Model
	for _, name := range m.names {
		one, err := m.Model(ctx, name)
		if err != nil {
			return nil, err
		}
		all = append(all, one)
	}
	return all, nil
}

// newNewsroom serves what newInference does.
func newNewsroom(t *testing.T) *Newsroom {
	t.Helper()
	return NewNewsroom(newInference(t), nil)
}

func TestClassify(t *testing.T) {
	n := newNewsroom(t)
	a, err := n.Classify(t.Context(), &newsroompb.ClassifyRequest{Model: "news", Text: "Sport!"})
	if err != nil {
		t.Fatal(err)
	}
	if a.GetModel() != "news@2" || len(a.GetPredictionId()) != 72 || len(a.GetOutputs()) != 1 || a.GetOutputs()[0].GetLabel() != "sport" || a.GetOutputs()[0].GetTruncated() {
		t.Errorf("%v", a)
	}
	a, err = n.Classify(t.Context(), &newsroompb.ClassifyRequest{Model: "news", Version: "3", Texts: []string{"money, money", "sport sport sport sport sport sport money", "sport"}})
	if err != nil {
		t.Fatal(err)
	}
	out := a.GetOutputs()
	if a.GetModel() != "news@3" || len(out) != 3 || out[0].GetLabel() != "money" || !out[1].GetTruncated() || out[0].GetScore() < 0.8 {
		t.Errorf("%v", a)
	}
	for name, c := range map[string]struct {
		r    *newsroompb.ClassifyRequest
		code codes.Code
		want string
	}{
		"no text":      {&newsroompb.ClassifyRequest{Model: "news"}, codes.InvalidArgument, "text: is missing"},
		"both":         {&newsroompb.ClassifyRequest{Model: "news", Text: "a", Texts: []string{"b"}}, codes.InvalidArgument, "text: is given beside texts"},
		"too many":     {&newsroompb.ClassifyRequest{Model: "news", Texts: make([]string, 4097)}, codes.InvalidArgument, "texts: 4097 texts in one request"},
		"not UTF-8":    {&newsroompb.ClassifyRequest{Model: "news", Texts: []string{"a", "\xff"}}, codes.InvalidArgument, "texts: text 2 is not valid UTF-8"},
		"no model":     {&newsroompb.ClassifyRequest{Text: "a"}, codes.InvalidArgument, "model: "},
		"other model":  {&newsroompb.ClassifyRequest{Model: "sports", Text: "a"}, codes.NotFound, "sports: no such model"},
		"no such one":  {&newsroompb.ClassifyRequest{Model: "news", Version: "9", Text: "a"}, codes.NotFound, "news@9: "},
		"no classifer": {&newsroompb.ClassifyRequest{Model: "pair", Text: "a"}, codes.FailedPrecondition, "pair@2: does not classify texts"},
	} {
		_, err := n.Classify(t.Context(), c.r)
		if s := status.Convert(err); s.Code() != c.code || !strings.HasPrefix(s.Message(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// What is not there yet names itself.
func TestNewsroomLater(t *testing.T) {
	n := newNewsroom(t)
	s := NewServer(n.inference, controlpb.UnimplementedControlServer{}, quiet())
	newsroompb.RegisterNewsroomServer(s, n)
	server := httptest.NewServer(NewHTTPHandler(s))
	defer server.Close()
	for route, method := range map[string]string{"extractEntities": "ExtractEntities", "embed": "Embed", "summarize": "Summarize", "classifyImage": "ClassifyImage", "readImage": "ReadImage", "transcribe": "Transcribe"} {
		code, got := call(t, server, "POST", "/v1/newsroom:"+route, "{}")
		if code != 501 || !strings.HasPrefix(got, `{"error":{"code":"UNIMPLEMENTED","subject":"Newsroom.`+method+`"`) {
			t.Errorf("%s: %d %s", route, code, got)
		}
	}
	code, got := call(t, server, "POST", "/v1/newsroom:classify", `{"model":"news","texts":["sport","money"]}`)
	if code != 200 || !strings.HasPrefix(got, `{"model":"news@2","prediction_id":"`) || !strings.Contains(got, `"outputs":[{"label":"sport","score":0.7310586,"scores":{`) {
		t.Errorf("%d %s", code, got)
	}
	if code, got := call(t, server, "POST", "/v1/newsroom:classify", `{"model":"news","txt":"a"}`); code != 400 || !strings.Contains(got, `unknown field \"txt\"`) || !strings.Contains(got, "send an object with model, version, text, texts") {
		t.Errorf("%d %s", code, got)
	}
	if err := later("Embed", "embed texts"); galley.CodeOf(FromStatus(err)) != galley.Unimplemented {
		t.Error(err)
	}
}

// The scores have the names of the version's labels.
func TestClassifyNamesScores(t *testing.T) {
	n := newNewsroom(t)
	n.inference.Store = labelled{n.inference.Store.(models)}
	lease, err := n.inference.acquire(t.Context(), "model", "news", "")
	if err != nil {
		t.Fatal(err)
	}
	defer lease.Release()
	lease.Version.Labels = []string{"sport", "money"}
	a, err := n.Classify(t.Context(), &newsroompb.ClassifyRequest{Model: "news", Text: "sport"})
	if err != nil {
		t.Fatal(err)
	}
	if s := a.GetOutputs()[0].GetScores(); len(s) != 2 || s["sport"] != a.GetOutputs()[0].GetScore() || s["money"] >= s["sport"] {
		t.Errorf("%v", s)
	}
}
