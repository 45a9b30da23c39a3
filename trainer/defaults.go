package trainer

// The tasks that can be trained.
const (
	TextClassification = "text-classification"
	TextMLM            = "text-mlm"
)

// defaults returns what a job file of kind Train leaves out. from says that the
// job goes on from a model, which then fixes architecture and tokenizer. An unknown task
// has the defaults of classification.
func defaults(task string, from bool) Spec {
	s := Spec{
		APIVersion: APIVersion,
		Kind:       KindTrain,
		Task:       task,
		Data:       Data{Fraction: 1},
		Model: Model{
			Architecture: "text-encoder",
			Layers:       2,
			Hidden:       128,
			Heads:        4,
			FeedForward:  256,
			MaxLength:    64,
			Dropout:      0.1,
			NGrams:       NGrams{Orders: 3, Buckets: 1 << 17, Width: 32},
			Tokenizer:    "wordpiece",
			Vocabulary:   8000,
			MinFrequency: 12,
		},
		Recipe: Recipe{
			Epochs:     8,
			BatchSize:  32,
			Accumulate: 1,
			Optimizer: Optimizer{
				Name: "adamw", LR: 1e-3, Beta1: 0.9, Beta2: 0.999, Epsilon: 1e-8, WeightDecay: 0.01, TableRate: 2,
			},
			Schedule:        Schedule{Decay: "cosine", Warmup: 0.06},
			ClipNorm:        1,
			LabelSmoothing:  0.1,
			TokenDropout:    0.2,
			BranchLoss:      0.5,
			ClassWeights:    ClassWeights{Mode: "none"},
			CheckpointEvery: 100,
			Seed:            1,
		},
		Engine:    "onnx",
		Resources: Resources{CPUs: 2},
		Priority:  50,
		Retries:   2,
	}
	if task == TextMLM {
		s.Model.NGrams = NGrams{}
		s.Recipe.LabelSmoothing, s.Recipe.TokenDropout, s.Recipe.BranchLoss = 0, 0, 0
		// Small encoders on a newsroom's own texts underfit: dropout costs, and
		// hiding more than BERT's 15 % teaches more (Wettig et al., 2023). With
		// 15 % and dropout, AG News stayed near the frequencies of its words.
		s.Recipe.MaskRate, s.Model.Dropout = 0.3, 0
		s.Recipe.Epochs, s.Recipe.Optimizer.LR = 30, 2e-3
	}
	if from {
		s.Model.fixed()
	}
	return s
}

// defaultDistill returns what a job file of kind Distill leaves out. from says
// that the student goes on from a model.
func defaultDistill(task string, from bool) Spec {
	s := defaults(task, from)
	s.Kind = KindDistill
	s.Student.Model, s.Model = s.Model, Model{}
	if !from {
		m := &s.Student.Model
		m.Layers, m.Hidden, m.FeedForward = 1, 64, 128
		m.NGrams.Buckets = 1 << 15
	}
	// Teachers that galley trained are soft already, by label smoothing and
	// token dropout: at 2 students of AG News and THUCNews were worse.
	s.Temperature, s.Alpha = 1, 0.7
	s.Recipe.LabelSmoothing = 0 // the teachers' answers are softer, and truer
	return s
}

// fixed empties what the model that is gone on from decides.
func (m *Model) fixed() {
	m.Architecture, m.Tokenizer = "", ""
	m.Layers, m.Hidden, m.Heads, m.FeedForward, m.Vocabulary, m.MinFrequency = 0, 0, 0, 0, 0, 0
}
