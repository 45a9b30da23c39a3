package trainer

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"galley"
	"galley/dataset"
	"galley/internal/strictyaml"
)

// Validate checks a spec that did not come from a file.
func (s Spec) Validate() error {
	return s.validate(func(path, message, remedy string) strictyaml.Problem {
		return strictyaml.Problem{Path: path, Message: message, Remedy: remedy}
	}, s.gives).AsError("spec")
}

// A checker collects the problems of a spec; place finds a field in the file.
type checker struct {
	place    func(path, message, remedy string) strictyaml.Problem
	problems strictyaml.Problems
}

// validate checks a spec; given says which fields it, or its file, gives.
func (s Spec) validate(place func(path, message, remedy string) strictyaml.Problem, given func(path string) bool) strictyaml.Problems {
	c := &checker{place: place}
	c.names(s)
	c.kind(s, given)
	if s.trains() {
		c.data(s.Data)
		c.model(s)
		c.recipe(s)
	}
	switch s.Kind {
	case KindDistill:
		c.distill(s)
	case KindQuantize:
		c.quantize(s, given)
	case KindFederate:
		c.federate(s)
	case KindEval, KindPromote:
		c.measure(s)
	case KindPipeline:
		c.pipeline(s, given)
	}
	if s.makesVersion() {
		c.ranges(s)
	}
	if s.runsAttempts() {
		c.schedule(s)
	}
	return c.problems
}

func (c *checker) wrong(path, remedy, format string, args ...any) {
	c.problems = append(c.problems, c.place(path, fmt.Sprintf(format, args...), remedy))
}

// coded takes over an error of another package's check.
func (c *checker) coded(path string, err error) {
	if err == nil {
		return
	}
	e := galley.AsError(err)
	c.wrong(path, e.Remedy, "%s", e.Message)
}

// choice checks a word against those known here and those of later builds.
func (c *checker) choice(path, word string, known, later []string) {
	switch {
	case slices.Contains(known, word):
	case word == "":
		c.wrong(path, "choose one of "+strings.Join(known, ", "), "is missing")
	case slices.Contains(later, word):
		c.wrong(path, "this build has "+strings.Join(known, ", "), "%s is not there yet", word)
	default:
		c.wrong(path, strictyaml.Nearest(word, slices.Concat(known, later)), "%q is not known", galley.Clip(word, 80))
	}
}

func (c *checker) names(s Spec) {
	if s.APIVersion != APIVersion || !slices.Contains(kinds, s.Kind) && !slices.Contains(stepKinds, s.Kind) {
		c.wrong("kind", "write apiVersion: "+APIVersion+" and kind: "+KindTrain, "is %q of %q", galley.Clip(s.Kind, 80), galley.Clip(s.APIVersion, 80))
	}
	switch {
	case !slices.Contains(kinds, s.Kind): // it makes nothing that has a name
	case s.Name == "":
		c.wrong("name", "give the model a name, as in name: news-topic", "is missing")
	default:
		c.coded("name", galley.CheckName("name", s.Name))
	}
	if s.trains() {
		c.choice("task", s.Task, []string{TextClassification, TextMLM},
			[]string{"token-classification", "text-embedding", "image-classification", "speech-ctc"})
		c.choice("engine", s.Engine, []string{"onnx"}, []string{"gorgonia", "torch"})
	}
	if start := s.Start(); start != "" && !strings.HasSuffix(start, ".onnx") {
		if _, err := galley.ParseRef(start); err != nil {
			c.wrong(s.StartPath(), "write a version (news-base@2, news-base:prod), an upload's digest, or the path of an .onnx file",
				"%q is not a model", galley.Clip(start, 80))
		}
	}
}

func (c *checker) data(d Data) {
	switch {
	case d.Dataset == "" && d.Train == "":
		c.wrong("data", "write dataset: NAME, or train: FILE", "names no data")
	case d.Dataset != "" && d.Train != "":
		c.wrong("data", "keep one of dataset and train", "names a registered dataset and files")
	case d.Dataset != "":
		c.coded("data.dataset", checkDataset(d.Dataset))
	}
	if d.Train == "" {
		for _, f := range []struct{ path, value string }{
			{"data.valid", d.Valid}, {"data.test", d.Test}, {"data.format", d.Format}, {"data.columns", d.Columns},
		} {
			if f.value != "" {
				c.wrong(f.path, "give it with train: FILE, or leave it out", "goes with data.train only")
			}
		}
		return
	}
	if d.Format == "" {
		c.wrong("data.format", "write format: csv, jsonl or parquet", "is missing")
	} else {
		_, err := dataset.ParseFormat(d.Format)
		c.coded("data.format", err)
	}
	_, err := dataset.ParseColumns(d.Columns)
	c.coded("data.columns", err)
	for _, f := range []struct{ path, value string }{{"data.train", d.Train}, {"data.valid", d.Valid}, {"data.test", d.Test}} {
		if len(f.value) > maxPath || strings.ContainsRune(f.value, 0) {
			c.wrong(f.path, "", "is not a path")
		}
	}
}

