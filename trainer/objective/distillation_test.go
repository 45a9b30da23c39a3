package objective_test

import (
	"context"
	"math"
	"math/rand/v2"
	"testing"

	"galley/distill"
	"galley/internal/ort/orttest"
	"galley/onnx"
	"galley/onnx/grad"
	"galley/onnx/session"
	"galley/trainer/architecture"
	"galley/trainer/objective"
)

// A lesson is a batch of a distillation: its logits, labels (-1 for none) and
// the logits of a teacher.
type lesson struct {
	classes            int
	logits, teacher    []float32
	labels             []int
	temperature, alpha float64
}

func newLesson(seed uint64, labels []int, classes int, temperature, alpha float64) lesson {
	return lesson{
		classes: classes, labels: labels, temperature: temperature, alpha: alpha,
		logits: normal(seed, len(labels)*classes), teacher: normal(seed+100, len(labels)*classes),
	}
}

// inputs are what the loss is fed with.
func (l lesson) inputs(t *testing.T) map[string]*session.Tensor {
	n, rows := l.classes, len(l.labels)
	hard, soft := make([]float32, rows*n), make([]float32, rows*n)
	places := make([]int, n)
	for i := range places {
		places[i] = i
	}
	entropy, weight := 0.0, l.alpha*l.temperature*l.temperature/float64(rows)
	for i, y := range l.labels {
		p := make([]float64, n)
		distill.Soften(p, l.teacher[i*n:(i+1)*n], places, l.temperature, 1)
		row := soft[i*n : (i+1)*n]
		for j := range row {
			row[j] = float32(p[j])
		}
		entropy += weight * distill.Entropy(row)
		for j := range row {
			row[j] = float32(weight * p[j])
		}
		if y >= 0 {
			hard[i*n+y] = float32((1 - l.alpha) / float64(rows))
		}
	}
	shape := []int64{int64(rows), int64(n)}
	return map[string]*session.Tensor{
		objective.Targets: tensor(t, hard, shape...), objective.SoftTargets: tensor(t, soft, shape...),
		objective.SoftEntropy: tensor(t, []float32{float32(entropy)}),
	}
}

// loss is the definition, in float64: alpha·T²·KL(teacher_T ‖ student_T) and
// 1-alpha of the cross-entropy of rows with a label, over all rows.
func (l lesson) loss(logits []float64) float64 {
	n, total := l.classes, 0.0
	for i, y := range l.labels {
		teacher := make([]float64, n)
		for j := range teacher {
			teacher[j] = float64(l.teacher[i*n+j])
		}
		row := logits[i*n : (i+1)*n]
		p, q := logSoftmaxAt(teacher, l.temperature), logSoftmaxAt(row, l.temperature)
		for j := range p {
			total += l.alpha * l.temperature * l.temperature * math.Exp(p[j]) * (p[j] - q[j])
		}
		if y >= 0 {
			total -= (1 - l.alpha) * logSoftmaxAt(row, 1)[y]
		}
	}
	return total / float64(len(l.labels))
}

func logSoftmaxAt(row []float64, temperature float64) []float64 {
	sum := 0.0
	for _, x := range row {
		sum += math.Exp(x / temperature)
	}
	out := make([]float64, len(row))
	for i, x := range row {
		out[i] = x/temperature - math.Log(sum)
	}
	return out
}

// lessons cover temperatures, shares, and rows without a label.
func lessons() []lesson {
	var out []lesson
	labels := [][]int{{0, 3, 1, 1, 2, 0, 3}, {-1, 2, -1, 0, -1}, {-1, -1}}
	for i, temperature := range []float64{0.5, 1, 2, 8} {
		for k, alpha := range []float64{0, 0.3, 0.7, 1} {
			out = append(out, newLesson(uint64(10*i+k), labels[(i+k)%3], 4, temperature, alpha))
		}
	}
	return out
}

func widen(values []float32) []float64 {
	out := make([]float64, len(values))
	for i, x := range values {
		out[i] = float64(x)
	}
	return out
}

func TestDistillationLoss(t *testing.T) {
	for _, l := range lessons() {
		m, err := objective.Distillation(logitsModel(architecture.Logits, onnx.Shape{onnx.Symbol("batch"), {Size: int64(l.classes)}}), 0.5, l.temperature, nil)
		if err != nil {
			t.Fatal(err)
		}
		inputs := l.inputs(t)
		inputs["x"] = tensor(t, l.logits, int64(len(l.labels)), int64(l.classes))
		if got, want := loss(t, m, inputs), l.loss(widen(l.logits)); math.Abs(got-want) > 1e-5*(1+want) {
			t.Errorf("T %v, alpha %v, labels %v: %v, want %v", l.temperature, l.alpha, l.labels, got, want)
		}
	}
}

