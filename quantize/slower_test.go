package quantize_test

import (
	"bytes"
	"context"
	"strings"
	"testing"
	"time"

	"galley/internal/ort/orttest"
	"galley/onnx/session"
	"galley/quantize"
	"galley/trainer/engine"
)

// A sluggish opener's sessions take longer: the first one of a quantised graph,
// and then either the further ones or those of other graphs.
type sluggish struct {
	session.Opener
	first, quantised bool
}

type slowSession struct{ session.Session }

func (o *sluggish) Open(ctx context.Context, model []byte, opts session.Options) (session.Session, error) {
	s, err := o.Opener.Open(ctx, model, opts)
	quantised := bytes.Contains(model, []byte("MatMulInteger"))
	slow := quantised == o.quantised
	if !o.first {
		o.first, slow = quantised, quantised
	}
	if err != nil || !slow {
		return s, err
	}
	return slowSession{s}, nil
}

func (s slowSession) Run(ctx context.Context, inputs map[string]*session.Tensor, outputs ...string) (map[string]*session.Tensor, error) {
	for began := time.Now(); time.Since(began) < 200*time.Microsecond; { // a sleep may take ten times as long
	}
	return s.Session.Run(ctx, inputs, outputs...)
}

// TestDriverWithholdsWhatIsSlower gives the quantised model sessions that are
// slow: if the first alone is, it is not the model's fault.
func TestDriverWithholdsWhatIsSlower(t *testing.T) {
	if testing.Short() {
		t.Skip("measures times")
	}
	m := trainedModel(t)
	for _, slow := range []bool{true, false} {
		want := "measured again in other sessions it is not: "
		if slow {
			want = "it is slower than float@1 on this machine: "
		}
		var log []string
		result, err := quantize.Driver{Opener: &sluggish{Opener: orttest.Opener(t), quantised: slow}}.Train(t.Context(), m.request(t, ""), func(e engine.Event) { log = append(log, e.Message) })
		if err != nil {
			t.Fatal(err)
		}
		if slow != (result.Withheld != "") || !strings.Contains(strings.Join(log, "\n"), want) {
			t.Errorf("slow: %v, but %q, %v", slow, result.Withheld, log)
		}
	}
}
