package trainer

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"galley"
)

const shortestFederate = `apiVersion: galley/v1
kind: Federate
name: news-topic
data: {dataset: headlines}
from: news-topic@3
purpose: topics of headlines
`

func parseFederate(t testing.TB, more string, sets ...string) Spec {
	t.Helper()
	s, problems := ParseFile([]byte(shortestFederate+more), sets)
	if problems != nil {
		t.Fatal(problems)
	}
	return s
}

func TestFederateFile(t *testing.T) {
	s := parseFederate(t, "")
	if s.Federation != "news-topic" || s.Task != TextClassification || s.Recipe.Epochs != 1 || s.Model != (Model{}) || s.Resources != (Resources{}) {
		t.Errorf("%+v", s)
	}
	if s.Within() != time.Hour || s.Pausing() != time.Minute || s.Driver() != "onnx" || s.Start() != "news-topic@3" {
		t.Errorf("%v %v %s %s", s.Within(), s.Pausing(), s.Driver(), s.Start())
	}
	text, err := s.YAML()
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "testdata/jobfile/federate.yaml", text)
	for _, s := range []Spec{s, parseFederate(t, `federation: headlines
partners: [harbour-gazette, hill-courier]
strategy: fedprox
mu: 0.01
deadline: 30m
pause: 0s
sample: 2
enough: 2
weighting: uniform
max_share: 1
clip: 5
max_norm: 50
metrics: [loss, accuracy]
recipe: {class_weights: {mode: given, values: {sport: 2}}}
`)} {
		text, err := s.YAML()
		if err != nil {
			t.Fatal(err)
		}
		if again, problems := ParseFile(text, nil); problems != nil || !reflect.DeepEqual(again, s) {
			t.Errorf("%v\n%s", problems, text)
		}
		data, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		var again Spec
		if err := json.Unmarshal(data, &again); err != nil || !reflect.DeepEqual(again, s) || again.Digest() != s.Digest() {
			t.Errorf("%v\n%+v", err, again)
		}
	}
	// Each of its fields counts.
	seen := map[galley.Digest]bool{s.Digest(): true}
	for _, set := range []string{
		"federation=other", "purpose=captions", "partners=[a, b]", "rounds=3", "strategy={}", "min_cohort=3", "deadline=2h", "sample=4", "enough=3",
		"weighting=uniform", "max_share=0.4", "clip=1", "max_norm=9", "metrics=[loss]", "attempts=7", "pause=5s", "recipe.epochs=2", "from=a@1",
	} {
		if set == "strategy={}" {
			seen[parseFederate(t, "", "strategy=fedprox", "mu=0.5").Digest()] = true
			continue
		}
		if d := parseFederate(t, "", set).Digest(); seen[d] {
			t.Errorf("%s: the same digest", set)
		} else {
			seen[d] = true
		}
	}
}

