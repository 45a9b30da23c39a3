package rpc

import (
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	inferencepb "galley/api/inference/v2"
)

func TestModelConfig(t *testing.T) {
	s := newInference(t)
	a, err := s.ModelConfig(t.Context(), &inferencepb.ModelConfigRequest{Name: "pair"})
	if err != nil {
		t.Fatal(err)
	}
	c := a.GetConfig()
	if c.GetName() != "pair" || c.GetBackend() != "onnxruntime" || len(c.GetInput()) != 2 || c.GetInput()[1].GetDataType() != inferencepb.DataType_TYPE_INT64 ||
		len(c.GetOutput()) != 1 || c.GetOutput()[0].GetDataType() != inferencepb.DataType_TYPE_FP32 || c.GetMaxBatchSize() != 0 || c.GetParameters()["version"].GetStringValue() != "pair@2" {
		t.Errorf("%v", c)
	}
	for datatype := range datatypes {
		if configType(datatype) == inferencepb.DataType_TYPE_INVALID {
			t.Errorf("%s has no name in configurations", datatype)
		}
	}
	server := newHTTP(t, s)
	if code, got := call(t, server, "GET", "/v2/models/news/versions/3/config", ""); code != 200 || !strings.Contains(got, `"input":[{"data_type":"TYPE_STRING","dims":[-1],"name":"text"}]`) || !strings.Contains(got, `"max_batch_size":0`) {
		t.Errorf("%d %s", code, got)
	}
	if code, got := call(t, server, "GET", "/v2/models/sports/config", ""); code != 404 || got != `{"error":"sports: no such model — list them with galley models list"}` {
		t.Errorf("%d %s", code, got)
	}
}

func TestModelStatistics(t *testing.T) {
	s := newInference(t)
	server, client := newHTTP(t, s), newInferenceClient(t, s)
	for range 3 {
		if _, err := client.ModelInfer(t.Context(), asked("sport", "money")); err != nil {
			t.Fatal(err)
		}
	}
	a, err := client.ModelStatistics(t.Context(), &inferencepb.ModelStatisticsRequest{Name: "news", Version: "prod"})
	if err != nil {
		t.Fatal(err)
	}
	if one := a.GetModelStats()[0]; len(a.GetModelStats()) != 1 || one.GetVersion() != "2" || one.GetInferenceCount() != 6 || one.GetExecutionCount() == 0 ||
		one.GetInferenceStats().GetSuccess().GetCount() != 3 || one.GetInferenceStats().GetSuccess().GetNs() == 0 || one.GetLastInference() == 0 || len(one.GetBatchStats()) == 0 {
		t.Errorf("%v", one)
	}
	for _, path := range []string{"/v2/models/stats", "/v2/models/news/stats", "/v2/models/news/versions/2/stats"} {
		if code, got := call(t, server, "GET", path, ""); code != 200 || !strings.HasPrefix(got, `{"model_stats":[{"name":"news","version":"2","last_inference":1`) || !strings.Contains(got, `"success":{"count":3,"ns":`) {
			t.Errorf("%s: %d %s", path, code, got)
		}
	}
	// What has done nothing has zeros; what is not there is an error.
	if code, got := call(t, server, "GET", "/v2/models/news/versions/3/stats", ""); code != 200 || !strings.Contains(got, `"version":"3","last_inference":0,"inference_count":0`) {
		t.Errorf("%d %s", code, got)
	}
	for path, want := range map[string]int{"/v2/models/news/versions/9/stats": 404, "/v2/models/sports/stats": 404, "/v2/models/a%20b/stats": 400} {
		if code, got := call(t, server, "GET", path, ""); code != want {
			t.Errorf("%s: %d %s", path, code, got)
		}
	}
	if _, err := client.ModelStatistics(t.Context(), &inferencepb.ModelStatisticsRequest{Version: "1"}); status.Code(err) != codes.InvalidArgument {
		t.Error(err)
	}
}

func TestRepositoryIndex(t *testing.T) {
	s := newInference(t)
	a, err := s.RepositoryIndex(t.Context(), &inferencepb.RepositoryIndexRequest{Ready: true})
	if err != nil {
		t.Fatal(err)
	}
	if m := a.GetModels(); len(m) != 3*len(s.Store.(models).names) || m[0].GetName() != "news" || m[0].GetVersion() != "1" || m[0].GetState() != "READY" {
		t.Errorf("%v", m)
	}
	server := newHTTP(t, s)
	for _, body := range []string{"", "{}", `{"ready":true}`} {
		if code, got := call(t, server, "POST", "/v2/repository/index", body); code != 200 || !strings.HasPrefix(got, `[{"name":"news","version":"1","state":"READY","reason":""},`) {
			t.Errorf("%d %s", code, got)
		}
	}
	if code, got := call(t, server, "POST", "/v2/repository/index", `{"ready":1}`); code != 400 {
		t.Errorf("%d %s", code, got)
	}
	if _, err := s.RepositoryIndex(t.Context(), &inferencepb.RepositoryIndexRequest{RepositoryName: "other"}); status.Code(err) != codes.NotFound {
		t.Error(err)
	}
}

// What the server's metadata do not list says so, over both transports.
func TestExtensionsNotThere(t *testing.T) {
	s := newInference(t)
	server, client := newHTTP(t, s), newInferenceClient(t, s)
	for name, ask := range map[string]func() error{
		"RepositoryModelLoad": func() error {
			_, err := client.RepositoryModelLoad(t.Context(), &inferencepb.RepositoryModelLoadRequest{ModelName: "news"})
			return err
		},
		"RepositoryModelUnload": func() error {
			_, err := client.RepositoryModelUnload(t.Context(), &inferencepb.RepositoryModelUnloadRequest{ModelName: "news"})
			return err
		},
		"SystemSharedMemoryStatus": func() error {
			_, err := client.SystemSharedMemoryStatus(t.Context(), &inferencepb.SystemSharedMemoryStatusRequest{})
			return err
		},
		"CudaSharedMemoryRegister": func() error {
			_, err := client.CudaSharedMemoryRegister(t.Context(), &inferencepb.CudaSharedMemoryRegisterRequest{})
			return err
		},
		"TraceSetting": func() error {
			_, err := client.TraceSetting(t.Context(), &inferencepb.TraceSettingRequest{})
			return err
		},
		"LogSettings": func() error {
			_, err := client.LogSettings(t.Context(), &inferencepb.LogSettingsRequest{})
			return err
		},
		"ModelStreamInfer": func() error {
			stream, err := client.ModelStreamInfer(t.Context())
			if err != nil {
				return err
			}
			_, err = stream.Recv()
			return err
		},
	} {
		err := ask()
		if e := FromStatus(err); status.Code(err) != codes.Unimplemented || e.Subject != name || !strings.HasPrefix(e.Message, "is not there: ") {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, c := range []struct{ method, path string }{
		{"POST", "/v2/repository/models/news/load"}, {"POST", "/v2/repository/models/news/unload"}, {"GET", "/v2/systemsharedmemory/status"},
		{"POST", "/v2/cudasharedmemory/region/a/register"}, {"GET", "/v2/trace/setting"}, {"POST", "/v2/models/news/trace/setting"},
		{"GET", "/v2/logging"}, {"POST", "/v2/models/news/generate"},
	} {
		if code, got := call(t, server, c.method, c.path, ""); code != 501 || !strings.HasPrefix(got, `{"error":"`) || !strings.Contains(got, ": is not there: ") {
			t.Errorf("%s: %d %s", c.path, code, got)
		}
	}
}
