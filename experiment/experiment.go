package experiment

import (
	"math"
	"strconv"
	"strings"
	"time"

	"galley"
)

// An Arm is one side of an experiment.
type Arm uint8

// The arms.
const (
	Control   Arm = iota // what traffic went to before
	Treatment            // what is tried
)

// Arms are both, in the order in which reports have them.
var Arms = [2]Arm{Control, Treatment}

func (a Arm) String() string {
	if a == Treatment {
		return "treatment"
	}
	return "control"
}

// A State is where an experiment is in its life.
type State string

// The states. All but Running are final.
const (
	Running    State = "running"
	Stopped    State = "stopped"     // by a person, without a winner
	RolledBack State = "rolled-back" // by a guardrail
	Decided    State = "decided"
)

// Parts are what a share is counted in: hundredths of a percent.
const Parts = 10_000

// maxStages bounds how often the shares of an experiment change: a prediction
// id has eight bits for the number of the stage.
const maxStages = 256

// A Stage is a time with the same shares.
type Stage struct {
	Treatment int       `json:"treatment"` // its share, in Parts; control has the rest
	Since     time.Time `json:"since"`
}

// Share returns the share of an arm, from 0 to 1.
func (s Stage) Share(a Arm) float64 {
	share := float64(s.Treatment) / Parts
	if a == Control {
		return 1 - share
	}
	return share
}

// A Unit is what counts once in the verdict.
type Unit string

// The units.
const (
	// PerOutcome counts each outcome: right if a key rarely has several.
	PerOutcome Unit = "outcome"
	// PerKey counts the first outcome of each request key: right also if a
	// few readers give most of the outcomes.
	PerKey Unit = "key"
)

// An Experiment is an A/B test of two versions of one model.
type Experiment struct {
	ID         int64        `json:"id"` // given by the store, from 1
	Name       string       `json:"experiment"`
	Model      string       `json:"model"`
	Versions   [2]int       `json:"versions"` // by arm
	Stages     []Stage      `json:"stages"`   // the last one is the present one
	Ramp       *Ramp        `json:"ramp,omitempty"`
	Shadow     *Shadow      `json:"shadow,omitempty"`
	Metric     Metric       `json:"metric"`
	Unit       Unit         `json:"unit"`
	Guards     Guards       `json:"guards"`
	Salt       []byte       `json:"salt"` // of the split; secret, so that no one chooses an arm
	State      State        `json:"state"`
	Breach     *Breach      `json:"breach,omitempty"`
	Decision   *Decision    `json:"decision,omitempty"`
	Reason     string       `json:"reason,omitempty"` // why someone ended it
	Hold       *Hold        `json:"hold,omitempty"`
	Owner      galley.Actor `json:"owner"`
	Created    time.Time    `json:"created"`
	Ended      *time.Time   `json:"ended,omitempty"`
	Updated    time.Time    `json:"updated"`
	Generation int64        `json:"generation"` // counts changes
}

// A Hold keeps all traffic on the control version after the end of an
// experiment, until the alias prod moves or someone ends it: also of a model whose prod points
// elsewhere, or that has none.
type Hold struct {
	Generation int64 `json:"generation"` // of the alias prod at the end; 0 without one
}

// A Breach is the evidence of a guardrail that ended an experiment.
type Breach struct {
	Guard   Guard      `json:"guard"`
	Value   float64    `json:"value"` // of the treatment, in the guard's unit
	Figures [2]Figures `json:"figures"`
	At      time.Time  `json:"at"`
}

// A Decision is how an experiment ended that was decided.
type Decision struct {
	Winner   Arm    `json:"winner"`
	Forced   bool   `json:"forced,omitempty"` // against what the figures say, or before they say anything
	Evidence string `json:"evidence"`
}

// SaltSize is the number of bytes of a salt.
const SaltSize = 16

// maxReason bounds the reason of a change, in bytes.
const maxReason = 1000

