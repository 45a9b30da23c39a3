package trainer

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// story is a pipeline with a step of each kind.
const story = `apiVersion: galley/v1
kind: Pipeline
name: story
steps:
  - id: pretrain
    spec: {kind: Train, name: base, task: text-mlm, data: {dataset: texts}}
  - id: tune
    spec: {kind: Train, name: topic, task: text-classification, data: {dataset: headlines}, from: "${pretrain.version}"}
  - id: distil
    spec: {kind: Distill, name: small, task: text-classification, data: {dataset: headlines}, teachers: ["${tune.version}", topic:prod]}
  - id: shrink
    needs: [pretrain]
    spec: {kind: Quantize, name: int8, from: "${distil.version}"}
  - id: measure
    spec: {kind: Eval, version: "${shrink.version}", against: "${tune.version}", data: {dataset: headlines, split: valid}}
  - id: release
    needs: [measure]
    spec: {kind: Promote, version: "${shrink.version}"}
`

func TestPipelineFile(t *testing.T) {
	s, problems := ParseFile([]byte(story), []string{"steps.tune.spec.recipe.epochs=3"})
	if problems != nil {
		t.Fatal(problems)
	}
	if s.Kind != KindPipeline || s.Name != "story" || len(s.Steps) != 6 || s.Digest() == "" {
		t.Fatalf("%+v", s)
	}
	tune := s.Steps[1].Spec
	want := defaults(TextClassification, true)
	want.Name, want.Data.Dataset, want.From, want.Recipe.Epochs = "topic", "headlines", "${pretrain.version}", 3
	if !reflect.DeepEqual(tune, want) {
		t.Errorf("got %+v\nwant %+v", tune, want)
	}
	if got := s.Steps[3].Requires(); !slices.Equal(got, []string{"pretrain", "distil"}) {
		t.Errorf("%v", got)
	}
	if got := s.Steps[4].Requires(); !slices.Equal(got, []string{"shrink", "tune"}) {
		t.Errorf("%v", got)
	}
	if s.Steps[5].Spec.Alias != "prod" {
		t.Errorf("%+v", s.Steps[5].Spec)
	}
	// References become versions, and the file's own spec stays as it is.
	got, err := s.Steps[2].Resolve(map[string]string{"tune": "topic@7"})
	if err != nil || !slices.Equal(got.Teachers, []string{"topic@7", "topic:prod"}) || s.Steps[2].Spec.Teachers[0] != "${tune.version}" {
		t.Errorf("%v %v %v", got.Teachers, err, s.Steps[2].Spec.Teachers)
	}
	if _, err := s.Steps[2].Resolve(nil); err == nil {
		t.Error("a reference without a version was taken")
	}
	// A step is the same job as the file alone.
	alone := "apiVersion: galley/v1\nkind: Train\nname: topic\ntask: text-classification\ndata: {dataset: headlines}\nfrom: base@2\nrecipe: {epochs: 3}\n"
	other, problems := ParseFile([]byte(alone), nil)
	if problems != nil {
		t.Fatal(problems)
	}
	if got, err := s.Steps[1].Resolve(map[string]string{"pretrain": "base@2"}); err != nil || got.Digest() != other.Digest() {
		t.Errorf("%v: %s is not %s", err, got.Digest(), other.Digest())
	}
	// What --print-spec shows is read again as the same.
	text, err := s.YAML()
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"steps:\n  - id: pretrain\n    spec:\n      apiVersion", "  - id: shrink\n    needs: [pretrain]\n    spec:\n", "      from: \"${distil.version}\"\n", "      against: \"${tune.version}\"\n"} {
		if !strings.Contains(string(text), want) {
			t.Errorf("%q is not in\n%s", want, text)
		}
	}
	again, problems := ParseFile(text, nil)
	if problems != nil || !reflect.DeepEqual(again, s) {
		t.Errorf("%v\ngot %+v\nwant %+v", problems, again, s)
	}
}

