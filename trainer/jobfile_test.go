package trainer

import (
	"bytes"
	"math"
	"os"
	"reflect"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"galley"
)

const shortest = `apiVersion: galley/v1
kind: Train
name: news-topic
task: text-classification
data: {dataset: headlines}
`

func TestShortestFile(t *testing.T) {
	got, problems := ParseFile([]byte(shortest), nil)
	if problems != nil {
		t.Fatal(problems)
	}
	want := defaults(TextClassification, false)
	want.Name, want.Data.Dataset = "news-topic", "headlines"
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v\nwant %+v", got, want)
	}
	if err := got.Validate(); err != nil {
		t.Error(err)
	}
	if got.Digest() == "" {
		t.Error("no digest")
	}
}

// The whole file with its defaults, as --print-spec shows it.
func TestPrintSpec(t *testing.T) {
	for _, c := range []struct{ golden, file string }{
		{"classification.yaml", shortest},
		{"from.yaml", shortest + "from: news-base@2\n"},
		{"mlm.yaml", strings.ReplaceAll(shortest, "text-classification", "text-mlm")},
	} {
		s, problems := ParseFile([]byte(c.file), nil)
		if problems != nil {
			t.Fatal(problems)
		}
		got, err := s.YAML()
		if err != nil {
			t.Fatal(err)
		}
		golden(t, "testdata/jobfile/"+c.golden, got)
	}
}

// golden compares with a file, which -rewrite writes.
func golden(t *testing.T, path string, got []byte) {
	t.Helper()
	if *rewrite {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s: got\n%s", path, got)
	}
}

func TestSets(t *testing.T) {
	s, problems := ParseFile([]byte(shortest), []string{
		"recipe.epochs=3", "recipe.optimizer.lr=5e-4", "data.dataset=other@2", "model.ngrams={orders: 0}", "recipe.seed=18446744073709551615",
	})
	if problems != nil {
		t.Fatal(problems)
	}
	if s.Recipe.Epochs != 3 || s.Recipe.Optimizer.LR != 5e-4 || s.Data.Dataset != "other@2" || s.Model.NGrams != (NGrams{}) || s.Recipe.Seed != math.MaxUint64 {
		t.Errorf("%+v", s)
	}
}

