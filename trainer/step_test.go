package trainer

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"galley"
)

// A transcript in testdata/step is events, after ">", and what Step makes of
// them. `go test -rewrite` writes the answers anew.
func TestStepTranscripts(t *testing.T) {
	files, err := filepath.Glob("testdata/step/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal(err, "no transcripts")
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			got, err := play(data)
			if err != nil {
				t.Fatal(err)
			}
			golden(t, file, got)
		})
	}
}

var epoch = time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC)

func play(script []byte) ([]byte, error) {
	var out bytes.Buffer
	j := Job{ID: "job", Phase: Queued, Created: epoch, Updated: epoch, Memory: 1 << 30, Spec: Spec{Retries: 2}}
	at := epoch
	lines := bufio.NewScanner(bytes.NewReader(script))
	for lines.Scan() {
		line := lines.Text()
		switch {
		case strings.HasPrefix(line, "#"), line == "":
			fmt.Fprintln(&out, line)
			continue
		case !strings.HasPrefix(line, "> "):
			continue // an answer
		}
		at = at.Add(time.Minute)
		e, err := parseEvent(strings.Fields(line[2:]), at)
		if err != nil {
			return nil, err
		}
		next, effects, err := Step(j, e)
		fmt.Fprintln(&out, line)
		switch {
		case err != nil:
			fmt.Fprintf(&out, "  refused: %v\n", err)
		case reflect.DeepEqual(next, j):
			fmt.Fprintln(&out, "  nothing changes")
		default:
			fmt.Fprintf(&out, "  %s\n", summary(next))
		}
		for _, effect := range effects {
			fmt.Fprintf(&out, "  effect: %s\n", strings.TrimPrefix(fmt.Sprintf("%T%v", effect, effect), "trainer."))
		}
		j = next
	}
	return out.Bytes(), lines.Err()
}

func parseEvent(words []string, at time.Time) (Event, error) {
	values := map[string]string{}
	for _, w := range words[1:] {
		key, value, _ := strings.Cut(w, "=")
		values[key] = value
	}
	number := func(key string) int {
		n, _ := strconv.Atoi(values[key])
		return n
	}
	flag := func(key string) bool { _, ok := values[key]; return ok }
	var metrics map[string]float64
	if flag("accuracy") {
		f, _ := strconv.ParseFloat(values["accuracy"], 64)
		metrics = map[string]float64{"accuracy": f}
	}
	attempt := number("attempt")
	switch words[0] {
	case "placed":
		return Placed{at}, nil
	case "reported":
		return Reported{At: at, Attempt: attempt, Began: flag("began"), Metrics: metrics, Checkpoint: number("checkpoint"),
			Progress: Progress{Step: number("step"), Steps: number("steps")}}, nil
	case "finished":
		return Finished{At: at, Attempt: attempt, Metrics: metrics}, nil
	case "published":
		return Published{At: at, Ref: values["ref"]}, nil
	case "broke":
		return Broke{At: at, Attempt: attempt, Err: galley.Errorf(galley.FailedPrecondition, "recipe", "the loss is NaN")}, nil
	case "crashed":
		cause := Cause(strings.ReplaceAll(values["cause"], "-", " "))
		if flag("interrupted") {
			cause = Interrupted
		}
		return Crashed{At: at, Attempt: attempt, Cause: cause, Err: galley.Errorf(galley.Aborted, "attempt", "was killed")}, nil
	case "preempt":
		return PreemptAsked{At: at, For: values["for"]}, nil
	case "need":
		return NeedEnded{At: at, Need: values["job"], Phase: Phase(values["phase"])}, nil
	case "cancel":
		return CancelAsked{at}, nil
	case "resume":
		return ResumeAsked{at}, nil
	default:
		return nil, fmt.Errorf("%q is not an event", words[0])
	}
}

// summary says how a job is, without its times.
func summary(j Job) string {
	s := string(j.Phase)
	if j.Cancelling {
		s += ", cancelling"
	}
	if j.Preempting != "" {
		s += ", preempted for " + j.Preempting
	}
	if !j.NotBefore.IsZero() {
		s += fmt.Sprintf(", backs off for %v", j.NotBefore.Sub(j.Updated))
	}
	if j.Memory != 1<<30 {
		s += fmt.Sprintf(", %d GiB", j.Memory>>30)
	}
	s += fmt.Sprintf(", step %d/%d, checkpoint %d", j.Progress.Step, j.Progress.Steps, j.Progress.Checkpoint)
	for _, a := range j.Attempts {
		outcome := a.Outcome
		if outcome == "" {
			outcome = "runs"
		}
		if a.Cause != "" && string(a.Cause) != outcome {
			outcome += ": " + string(a.Cause)
		}
		s += fmt.Sprintf("; attempt %d from %d to %d %s", a.Number, a.From, a.Step, outcome)
	}
	if len(j.Metrics) > 0 {
		s += fmt.Sprintf("; %v", j.Metrics)
	}
	if len(j.Versions) > 0 {
		s += fmt.Sprintf("; %v", j.Versions)
	}
	if j.Error != nil {
		s += "; error " + j.Error.Error()
	}
	return s
}