func TestPipelineMessages(t *testing.T) {
	change := func(old, with string) string { return strings.Replace(story, old, with, 1) }
	many := func(n int) string {
		var b strings.Builder
		b.WriteString("apiVersion: galley/v1\nkind: Pipeline\nname: many\nsteps:\n")
		for i := range n {
			fmt.Fprintf(&b, "  - {id: s%d, needs: [s%d], spec: {kind: Promote, version: a@1}}\n", i, i+1)
		}
		return b.String()
	}
	for _, c := range []struct {
		name, file, want string
		sets             []string
	}{
		{"unknown field at the top", change("name: story", "name: story\nrecipe: {epochs: 3}"),
			`line 4, column 1: recipe: is not a field here — known here: apiVersion, kind, name, steps`, nil},
		{"unknown field of a step", change("needs: [measure]", "need: [measure]"),
			`line 17, column 5: steps.release.need: is not a field here — did you mean "needs"?`, nil},
		{"unknown field of a spec", change("task: text-mlm,", "task: text-mlm, recipe: {epoch: 3},"),
			`line 6, column 62: steps.pretrain.spec.recipe.epoch: is not a field here — did you mean "epochs"?`, nil},
		{"out of range", story,
			`steps.tune.spec.recipe.epochs: 0 is out of range — write a whole number from 1 to 10000`, []string{"steps.tune.spec.recipe.epochs=0"}},
		{"field of another kind", change("kind: Quantize,", "kind: Quantize, temperature: 2,"),
			`line 13, column 41: steps.shrink.spec.temperature: goes with kind: Distill, and the file is of kind: Quantize — leave it out`, nil},
		{"name of what makes nothing", change("kind: Promote,", "kind: Promote, name: x,"),
			`line 18, column 33: steps.release.spec.name: goes with kind: Train or Distill or Quantize or Federate or Pipeline, and the file is of kind: Promote — leave it out`, nil},
		{"no steps", "apiVersion: galley/v1\nkind: Pipeline\nname: x\n",
			`line 1, column 1: steps: is missing — write 1 to 100, as in steps: [{id: train, spec: {kind: Train, …}}]`, nil},
		{"too many steps", many(MaxSteps + 1), `line 5, column 3: steps: has 101 steps — write 1 to 100`, nil},
		{"far too many steps", many(10_000), `line 5, column 3: steps: has 10000 steps — write 1 to 100`, nil},
		{"too many needs", change("[measure]", "["+strings.Repeat("measure, ", MaxSteps)+"measure]"), `steps.release.needs: names 101 steps — name at most 100`, nil},
		{"too many teachers", change("topic:prod]", strings.Repeat("a@1, ", 50000)+"topic:prod]"), `steps.distil.spec.teachers: names 50002 teachers`, nil},
		{"no spec", "apiVersion: galley/v1\nkind: Pipeline\nname: x\nsteps: [{id: a}]\n",
			`line 4, column 9: steps[0].spec: is missing — write what the step does, as in spec: {kind: Train, …}`, nil},
		{"no id", change("id: pretrain", "needs: []"), `line 5, column 5: steps[0].id: is missing — give each step an id, as in id: train`, nil},
		{"bad id", change("id: pretrain", "id: Pre.Train"), `line 5, column 9: steps[0].id: "Pre.Train" is not an id — use 1 to 63`, nil},
		{"same id", change("id: distil\n", "id: tune\n"), `line 9, column 9: steps[2].id: tune is the id of another step — give each step an id of its own`, nil},
		{"unknown need", change("[measure]", "[mesure]"), `line 17, column 12: steps.release.needs: "mesure" is not a step — did you mean "measure"?`, nil},
		{"need twice", change("[measure]", "[measure, measure]"), `steps.release.needs: measure is named twice — name it once`, nil},
		{"unknown reference", change(`from: "${distil.version}"`, `from: "${distill.version}"`),
			`line 13, column 46: steps.shrink.spec.from: "distill" is not a step — did you mean "distil"?`, nil},
		{"another field of a result", change("${distil.version}", "${distil.model}"),
			`steps.shrink.spec.from: "${distil.model}" is not a step's result — write ${STEP.version} and nothing beside it`, nil},
		{"part of a reference", change("${distil.version}", "x${distil.version}"),
			`steps.shrink.spec.from: "x${distil.version}" is not a step's result`, nil},
		{"reference to a measurement", change(`Promote, version: "${shrink.version}"`, `Promote, version: "${measure.version}"`),
			`steps.release.spec.version: measure is of kind Eval, and makes no version — name the step that makes the version`, nil},
		{"the same teacher twice", change("topic:prod]", `"${tune.version}"]`),
			`steps.distil.spec.teachers: ${tune.version} is named twice — name it once`, nil},
		{"cycle", change("data: {dataset: texts}", `data: {dataset: texts}, from: "${distil.version}"`),
			`steps.pretrain: waits for itself: pretrain waits for distil waits for tune waits for pretrain — let one of them do without the other`, nil},
		{"itself", change("needs: [measure]", "needs: [release]"), `steps.release: waits for itself: release waits for release`, nil},
		{"its own result", change(`from: "${pretrain.version}"`, `from: "${tune.version}"`), `steps.tune: waits for itself: tune waits for tune`, nil},
		{"pipeline in a pipeline", change("kind: Promote", "kind: Pipeline"), `line 18, column 18: steps.release.spec.kind: a pipeline is no step of another — write its steps here`, nil},
		{"unknown kind", change("kind: Promote", "kind: Promot"), `steps.release.spec.kind: "Promot" is not a kind — did you mean "Promote"?`, nil},
		{"a later kind", change("kind: Promote", "kind: Search"), `steps.release.spec.kind: Search jobs are not there yet — this build runs kind: Train, Distill, Quantize, Federate, Eval, Promote`, nil},
		{"no version", change(`Promote, version: "${shrink.version}"`, "Promote"), `steps.release.spec.version: is missing`, nil},
		{"split without data", change("{dataset: headlines, split: valid}", "{split: valid}"), `steps.measure.spec.data.split: goes with data.dataset only`, nil},
		{"split", change("split: valid", "split: vaild"), `steps.measure.spec.data.split: "vaild" is not known — did you mean "valid"?`, nil},
		{"a step alone", "apiVersion: galley/v1\nkind: Eval\nversion: a@1\n",
			`line 2, column 7: kind: Eval is a step of a pipeline — write kind: Pipeline and steps, or run galley eval or galley models promote`, nil},
		{"steps of a job", shortest + "steps: []\n", `line 6, column 8: steps: goes with kind: Pipeline, and the file is of kind: Train — leave it out`, nil},
		{"set of no step", story, `--set steps.tun.spec.recipe.epochs=3: --set steps.tun.spec.recipe.epochs: steps has no entry with the id "tun"`, []string{"steps.tun.spec.recipe.epochs=3"}},
	} {
		_, problems := ParseFile([]byte(c.file), c.sets)
		if !strings.Contains(problems.Error(), c.want) {
			t.Errorf("%s: got\n%v\nwant\n%s", c.name, problems, c.want)
		}
	}
}
