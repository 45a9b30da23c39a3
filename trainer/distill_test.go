package trainer

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

const shortestDistill = `apiVersion: galley/v1
kind: Distill
name: small
task: text-classification
data: {dataset: headlines}
teachers: [news-topic@3]
`

func TestDistillFile(t *testing.T) {
	s, problems := ParseFile([]byte(shortestDistill), nil)
	if problems != nil {
		t.Fatal(problems)
	}
	if s.Temperature != 1 || s.Alpha != 0.7 || s.Recipe.LabelSmoothing != 0 || s.Student.Hidden != 64 || s.Model != (Model{}) {
		t.Errorf("%+v", s)
	}
	if s.Architecture() != s.Student.Model || s.Start() != "" || s.Driver() != "onnx" {
		t.Error("the student is not what is trained")
	}
	text, err := s.YAML()
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "testdata/jobfile/distill.yaml", text)
	from, problems := ParseFile([]byte(shortestDistill+"student: {from: small@1, dropout: 0.2}\n"), nil)
	if problems != nil || from.Start() != "small@1" || from.StartPath() != "student.from" || from.Student.Layers != 0 || from.Student.Dropout != 0.2 {
		t.Errorf("%+v %v", from.Student, problems)
	}
	// Nothing of other kinds is in its JSON, and its own is where the file has it.
	data, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(data, &fields); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"model", "from", "method", "calibration"} {
		if _, has := fields[name]; has {
			t.Errorf("%s in %s", name, data)
		}
	}
	var again Spec
	if err := json.Unmarshal(data, &again); err != nil || !reflect.DeepEqual(again, s) || again.Digest() != s.Digest() {
		t.Errorf("%v\n%+v", err, again)
	}
	// Each of its fields counts.
	seen := map[string]bool{string(s.Digest()): true}
	for _, set := range []string{"temperature=3", "alpha=0.5", "teachers=[other@1]", "student.layers=2", "student.from=small", "data.unlabelled=texts", "hidden_loss=0.5"} {
		other, problems := ParseFile([]byte(shortestDistill), []string{set})
		if d := string(other.Digest()); problems != nil || seen[d] {
			t.Errorf("%s: the same digest, or %v", set, problems)
		} else {
			seen[d] = true
		}
	}
}