func TestMessages(t *testing.T) {
	for _, c := range []struct {
		name, file, want string
		sets             []string
	}{
		{"unknown field", shortest + "recipe:\n  epoch: 3\n",
			`line 7, column 3: recipe.epoch: is not a field here — did you mean "epochs"?`, nil},
		{"unknown field at the top", shortest + "enigne: onnx\n",
			`line 6, column 1: enigne: is not a field here — did you mean "engine"?`, nil},
		{"wrong type", shortest + "recipe: {epochs: many}\n",
			`line 6, column 18: recipe.epochs: is "many" — write a whole number`, nil},
		{"fraction of an epoch", shortest + "recipe: {epochs: 1.5}\n",
			`line 6, column 18: recipe.epochs: is "1.5" — write a whole number`, nil},
		{"a list for a mapping", shortest + "recipe: [1]\n",
			`line 6, column 9: recipe: is a list — write a mapping`, nil},
		{"out of range", shortest + "recipe: {epochs: 0}\n",
			`line 6, column 18: recipe.epochs: 0 is out of range — write a whole number from 1 to 10000`, nil},
		{"rate out of range", shortest + "recipe: {optimizer: {lr: 0}}\n",
			`line 6, column 26: recipe.optimizer.lr: 0 is out of range — write a number above 0, at most 10`, nil},
		{"not a number", shortest + "recipe: {optimizer: {lr: .nan}}\n",
			`line 6, column 26: recipe.optimizer.lr: is ".nan" — write a number`, nil},
		{"duplicate key", shortest + "name: again\n",
			`line 6, column 1: name: is given twice — keep one`, nil},
		{"anchor", shortest + "recipe: &r {epochs: 3}\n",
			`line 6, column 9: recipe: uses an anchor or alias — write the value out`, nil},
		{"tag", shortest + "recipe: !!map {epochs: 3}\n",
			`line 6, column 9: recipe: has the tag !!map — remove the tag`, nil},
		{"empty", "", `line 1, column 1: file: is empty`, nil},
		{"comment only", "# nothing\n", `line 1, column 1: file: is empty`, nil},
		{"not YAML", "apiVersion: [galley\n", `line 1, column 1: file: is not YAML: did not find expected ',' or ']'`, nil},
		{"zero bytes", "a\x00b", `line 1, column 1: file: is not YAML: control characters are not allowed`, nil},
		{"text only", "train please", "line 1, column 1: file: is not a mapping — begin with a line such as `apiVersion: galley/v1`", nil},
		{"two documents", shortest + "---\n" + shortest, `line 6, column 1: file: holds more than one document — keep one document a file`, nil},
		{"large", strings.Repeat("#", 1<<20+1), `file: has 1048577 bytes — a job file has at most 1048576`, nil},
		{"no kind", "apiVersion: galley/v1\n", `line 1, column 1: kind: is missing — write kind: Train`, nil},
		{"no version", "kind: Train\n", `line 1, column 1: apiVersion: is missing — write apiVersion: galley/v1`, nil},
		{"unknown kind", "apiVersion: galley/v1\nkind: Trian\n", `line 2, column 7: kind: "Trian" is not a kind — did you mean "Train"?`, nil},
		{"later kind", "apiVersion: galley/v1\nkind: Search\nspace: [a]\n",
			`line 2, column 7: kind: Search jobs are not there yet — this build runs kind: ` + strings.Join(kinds, ", "), nil},
		{"kind of a wrong type", "apiVersion: galley/v1\nkind: [Train]\n", `line 2, column 7: kind: is a list — write a text`, nil},
		{"unknown task", strings.ReplaceAll(shortest, "text-classification", "text-clasification"),
			`line 4, column 7: task: "text-clasification" is not known — did you mean "text-classification"?`, nil},
		{"later task", strings.ReplaceAll(shortest, "text-classification", "speech-ctc"),
			`line 4, column 7: task: speech-ctc is not there yet — this build has text-classification, text-mlm`, nil},
		{"later engine", shortest + "engine: torch\n",
			`line 6, column 9: engine: torch is not there yet — this build has onnx`, nil},
		{"memory", shortest + "resources: {memory: 4GB}\n",
			`line 6, column 21: resources.memory: "4GB" is not an amount of memory — write a whole number of MiB or GiB, as in 512MiB or 4GiB`, nil},
		{"little memory", shortest + "resources: {memory: 1MiB}\n",
			`line 6, column 21: resources.memory: 1MiB is out of range — write an amount from 64MiB to 65536GiB`, nil},
		{"priority", shortest + "priority: 101\n",
			`line 6, column 11: priority: 101 is out of range — write a whole number from 0 to 100`, nil},
		{"retries", shortest + "retries: -1\n",
			`line 6, column 10: retries: -1 is out of range — write a whole number from 0 to 100`, nil},
		{"needs", shortest + "needs: [base-1, ../x]\n",
			`line 6, column 8: needs: "../x" is not a job — write a job, as galley jobs list names it`, nil},
		{"needs twice", shortest + "needs: [base-1, base-1]\n",
			`line 6, column 8: needs: base-1 is named twice — name it once`, nil},
		{"needs of a wrong type", shortest + "needs: base-1\n",
			`line 6, column 8: needs: is "base-1" — write a list`, nil},
		{"gpu", shortest + "resources: {gpus: 1}\n",
			`line 6, column 19: resources.gpus: is 1; this build has none — write 0`, nil},
		{"no data", "apiVersion: galley/v1\nkind: Train\nname: a\ntask: text-mlm\n",
			`line 1, column 1: data: names no data — write dataset: NAME, or train: FILE`, nil},
		{"dataset and file", strings.ReplaceAll(shortest, "{dataset: headlines}", "{dataset: h, train: a.csv, format: csv}"),
			`line 5, column 7: data: names a registered dataset and files — keep one of dataset and train`, nil},
		{"file without format", strings.ReplaceAll(shortest, "{dataset: headlines}", "{train: a.csv}"),
			`line 5, column 7: data.format: is missing — write format: csv, jsonl or parquet`, nil},
		{"columns of a dataset", strings.ReplaceAll(shortest, "{dataset: headlines}", "{dataset: h, columns: text=a}"),
			`line 5, column 29: data.columns: goes with data.train only — give it with train: FILE, or leave it out`, nil},
		{"alias of a dataset", strings.ReplaceAll(shortest, "headlines}", "'headlines:prod'}"),
			`line 5, column 17: data.dataset: "headlines:prod" is not a dataset — write a name, or a name@version`, nil},
		{"name", strings.ReplaceAll(shortest, "news-topic", "News Topic"),
			`line 3, column 7: name: "News Topic" is not a name — use 1 to 63 lower-case letters, digits, dots, dashes or underscores, beginning with a letter or digit`, nil},
		{"heads", shortest + "model: {hidden: 100, heads: 8}\n",
			`line 6, column 29: model.heads: 8 does not divide model.hidden, which is 100 — choose one of 1, 2, 4, 5, 10`, nil},
		{"from with sizes", shortest + "from: news-base\nmodel: {layers: 3}\n",
			"line 7, column 17: model.layers: is fixed by the model that `from` names — leave it out: architecture, layers, hidden, heads, feed_forward, tokenizer and vocabulary are those of `from`", nil},
		{"from of nothing", shortest + "from: '@3'\n",
			`line 6, column 7: from: "@3" is not a model — write a version (news-base@2, news-base:prod), an upload's digest, or the path of an .onnx file`, nil},
		{"features without from", shortest + "model: {features: hidden}\n",
			"line 6, column 19: model.features: names a value of an outside graph, but there is no `from` — leave it out, or name an .onnx file as `from`", nil},
		{"n-grams of text-mlm", strings.ReplaceAll(shortest, "text-classification", "text-mlm") + "model: {ngrams: {orders: 2, buckets: 64, width: 8}}\n",
			`line 6, column 17: model.ngrams: cannot be pretrained by text-mlm — leave it out: n-grams join the model when a classifier is trained`, nil},
		{"masks of classification", shortest + "recipe: {mask_rate: 0.2}\n",
			`line 6, column 21: recipe.mask_rate: goes with task: text-mlm only — leave it out`, nil},
		{"weights without values", shortest + "recipe: {class_weights: {mode: given}}\n",
			`line 6, column 25: recipe.class_weights.values: is missing — write a weight for each label, as in values: {sport: 1, politics: 2}`, nil},
		{"a weight of zero", shortest + "recipe: {class_weights: {mode: given, values: {sport: 0}}}\n",
			`line 6, column 55: recipe.class_weights.values.sport: 0 is out of range — write a number above 0, at most 1000`, nil},
		{"set out of range", shortest, `recipe.epochs: -1 is out of range — write a whole number from 1 to 10000`, []string{"recipe.epochs=-1"}},
		{"set of an unknown field", shortest, `recipe.epoch: is not a field here — did you mean "epochs"?`, []string{"recipe.epoch=1"}},
		{"set without a value", shortest, `--set recipe.epochs: is not path=value — write --set recipe.epochs=3`, []string{"recipe.epochs"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, problems := ParseFile([]byte(c.file), c.sets)
			if got := problems.Error(); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}

// Each mistake is a problem of its own.
func TestSeveralProblems(t *testing.T) {
	_, problems := ParseFile([]byte(shortest+"recipe: {epochs: 0, batch_size: 0, optimizer: {name: sgd}}\n"), nil)
	if len(problems) != 3 {
		t.Errorf("%d problems: %v", len(problems), problems)
	}
	if err := problems.AsError("job file"); galley.CodeOf(err) != galley.InvalidArgument {
		t.Error(err)
	}
}

// What YAML writes is read back as the same spec.
func TestYAMLRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		task := rapid.SampledFrom([]string{TextClassification, TextMLM}).Draw(t, "task")
		from := rapid.SampledFrom([]string{"", "base", "base@3", "base:prod", "dir/model.onnx"}).Draw(t, "from")
		s := defaults(task, from != "")
		s.From = from
		s.Name = rapid.StringMatching(`[a-z0-9][a-z0-9._-]{0,20}`).Draw(t, "name")
		if rapid.Bool().Draw(t, "files") {
			s.Data.Train = rapid.StringMatching(`[a-zA-Z0-9 /:#'"-]{1,20}`).Draw(t, "train")
			s.Data.Format = "csv"
			s.Data.Columns = rapid.SampledFrom([]string{"", "text=a+b,label=c"}).Draw(t, "columns")
		} else {
			s.Data.Dataset = "data@2"
		}
		s.Data.Fraction = rapid.Float64Range(1e-6, 1).Draw(t, "fraction")
		s.Model.Dropout = rapid.Float64Range(0, 0.9).Draw(t, "dropout")
		s.Recipe.Optimizer.LR = rapid.Float64Range(1e-12, 10).Draw(t, "lr")
		s.Recipe.Seed = rapid.Uint64().Draw(t, "seed")
		s.Recipe.Epochs = rapid.IntRange(1, 10_000).Draw(t, "epochs")
		if task == TextClassification {
			s.Recipe.LabelSmoothing = rapid.Float64Range(0, 0.9).Draw(t, "smoothing")
			if rapid.Bool().Draw(t, "weighted") {
				s.Recipe.ClassWeights = ClassWeights{Mode: "given", Values: rapid.MapOfN(
					rapid.StringN(0, 10, 40), rapid.Float64Range(1e-3, 1000), 1, 5).Draw(t, "weights")}
			}
			if rapid.Bool().Draw(t, "no ngrams") {
				s.Model.NGrams = NGrams{}
			}
		}
		file, err := s.YAML()
		if err != nil {
			t.Fatal(err)
		}
		got, problems := ParseFile(file, nil)
		if problems != nil {
			t.Fatalf("%v\n%s", problems, file)
		}
		if !reflect.DeepEqual(got, s) {
			t.Fatalf("got %+v\nwant %+v\n%s", got, s, file)
		}
	})
}

