package trainer

import (
	"regexp"
	"strconv"

	"galley"
)

// memoryText is an amount of memory as a job file says it.
var memoryText = regexp.MustCompile(`^([1-9][0-9]{0,6})(MiB|GiB)$`)

// ParseMemory reads an amount of memory, as 512MiB or 4GiB, in bytes.
func ParseMemory(s string) (int64, error) {
	m := memoryText.FindStringSubmatch(s)
	if m == nil {
		return 0, galley.Errorf(galley.InvalidArgument, "resources.memory", "%q is not an amount of memory", galley.Clip(s, 80)).
			WithRemedy("write a whole number of MiB or GiB, as in 512MiB or 4GiB")
	}
	n, err := strconv.ParseInt(m[1], 10, 64)
	if err != nil {
		return 0, err // seven digits are a number
	}
	if m[2] == "GiB" {
		return n << 30, nil
	}
	return n << 20, nil
}

// MemoryNeed returns the bytes that an attempt is to reserve: what the spec
// says, or an estimate for its kind. parent is the size of the graph that the
// job goes on from or makes smaller, teachers those of the graphs that it
// learns from, in bytes.
func (s Spec) MemoryNeed(parent int64, teachers ...int64) int64 {
	if n, err := ParseMemory(s.Resources.Memory); err == nil {
		return n
	}
	if s.Kind == KindQuantize {
		return s.quantizeMemory(parent)
	}
	need := s.trainingMemory(parent)
	for _, teacher := range teachers { // one after the other, before training begins
		need = max(need, runtimeMemory+2*teacher+answering)
	}
	return need
}

const (
	runtimeMemory = 300 << 20 // of ONNX Runtime and the process
	answering     = 200 << 20 // of a teacher that answers a batch
)

// trainingMemory counts the weights six times (weights, gradient, two moments,
// the best so far, one in passing), a batch's activations twice, and the
// runtime. It errs on the high side for short texts: batches are rarely as
// long as max_length.
func (s Spec) trainingMemory(parent int64) int64 {
	m := s.Architecture()
	layers, hidden, heads, feedForward := float64(m.Layers), float64(m.Hidden), float64(m.Heads), float64(m.FeedForward)
	weights := 4 * (float64(m.Vocabulary)*hidden + layers*(4*hidden*hidden+2*hidden*feedForward))
	if s.Start() != "" {
		// The graph decides; these are the sizes of a small encoder.
		layers, hidden, heads, feedForward = 6, 384, 12, 1536
		weights = float64(parent)
	}
	weights += 4 * float64(m.NGrams.Buckets) * float64(m.NGrams.Width)
	length := float64(m.MaxLength)
	perToken := layers * (10*hidden + 2*feedForward + 2*heads*length)
	if s.Task == TextMLM {
		perToken += 2 * s.Recipe.MaskRate * float64(m.Vocabulary)
	}
	activations := 2 * 4 * float64(s.Recipe.BatchSize) * length * perToken
	return runtimeMemory + int64(6*weights+activations)
}
