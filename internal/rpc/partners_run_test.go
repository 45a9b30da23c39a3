package rpc

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"testing"
	"time"

	"google.golang.org/grpc"

	federationpb "galley/api/federation/v1"

	"galley"
	"galley/dataset"
	"galley/federation"
	"galley/internal/control"
	"galley/internal/store/storetest"
	"galley/onnx"
	"galley/registry"
	"galley/task"
	"galley/trainer/architecture"
	"galley/trainer/engine"
	"galley/trainer/objective"
)

// A federatedRun is a job of kind Federate on a port, with its partners.
type federatedRun struct {
	*port
	names  []string
	certs  map[string]tls.Certificate
	job    string
	layout federation.Layout
}

const federatedRows = "text,label\nsport one,sport\nmoney one,money\nsport two,sport\nmoney two,money\n"

// newFederatedRun begins a run of two rounds with a classifier whose hidden
// states are as wide as said.
func newFederatedRun(t testing.TB, width int, change func(*PartnersServer), names []string, more ...grpc.ServerOption) *federatedRun {
	t.Helper()
	p := newPort(t, control.Options{Drivers: engine.Drivers{"onnx": refuser{}}, CPUs: 2}, change, more...)
	f := &federatedRun{port: p, names: names, certs: map[string]tls.Certificate{}}
	f.register(t, width)
	f.addRows(t)
	for _, name := range names {
		f.certs[name] = p.enrol(t, name)
		r, err := f.agent(t, name).Join(t.Context(), &federationpb.JoinRequest{Agreement: agreementFile(name)})
		if err != nil || r.GetFederation() != "news" {
			t.Fatalf("%v, %v", r, err)
		}
	}
	j, err := p.control.Submit(t.Context(), "test", []byte(`apiVersion: galley/v1
kind: Federate
name: news
task: text-classification
data: {dataset: news}
from: news@1
purpose: topics of headlines
rounds: 2
deadline: 30s
pause: 1s
metrics: [loss]
`), nil, "")
	if err != nil {
		t.Fatal(err)
	}
	f.job = j.ID
	return f
}

// register stores a small classifier as news@1.
func (f *federatedRun) register(t testing.TB, width int) {
	t.Helper()
	graph, err := architecture.TextEncoder{Layers: 1, Hidden: width, Heads: 2, FeedForward: 2 * width, MaxLength: 8, Vocabulary: 7}.Classifier(2, nil, 1)
	if err != nil {
		t.Fatal(err)
	}
	known, err := words()
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "bundle")
	if err := task.WriteBundle(dir, graph, twoTopics(), known); err != nil {
		t.Fatal(err)
	}
	v := storetest.Version("news", 1)
	v.Labels, v.Artifacts = twoTopics().Labels, nil
	for _, name := range []string{task.ModelFile, task.ConfigFile, task.TokenizerFile} {
		digest, size, err := f.blobs.PutFile(t.Context(), filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		v.Artifacts = append(v.Artifacts, registry.Artifact{Path: name, Digest: digest, Size: size})
	}
	if _, _, err := f.store.Register(t.Context(), v); err != nil {
		t.Fatal(err)
	}
	var weights []*onnx.Tensor
	if weights, err = objective.Federated(graph); err != nil {
		t.Fatal(err)
	}
	if f.layout, err = federation.LayoutOf(weights); err != nil {
		t.Fatal(err)
	}
}

func (f *federatedRun) addRows(t testing.TB) {
	t.Helper()
	s, err := f.control.NewSpool()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for _, split := range []string{"train", "valid", "test"} {
		if err := s.Write(split, split+".csv", []byte(federatedRows)); err != nil {
			t.Fatal(err)
		}
	}
	if _, _, err := f.control.AddData(t.Context(), "test", dataset.FreezeOptions{Name: "news", Format: dataset.CSV, NeedLabel: true, Seed: 1}, s); err != nil {
		t.Fatal(err)
	}
}

func agreementFile(partner string) []byte {
	return fmt.Appendf(nil, `apiVersion: galley/v1
kind: Agreement
federation: news
partner: %s
purpose: topics of headlines
models: [news]
rounds: 50
min_cohort: 2
expires: %s
leaves:
  weights: true
  rows: {report: exact, most: 20000}
  metrics: [loss]
`, partner, time.Now().AddDate(1, 0, 0).Format(time.DateOnly))
}

func (f *federatedRun) agent(t testing.TB, name string) federationpb.PartnersClient {
	t.Helper()
	return f.dial(t, f.certs[name])
}

// attend is present for a partner until the test ends, and gives its offers.
func (f *federatedRun) attend(t testing.TB, name string) <-chan *federationpb.Offer {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	stream, err := f.agent(t, name).Attend(ctx, &federationpb.AttendRequest{Federation: "news"})
	if err != nil {
		t.Fatal(err)
	}
	offers := make(chan *federationpb.Offer, 100)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		defer close(offers)
		for {
			o, err := stream.Recv()
			if err != nil {
				return
			}
			offers <- o
		}
	}()
	t.Cleanup(func() {
		cancel()
		<-ended
	})
	return offers
}

