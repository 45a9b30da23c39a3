package task

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"galley"
	"galley/onnx"
	"galley/onnx/session"
)

func TestEncode(t *testing.T) {
	c := classifier(t)
	c.Config.Inputs.Types = "token_type_ids"
	for range 2 { // the second time in memory that was used
		b, err := c.Encode([]string{"Goals", "新闻 sport money bank goal sport", "sport"})
		if err != nil {
			t.Fatal(err)
		}
		in := b.Inputs()
		for name, want := range map[string]string{
			"input_ids":      "[2 7 11 3 0 0 0 0 2 9 10 5 6 8 7 3 2 5 3 0 0 0 0 0]",
			"attention_mask": "[1 1 1 1 0 0 0 0 1 1 1 1 1 1 1 1 1 1 1 0 0 0 0 0]",
			"token_type_ids": "[0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0]",
		} {
			if got := fmt.Sprint(session.Data[int64](in[name])); got != want || fmt.Sprint(in[name].Shape) != "[3 8]" {
				t.Errorf("%s: %s %v, want %s", name, got, in[name].Shape, want)
			}
		}
		if got := fmt.Sprint(b.Lengths, b.Truncated); got != "[4 8 3] [false true false]" {
			t.Error(got)
		}
		for i := range session.Data[int64](b.Types) {
			session.Data[int64](b.Types)[i] = 7
		}
		b.Release()
		b.Release()
	}
}

func TestEncodeErrors(t *testing.T) {
	c := classifier(t)
	for bad, want := range map[string]string{
		" \n\u3000":                    "text[1]: the text is empty",
		strings.Repeat("x", MaxText+1): "text[1]: the text has 1048577 bytes, more than 1 MiB",
		"a\xff":                        "text[1]: the text is not valid UTF-8",
	} {
		if _, err := c.Encode([]string{"good", bad}); err == nil || !strings.Contains(err.Error(), want) || galley.CodeOf(err) != galley.InvalidArgument {
			t.Errorf("%v; want %q", err, want)
		}
	}
	if _, err := c.Encode(nil); galley.CodeOf(err) != galley.InvalidArgument {
		t.Error(err)
	}
	if b, err := c.CollateTo([][]int32{{2, 3}}, 4); err != nil || fmt.Sprint(session.Data[int64](b.Mask)) != "[1 1 0 0]" {
		t.Error(err)
	}
	if _, err := c.CollateTo([][]int32{{2, 5, 3}}, 2); galley.CodeOf(err) != galley.OutOfRange {
		t.Error(err)
	}
	if b, err := c.Encode([]string{strings.Repeat("goal ", MaxText/5)}); err != nil || !b.Truncated[0] || b.Lengths[0] != 8 {
		t.Error(err)
	}
}

func TestNewTextClassifierErrors(t *testing.T) {
	mlm := config()
	mlm.Task, mlm.Labels = TextMLM, nil
	if _, err := NewTextClassifier(mlm, tokenizer(t)); galley.CodeOf(err) != galley.FailedPrecondition {
		t.Error(err)
	}
	if _, err := NewTextClassifier(&Config{Task: TextClassification}, tokenizer(t)); err == nil {
		t.Error("an empty configuration is accepted")
	}
}

func TestDecode(t *testing.T) {
	c := classifier(t)
	logits, _ := session.New([]float32{1000, 999, -1000, 1000, 0, 0}, 3, 2)
	out, err := c.Decode(logits)
	if err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprintf("%.4v", out); got != "[{spor 0.7311 [0.7311 0.2689] false} {mone 1 [0 1] false} {spor 0.5 [0.5 0.5] false}]" {
		t.Error(got)
	}
	for _, bad := range []float32{float32(math.NaN()), float32(math.Inf(1)), float32(math.Inf(-1))} {
		logits, _ := session.New([]float32{0, 0, 1, bad}, 2, 2)
		if _, err := c.Decode(logits); err == nil || !strings.Contains(err.Error(), "text[1] is not finite") {
			t.Error(err)
		}
	}
	three, _ := session.New([]float32{0, 0, 1}, 1, 3)
	double, _ := session.New([]float64{0, 0}, 1, 2)
	flat, _ := session.New([]float32{0, 0}, 2)
	for want, tensor := range map[string]*session.Tensor{"float [1,3], not float [batch, 2]": three, "is double [1,2]": double, "[2]": flat, "missing": nil} {
		if _, err := c.Decode(tensor); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v; want %q", err, want)
		}
	}
}