// Check holds a new experiment to its bounds.
func (e Experiment) Check() error {
	for subject, name := range map[string]string{"experiment": e.Name, "model": e.Model} {
		if err := galley.CheckName(subject, name); err != nil {
			return err
		}
	}
	switch {
	case e.Versions[Control] < 1 || e.Versions[Treatment] < 1:
		return galley.Errorf(galley.InvalidArgument, e.Name, "an experiment needs a control and a treatment")
	case e.Versions[Control] == e.Versions[Treatment]:
		return galley.Errorf(galley.InvalidArgument, e.Name, "control and treatment are both %s", e.Ref(Control)).
			WithRemedy("compare two versions of %s", e.Model)
	case len(e.Stages) != 1:
		return galley.Errorf(galley.InvalidArgument, e.Name, "a new experiment has one split, not %d", len(e.Stages))
	case len(e.Salt) != SaltSize:
		return galley.Errorf(galley.InvalidArgument, e.Name, "a salt has %d bytes, not %d", SaltSize, len(e.Salt))
	case e.Unit != PerOutcome && e.Unit != PerKey:
		return galley.Errorf(galley.InvalidArgument, "unit", "%q is not what a verdict counts", galley.Clip(string(e.Unit), 80)).
			WithRemedy("write outcome or key")
	}
	if _, err := ParseMetric(string(e.Metric)); err != nil {
		return err
	}
	if (e.Shadow != nil) != (e.Metric == Agreement) {
		return galley.Errorf(galley.InvalidArgument, "metric", "%s is what shadows measure, and nothing else", Agreement).
			WithRemedy("start a shadow without a metric, or choose another for a split")
	}
	if e.Shadow != nil {
		if e.Ramp != nil || e.Stages[0].Treatment != 0 {
			return galley.Errorf(galley.InvalidArgument, e.Name, "a shadow splits nothing").WithRemedy("give it neither shares nor a canary")
		}
		if err := e.Shadow.check(); err != nil {
			return err
		}
		return e.Guards.Check()
	}
	if err := checkShare(e.Stages[0].Treatment); err != nil {
		return err
	}
	if err := e.Ramp.check(e.Stages[0].Treatment); err != nil {
		return err
	}
	return e.Guards.Check()
}

// Ref returns the version of an arm as "name@n".
func (e Experiment) Ref(a Arm) string {
	return galley.Ref{Name: e.Model, Version: e.Versions[a]}.String()
}

// Stage returns the present stage.
func (e Experiment) Stage() Stage { return e.Stages[len(e.Stages)-1] }

// ParseSplit reads shares as CONTROL/TREATMENT in percent, as in "90/10" or
// "99.5/0.5", and returns the treatment's, in Parts.
func ParseSplit(s string) (int, error) {
	wrong := func(format string, args ...any) (int, error) {
		return 0, galley.Errorf(galley.InvalidArgument, "split", format, args...).
			WithRemedy("write the percents of control and treatment, which add up to 100, as in 90/10")
	}
	first, second, ok := strings.Cut(s, "/")
	if !ok {
		return wrong("%q is not two shares", galley.Clip(s, 80))
	}
	var parts [2]int
	for i, text := range []string{first, second} {
		percent, err := strconv.ParseFloat(strings.TrimSuffix(strings.TrimSpace(text), "%"), 64)
		if err != nil || math.IsNaN(percent) || percent < 0 || percent > 100 {
			return wrong("%q is not a share from 0 to 100", galley.Clip(text, 80))
		}
		share := percent * Parts / 100
		parts[i] = int(math.Round(share))
		if math.Abs(share-float64(parts[i])) > 1e-6 {
			return wrong("%q has more than two decimals", galley.Clip(text, 80))
		}
	}
	if sum := parts[0] + parts[1]; sum != Parts {
		return wrong("the shares %s add up to %s instead of 100", galley.Clip(s, 80), percent(sum))
	}
	return parts[1], checkShare(parts[1])
}

// FormatSplit writes shares as ParseSplit reads them.
func FormatSplit(treatment int) string { return percent(Parts-treatment) + "/" + percent(treatment) }

func percent(parts int) string {
	return strconv.FormatFloat(float64(parts)*100/Parts, 'f', -1, 64)
}

func checkShare(treatment int) error {
	if treatment > 0 && treatment < Parts {
		return nil
	}
	return galley.Errorf(galley.InvalidArgument, "split", "an arm without traffic cannot be compared").
		WithRemedy("give each arm at least 0.01 percent")
}