// Whatever happens in whatever order, a job stays whole, and what it was
// before is left as it was.
func TestStepInvariants(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		retries := rapid.IntRange(0, 3).Draw(t, "retries")
		j := Job{ID: "job", Phase: Queued, Spec: Spec{Retries: retries}}
		at, resumed := epoch, 0
		for range rapid.IntRange(1, 60).Draw(t, "events") {
			at = at.Add(time.Second)
			attempt := rapid.IntRange(max(0, len(j.Attempts)-1), len(j.Attempts)).Draw(t, "attempt")
			steps := rapid.IntRange(0, 3).Draw(t, "step")
			began := rapid.Bool().Draw(t, "began")
			e := rapid.SampledFrom([]Event{
				Placed{at}, Reported{At: at, Attempt: attempt, Began: began, Progress: Progress{Step: steps, Steps: 3}, Checkpoint: steps},
				Finished{At: at, Attempt: attempt}, Published{At: at, Ref: "a@1"}, CancelAsked{at}, ResumeAsked{at},
				Broke{At: at, Attempt: attempt, Err: galley.Errorf(galley.Internal, "", "broke")},
				Crashed{At: at, Attempt: attempt, Cause: rapid.SampledFrom(Causes).Draw(t, "cause"), Err: galley.Errorf(galley.Internal, "", "crashed")},
				PreemptAsked{at, "other"}, NeedEnded{at, "other", Failed}, NeedEnded{at, "other", Cancelled},
			}).Draw(t, "event")
			before := j
			attempts := slices.Clone(j.Attempts)
			next, effects, err := Step(j, e)
			if !slices.Equal(before.Attempts, attempts) {
				t.Fatal("the attempts of the job before were changed")
			}
			if err != nil {
				if len(effects) > 0 || !reflect.DeepEqual(next, j) {
					t.Fatalf("a refused %T changed the job or has effects", e)
				}
				continue
			}
			running := 0
			for i, a := range next.Attempts {
				if a.Number != i+1 {
					t.Fatalf("attempt %d has the number %d", i+1, a.Number)
				}
				if a.Ended == nil {
					running++
				}
			}
			if running > 1 || running == 1 && next.Phase != Running {
				t.Fatalf("%d attempts run of a job that is %s", running, next.Phase)
			}
			if next.Phase == Failed && next.Error == nil || next.Phase != Failed && next.Error != nil {
				t.Fatalf("%s with error %v", next.Phase, next.Error)
			}
			if next.Cancelling && running == 0 {
				t.Fatalf("cancelling, and nothing runs: %+v", next)
			}
			last := Attempt{}
			if len(next.Attempts) > 0 {
				last = next.Attempts[len(next.Attempts)-1]
			}
			if next.Phase == Succeeded && (len(next.Versions) == 0 || last.Outcome != "finished") {
				t.Fatalf("succeeded without a finished attempt: %+v", next)
			}
			if next.Phase == Running && running == 0 && last.Outcome != "finished" {
				t.Fatalf("running, and nothing runs or is published: %+v", next)
			}
			if _, asked := e.(ResumeAsked); asked {
				resumed = len(next.Attempts)
			}
			barren := 0
			for _, a := range next.Attempts[resumed:] {
				switch {
				case a.Checkpoint > a.From:
					barren = 0
				case a.Outcome == "crashed":
					barren++
				}
			}
			if barren > retries && (next.Phase == Queued || next.Phase == Running) {
				t.Fatalf("%d attempts got nowhere, and the job is %s", barren, next.Phase)
			}
			if next.Preempting != "" && running == 0 {
				t.Fatalf("preempting, and nothing runs: %+v", next)
			}
			if wait := next.NotBefore.Sub(at); !next.NotBefore.IsZero() && (next.Phase != Queued || wait > MaxBackOff) {
				t.Fatalf("%s backs off for %v", next.Phase, wait)
			}
			j = next
		}
	})
}

// Each cause has a policy; after each a job is queued again or has ended, and
// what does not count is repeated for ever.
func TestPolicies(t *testing.T) {
	for _, c := range Causes {
		p, ok := policies[c]
		if !ok {
			t.Errorf("%s has no policy", c)
		}
		j := Job{ID: "job", Phase: Queued, Spec: Spec{Retries: maxRetries}, Memory: 1}
		tries := 0
		for at := epoch; j.Phase == Queued && tries < 2*maxRetries; tries++ {
			at = at.Add(time.Hour)
			j, _, _ = Step(j, Placed{at})
			j, _, _ = Step(j, Crashed{At: at, Attempt: j.Attempt(), Cause: c, Err: galley.Errorf(galley.Internal, "", "crashed")})
		}
		want := min(p.Retries, maxRetries) + 1
		if p.Free {
			want = 2 * maxRetries
		}
		if tries != want {
			t.Errorf("%s: %d attempts, not %d", c, tries, want)
		}
		if p.MoreMemory != (j.Memory > 1) {
			t.Errorf("%s: %d bytes", c, j.Memory)
		}
	}
	if len(policies) != len(Causes) {
		t.Error("a policy is of no cause")
	}
}

// A job file's budget bounds what the policies allow.
func TestRetries(t *testing.T) {
	j := Job{ID: "job", Phase: Running, Attempts: []Attempt{{Number: 1}}}
	j, _, _ = Step(j, Crashed{At: epoch, Attempt: 1, Cause: Killed, Err: galley.Errorf(galley.Aborted, "attempt", "was killed")})
	if j.Phase != Failed {
		t.Errorf("retries: 0, and it is %s", j.Phase)
	}
}