func TestSoftmax(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		logits := rapid.SliceOfN(rapid.Float32Range(-1e4, 1e4), 1, 20).Draw(t, "logits")
		dst := make([]float32, len(logits))
		best, ok := Softmax(dst, logits)
		sum := 0.0
		for i, p := range dst {
			sum += float64(p)
			if p < 0 || p > dst[best] || logits[i] > logits[best] {
				t.Fatal(dst, best)
			}
		}
		if !ok || math.Abs(sum-1) > 1e-5 {
			t.Fatal(sum)
		}
	})
}

func TestPredict(t *testing.T) {
	s := new(counting)
	p, err := NewTextPredictor(classifier(t), s)
	if err != nil {
		t.Fatal(err)
	}
	var texts []string
	for i := range 600 {
		texts = append(texts, strings.Repeat([]string{"sport ", "money "}[i%2], 1+i%7))
	}
	out, err := p.Predict(t.Context(), texts)
	if err != nil {
		t.Fatal(err)
	}
	for i, c := range out {
		n := min(1+i%7, 6)
		want := 1 / (1 + math.Exp(-float64(n)))
		if c.Label != config().Labels[i%2] || math.Abs(float64(c.Score)-want) > 1e-6 || c.Truncated != (1+i%7 > 6) {
			t.Fatalf("%d: %+v, want score %v", i, c, want)
		}
	}
	padded, total := int64(0), int64(0)
	for _, shape := range s.runs {
		padded += shape[0] * shape[1]
		total += shape[0]
	}
	if len(s.runs) != 3 || total != 600 || padded > 600*7 {
		t.Error(s.runs)
	}
	if out, err := p.Predict(t.Context(), nil); err != nil || len(out) != 0 {
		t.Error(out, err)
	}
}

func TestGroups(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rows := make([][]int32, rapid.IntRange(0, 700).Draw(t, "n"))
		for i := range rows {
			rows[i] = make([]int32, rapid.SampledFrom([]int{1, 2, 60, 64, 512, MaxLength, 2 * maxBatchTokens}).Draw(t, "length"))
		}
		seen := make([]bool, len(rows))
		for _, g := range groups(rows) {
			if len(g) == 0 || len(g) > maxBatchTexts || len(g) > 1 && len(g)*len(rows[g[0]]) > maxBatchTokens {
				t.Fatal(len(g), len(rows[g[0]]))
			}
			for _, i := range g {
				if seen[i] || len(rows[i]) > len(rows[g[0]]) {
					t.Fatal(i)
				}
				seen[i] = true
			}
		}
		for i, ok := range seen {
			if !ok {
				t.Fatal("not grouped:", i)
			}
		}
	})
}

func TestPredictErrors(t *testing.T) {
	ctx := t.Context()
	s := &counting{fail: errors.New("out of memory")}
	p, err := NewTextPredictor(classifier(t), s)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Predict(ctx, []string{"goal"}); !errors.Is(err, s.fail) {
		t.Error(err)
	}
	s.fail = nil
	if _, err := p.Predict(ctx, []string{"goal", ""}); err == nil || !strings.Contains(err.Error(), "text[1]") {
		t.Error(err)
	}
	s.logits = func(l []float32) { l[0] = float32(math.NaN()) }
	if _, err := p.Predict(ctx, []string{"goal"}); err == nil || !strings.Contains(err.Error(), "not finite") {
		t.Error(err)
	}
	cancelled, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := p.Predict(cancelled, []string{"goal"}); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if _, err := NewTextPredictor(classifier(t), &counting{outputs: []onnx.Value{}}); galley.CodeOf(err) != galley.FailedPrecondition {
		t.Error(err)
	}
}

func TestPredictConcurrently(t *testing.T) {
	c := classifier(t)
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			p, err := NewTextPredictor(c, new(counting))
			if err != nil {
				t.Error(err)
				return
			}
			for range 50 {
				out, err := p.Predict(context.Background(), []string{"goal goal", "bank"})
				if err != nil || out[0].Label != "sport" || out[1].Label != "money" {
					t.Error(i, out, err)
					return
				}
			}
		})
	}
	wg.Wait()
}