func FuzzParseFile(f *testing.F) {
	f.Add([]byte(shortest), "recipe.epochs=3")
	f.Add([]byte(story), "steps.tune.spec.recipe.epochs=3")
	f.Add([]byte("a: &x [*x]"), "a.b.c={d: [1]}")
	f.Add([]byte("? [a]\n: b\n"), "=")
	f.Fuzz(func(t *testing.T, file []byte, set string) {
		s, problems := ParseFile(file, []string{set})
		if problems == nil {
			if err := s.Validate(); err != nil {
				t.Fatalf("a spec without problems is not valid: %v", err)
			}
		}
	})
}

// How a job is scheduled is no part of what it trains.
func TestScheduleIsNotInDigest(t *testing.T) {
	plain, _ := ParseFile([]byte(shortest), nil)
	other, problems := ParseFile([]byte(shortest+"priority: 0\nneeds: [base-1, base-2]\nretries: 7\nresources: {memory: 2GiB}\n"), nil)
	if problems != nil {
		t.Fatal(problems)
	}
	if plain.Digest() != other.Digest() {
		t.Error("another digest")
	}
	data, err := other.YAML()
	if err != nil {
		t.Fatal(err)
	}
	again, problems := ParseFile(data, nil)
	if problems != nil || !reflect.DeepEqual(again, other) {
		t.Errorf("%+v %v", again, problems)
	}
}
