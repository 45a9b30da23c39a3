package main

import (
	"bytes"
	"crypto/tls"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

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
	f := overhearFederation(t, runtimeLib)
	for name, words := range map[string]string{"harbour-gazette": "Quillwort zéphyrine", "hill-radio": "Marmoset 珊瑚礁"} {
		f.join(&overheardPartner{name: name, rows: headlineRows(name, words, 24)})
	}
	f.train("{max_steps: 2, batch_size: 8}")
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

// secrets are all that a partner has and nobody else is to see.
func (p *overheardPartner) secrets(t *testing.T, job string) []secret {
	t.Helper()
	all := []secret{
		secretText("secret-folder-of-"), secretText("secret-rows.csv"), secretText("agreement-of-" + p.name), secretText(filepath.Dir(p.folder)),
		secretText("row-" + p.name), secretText(strings.Join(strings.Fields(p.rows[0].text)[:2], " ")),
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
	for _, row := range p.rows {
		tokens, _ := tokenizer.EncodePlain(nil, row.text, 16)
		all = append(all, secretText(row.text), secretText(row.id), secretTokens(row.text, tokens))
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