func TestDistillMessages(t *testing.T) {
	for _, c := range []struct{ name, file, want string }{
		{"temperature 0", shortestDistill + "temperature: 0\n",
			`line 7, column 14: temperature: 0 is out of range — write a number above 0, at most 100`},
		{"alpha", shortestDistill + "alpha: 2\n",
			`line 7, column 8: alpha: 2 is out of range — write a number from 0 to 1`},
		{"hidden_loss", shortestDistill + "hidden_loss: -1\n",
			`line 7, column 14: hidden_loss: -1 is out of range — write a number from 0 to 1000`},
		{"no teacher", strings.ReplaceAll(shortestDistill, "teachers: [news-topic@3]\n", ""),
			`line 1, column 1: teachers: is missing — name 1 to 8 versions, as in teachers: [news-topic@3]`},
		{"nine teachers", strings.ReplaceAll(shortestDistill, "[news-topic@3]", "[a, b, c, d, e, f, g, h, i]"),
			`line 6, column 11: teachers: names 9 teachers — name 1 to 8 versions, as in teachers: [news-topic@3]`},
		{"a teacher twice", strings.ReplaceAll(shortestDistill, "[news-topic@3]", "[a@1, a@1]"),
			`line 6, column 11: teachers: a@1 is named twice — name it once`},
		{"a file", strings.ReplaceAll(shortestDistill, "[news-topic@3]", "[big/model.onnx]"),
			`line 6, column 11: teachers: "big/model.onnx" is a file — import it first: galley models import FILE.onnx --name NAME --task text-classification`},
		{"no model", strings.ReplaceAll(shortestDistill, "[news-topic@3]", "['@3']"),
			`line 6, column 11: teachers: "@3" is not a model — write a version, as in news-topic@3 or news-topic:prod`},
		{"text-mlm", strings.ReplaceAll(shortestDistill, "text-classification", "text-mlm") + "student: {ngrams: {orders: 0}}\n",
			`line 4, column 7: task: text-mlm cannot be distilled — write task: text-classification`},
		{"heads of the student", shortestDistill + "student: {hidden: 100, heads: 8}\n",
			`line 7, column 31: student.heads: 8 does not divide student.hidden, which is 100 — choose one of 1, 2, 4, 5, 10`},
		{"layers of the student", shortestDistill + "student: {layers: 65}\n",
			`line 7, column 19: student.layers: 65 is out of range — write a whole number from 0 to 64`},
		{"sizes with from", shortestDistill + "student: {from: a@1, layers: 3}\n",
			"line 7, column 30: student.layers: is fixed by the model that `student.from` names — leave it out: architecture, layers, hidden, heads, feed_forward, tokenizer and vocabulary are those of `student.from`"},
		{"unlabelled", strings.ReplaceAll(shortestDistill, "headlines}", "headlines, unlabelled: 'a:prod'}"),
			`line 5, column 40: data.unlabelled: "a:prod" is not a dataset — write a name, or a name@version`},
		{"a field of the student", shortestDistill + "student: {layer: 3}\n",
			`line 7, column 11: student.layer: is not a field here — did you mean "layers"?`},
		// A field of another kind names both.
		{"model", shortestDistill + "model: {layers: 2}\n",
			`line 7, column 8: model: goes with kind: Train, and the file is of kind: Distill — describe the student: student: {layers: 1, hidden: 64}, or student: {from: VERSION}`},
		{"from", shortestDistill + "from: a@1\n",
			`line 7, column 7: from: goes with kind: Train or Quantize or Federate, and the file is of kind: Distill — describe the student: student: {layers: 1, hidden: 64}, or student: {from: VERSION}`},
		{"method", shortestDistill + "method: dynamic\n",
			`line 7, column 9: method: goes with kind: Quantize, and the file is of kind: Distill — leave it out`},
		{"teachers of kind Train", shortest + "teachers: [a@1]\n",
			`line 6, column 11: teachers: goes with kind: Distill, and the file is of kind: Train — leave it out`},
		{"a temperature of nothing", shortest + "temperature: 0\n",
			`line 6, column 14: temperature: goes with kind: Distill, and the file is of kind: Train — leave it out`},
		{"unlabelled of kind Train", strings.ReplaceAll(shortest, "headlines}", "headlines, unlabelled: a}"),
			`line 5, column 40: data.unlabelled: goes with kind: Distill, and the file is of kind: Train — leave it out`},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, problems := ParseFile([]byte(c.file), nil)
			if got := problems.Error(); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}

// A spec that did not come from a file is held to the same.
func TestDistillValidate(t *testing.T) {
	s, problems := ParseFile([]byte(shortestDistill), nil)
	if problems != nil {
		t.Fatal(problems)
	}
	for want, change := range map[string]func(*Spec){
		"temperature: 0 is out of range":                                              func(s *Spec) { s.Temperature = 0 },
		"model: goes with kind: Train, and the file is of kind: Distill":              func(s *Spec) { s.Model = s.Student.Model },
		"teachers: goes with kind: Distill, and the file is of kind: Train":           func(s *Spec) { s.Kind = KindTrain },
		"data.unlabelled: goes with kind: Distill, and the file is of kind: Train":    func(s *Spec) { s.Kind, s.Data.Unlabelled = KindTrain, "a" },
		"student.max_length: 3 is out of range — write a whole number from 4 to 8192": func(s *Spec) { s.Student.MaxLength = 3 },
	} {
		other := s
		change(&other)
		if err := other.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
}

func TestDistillYAMLRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		from := rapid.SampledFrom([]string{"", "base@3", "dir/model.onnx"}).Draw(t, "from")
		s := defaultDistill(TextClassification, from != "")
		s.Name, s.Student.From = "small", from
		s.Data.Dataset, s.Data.Unlabelled = "data@2", rapid.SampledFrom([]string{"", "texts", "texts@3"}).Draw(t, "unlabelled")
		s.Teachers = rapid.SampledFrom([][]string{{"a"}, {"a@1", "a:prod"}, {"b@2", "c", "sha256:" + strings.Repeat("0", 64)}}).Draw(t, "teachers")
		s.Temperature = rapid.Float64Range(1e-3, 100).Draw(t, "temperature")
		s.Alpha = rapid.Float64Range(0, 1).Draw(t, "alpha")
		s.Student.Dropout = rapid.Float64Range(0, 0.9).Draw(t, "dropout")
		file, err := s.YAML()
		if err != nil {
			t.Fatal(err)
		}
		got, problems := ParseFile(file, nil)
		if problems != nil || !reflect.DeepEqual(got, s) {
			t.Fatalf("%v: got %+v\nwant %+v\n%s", problems, got, s, file)
		}
	})
}

// A teacher is open before training begins: the larger of the two needs.
func TestDistillMemory(t *testing.T) {
	s := defaultDistill(TextClassification, false)
	s.Student.Vocabulary, s.Student.Hidden = 100_000, 256
	if alone, got := s.MemoryNeed(0), s.MemoryNeed(0, 1<<20); got != alone {
		t.Errorf("with a small teacher %d MiB, alone %d MiB", got>>20, alone>>20)
	}
	if got := s.MemoryNeed(0, 1<<20, 2<<30); got < 4<<30 || got > 6<<30 {
		t.Errorf("a teacher of 2 GiB: %d MiB", got>>20)
	}
	s.Resources.Memory = "1GiB"
	if got := s.MemoryNeed(0, 2<<30); got != 1<<30 {
		t.Errorf("asked for 1 GiB: %d", got)
	}
}
