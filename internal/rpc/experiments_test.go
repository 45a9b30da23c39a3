package rpc

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"

	controlpb "galley/api/control/v1"
	inferencepb "galley/api/inference/v2"
	newsroompb "galley/api/newsroom/v1"

	"galley"
	"galley/internal/blob"
	"galley/internal/control"
	"galley/internal/store/sqlite"
	"galley/internal/store/storetest"
	"galley/onnx/session"
	"galley/registry"
	"galley/serving"
)

// A desk is a server with versions of news: 1 to 4 classify, 5 has other
// labels and 6 is a graph without a task.
type desk struct {
	conn        *grpc.ClientConn
	inference   inferencepb.GRPCInferenceServiceClient
	newsroom    newsroompb.NewsroomClient
	experiments controlpb.ExperimentsClient
	control     *control.Control
	server      *Server
	close       func()
	fails       atomic.Bool // version 2 does
}

func openDesk(t *testing.T, home string) *desk {
	t.Helper()
	s, err := sqlite.Open(t.Context(), home)
	if err != nil {
		t.Fatal(err)
	}
	d := &desk{}
	for seed := 1; seed <= 6; seed++ {
		v := storetest.Version("news", seed)
		v.Labels = []string{"sport", "money"}
		if seed == 5 {
			v.Labels = []string{"money", "sport"}
		}
		if _, _, err := s.Register(t.Context(), v); err != nil {
			t.Fatal(err)
		}
	}
	blobs, err := blob.Open(filepath.Join(home, "blobs"), blob.Options{})
	if err != nil {
		t.Fatal(err)
	}
	var closed atomic.Int32
	table := serving.NewTable(s, func(_ context.Context, v registry.Version) (*serving.Servable, error) {
		g := &graph{closed: &closed}
		if v.Number == 6 {
			g.build("pair")
			return serving.NewGraph(v, g), nil
		}
		servable, err := classifier(t, v, g)
		if v.Number == 2 {
			right := g.run
			g.run = func(in map[string]*session.Tensor) (map[string]*session.Tensor, error) {
				if d.fails.Load() {
					return nil, errors.New("broken")
				}
				return right(in)
			}
		}
		return servable, err
	})
	d.control, err = control.Open(t.Context(), control.Options{
		Home: home, Store: s, Blobs: blobs, Launcher: refuser{}, Logger: quiet(),
		Switch: func(ctx context.Context, c registry.Change) error {
			if c.Alias != registry.Prod {
				return nil
			}
			return table.Follow(ctx, c.Model)
		},
		Forget:  table.Forget,
		Traffic: control.Traffic{Route: table.SetRoute, Signature: table.Signature},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ran := make(chan struct{})
	go func() {
		defer close(ran)
		d.control.Run(ctx)
	}()
	inference := &Inference{Table: table, Store: s, Name: "galley", Version: "test", Signer: d.control.Signer()}
	d.server = NewServer(inference, NewControl(d.control), quiet())
	controlpb.RegisterExperimentsServer(d.server, NewExperiments(d.control))
	controlpb.RegisterAuditServer(d.server, NewAudit(d.control))
	newsroompb.RegisterNewsroomServer(d.server, NewNewsroom(inference, d.control))
	listener := bufconn.Listen(1 << 20)
	go d.server.Serve(listener)
	d.conn, err = grpc.NewClient("passthrough:desk", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }))
	if err != nil {
		t.Fatal(err)
	}
	d.inference = inferencepb.NewGRPCInferenceServiceClient(d.conn)
	d.newsroom, d.experiments = newsroompb.NewNewsroomClient(d.conn), controlpb.NewExperimentsClient(d.conn)
	d.close = func() {
		d.conn.Close()
		d.server.grpc.Stop()
		stop()
		<-ran
		if err := errors.Join(d.control.Close(context.Background()), s.Close()); err != nil {
			t.Error(err)
		}
		table.Close()
	}
	return d
}

func newDesk(t *testing.T) *desk {
	t.Helper()
	d := openDesk(t, t.TempDir())
	t.Cleanup(func() { d.close() })
	return d
}

