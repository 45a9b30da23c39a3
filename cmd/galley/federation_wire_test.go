package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	federationpb "galley/api/federation/v1"

	"galley"
	"galley/feature/text"
	"galley/federation"
	"galley/onnx"
	"galley/task"
	"galley/trainer/objective"
)

// A whole run, overheard at both ends in plain text: of what two partners have,
// weights, counts, metrics and their agreements leave, and nothing of a text, a
// row, a file or a folder. What the one end has sent is what the other received.
func TestOnlyWeightsLeavePartners(t *testing.T) {
	if testing.Short() {
		t.Skip("trains at two partners")
	}
	runtimeLib := runtimePath(t)
	if runtimeLib == "" {
		t.Skip("ONNX Runtime is not here")
	}
	t.Setenv("GALLEY_ORT_LIB", runtimeLib) // of the processes that train
	trained := &trainedHome{t: t, runtime: runtimeLib}
	if trained.make(); trained.err != nil {
		t.Fatal(trained.err)
	}
	f := &overheardFederation{t: t, env: map[string]string{"GALLEY_HOME": filepath.Join(trained.dir, "home"), "GALLEY_ORT_LIB": runtimeLib}}
	f.up()
	for i, name := range []string{"harbour-gazette", "hill-radio"} {
		f.join(name, i)
	}
	f.train()
	f.agents.Wait()
	f.coordinator.over(t)

	var secrets []secret
	for _, p := range f.partners {
		secrets = append(secrets, p.secrets(t, f.job)...)
	}
	unmistakable(t, secrets)
	ends := map[string]*overheard{"the coordinator": &f.coordinator}
	var agents []*overheard
	for _, p := range f.partners {
		p.wire.over(t)
		ends[p.name] = &p.wire
		agents = append(agents, &p.wire)
	}
	for end, o := range ends {
		heard := o.text()
		for _, leak := range leaks(heard, secrets) {
			t.Errorf("at the end of %s: %s", end, leak)
		}
		// Else nothing was listened to.
		for _, said := range []string{"topics of headlines", "galley-partner", "GLYWGTS1", "tokenizer.json"} {
			if !bytes.Contains(heard, []byte(said)) {
				t.Errorf("%q was not overheard at the end of %s in %d bytes", said, end, len(heard))
			}
		}
		o.each(func(c *overheardCall) {
			for _, m := range append(c.sent.messages[:len(c.sent.messages):len(c.sent.messages)], c.got.messages...) {
				for _, stray := range strayFields(m.ProtoReflect()) {
					t.Errorf("at the end of %s, in %s: %s", end, c.method, stray)
				}
			}
		})
	}
	for _, difference := range differences(&f.coordinator, agents...) {
		t.Error(difference)
	}
	for _, p := range f.partners {
		p.saysOnlyWhatIsAgreed(t, f.job)
	}
	f.leak(secrets, agents)
}

// An overheardFederation is a coordinator and its partners in this process, each
// with a recorder of its own; they train in processes of theirs.
type overheardFederation struct {
	t           *testing.T
	env         map[string]string
	at          endpoints
	coordinator overheard
	partners    []*overheardPartner
	agents      sync.WaitGroup
	job         string
}

// An overheardPartner has rows that are like no others.
type overheardPartner struct {
	name, folder, rows string
	agreement          []byte
	texts, ids         []string
	wire               overheard
}

func (f *overheardFederation) get(name string) (string, bool) { v, ok := f.env[name]; return v, ok }

// command runs a command of galley's as agent, nil for the coordinator's
// operator.
func (f *overheardFederation) command(ctx context.Context, agent *overheard, args ...string) (string, error) {
	var out bytes.Buffer
	var log lockedBuffer
	a := newApp(nil, &out, &log, f.get)
	if agent != nil {
		a.overhearAgent = agent.agent()
	}
	root := a.root()
	root.SetArgs(append(args, "-o", "json"))
	if err := root.ExecuteContext(ctx); err != nil {
		return "", fmt.Errorf("%v: %w\n%s", args, err, log.String())
	}
	return out.String(), nil
}

func (f *overheardFederation) must(agent *overheard, args ...string) string {
	f.t.Helper()
	out, err := f.command(f.t.Context(), agent, args...)
	if err != nil {
		f.t.Fatal(err)
	}
	return out
}

// up starts the coordinator.
func (f *overheardFederation) up() {
	f.t.Helper()
	a := newApp(nil, io.Discard, io.Discard, f.get)
	a.overhear = f.coordinator.server()
	ctx, stop := context.WithCancel(f.t.Context())
	listen := anyPorts
	listen.partners = "127.0.0.1:0"
	ready, ended := make(chan endpoints, 1), make(chan error, 1)
	go func() { ended <- a.up(ctx, listen, func(at endpoints) { ready <- at }) }()
	f.t.Cleanup(func() {
		stop()
		f.agents.Wait()
		if err := <-ended; err != nil {
			f.t.Error(err)
		}
	})
	select {
	case f.at = <-ready:
	case err := <-ended:
		ended <- nil
		f.t.Fatal(err)
	}
	f.env["GALLEY_SERVER"] = f.at.grpc
}