func TestFederateMessages(t *testing.T) {
	without := func(line string) string { return strings.ReplaceAll(shortestFederate, line+"\n", "") }
	for _, c := range []struct{ name, file, want string }{
		{"no purpose", without("purpose: topics of headlines"),
			`line 1, column 1: purpose: is missing — write what the model is for, in one line of at most 200 bytes, as partners have it in their agreements`},
		{"purpose", strings.ReplaceAll(shortestFederate, "topics of headlines", `"a\nb"`),
			`line 6, column 10: purpose: "a\nb" is no line of text — write what the model is for, in one line of at most 200 bytes, as partners have it in their agreements`},
		{"from nothing", without("from: news-topic@3"), `line 1, column 1: from: is missing — name a version, as in from: news-topic@3`},
		{"from a file", strings.ReplaceAll(shortestFederate, "news-topic@3", "a/b.onnx"),
			`line 5, column 7: from: names a file — train a version from it first, with kind: Train`},
		{"no data", without("data: {dataset: headlines}"), `line 1, column 1: data: names no data — write dataset: NAME, or train: FILE`},
		{"fraction", strings.ReplaceAll(shortestFederate, "headlines}", "headlines, fraction: 0.5}"),
			`line 4, column 38: data.fraction: goes with kind: Train or Distill, and the file is of kind: Federate — leave it out`},
		{"task", shortestFederate + "task: text-mlm\n", `line 7, column 7: task: text-mlm models are not federated — write task: text-classification, or leave it out`},
		{"model", shortestFederate + "model: {layers: 1}\n", `line 7, column 8: model: goes with kind: Train, and the file is of kind: Federate — leave it out`},
		{"resources", shortestFederate + "resources: {cpus: 1}\n",
			`line 7, column 12: resources: goes with kind: Train or Distill or Quantize, and the file is of kind: Federate — leave it out`},
		{"early stop", shortestFederate + "recipe: {early_stop: 3}\n",
			`line 7, column 22: recipe.early_stop: goes with kind: Train or Distill, and the file is of kind: Federate — leave it out`},
		{"epochs", shortestFederate + "recipe: {epochs: 0}\n", `line 7, column 18: recipe.epochs: 0 is out of range — write a whole number from 1 to 10000`},
		{"rounds", shortestFederate + "rounds: 10001\n", `line 7, column 9: rounds: 10001 is out of range — write a whole number from 1 to 10000`},
		{"one partner", shortestFederate + "min_cohort: 1\n", `line 7, column 13: min_cohort: 1 is out of range — write a whole number from 2 to 500`},
		{"few partners", shortestFederate + "min_cohort: 3\npartners: [a, b]\n",
			`line 8, column 11: partners: names 2, and a round needs 3 — name more of them, or leave the list out: all who have joined may take part`},
		{"twice", shortestFederate + "partners: [a, b, a]\n", `line 7, column 11: partners: a is named twice — name it once`},
		{"sample", shortestFederate + "sample: 1\n", `line 7, column 9: sample: is 1, and min_cohort 2 — write 0 for all, or a number from min_cohort to 500`},
		{"enough", shortestFederate + "sample: 3\nenough: 4\n", `line 8, column 9: enough: is 4, and only 3 are asked — write at most as many as sample`},
		{"strategy", shortestFederate + "strategy: fedpox\n", `line 7, column 11: strategy: "fedpox" is not known — did you mean "fedprox"?`},
		{"mu of fedavg", shortestFederate + "mu: 0.1\n", `line 7, column 5: mu: belongs to fedprox — write strategy: fedprox, or leave mu out`},
		{"no mu", shortestFederate + "strategy: fedprox\n", `line 1, column 1: mu: 0 is out of range — write a number above 0, at most 1000`},
		{"weighting", shortestFederate + "weighting: row\n", `line 7, column 12: weighting: "row" is not known — did you mean "rows"?`},
		{"max_share", shortestFederate + "max_share: 0\n", `line 7, column 12: max_share: 0 is out of range — write a number above 0, at most 1`},
		{"clip", shortestFederate + "clip: -1\n", `line 7, column 7: clip: -1 is out of range — write a number from 0 to 1e+12`},
		{"metrics", shortestFederate + "metrics: [texts]\n", `line 7, column 10: metrics: "texts" is not known — known here: accuracy, loss, macro_f1`},
		{"deadline", shortestFederate + "deadline: 10\n", `line 7, column 11: deadline: "10" is not a time — write a time from 1s to 720h, as in 90s, 30m or 2h`},
		{"long deadline", shortestFederate + "deadline: 721h\n", `line 7, column 11: deadline: 721h is out of range — write a time from 1s to 720h, as in 90s, 30m or 2h`},
		{"pause", shortestFederate + "pause: -1s\n", `line 7, column 8: pause: -1s is out of range — write a time from 0s to 720h, as in 90s, 30m or 2h`},
		{"terms of another kind", shortest + "rounds: 3\n", `line 6, column 9: rounds: goes with kind: Federate, and the file is of kind: Train — leave it out`},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, problems := ParseFile([]byte(c.file), nil)
			if got := problems.Error(); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}

// What a coordinator offers is a spec of the partner's own, or a mistake that
// is named.
func TestLocal(t *testing.T) {
	s := parseFederate(t, "recipe: {epochs: 2, optimizer: {lr: 5e-4}}\n")
	recipe, err := s.LocalRecipe()
	if err != nil {
		t.Fatal(err)
	}
	seeds := map[uint64]bool{s.Recipe.Seed: true}
	for round := 1; round < 100; round++ {
		local, err := Local("news-topic", "ours", round, recipe)
		if err != nil {
			t.Fatal(err)
		}
		if seeds[local.Recipe.Seed] {
			t.Errorf("round %d has the seed of another", round)
		}
		seeds[local.Recipe.Seed] = true
		local.Recipe.Seed = s.Recipe.Seed
		if local.Kind != KindTrain || local.From != "news-topic" || local.Data.Dataset != "ours" || !reflect.DeepEqual(local.Recipe, s.Recipe) {
			t.Errorf("%+v", local)
		}
	}
	for _, c := range []struct{ from, to, want string }{
		{`"epochs":2`, `"epochs":0`, "recipe.epochs: 0 is out of range"},
		{`"epochs":2,`, ``, "recipe.epochs: 0 is out of range"},
		{`"lr":0.0005`, `"lr":1e99`, "recipe.optimizer.lr: 1e+99 is out of range"},
		{`"lr":0.0005`, `"lr":1e999`, "recipe: cannot be read"},
		{`"epochs":2`, `"epochs":2,"upload":"texts"`, `recipe: cannot be read: json: unknown field "upload"`},
		{`"adamw"`, `"sgd"`, `recipe.optimizer.name: "sgd" is not known`},
		{`"mode":"none"`, `"mode":"given"`, "recipe.class_weights.values: is missing"},
	} {
		text := strings.Replace(string(recipe), c.from, c.to, 1)
		_, err := Local("news-topic", "ours", 1, []byte(text))
		if text == string(recipe) || galley.CodeOf(err) != galley.InvalidArgument || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %s", c.to, err, c.want)
		}
	}
	for _, text := range []string{"", "null", "[]", "{}", string(recipe) + "{}", strings.Repeat(" ", 1<<20)} {
		if _, err := Local("news-topic", "ours", 1, []byte(text)); galley.CodeOf(err) != galley.InvalidArgument {
			t.Errorf("%.20q: %v", text, err)
		}
	}
}