// start begins an experiment of versions 1 and 2, half and half.
func (d *desk) start(t *testing.T, change ...func(*controlpb.StartExperimentRequest)) *controlpb.Experiment {
	t.Helper()
	r := &controlpb.StartExperimentRequest{Experiment: "test", Control: "news@1", Treatment: "news@2", Split: "50/50", Metric: "accuracy"}
	for _, f := range change {
		f(r)
	}
	e, err := d.experiments.StartExperiment(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// classify asks news as a reader, and returns which version answered, and the
// answer's id.
func (d *desk) classify(t *testing.T, key string) (model, id string) {
	t.Helper()
	a, err := d.newsroom.Classify(t.Context(), &newsroompb.ClassifyRequest{Model: "news", Text: "sport", RequestKey: key})
	if err != nil {
		t.Fatal(err)
	}
	return a.GetModel(), a.GetPredictionId()
}

func (d *desk) feedback(t *testing.T, id string, outcome any) *newsroompb.FeedbackResponse {
	t.Helper()
	v, err := structpb.NewValue(outcome)
	if err != nil {
		t.Fatal(err)
	}
	r, err := d.newsroom.Feedback(t.Context(), &newsroompb.FeedbackRequest{PredictionId: id, Outcome: v})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func (d *desk) show(t *testing.T) *controlpb.Experiment {
	t.Helper()
	e, err := d.experiments.GetExperiment(t.Context(), &controlpb.ExperimentRequest{Experiment: "test"})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// lastAudit is the newest entry of the audit log with an action.
func (d *desk) lastAudit(t *testing.T, action string) *controlpb.AuditEntry {
	t.Helper()
	stream, err := controlpb.NewAuditClient(d.conn).ListEntries(t.Context(), &controlpb.ListAuditEntriesRequest{})
	if err != nil {
		t.Fatal(err)
	}
	var last *controlpb.AuditEntry
	for {
		e, err := stream.Recv()
		if err != nil {
			break
		}
		if e.GetAction() == action {
			last = e
		}
	}
	return last
}

func TestAnExperimentFromStartToPromotion(t *testing.T) {
	d := newDesk(t)
	if e := d.start(t); e.GetState() != "running" || e.GetVerdict() != "undecided" || e.GetTraffic() != "experiment test" || e.GetArms()[1].GetRef() != "news@2" || e.GetArms()[1].GetShare() != 0.5 {
		t.Errorf("%v", e)
	}
	_, err := d.experiments.DecideExperiment(t.Context(), &controlpb.DecideExperimentRequest{Experiment: "test"})
	if e := FromStatus(err); e == nil || e.Code != galley.FailedPrecondition || !strings.Contains(e.Message, "is undecided: accuracy: control news@1 has no outcomes") {
		t.Errorf("%v", err)
	}
	ids := map[string][]string{}
	versions := map[string]string{}
	for i := range 120 {
		key := fmt.Sprint("reader-", i)
		model, id := d.classify(t, key)
		ids[model], versions[key] = append(ids[model], id), model
		if again, _ := d.classify(t, key); again != model {
			t.Fatalf("%s was answered by %s, then by %s", key, model, again)
		}
		// The inference protocol's requests go to the same arm.
		r := asked("sport")
		r.Id = key
		a, err := d.inference.ModelInfer(t.Context(), r)
		if err != nil || "news@"+a.GetModelVersion() != model {
			t.Fatalf("%s: %v, %v", key, a.GetModelVersion(), err)
		}
	}
	// All labels are right in the treatment, and few in control. Each outcome
	// is sent twice, the wrong one first.
	for model, all := range ids {
		for i, id := range all {
			right := any("sport")
			if model == "news@1" && i%4 != 0 {
				right = false
			}
			if r := d.feedback(t, id, "money"); r.GetState() != "recorded" || r.GetExperiment() != "test" || (r.GetArm() == "control") != (model == "news@1") {
				t.Fatalf("%v", r)
			}
			want := "corrected"
			if right == false {
				want = "corrected" // the text differs, the value does not
			}
			if r := d.feedback(t, id, right); r.GetState() != want {
				t.Fatalf("%v", r)
			}
			if r := d.feedback(t, id, right); r.GetState() != "unchanged" {
				t.Fatalf("%v", r)
			}
		}
	}
	e := d.show(t)
	for i, arm := range e.GetArms() {
		n := int64(len(ids[arm.GetRef()]))
		if arm.GetN() != n || arm.GetKeys() != n || arm.GetRequests() != 3*n || arm.GetErrors() != 0 {
			t.Errorf("%d answers have outcomes: %v", n, arm)
		}
		if i == 1 && arm.GetMetric() != 1 {
			t.Errorf("%v", arm)
		}
	}
	if e.GetVerdict() != "treatment" || e.GetSampleRatioMismatch() {
		t.Errorf("%v", e)
	}
	e, err = d.experiments.DecideExperiment(t.Context(), &controlpb.DecideExperimentRequest{Experiment: "test"})
	if err != nil || e.GetState() != "decided" || e.GetWinner() != "treatment" || e.GetForced() || e.GetTraffic() != "news@2" {
		t.Fatalf("%v, %v", e, err)
	}
	for key := range versions {
		if model, _ := d.classify(t, key); model != "news@2" {
			t.Errorf("%s is answered by %s", key, model)
		}
	}
	if entry := d.lastAudit(t, "alias.promote"); entry == nil || !strings.Contains(entry.GetDetail(), "experiment test: accuracy: control news@1 0.") {
		t.Errorf("%v", entry)
	}
	if entry := d.lastAudit(t, "experiment.decide"); entry == nil || entry.GetSubject() != "test" || !strings.Contains(entry.GetDetail(), "winner treatment news@2; accuracy") {
		t.Errorf("%v", entry)
	}
	// What comes late is still counted.
	before := d.show(t).GetArms()[0].GetN()
	_, id := d.classify(t, "")
	if r := d.feedback(t, id, true); r.GetExperiment() != "" || r.GetState() != "recorded" {
		t.Errorf("%v", r)
	}
	if r := d.feedback(t, ids["news@1"][0], false); r.GetState() != "corrected" {
		t.Errorf("%v", r)
	}
	if after := d.show(t).GetArms()[0].GetN(); after != before {
		t.Errorf("%d outcomes, then %d", before, after)
	}
}

func TestExperimentsThatCannotBe(t *testing.T) {
	d := newDesk(t)
	if _, err := d.control.Delete(t.Context(), "ann", galley.Ref{Name: "news", Version: 4}); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		change  func(*controlpb.StartExperimentRequest)
		code    galley.Code
		message string
	}{
		"shares":      {func(r *controlpb.StartExperimentRequest) { r.Split = "90/20" }, galley.InvalidArgument, "the shares 90/20 add up to 110 instead of 100"},
		"metric":      {func(r *controlpb.StartExperimentRequest) { r.Metric = "happiness" }, galley.InvalidArgument, `"happiness" is not a metric of experiments`},
		"no metric":   {func(r *controlpb.StartExperimentRequest) { r.Metric = "" }, galley.InvalidArgument, `"" is not a metric of experiments`},
		"deleted":     {func(r *controlpb.StartExperimentRequest) { r.Treatment = "news@4" }, galley.NotFound, "was deleted"},
		"never there": {func(r *controlpb.StartExperimentRequest) { r.Treatment = "news@9" }, galley.NotFound, "there is no such version; the newest is news@6"},
		"the same":    {func(r *controlpb.StartExperimentRequest) { r.Treatment = "news@1" }, galley.InvalidArgument, "control and treatment are both news@1"},
		"labels":      {func(r *controlpb.StartExperimentRequest) { r.Treatment = "news@5" }, galley.FailedPrecondition, "news@5 has other labels than news@1: money, sport instead of sport, money"},
		"signature":   {func(r *controlpb.StartExperimentRequest) { r.Treatment = "news@6" }, galley.FailedPrecondition, "news@6 has other inputs than news@1: a FP32 [-1 2], b INT64 [-1] instead of text BYTES [-1]"},
		"guardrail":   {func(r *controlpb.StartExperimentRequest) { r.Guardrails = []string{"speed=1"} }, galley.InvalidArgument, `"speed" is not a measure`},
		"name":        {func(r *controlpb.StartExperimentRequest) { r.Experiment = "Über" }, galley.InvalidArgument, `"Über" is not a name`},
		"ref":         {func(r *controlpb.StartExperimentRequest) { r.Control = "news@one" }, galley.InvalidArgument, ""},
	} {
		r := &controlpb.StartExperimentRequest{Experiment: "test", Control: "news@1", Treatment: "news@2", Split: "50/50", Metric: "click"}
		c.change(r)
		_, err := d.experiments.StartExperiment(t.Context(), r)
		if e := FromStatus(err); e == nil || e.Code != c.code || e.Remedy == "" || c.message != "" && e.Message != c.message {
			t.Errorf("%s: %#v", name, e)
		}
	}
	d.start(t)
	_, err := d.experiments.StartExperiment(t.Context(), &controlpb.StartExperimentRequest{Experiment: "other", Control: "news@2", Treatment: "news@3", Split: "50/50", Metric: "click"})
	if e := FromStatus(err); e == nil || e.Code != galley.FailedPrecondition || e.Message != "the experiment test runs on this model already" {
		t.Errorf("%v", err)
	}
	if _, err := d.control.Delete(t.Context(), "ann", galley.Ref{Name: "news", Version: 2}); galley.CodeOf(err) != galley.FailedPrecondition {
		t.Errorf("%v", err)
	}
	for _, r := range []*controlpb.DecideExperimentRequest{
		{Experiment: "test", Winner: "control"}, {Experiment: "test", Force: true}, {Experiment: "test", Force: true, Winner: "both", Reason: "x"},
	} {
		if _, err := d.experiments.DecideExperiment(t.Context(), r); FromStatus(err) == nil || FromStatus(err).Code != galley.InvalidArgument {
			t.Errorf("%v: %v", r, err)
		}
	}
}

func TestOutcomesThatCannotBe(t *testing.T) {
	d := newDesk(t)
	d.start(t)
	_, id := d.classify(t, "reader")
	for name, c := range map[string]struct {
		id      string
		outcome *structpb.Value
		code    galley.Code
	}{
		"unknown":        {"0123456789abcdef0123456789abcdef", structpb.NewBoolValue(true), galley.NotFound},
		"empty id":       {"", structpb.NewBoolValue(true), galley.NotFound},
		"forged":         {"AQAAAAE" + id[7:20] + "AAAA" + id[24:], structpb.NewBoolValue(true), galley.NotFound},
		"no outcome":     {id, nil, galley.InvalidArgument},
		"a list":         {id, structpb.NewListValue(&structpb.ListValue{}), galley.InvalidArgument},
		"empty":          {id, structpb.NewStringValue(""), galley.InvalidArgument},
		"another label":  {id, structpb.NewStringValue("culture"), galley.InvalidArgument},
		"a large number": {id, structpb.NewNumberValue(5), galley.InvalidArgument},
		"a long text":    {id, structpb.NewStringValue(strings.Repeat("x", 300)), galley.InvalidArgument},
	} {
		_, err := d.newsroom.Feedback(t.Context(), &newsroompb.FeedbackRequest{PredictionId: c.id, Outcome: c.outcome})
		if e := FromStatus(err); e == nil || e.Code != c.code || e.Remedy == "" {
			t.Errorf("%s: %#v", name, e)
		}
	}
	if e := d.show(t); e.GetArms()[0].GetN()+e.GetArms()[1].GetN() != 0 {
		t.Errorf("%v", e)
	}
}

func TestFeedbackOverREST(t *testing.T) {
	d := newDesk(t)
	d.start(t)
	h := NewHTTPHandler(d.server)
	_, id := d.classify(t, "reader")
	for _, outcome := range []string{"true", "0.25", `"sport"`} {
		r := httptest.NewRequest("POST", "/v1/newsroom:feedback", strings.NewReader(fmt.Sprintf(`{"prediction_id":%q,"outcome":%s}`, id, outcome)))
		r.Host = "localhost"
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		var answer map[string]string
		if err := json.Unmarshal(w.Body.Bytes(), &answer); w.Code != 200 || err != nil || answer["experiment"] != "test" {
			t.Errorf("%s: %d %s", outcome, w.Code, w.Body)
		}
	}
	if e := d.show(t); e.GetArms()[0].GetN()+e.GetArms()[1].GetN() != 1 {
		t.Errorf("%v", e)
	}
}

// TestAGuardrailRollsBack: once the treatment fails, all requests go to
// control within two seconds, and stay there when the server comes back.
func TestAGuardrailRollsBack(t *testing.T) {
	home := t.TempDir()
	d := openDesk(t, home)
	defer func() { d.close() }()
	d.start(t, func(r *controlpb.StartExperimentRequest) { r.MinimumRequests = 20 })
	ask := func() (string, error) {
		a, err := d.newsroom.Classify(t.Context(), &newsroompb.ClassifyRequest{Model: "news", Text: "sport"})
		return a.GetModel(), err
	}
	for range 50 {
		if _, err := ask(); err != nil {
			t.Fatal(err)
		}
	}
	d.fails.Store(true)
	began, failed := time.Now(), 0
	for clean := 0; clean < 200; {
		model, err := ask()
		switch {
		case err != nil:
			failed, clean = failed+1, 0
		case model != "news@1":
			t.Fatalf("%s answered while it fails", model)
		default:
			clean++
		}
		if time.Since(began) > 2*time.Second && clean < 200 {
			t.Fatal("requests go to the treatment after two seconds")
		}
		time.Sleep(time.Millisecond)
	}
	if failed == 0 {
		t.Error("nothing failed")
	}
	deadline := time.Now().Add(5 * time.Second)
	for d.show(t).GetState() != "rolled-back" {
		if time.Now().After(deadline) {
			t.Fatalf("%v", d.show(t))
		}
		time.Sleep(10 * time.Millisecond)
	}
	e := d.show(t)
	if e.GetBreach().GetGuardrail() != "error_rate=0.1" || e.GetBreach().GetValue() <= 0.1 || e.GetTraffic() != "news@1" {
		t.Errorf("%v", e)
	}
	if entry := d.lastAudit(t, "experiment.rollback"); entry.GetActor() != "galley" || !strings.Contains(entry.GetDetail(), "guardrail error_rate=0.1: news@2 0.") || !strings.Contains(entry.GetDetail(), "; traffic goes to news@1") {
		t.Errorf("%v", entry)
	}
	// The newest version would answer without the hold.
	d.close()
	d = openDesk(t, home)
	for i := range 20 {
		if model, _ := d.classify(t, fmt.Sprint(i)); model != "news@1" {
			t.Errorf("%s answers after a restart", model)
		}
	}
	if e, err := d.experiments.StopExperiment(t.Context(), &controlpb.StopExperimentRequest{Experiment: "test"}); err != nil || e.GetState() != "rolled-back" || e.GetTraffic() != "news@6" {
		t.Errorf("%v, %v", e, err)
	}
	if _, err := d.experiments.StopExperiment(t.Context(), &controlpb.StopExperimentRequest{Experiment: "test"}); FromStatus(err) == nil || FromStatus(err).Code != galley.FailedPrecondition {
		t.Errorf("%v", err)
	}
	if _, err := d.control.Promote(t.Context(), "ann", control.Promotion{Ref: galley.Ref{Name: "news", Version: 3}, Alias: registry.Prod, Force: true, Reason: "fixed"}); err != nil {
		t.Fatal(err)
	}
	if model, _ := d.classify(t, "reader"); model != "news@3" {
		t.Errorf("%s answers after a promotion", model)
	}
}

// TestARestartKeepsTheArms: keys stay where they were, and outcomes of
// predictions from before count for their arms.
func TestARestartKeepsTheArms(t *testing.T) {
	home := t.TempDir()
	d := openDesk(t, home)
	defer func() { d.close() }()
	d.start(t)
	before, ids := map[string]string{}, map[string]string{}
	for i := range 60 {
		key := fmt.Sprint("reader-", i)
		before[key], ids[key] = d.classify(t, key)
	}
	d.close()
	d = openDesk(t, home)
	n := map[string]int64{}
	for key, model := range before {
		if now, _ := d.classify(t, key); now != model {
			t.Errorf("%s was answered by %s, and is by %s", key, model, now)
		}
		d.feedback(t, ids[key], true)
		n[model]++
	}
	for _, arm := range d.show(t).GetArms() {
		if arm.GetN() != n[arm.GetRef()] || arm.GetRequests() != 2*n[arm.GetRef()] {
			t.Errorf("%v, not %d", arm, n[arm.GetRef()])
		}
	}
	// Fewest keys move when the shares change, all of them to the treatment.
	if _, err := d.experiments.SplitExperiment(t.Context(), &controlpb.SplitExperimentRequest{Experiment: "test", Split: "25/75"}); err != nil {
		t.Fatal(err)
	}
	moved := 0
	for key, model := range before {
		if now, _ := d.classify(t, key); now != model {
			moved++
			if now != "news@2" {
				t.Errorf("%s moved to %s", key, now)
			}
		}
	}
	if moved == 0 || moved > 30 {
		t.Errorf("%d of %d keys moved", moved, len(before))
	}
	if e, err := d.experiments.StopExperiment(t.Context(), &controlpb.StopExperimentRequest{Experiment: "test", Reason: "enough"}); err != nil || e.GetState() != "stopped" || e.GetTraffic() != "news@6" {
		t.Errorf("%v, %v", e, err)
	}
}

// TestACanary: the treatment gets more by itself while it is asked, and none
// while it is not.
func TestACanary(t *testing.T) {
	d := newDesk(t)
	e := d.start(t, func(r *controlpb.StartExperimentRequest) {
		r.Split, r.Canary, r.Every, r.MinimumRequests = "", "10,40,90", durationpb.New(time.Second), 10
	})
	if e.GetArms()[1].GetShare() != 0.1 || len(e.GetCanary()) != 3 || e.GetNext() == nil {
		t.Errorf("%v", e)
	}
	time.Sleep(1300 * time.Millisecond)
	if e := d.show(t); e.GetArms()[1].GetShare() != 0.1 {
		t.Errorf("without a request it has %g", e.GetArms()[1].GetShare())
	}
	for deadline := time.Now().Add(20 * time.Second); d.show(t).GetArms()[1].GetShare() < 0.9; {
		for i := range 100 {
			d.classify(t, fmt.Sprint(i))
		}
		if time.Now().After(deadline) {
			t.Fatalf("%v", d.show(t))
		}
	}
	if entry := d.lastAudit(t, "experiment.ramp"); entry.GetActor() != "galley" || entry.GetDetail() != "split 10/90" {
		t.Errorf("%v", entry)
	}
	if e := d.show(t); e.GetNext() != nil || e.GetState() != "running" {
		t.Errorf("%v", e)
	}
}

// TestAShadow: the control answers all, and what the treatment would have said
// is compared.
func TestAShadow(t *testing.T) {
	d := newDesk(t)
	e := d.start(t, func(r *controlpb.StartExperimentRequest) { r.Split, r.Metric, r.Shadow, r.Budget = "", "", 100, 1 })
	if e.GetMetric() != "agreement" || e.GetShadow() != 1 || e.GetArms()[1].GetShare() != 0 {
		t.Errorf("%v", e)
	}
	for i := range 30 {
		model, id := d.classify(t, fmt.Sprint(i))
		if model != "news@1" {
			t.Fatalf("%s answered", model)
		}
		if r := d.feedback(t, id, true); r.GetExperiment() != "" {
			t.Fatalf("%v", r)
		}
		time.Sleep(2 * time.Millisecond)
	}
	deadline := time.Now().Add(10 * time.Second)
	for d.show(t).GetArms()[1].GetN() < 20 && time.Now().Before(deadline) {
		time.Sleep(10 * time.Millisecond)
	}
	e = d.show(t)
	if arm := e.GetArms()[1]; arm.GetN() < 20 || arm.GetMetric() != 1 || arm.GetErrors() != 0 || e.GetArms()[0].GetRequests() != 30 || e.GetVerdict() != "undecided" {
		t.Errorf("%v", e)
	}
	if _, err := d.experiments.SplitExperiment(t.Context(), &controlpb.SplitExperimentRequest{Experiment: "test", Split: "50/50"}); FromStatus(err) == nil || FromStatus(err).Code != galley.FailedPrecondition {
		t.Errorf("%v", err)
	}
}
