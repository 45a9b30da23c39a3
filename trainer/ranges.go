package trainer

import (
	"fmt"
	"maps"
	"slices"
	"strconv"

	"galley"
)

// whole and real are numbers of a spec and the ranges they must lie in, ends
// included but for a real one's low end if it says above.
type (
	whole struct {
		path      string
		value     int
		low, high int
	}
	real struct {
		path      string
		value     float64
		low, high float64
		above     bool
	}
)

func (c *checker) ranges(s Spec) {
	var wholes []whole
	var reals []real
	add := func(w []whole, r []real) { wholes, reals = append(wholes, w...), append(reals, r...) }
	if s.trains() {
		add(networkRanges(s))
	}
	if slices.Contains(recipeKinds, s.Kind) {
		add(recipeRanges(s))
	}
	if s.Kind == KindQuantize {
		add(quantizeRanges(s))
	}
	if s.Kind == KindFederate {
		add(federateRanges(s.Federate))
	}
	if s.runsAttempts() {
		add([]whole{
			{"resources.cpus", s.Resources.CPUs, 1, 1024},
			{"resources.gpus", s.Resources.GPUs, 0, 0},
			{"priority", s.Priority, 0, 100},
			{"retries", s.Retries, 0, maxRetries},
		}, nil)
	}
	if s.Kind == KindDistill {
		reals = append(reals, real{"temperature", s.Temperature, 0, maxTemperature, true}, real{"alpha", s.Alpha, 0, 1, false},
			real{"hidden_loss", s.HiddenLoss, 0, 1000, false})
	}
	for _, w := range wholes {
		c.whole(w)
	}
	for _, x := range reals {
		c.real(x)
	}
}

// maxTemperature bounds the temperature of a distillation: far below it all
// answers are as likely as any.
const maxTemperature = 100

// networkRanges are the numbers of a spec that trains, but for its recipe's.
func networkRanges(s Spec) ([]whole, []real) {
	m, at := s.Architecture(), s.section()+"."
	wholes := []whole{
		{at + "max_length", m.MaxLength, 4, 8192},
		{at + "ngrams.orders", m.NGrams.Orders, 0, 5},
	}
	if s.Start() == "" {
		wholes = append(wholes,
			whole{at + "layers", m.Layers, 0, 64},
			whole{at + "hidden", m.Hidden, 8, 4096},
			whole{at + "heads", m.Heads, 1, 128},
			whole{at + "feed_forward", m.FeedForward, 8, 16384},
			whole{at + "vocabulary", m.Vocabulary, 100, 200_000},
			whole{at + "min_frequency", m.MinFrequency, 1, 1_000_000},
		)
	}
	if m.NGrams.Orders > 0 {
		wholes = append(wholes,
			whole{at + "ngrams.buckets", m.NGrams.Buckets, 16, 1 << 24},
			whole{at + "ngrams.width", m.NGrams.Width, 1, 4096},
		)
	}
	return wholes, []real{{"data.fraction", s.Data.Fraction, 0, 1, true}, {at + "dropout", m.Dropout, 0, 0.9, false}}
}

// recipeRanges are the numbers of a recipe.
func recipeRanges(s Spec) ([]whole, []real) {
	r, o := s.Recipe, s.Recipe.Optimizer
	wholes := []whole{
		{"recipe.epochs", r.Epochs, 1, 10_000},
		{"recipe.max_steps", r.MaxSteps, 0, 100_000_000},
		{"recipe.batch_size", r.BatchSize, 1, 4096},
		{"recipe.accumulate", r.Accumulate, 1, 1024},
		{"recipe.early_stop", r.EarlyStop, 0, 1000},
		{"recipe.validate_every", r.ValidateEvery, 0, 1_000_000},
		{"recipe.checkpoint_every", r.CheckpointEvery, 1, 1_000_000},
	}
	reals := []real{
		{"recipe.optimizer.lr", o.LR, 0, 10, true},
		{"recipe.optimizer.beta1", o.Beta1, 0, 0.99999, false},
		{"recipe.optimizer.beta2", o.Beta2, 0, 0.9999999, false},
		{"recipe.optimizer.epsilon", o.Epsilon, 0, 1, true},
		{"recipe.optimizer.weight_decay", o.WeightDecay, 0, 10, false},
		{"recipe.branch_loss", r.BranchLoss, 0, 1, false},
		{"recipe.optimizer.table_rate", o.TableRate, 0, 1000, false},
		{"recipe.schedule.warmup", r.Schedule.Warmup, 0, 1, false},
		{"recipe.schedule.floor", r.Schedule.Floor, 0, 1, false},
		{"recipe.clip_norm", r.ClipNorm, 0, 1e6, false},
		{"recipe.label_smoothing", r.LabelSmoothing, 0, 0.9, false},
		{"recipe.token_dropout", r.TokenDropout, 0, 0.9, false},
	}
	if s.Task == TextMLM && s.trains() {
		reals = append(reals, real{"recipe.mask_rate", r.MaskRate, 0, 0.9, true})
	}
	for _, label := range slices.Sorted(maps.Keys(r.ClassWeights.Values)) {
		reals = append(reals, real{"recipe.class_weights.values." + galley.Clip(label, 80), r.ClassWeights.Values[label], 0, 1000, true})
	}
	return wholes, reals
}

// whole checks a whole number.
func (c *checker) whole(w whole) {
	switch {
	case w.value >= w.low && w.value <= w.high:
	case w.low == w.high:
		c.wrong(w.path, fmt.Sprintf("write %d", w.low), "is %d; this build has none", w.value)
	default:
		c.wrong(w.path, fmt.Sprintf("write a whole number from %d to %d", w.low, w.high), "%d is out of range", w.value)
	}
}

// real checks a number.
func (c *checker) real(x real) {
	// Written so that NaN is in no range.
	if x.value <= x.high && (x.value > x.low || x.value == x.low && !x.above) {
		return
	}
	remedy := fmt.Sprintf("write a number from %s to %s", number(x.low), number(x.high))
	if x.above {
		remedy = fmt.Sprintf("write a number above %s, at most %s", number(x.low), number(x.high))
	}
	c.wrong(x.path, remedy, "%s is out of range", number(x.value))
}

func number(f float64) string { return strconv.FormatFloat(f, 'g', -1, 64) }