func FuzzLocal(f *testing.F) {
	recipe, err := parseFederate(f, "").LocalRecipe()
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte(recipe), 1)
	f.Add([]byte(`{"class_weights":{"mode":"given","values":{"a":1}}}`), -1)
	f.Fuzz(func(t *testing.T, recipe []byte, round int) {
		if s, err := Local("news-topic", "ours", round, recipe); err == nil && s.Validate() != nil {
			t.Fatalf("taken, and not valid: %v", s.Validate())
		}
	})
}

func federateJob() Job {
	return Job{ID: "news-1", Phase: Running, Spec: Spec{Kind: KindFederate, Federate: Federate{Rounds: 3}}, Progress: Progress{Steps: 3}}
}

func TestFederateStep(t *testing.T) {
	at := epoch
	broken := galley.Errorf(galley.Unavailable, "round 2", "failed 3 times")
	for _, c := range []struct {
		name   string
		events []Event
		want   func(j Job) bool
		err    string // of the last event
	}{
		{"rounds", []Event{RoundEnded{At: at, Closed: 1, Metrics: map[string]float64{"loss": 1}}, RoundEnded{At: at, Closed: 2}},
			func(j Job) bool {
				return j.Phase == Running && j.Progress.Step == 2 && j.Progress.Steps == 3 && j.Metrics["loss"] == 1
			}, ""},
		{"a late round", []Event{RoundEnded{At: at, Closed: 2}, RoundEnded{At: at.Add(1), Closed: 1}},
			func(j Job) bool { return j.Progress.Step == 2 && j.Updated.Equal(at) }, ""},
		{"published", []Event{RoundEnded{At: at, Closed: 3}, Published{At: at, Ref: "news@4", Withheld: "worse"}},
			func(j Job) bool {
				return j.Phase == Succeeded && j.Versions[0] == "news@4" && j.Withheld == "worse" && j.Progress.Step == 3
			}, ""},
		{"failed", []Event{FederationFailed{at, broken}}, func(j Job) bool { return j.Phase == Failed && j.Error == broken }, ""},
		{"resumed", []Event{FederationFailed{at, broken}, ResumeAsked{at}}, func(j Job) bool { return j.Phase == Running && j.Error == nil }, ""},
		{"cancelling", []Event{CancelAsked{at}, CancelAsked{at.Add(1)}}, func(j Job) bool { return j.Phase == Running && j.Cancelling && j.Updated.Equal(at) }, ""},
		{"cancelled", []Event{CancelAsked{at}, FederationCancelled{at}}, func(j Job) bool { return j.Phase == Cancelled && !j.Cancelling }, ""},
		{"cancelled too late", []Event{CancelAsked{at}, Published{At: at, Ref: "a@1"}}, func(j Job) bool { return j.Phase == Succeeded && !j.Cancelling }, ""},
		{"failed while cancelling", []Event{CancelAsked{at}, FederationFailed{at, broken}}, func(j Job) bool { return j.Phase == Cancelled && j.Error == nil }, ""},
		{"what is cancelled stays so", []Event{CancelAsked{at}, FederationCancelled{at}, ResumeAsked{at}}, func(j Job) bool { return j.Phase == Cancelled },
			"news-1: is cancelled, and partners no longer wait for its rounds — submit its job file again"},
		{"resumed while it runs", []Event{ResumeAsked{at}}, func(j Job) bool { return j.Phase == Running }, "news-1: is running and has nothing to resume"},
		{"cancelled when it has failed", []Event{FederationFailed{at, broken}, CancelAsked{at}}, func(j Job) bool { return j.Phase == Failed },
			"news-1: has failed and cannot be cancelled"},
		{"placed", []Event{Placed{at}}, func(j Job) bool { return j.Phase == Running && len(j.Attempts) == 0 }, "news-1: a job of kind Federate has no event trainer.Placed"},
		{"late events", []Event{FederationFailed{at, broken}, RoundEnded{At: at, Closed: 2}, Published{At: at, Ref: "a@1"}, FederationCancelled{at}},
			func(j Job) bool { return j.Phase == Failed && j.Progress.Step == 0 && len(j.Versions) == 0 }, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			j := federateJob()
			var err error
			for _, e := range c.events {
				j, _, err = Step(j, e)
			}
			if !c.want(j) || (err == nil) != (c.err == "") || err != nil && err.Error() != c.err {
				t.Errorf("%+v %v", j, err)
			}
		})
	}
}