// offered is the next offer.
func offered(t testing.TB, offers <-chan *federationpb.Offer) *federationpb.Offer {
	t.Helper()
	select {
	case o, ok := <-offers:
		if !ok {
			t.Fatal("the stream of offers has ended")
		}
		return o
	case <-time.After(20 * time.Second):
		t.Fatal("no offer comes")
		return nil
	}
}

// update is what training could have changed: the same number everywhere.
func (f *federatedRun) update(t testing.TB, by float32) []byte {
	t.Helper()
	before, after := make([][]float32, len(f.layout)), make([][]float32, len(f.layout))
	for i, s := range f.layout {
		n := int64(1)
		for _, d := range s.Dims {
			n *= d
		}
		before[i], after[i] = make([]float32, n), make([]float32, n)
		for j := range after[i] {
			after[i][j] = by
		}
	}
	var b bytes.Buffer
	if _, err := federation.WriteUpdate(&b, f.layout, before, after, 0); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// header signs an update for an offer.
func (f *federatedRun) header(o *federationpb.Offer, update []byte, change ...func(*federation.Header)) *federationpb.Header {
	h := federation.Header{
		Protocol: int(o.GetProtocol()), Federation: o.GetFederation(), Run: o.GetRun(), Round: int(o.GetRound()), Attempt: int(o.GetAttempt()),
		Partner: o.GetPartner(), Agreement: galley.Digest(o.GetAgreement()), Base: galley.Digest(o.GetBase()), Update: galley.DigestBytes(update),
		Rows: 100, Metrics: map[string]float64{"loss": 0.5},
	}
	for _, c := range change {
		c(&h)
	}
	signed := federation.Sign(h, f.certs[o.GetPartner()].PrivateKey.(ed25519.PrivateKey))
	return &federationpb.Header{
		Protocol: int32(h.Protocol), Federation: h.Federation, Run: h.Run, Round: int32(h.Round), Attempt: int32(h.Attempt), Partner: h.Partner,
		Agreement: string(h.Agreement), Base: string(h.Base), Update: string(h.Update), Rows: h.Rows, Metrics: h.Metrics, Signature: signed.Signature,
	}
}

// uploadTo sends a header and pieces of data until it ends, and returns how much
// was taken.
func uploadTo(ctx context.Context, agent federationpb.PartnersClient, h *federationpb.Header, data io.Reader, piece int) (*federationpb.UploadResponse, int64, error) {
	stream, err := agent.Upload(ctx)
	if err != nil {
		return nil, 0, err
	}
	err = stream.Send(&federationpb.UploadRequest{Part: &federationpb.UploadRequest_Header{Header: h}})
	sent, buffer := int64(0), make([]byte, piece)
	for err == nil {
		n := 0
		if n, err = data.Read(buffer); n > 0 {
			if err = stream.Send(&federationpb.UploadRequest{Part: &federationpb.UploadRequest_Data{Data: buffer[:n]}}); err == nil {
				sent += int64(n)
			}
		}
	}
	if !errors.Is(err, io.EOF) {
		return nil, sent, err
	}
	r, err := stream.CloseAndRecv()
	return r, sent, err
}

// fetchModel returns the files of the run's model.
func fetchModel(t testing.TB, agent federationpb.PartnersClient, run string) map[string][]byte {
	t.Helper()
	stream, err := agent.FetchModel(t.Context(), &federationpb.FetchModelRequest{Federation: "news", Run: run})
	if err != nil {
		t.Fatal(err)
	}
	files, name, sizes := map[string][]byte{}, "", map[string]int64{}
	for {
		chunk, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if chunk.GetName() != "" {
			name = chunk.GetName()
			sizes[name] = chunk.GetSize()
		}
		files[name] = append(files[name], chunk.GetData()...)
	}
	for name, data := range files {
		if int64(len(data)) != sizes[name] {
			t.Errorf("%s has %d bytes, and %d were said", name, len(data), sizes[name])
		}
	}
	return files
}

// fetchWeights returns weights from an offset on, and how many bytes all are.
func fetchWeights(ctx context.Context, agent federationpb.PartnersClient, o *federationpb.Offer, offset int64) (data []byte, size int64, err error) {
	stream, err := agent.FetchWeights(ctx, &federationpb.FetchWeightsRequest{Federation: o.GetFederation(), Run: o.GetRun(), Digest: o.GetBase(), Offset: offset})
	if err != nil {
		return nil, 0, err
	}
	for {
		chunk, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return data, size, nil
		}
		if err != nil {
			return data, size, err
		}
		if chunk.GetOffset() != offset+int64(len(data)) {
			return nil, 0, fmt.Errorf("offset %d after %d", chunk.GetOffset(), offset+int64(len(data)))
		}
		data, size = append(data, chunk.GetData()...), chunk.GetSize()
	}
}
