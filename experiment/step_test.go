package experiment

import (
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"galley"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func example() Experiment {
	return Experiment{
		ID: 7, Name: "headline-test", Model: "news", Versions: [2]int{1, 2}, Stages: []Stage{{Treatment: 1000, Since: noon}},
		Metric: "click", Unit: PerOutcome, Guards: DefaultGuards(), Salt: salt, State: Running, Created: noon, Updated: noon,
	}
}

func TestCheckNamesWhatIsWrong(t *testing.T) {
	if err := example().Check(); err != nil {
		t.Fatal(err)
	}
	for message, spoil := range map[string]func(*Experiment){
		"is not a name":                       func(e *Experiment) { e.Name = "Über" },
		"control and treatment are both":      func(e *Experiment) { e.Versions[Treatment] = 1 },
		"an arm without traffic":              func(e *Experiment) { e.Stages[0].Treatment = 0 },
		"is not a metric of experiments":      func(e *Experiment) { e.Metric = "happiness" },
		"is not what a verdict counts":        func(e *Experiment) { e.Unit = "day" },
		"error_rate has two bounds":           func(e *Experiment) { e.Guards.Rules = append(e.Guards.Rules, Guard{ErrorRate, 0.2}) },
		"the window 1h0m0s is out of range":   func(e *Experiment) { e.Guards.Window = time.Hour },
		"0 requests are not a minimum":        func(e *Experiment) { e.Guards.MinimumRequests = 0 },
		"needs a control and a treatment":     func(e *Experiment) { e.Versions[Control] = 0 },
		"a salt has 16 bytes, not 0":          func(e *Experiment) { e.Salt = nil },
		"a new experiment has one split, not": func(e *Experiment) { e.Stages = nil },
	} {
		e := example()
		e.Stages = slices.Clone(e.Stages)
		spoil(&e)
		if err := e.Check(); err == nil || !strings.Contains(err.Error(), message) {
			t.Errorf("%q: %v", message, err)
		}
	}
}

func TestStep(t *testing.T) {
	treatment := Treatment
	later := noon.Add(time.Hour)
	judged := func(v Verdict) Judged {
		return Judged{At: later, Verdict: v, Trusted: true, Evidence: "figures", Prod: 4}
	}
	for name, c := range map[string]struct {
		event   Event
		state   State
		effects []Effect
		fails   string
		check   func(Experiment) bool
	}{
		"resplit": {event: Resplit{later, 5000}, state: Running, effects: []Effect{Reroute{}},
			check: func(e Experiment) bool { return len(e.Stages) == 2 && e.Stage() == (Stage{5000, later}) }},
		"resplit to the same": {event: Resplit{later, 1000}, state: Running,
			check: func(e Experiment) bool { return len(e.Stages) == 1 }},
		"resplit to nothing": {event: Resplit{later, 0}, fails: "an arm without traffic"},
		"stopped": {event: Ended{later, "enough"}, state: Stopped, effects: []Effect{Reroute{}},
			check: func(e Experiment) bool { return e.Hold == nil && *e.Ended == later && e.Reason == "enough" }},
		"breached": {event: Breached{Breach{Guard: Guard{ErrorRate, 0.1}, Value: 0.5, At: later}, 4}, state: RolledBack, effects: []Effect{Reroute{}},
			check: func(e Experiment) bool { return *e.Hold == (Hold{4}) && e.Breach.Value == 0.5 }},
		"undecided":               {event: judged(Undecided), fails: "is undecided: figures"},
		"mismatch":                {event: Judged{At: later, Verdict: ForTreatment, Evidence: "figures"}, fails: "a sample-ratio mismatch makes its figures doubtful"},
		"forced without a reason": {event: Judged{At: later, Verdict: Undecided, Winner: &treatment}, fails: "needs a reason"},
		"forced": {event: Judged{At: later, Verdict: Undecided, Evidence: "figures", Winner: &treatment, Reason: "elections"}, state: Decided,
			effects: []Effect{PromoteTreatment{true, "experiment headline-test: figures; elections"}, Reroute{}},
			check:   func(e Experiment) bool { return e.Decision.Forced && e.Decision.Winner == Treatment }},
		"treatment wins": {event: judged(ForTreatment), state: Decided,
			effects: []Effect{PromoteTreatment{false, "experiment headline-test: figures"}, Reroute{}},
			check:   func(e Experiment) bool { return e.Decision.Winner == Treatment && e.Hold == nil }},
		"control wins": {event: judged(ForControl), state: Decided, effects: []Effect{Reroute{}},
			check: func(e Experiment) bool { return e.Decision.Winner == Control && *e.Hold == (Hold{4}) }},
	} {
		before := example()
		after, effects, err := Step(before, c.event)
		if !reflect.DeepEqual(before, example()) {
			t.Errorf("%s: what went in was changed", name)
		}
		if c.fails != "" {
			if err == nil || !strings.Contains(err.Error(), c.fails) || galley.AsError(err).Remedy == "" || after.State != Running {
				t.Errorf("%s: %v, %s", name, err, after.State)
			}
			continue
		}
		if err != nil || after.State != c.state || !reflect.DeepEqual(effects, c.effects) || c.check != nil && !c.check(after) {
			t.Errorf("%s: %+v, %+v, %v", name, after, effects, err)
		}
	}
}

// TestWhatHasEndedStays: after its end nothing changes an experiment, and a
// late breach is no error.
func TestWhatHasEndedStays(t *testing.T) {
	events := []Event{Resplit{noon, 2000}, Ended{At: noon}, Ramped{noon}, Breached{Breach: Breach{At: noon}}, Judged{At: noon, Verdict: ForTreatment, Trusted: true}}
	rapid.Check(t, func(t *rapid.T) {
		e := example()
		for _, i := range rapid.SliceOfN(rapid.IntRange(0, len(events)-1), 0, 12).Draw(t, "events") {
			after, effects, err := Step(e, events[i])
			if e.State != Running {
				late := false
				switch events[i].(type) {
				case Breached, Ramped:
					late = true
				}
				if _, stop := events[i].(Ended); stop && e.Hold != nil {
					if after.Hold != nil || after.State != e.State || len(effects) != 1 || err != nil {
						t.Fatalf("its hold was stopped: %+v, %v", after, err)
					}
				} else if !reflect.DeepEqual(after, e) || len(effects) > 0 || late != (err == nil) {
					t.Fatalf("%T changed what is %s: %+v, %v", events[i], e.State, after, err)
				}
			}
			e = after
		}
	})
}

func TestMetrics(t *testing.T) {
	for in, want := range map[string]Metric{"accuracy": Accuracy, "Clicks": "click", "CTR": "click", "click_rate": "click", "success": "success", "error-rate": "error"} {
		if got, err := ParseMetric(in); err != nil || got != want {
			t.Errorf("%q: %q, %v", in, got, err)
		}
	}
	if _, err := ParseMetric("happiness"); galley.CodeOf(err) != galley.InvalidArgument || !strings.Contains(galley.AsError(err).Remedy, "acceptance") {
		t.Errorf("happiness: %v", err)
	}
	labels := []string{"sport", "world", "0"}
	for _, c := range []struct {
		metric             Metric
		outcome, predicted string
		want               float64
		fails              bool
	}{
		{Accuracy, "sport", "sport", 1, false},
		{Accuracy, "world", "sport", 0, false},
		{Accuracy, "0", "0", 1, false},
		{Accuracy, "1", "sport", 1, false},
		{Accuracy, "sport", "", 0, true},
		{Accuracy, "culture", "sport", 0, true},
		{"click", "Yes", "", 1, false},
		{"rating", "0.25", "", 0.25, false},
		{"rating", "2", "", 0, true},
		{"click", "NaN", "", 0, true},
		{"click", "sport", "sport", 0, true},
		{"click", strings.Repeat("1", 300), "", 0, true},
	} {
		got, err := c.metric.Value(c.outcome, c.predicted, labels)
		if got != c.want || (err != nil) != c.fails {
			t.Errorf("%s %.20q: %g, %v", c.metric, c.outcome, got, err)
		}
	}
	// What a caller is told.
	for want, labels := range map[string][]string{
		`outcome: "culture" is not an outcome of metric accuracy — send the right label ("sport", "world", "0"), true or false, or a number from 0 to 1`:                     labels,
		`outcome: "culture" is not an outcome of metric accuracy — send the right label ("1", "2", "3", "4", "5" and others), true or false, or a number from 0 to 1`:        {"1", "2", "3", "4", "5", "6"},
		`outcome: "culture" cannot be held against the answer: the version that gave it has no labels, or was deleted — send true if the answer was right, and false if not`: nil,
	} {
		if _, err := Accuracy.Value("culture", "", labels); err == nil || err.Error() != want {
			t.Errorf("got  %v\nwant %s", err, want)
		}
	}
	if got, err := Accuracy.Value("true", "", nil); got != 1 || err != nil {
		t.Errorf("%g, %v", got, err)
	}
}