// Whatever happens in whatever order, a federated job stays whole, and what it
// was before is left as it was.
func TestFederateStepInvariants(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		j, at := federateJob(), epoch
		cancelled := false
		for range rapid.IntRange(1, 40).Draw(t, "events") {
			at = at.Add(time.Second)
			e := rapid.SampledFrom([]Event{
				RoundEnded{At: at, Closed: rapid.IntRange(0, 3).Draw(t, "closed"), Metrics: map[string]float64{"loss": 1}},
				Published{At: at, Ref: "a@1"}, FederationFailed{at, galley.Errorf(galley.Internal, "", "broke")}, FederationCancelled{at},
				CancelAsked{at}, ResumeAsked{at}, Placed{at}, Finished{At: at, Attempt: 1}, NeedEnded{at, "other", Failed},
			}).Draw(t, "event")
			before, err := json.Marshal(j)
			if err != nil {
				t.Fatal(err)
			}
			next, effects, refused := Step(j, e)
			if after, _ := json.Marshal(j); string(after) != string(before) {
				t.Fatal("the job before was changed")
			}
			if refused != nil && (len(effects) > 0 || !reflect.DeepEqual(next, j)) {
				t.Fatalf("a refused %T changed the job or has effects", e)
			}
			switch {
			case next.Phase == Queued || len(next.Attempts) > 0:
				t.Fatalf("%+v waits or has attempts", next)
			case next.Phase == Failed && next.Error == nil || next.Phase != Failed && next.Error != nil:
				t.Fatalf("%s with error %v", next.Phase, next.Error)
			case next.Cancelling && next.Phase != Running:
				t.Fatalf("cancelling, and %s", next.Phase)
			case (next.Phase == Succeeded) != (len(next.Versions) > 0):
				t.Fatalf("%s with %v", next.Phase, next.Versions)
			case next.Progress.Step < j.Progress.Step || next.Progress.Step > 3:
				t.Fatalf("from round %d to %d", j.Progress.Step, next.Progress.Step)
			case (j.Phase == Succeeded || cancelled) && next.Phase != j.Phase:
				t.Fatalf("%s became %s", j.Phase, next.Phase)
			case len(effects) > 0 != (next.Phase != j.Phase && (next.Phase == Succeeded || reflect.TypeOf(e) == reflect.TypeOf(FederationCancelled{}))):
				t.Fatalf("%T: %s became %s with %v", e, j.Phase, next.Phase, effects)
			}
			cancelled = next.Phase == Cancelled
			j = next
		}
	})
}