// join makes a partner, and lets its agent serve until it has answered a round.
func (f *overheardFederation) join(name string, i int) {
	f.t.Helper()
	p := &overheardPartner{name: name, folder: filepath.Join(f.t.TempDir(), "secret-folder-of-"+name)}
	f.partners = append(f.partners, p)
	f.must(nil, "partner", "keygen", "--home", p.folder, "--partner", name)
	f.must(nil, "federation", "enrol", name, "--cert", filepath.Join(p.folder, "partner.crt"))
	write := func(file string, data []byte) string {
		path := filepath.Join(p.folder, file)
		if err := os.WriteFile(path, data, 0o600); err != nil {
			f.t.Fatal(err)
		}
		return path
	}
	p.agreement = fmt.Appendf(nil, `apiVersion: galley/v1
kind: Agreement
federation: joint
partner: %s
purpose: topics of headlines
models: [joint-topics]
rounds: 10
min_cohort: 2
expires: %s
leaves:
  weights: true
  rows: {report: rounded, unit: 10, most: 1000}
  metrics: [loss]
`, name, time.Now().AddDate(1, 0, 0).Format(time.DateOnly))
	agreement := write("agreement-of-"+name+".yaml", p.agreement)
	var rows strings.Builder
	rows.WriteString("id,text,label\n")
	for n := range 24 {
		words, label := "scores a goal late in match", "sport"
		if n%2 == 1 {
			words, label = "央行维持利率不变 at the bank", "money"
		}
		p.ids = append(p.ids, fmt.Sprintf("row-%s-%04d", name, 7000+n))
		p.texts = append(p.texts, fmt.Sprintf("%s %s %d", []string{"Quillwort zéphyrine", "Marmoset 珊瑚礁"}[i], words, 100+n))
		fmt.Fprintf(&rows, "%s,%s,%s\n", p.ids[n], p.texts[n], label)
	}
	p.rows = write("secret-rows.csv", []byte(rows.String()))
	f.must(&p.wire, "partner", "join", "--home", p.folder, "--agreement", agreement, "--coordinator", f.at.partners,
		"--server-cert", filepath.Join(f.env["GALLEY_HOME"], "partners", "server.crt"))
	ctx := f.t.Context() // it ends before what is cleaned up
	f.agents.Go(func() {
		if _, err := f.command(ctx, &p.wire, "partner", "serve", "--home", p.folder, "--data", p.rows, "--once"); err != nil {
			f.t.Error(err)
		}
	})
}

// train makes a version of one round.
func (f *overheardFederation) train() {
	f.t.Helper()
	file := filepath.Join(f.t.TempDir(), "run.yaml")
	err := os.WriteFile(file, []byte(`apiVersion: galley/v1
kind: Federate
name: joint-topics
data: {dataset: headlines}
from: news@1
federation: joint
purpose: topics of headlines
rounds: 1
deadline: 5m
metrics: [loss]
recipe: {max_steps: 2, batch_size: 8}
`), 0o600)
	if err != nil {
		f.t.Fatal(err)
	}
	var job struct {
		Job, Phase string
		Versions   []string
	}
	if err := json.Unmarshal([]byte(f.must(nil, "train", file, "--wait")), &job); err != nil || job.Phase != "succeeded" || len(job.Versions) != 1 {
		f.t.Fatalf("%+v, %v", job, err)
	}
	f.job = job.Job
}

// secrets are all that a partner has and nobody else is to see.
func (p *overheardPartner) secrets(t *testing.T, job string) []secret {
	t.Helper()
	all := []secret{
		secretText("secret-folder-of-"), secretText("secret-rows.csv"), secretText("agreement-of-" + p.name), secretText(filepath.Dir(p.folder)),
		secretText("row-" + p.name), secretText(strings.Join(strings.Fields(p.texts[0])[:2], " ")),
	}
	file, err := os.Open(filepath.Join(p.folder, "models", job, task.TokenizerFile))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	tokenizer, err := text.Load(file)
	if err != nil {
		t.Fatal(err)
	}
	for i, row := range p.texts {
		tokens, _ := tokenizer.EncodePlain(nil, row, 16)
		all = append(all, secretText(row), secretText(p.ids[i]), secretTokens(row, tokens))
	}
	return all
}