// checkDataset checks the name of a registered dataset.
func checkDataset(name string) error {
	ref, err := galley.ParseRef(name)
	if err == nil && (ref.Alias != "" || ref.Digest != "") {
		err = galley.Errorf(galley.InvalidArgument, "", "%q is not a dataset", galley.Clip(name, 80)).
			WithRemedy("write a name, or a name@version")
	}
	return err
}

// maxPath bounds the names of files in a spec.
const maxPath = 4096

func (c *checker) model(s Spec) {
	m, at, from := s.Architecture(), s.section()+".", s.StartPath()
	if s.Start() != "" {
		for _, f := range []struct {
			name  string
			given bool
		}{
			{"architecture", m.Architecture != ""}, {"layers", m.Layers != 0}, {"hidden", m.Hidden != 0},
			{"heads", m.Heads != 0}, {"feed_forward", m.FeedForward != 0},
			{"tokenizer", m.Tokenizer != ""}, {"vocabulary", m.Vocabulary != 0}, {"min_frequency", m.MinFrequency != 0},
		} {
			if f.given {
				c.wrong(at+f.name, "leave it out: architecture, layers, hidden, heads, feed_forward, tokenizer and vocabulary are those of `"+from+"`",
					"is fixed by the model that `%s` names", from)
			}
		}
	} else {
		c.choice(at+"architecture", m.Architecture, []string{"text-encoder"}, []string{"image-cnn", "speech-ctc"})
		c.choice(at+"tokenizer", m.Tokenizer, []string{"wordpiece", "character"}, nil)
		if m.Features != "" {
			c.wrong(at+"features", "leave it out, or name an .onnx file as `"+from+"`", "names a value of an outside graph, but there is no `%s`", from)
		}
		if m.Heads > 0 && m.Hidden%m.Heads != 0 {
			c.wrong(at+"heads", fmt.Sprintf("choose one of %s", divisors(m.Hidden)), "%d does not divide %shidden, which is %d", m.Heads, at, m.Hidden)
		}
	}
	if len(m.Features) > maxPath {
		c.wrong(at+"features", "", "is longer than %d bytes", maxPath)
	}
	if s.Task == TextMLM && m.NGrams.Orders != 0 {
		c.wrong(at+"ngrams", "leave it out: n-grams join the model when a classifier is trained", "cannot be pretrained by text-mlm")
	}
}

// divisors lists the numbers of heads that a width can have.
func divisors(width int) string {
	var out []string
	for i := 1; i <= min(width, 16); i++ {
		if width%i == 0 {
			out = append(out, strconv.Itoa(i))
		}
	}
	return strings.Join(out, ", ")
}

func (c *checker) recipe(s Spec) {
	r := s.Recipe
	c.choice("recipe.optimizer.name", r.Optimizer.Name, []string{"adamw"}, nil)
	c.choice("recipe.schedule.decay", r.Schedule.Decay, []string{"cosine", "linear", "constant"}, nil)
	c.choice("recipe.class_weights.mode", r.ClassWeights.Mode, []string{"none", "balanced", "given"}, nil)
	weights := r.ClassWeights
	switch {
	case weights.Mode == "given" && len(weights.Values) == 0:
		c.wrong("recipe.class_weights.values", "write a weight for each label, as in values: {sport: 1, politics: 2}", "is missing")
	case weights.Mode != "given" && len(weights.Values) > 0:
		c.wrong("recipe.class_weights.values", "write mode: given, or leave the values out", "goes with mode: given only")
	}
	if len(weights.Values) > dataset.MaxLabels {
		c.wrong("recipe.class_weights.values", "", "has %d labels, more than %d", len(weights.Values), dataset.MaxLabels)
	}
	if s.Task == TextMLM {
		if weights.Mode != "none" {
			c.wrong("recipe.class_weights", "leave it out", "goes with classification only")
		}
		if r.LabelSmoothing != 0 {
			c.wrong("recipe.label_smoothing", "leave it out", "goes with classification only")
		}
		if r.BranchLoss != 0 {
			c.wrong("recipe.branch_loss", "leave it out", "goes with classification only")
		}
	} else if r.MaskRate != 0 {
		c.wrong("recipe.mask_rate", "leave it out", "goes with task: text-mlm only")
	}
}

// maxNeeds bounds the jobs that a job waits for.
const maxNeeds = 100

// jobName is the ID of a job.
var jobName = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,99}$`)

func (c *checker) schedule(s Spec) {
	if s.Resources.Memory != "" {
		n, err := ParseMemory(s.Resources.Memory)
		c.coded("resources.memory", err)
		if err == nil && (n < 64<<20 || n > 64<<40) {
			c.wrong("resources.memory", "write an amount from 64MiB to 65536GiB", "%s is out of range", galley.Clip(s.Resources.Memory, 80))
		}
	}
	if len(s.Needs) > maxNeeds {
		c.wrong("needs", fmt.Sprintf("name at most %d", maxNeeds), "names %d jobs", len(s.Needs))
		return
	}
	for i, id := range s.Needs {
		switch {
		case !jobName.MatchString(id):
			c.wrong("needs", "write a job, as galley jobs list names it", "%q is not a job", galley.Clip(id, 80))
		case slices.Contains(s.Needs[:i], id):
			c.wrong("needs", "name it once", "%s is named twice", id)
		}
	}
}