// weightsModel has its logits as weights: the gradient by them is that of the
// loss by the logits.
func weightsModel(logits []float32, rows, classes int) *onnx.Model {
	b := onnx.NewBuilder(&onnx.Graph{Name: "logits"})
	w := b.Weight(onnx.NewFloat("w", logits, int64(rows), int64(classes)))
	b.Graph.Nodes = append(b.Graph.Nodes, &onnx.Node{Name: "pass", Op: "Identity", Inputs: []string{w}, Outputs: []string{architecture.Logits}})
	b.Output(architecture.Logits, onnx.Float, onnx.Shape{{Size: int64(rows)}, {Size: int64(classes)}})
	return &onnx.Model{IRVersion: 9, Opsets: map[string]int64{"": architecture.Opset}, Graph: b.Graph}
}

// gradient runs the differentiated loss of a lesson.
func (l lesson) gradient(t *testing.T) []float32 {
	t.Helper()
	m, err := objective.Distillation(weightsModel(l.logits, len(l.labels), l.classes), 0, l.temperature, nil)
	if err != nil {
		t.Fatal(err)
	}
	d, err := grad.Differentiate(m, grad.Options{Loss: objective.Loss, Wrt: []string{"w"}})
	if err != nil {
		t.Fatal(err)
	}
	data, err := onnx.Marshal(d.Model)
	if err != nil {
		t.Fatal(err)
	}
	s, err := orttest.Opener(t).Open(t.Context(), data, session.Options{Threads: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	inputs := l.inputs(t)
	inputs["w"] = tensor(t, l.logits, int64(len(l.labels)), int64(l.classes))
	out, err := s.Run(context.Background(), inputs, d.Gradients["w"].Dense)
	if err != nil {
		t.Fatal(err)
	}
	return session.Data[float32](out[d.Gradients["w"].Dense])
}

// The gradient is that of central finite differences of the definition.
func TestDistillationGradient(t *testing.T) {
	for _, l := range lessons() {
		got := l.gradient(t)
		at := widen(l.logits)
		for range 12 {
			i := rand.IntN(len(at))
			const h = 1e-5
			x := at[i]
			at[i] = x + h
			high := l.loss(at)
			at[i] = x - h
			low := l.loss(at)
			at[i] = x
			if want := (high - low) / (2 * h); math.Abs(float64(got[i])-want) > 1e-5 {
				t.Errorf("T %v, alpha %v, labels %v, logit %d: %v, want %v", l.temperature, l.alpha, l.labels, i, got[i], want)
			}
		}
	}
}

// With hidden states to match, the gradients by the state and by the
// projection are those of central finite differences, too.
func TestMatchGradient(t *testing.T) {
	const target, share = 3, 0.25
	l := newLesson(7, []int{0, 2, -1, 3, 1}, 4, 2, 0.7)
	rows, width := len(l.labels), l.classes
	m, err := objective.Distillation(weightsModel(l.logits, rows, width), 0, l.temperature, &objective.Match{
		State: onnx.Value{Name: "w", Type: onnx.Float, Shape: onnx.Shape{{Size: int64(rows)}, {Size: int64(width)}}}, Target: target, Seed: 5,
	})
	if err != nil {
		t.Fatal(err)
	}
	names := objective.Trainable(m)
	if len(names) != 3 {
		t.Fatalf("weights %v", names)
	}
	d, err := grad.Differentiate(m, grad.Options{Loss: objective.Loss, Wrt: names})
	if err != nil {
		t.Fatal(err)
	}
	data, err := onnx.Marshal(d.Model)
	if err != nil {
		t.Fatal(err)
	}
	s, err := orttest.Opener(t).Open(t.Context(), data, session.Options{Threads: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	inputs := l.inputs(t)
	states := normal(99, rows*target)
	inputs[objective.HiddenTargets] = tensor(t, states, int64(rows), target)
	inputs[objective.HiddenWeight] = tensor(t, []float32{share})
	at := map[string][]float64{}
	for _, name := range names {
		w := m.Graph.Initializer(name)
		values, ok := w.Floats()
		if !ok {
			t.Fatal(name)
		}
		if len(values) == target { // the bias begins at zero
			values = []float32{0.1, -0.2, 0.3}
		}
		at[name] = widen(values)
		inputs[name] = tensor(t, values, w.Dims...)
	}
	out, err := s.Run(context.Background(), inputs)
	if err != nil {
		t.Fatal(err)
	}
	weight, bias := "distill.projection.weight", "distill.projection.bias"
	loss := func() float64 {
		total := l.loss(at["w"])
		for i := range rows {
			for j := range target {
				x := at[bias][j] - float64(states[i*target+j])
				for k := range width {
					x += at["w"][i*width+k] * at[weight][k*target+j]
				}
				total += share * x * x
			}
		}
		return total
	}
	if got, want := float64(session.Data[float32](out[objective.Loss])[0]), loss(); math.Abs(got-want) > 1e-5*want {
		t.Errorf("loss %v, want %v", got, want)
	}
	for _, name := range names {
		got := session.Data[float32](out[d.Gradients[name].Dense])
		for i := range got {
			const h = 1e-5
			x := at[name][i]
			at[name][i] = x + h
			high := loss()
			at[name][i] = x - h
			low := loss()
			at[name][i] = x
			if want := (high - low) / (2 * h); math.Abs(float64(got[i])-want) > 1e-4*(1+math.Abs(want)) {
				t.Errorf("%s %d: %v, want %v", name, i, got[i], want)
			}
		}
	}
}