// saysOnlyWhatIsAgreed holds each word that the agent sends to the few that
// there are, and its update to the form of weights.
func (p *overheardPartner) saysOnlyWhatIsAgreed(t *testing.T, job string) {
	t.Helper()
	graph, err := onnx.ReadFile(filepath.Join(p.folder, "models", job, task.ModelFile), onnx.ReadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	weights, err := objective.Federated(graph)
	if err != nil {
		t.Fatal(err)
	}
	layout, err := federation.LayoutOf(weights)
	if err != nil {
		t.Fatal(err)
	}
	words := regexp.MustCompile(`^(sha256:[0-9a-f]{64}|joint|loss|` + regexp.QuoteMeta(p.name) + `|` + regexp.QuoteMeta(job) + `|galley-partner ` + regexp.QuoteMeta(revision) + `)$`)
	updates := 0
	p.wire.each(func(c *overheardCall) {
		var header *federationpb.Header
		for _, m := range c.sent.messages {
			eachText(m.ProtoReflect(), func(field protoreflect.FullName, said string) {
				if !words.MatchString(said) {
					t.Errorf("%s says %q in %s", p.name, said, field)
				}
			})
			switch m := m.Message.(type) {
			case *federationpb.JoinRequest:
				if !bytes.Equal(m.GetAgreement(), p.agreement) {
					t.Errorf("%s hands over %q", p.name, m.GetAgreement())
				}
			case *federationpb.UploadRequest:
				if h := m.GetHeader(); h != nil {
					header = h
				}
			}
		}
		if header == nil || c.failed != nil {
			return
		}
		updates++
		found, err := federation.Inspect(bytes.NewReader(c.sent.body()), layout)
		if err != nil || found.Digest != galley.Digest(header.GetUpdate()) || len(header.GetSignature()) != 64 || header.GetRows() != 20 || len(header.GetMetrics()) != 1 {
			t.Errorf("%s sends %d bytes as %v: %v", p.name, len(c.sent.body()), header, err)
		}
	})
	if updates == 0 {
		t.Errorf("%s has sent no update", p.name)
	}
}

// eachText calls do with each text of a message and of those in it.
func eachText(m protoreflect.Message, do func(field protoreflect.FullName, text string)) {
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		visit := func(kind protoreflect.Kind, v protoreflect.Value) {
			switch kind {
			case protoreflect.StringKind:
				do(f.FullName(), v.String())
			case protoreflect.MessageKind:
				eachText(v.Message(), do)
			}
		}
		switch {
		case f.IsMap():
			v.Map().Range(func(k protoreflect.MapKey, v protoreflect.Value) bool {
				visit(f.MapKey().Kind(), k.Value())
				visit(f.MapValue().Kind(), v)
				return true
			})
		case f.IsList():
			for i := range v.List().Len() {
				visit(f.Kind(), v.List().Get(i))
			}
		default:
			visit(f.Kind(), v)
		}
		return true
	})
}

// leak has an agent's double tell secrets, as words and as bytes that the
// protocol has no place for: both ends hear each of them. agents are those that
// have not said it.
func (f *overheardFederation) leak(secrets []secret, agents []*overheard) {
	f.t.Helper()
	shown, certificate, err := partnerCertificate("leaky-press")
	if err != nil {
		f.t.Fatal(err)
	}
	file := filepath.Join(f.t.TempDir(), "leaky-press.crt")
	if err := os.WriteFile(file, certificate, 0o600); err != nil {
		f.t.Fatal(err)
	}
	f.must(nil, "federation", "enrol", "leaky-press", "--cert", file)
	var wire overheard
	conn, err := grpc.NewClient(f.at.partners, append(wire.agent(), grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{
		MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{shown}, InsecureSkipVerify: true,
	})))...)
	if err != nil {
		f.t.Fatal(err)
	}
	defer conn.Close()
	var all []byte
	forms := 0
	for _, s := range secrets {
		for _, data := range s.forms {
			all = append(append(all, data...), '|')
			forms++
		}
	}
	hello := &federationpb.HelloRequest{Protocols: []int32{federation.Protocol}, Agent: strings.ToValidUTF8(secrets[0].name, "")}
	hello.ProtoReflect().SetUnknown(protowire.AppendBytes(protowire.AppendTag(nil, 100, protowire.BytesType), all))
	if _, err := federationpb.NewPartnersClient(conn).Hello(f.t.Context(), proto.Clone(hello).(*federationpb.HelloRequest)); err != nil {
		f.t.Fatal(err)
	}
	f.coordinator.over(f.t)
	if without, with := differences(&f.coordinator, agents...), differences(&f.coordinator, append(agents[:len(agents):len(agents)], &wire)...); len(without) == 0 || len(with) != 0 {
		f.t.Errorf("with what was not overheard at the other end the two differ in %q, with it in %q", without, with)
	}
	for end, o := range map[string]*overheard{"its own": &wire, "the coordinator's": &f.coordinator} {
		if found := leaks(o.text(), secrets); len(found) != forms {
			f.t.Errorf("%d of %d leaks were heard at %s end", len(found), forms, end)
		}
		stray := 0
		o.each(func(c *overheardCall) {
			for _, m := range append(c.sent.messages[:len(c.sent.messages):len(c.sent.messages)], c.got.messages...) {
				stray += len(strayFields(m.ProtoReflect()))
			}
		})
		if stray != 1 {
			f.t.Errorf("%d stray fields were heard at %s end", stray, end)
		}
	}
}