// A pipeline's federated step that was cancelled begins anew when the pipeline
// is resumed; one that failed goes on.
func TestPipelineResumesFederation(t *testing.T) {
	for _, ended := range []Phase{Failed, Cancelled} {
		spec := Spec{Kind: KindPipeline, Pipeline: Pipeline{Steps: []PipelineStep{{ID: "rounds", Spec: Spec{Kind: KindFederate}}}}}
		j := Job{ID: "story-1", Phase: Running, Spec: spec, Steps: spec.Begin()}
		for _, e := range []Event{
			StepStarted{epoch, "rounds"}, StepPinned{epoch, "rounds", "news-1", "sha256:1"},
			StepEnded{At: epoch, Step: "rounds", Phase: ended, Job: "news-1"}, ResumeAsked{epoch}, StepStarted{epoch, "rounds"},
		} {
			var err error
			if j, _, err = Step(j, e); err != nil {
				t.Fatal(err)
			}
		}
		want := Reopen
		var child *Job
		if ended == Cancelled {
			want = Perform
		} else {
			child = &Job{Phase: Failed}
		}
		if got := j.Duty(j.Steps[0], child); got != want {
			t.Errorf("%s: duty %d, want %d: %+v", ended, got, want, j.Steps[0])
		}
	}
}

// A step of a pipeline is federated from another's result.
func TestFederateStepOfPipeline(t *testing.T) {
	s, problems := ParseFile([]byte(`apiVersion: galley/v1
kind: Pipeline
name: story
steps:
  - id: start
    spec: {kind: Train, name: news-topic, task: text-classification, data: {dataset: headlines}}
  - id: rounds
    spec: {kind: Federate, name: news-topic, data: {dataset: headlines}, from: "${start.version}", purpose: topics of headlines}
  - id: release
    spec: {kind: Promote, version: "${rounds.version}"}
`), nil)
	if problems != nil {
		t.Fatal(problems)
	}
	spec, err := s.Steps[1].Resolve(map[string]string{"start": "news-topic@4"})
	if err != nil || spec.From != "news-topic@4" || spec.Federation != "news-topic" || s.Steps[2].Requires()[0] != "rounds" {
		t.Errorf("%+v %v", spec, err)
	}
	text, err := s.YAML()
	if err != nil {
		t.Fatal(err)
	}
	if again, problems := ParseFile(text, nil); problems != nil || !reflect.DeepEqual(again, s) {
		t.Errorf("%v\n%s", problems, text)
	}
}
