package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/timestamppb"

	controlpb "galley/api/control/v1"

	"galley"
)

func (a *app) jobsCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "jobs", Short: "Watch and steer jobs",
		Example: "  galley jobs list\n  galley jobs explain news-topic-3f2a",
	}
	var follow bool
	logs := &cobra.Command{
		Use: "logs JOB", Short: "Print a job's log", Example: "  galley jobs logs news-topic-3f2a --follow", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.with(cmd.Context(), func(c *client) error { return a.printLogs(cmd.Context(), c, args[0], follow) })
		},
	}
	logs.Flags().BoolVarP(&follow, "follow", "f", false, "go on until the job ends")
	c.AddCommand(
		a.jobsListCommand(),
		a.jobCommand("show", "Show a job with its attempts", controlpb.ControlClient.GetJob),
		logs,
		a.jobCommand("cancel", "Ask a job to end, keeping its checkpoint", controlpb.ControlClient.CancelJob),
		a.jobCommand("resume", "Go on with a failed or cancelled job from its last checkpoint", controlpb.ControlClient.ResumeJob),
		a.jobsExplainCommand(),
	)
	return c
}

// jobCall is a method of the API that takes a job and returns it.
type jobCall func(controlpb.ControlClient, context.Context, *controlpb.JobRequest, ...grpc.CallOption) (*controlpb.Job, error)

// jobCommand is a command that asks for one job and prints it.
func (a *app) jobCommand(verb, short string, call jobCall) *cobra.Command {
	return &cobra.Command{
		Use: verb + " JOB", Short: short, Example: "  galley jobs " + verb + " news-topic-3f2a", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.with(cmd.Context(), func(c *client) error {
				j, err := call(c.control, cmd.Context(), &controlpb.JobRequest{Job: args[0]})
				if err != nil {
					return err
				}
				return a.printJob(j)
			})
		},
	}
}

func (a *app) jobsListCommand() *cobra.Command {
	var phase string
	var limit int32
	c := &cobra.Command{
		Use: "list", Short: "List jobs, the newest first", Example: "  galley jobs list --phase running", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.with(cmd.Context(), func(c *client) error {
				r, err := c.control.ListJobs(cmd.Context(), &controlpb.ListJobsRequest{Phase: phase, Limit: limit})
				if err != nil {
					return err
				}
				if a.json {
					jobs := []jobJSON{}
					for _, j := range r.GetJobs() {
						jobs = append(jobs, jobOf(j))
					}
					a.printJSON(map[string]any{"jobs": jobs})
					return nil
				}
				w := tabwriter.NewWriter(a.out, 0, 0, 2, ' ', 0)
				fmt.Fprintln(w, "JOB\tMODEL\tPHASE\tSTEP\tRESULT")
				for _, j := range r.GetJobs() {
					result := ""
					if len(j.GetVersions()) > 0 {
						result = j.GetVersions()[0]
					} else if j.GetError() != nil {
						result = j.GetError().GetMessage()
					}
					fmt.Fprintf(w, "%s\t%s\t%s\t%d/%d\t%s\n", j.GetJob(), j.GetName(), j.GetPhase(), j.GetProgress().GetStep(), j.GetProgress().GetSteps(), result)
				}
				return w.Flush()
			})
		},
	}
	c.Flags().StringVar(&phase, "phase", "", "only queued, running, succeeded, failed or cancelled ones")
	c.Flags().Int32Var(&limit, "limit", 100, "at most so many")
	return c
}

func (a *app) jobsExplainCommand() *cobra.Command {
	return &cobra.Command{
		Use: "explain JOB", Short: "Say why a job is where it is", Example: "  galley jobs explain news-topic-3f2a", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.with(cmd.Context(), func(c *client) error {
				r, err := c.control.ExplainJob(cmd.Context(), &controlpb.JobRequest{Job: args[0]})
				if err != nil {
					return err
				}
				if a.json {
					out := map[string]any{"job": r.GetJob(), "phase": r.GetPhase(), "reasons": append([]string{}, r.GetReasons()...)}
					if w := r.GetWaiting(); w != nil {
						out["waiting"] = waitingJSON{w.GetReason(), w.GetPlace(), w.GetResource(), w.GetNeed(), w.GetFree(), w.GetBy(), timeOf(w.GetUntil())}
					}
					a.printJSON(out)
					return nil
				}
				fmt.Fprintf(a.out, "%s is %s\n", r.GetJob(), r.GetPhase())
				for _, reason := range r.GetReasons() {
					fmt.Fprintf(a.out, "  %s\n", strings.ReplaceAll(reason, "\n", "\n    "))
				}
				return nil
			})
		},
	}
}

// waitingJSON is what a job waits for.
type waitingJSON struct {
	Reason   string     `json:"reason"`
	Place    int32      `json:"place,omitempty"`
	Resource string     `json:"resource,omitempty"`
	Need     int64      `json:"need,omitempty"`
	Free     int64      `json:"free"`
	By       []string   `json:"by,omitempty"`
	Until    *time.Time `json:"until,omitempty"`
}

func (a *app) printLogs(ctx context.Context, c *client, job string, follow bool) error {
	stream, err := c.control.JobLogs(ctx, &controlpb.JobLogsRequest{Job: job, Follow: follow})
	if err != nil {
		return err
	}
	type line struct {
		Time    time.Time `json:"time"`
		Attempt int32     `json:"attempt"`
		Text    string    `json:"text"`
	}
	lines := []line{}
	for {
		l, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		if a.json {
			lines = append(lines, line{l.GetTime().AsTime(), l.GetAttempt(), l.GetText()})
			continue
		}
		fmt.Fprintf(a.out, "%s  %d  %s\n", l.GetTime().AsTime().Local().Format(time.TimeOnly), l.GetAttempt(), l.GetText())
	}
	if a.json {
		a.printJSON(map[string]any{"job": job, "lines": lines})
	}
	return nil
}

type jobJSON struct {
	Job        string             `json:"job"`
	Kind       string             `json:"kind"`
	Name       string             `json:"name"`
	Phase      string             `json:"phase"`
	Attempt    int32              `json:"attempt"`
	Progress   progressJSON       `json:"progress"`
	Attempts   []attemptJSON      `json:"attempts"`
	SpecDigest string             `json:"spec_digest"`
	Spec       map[string]any     `json:"spec,omitempty"`
	Data       string             `json:"data,omitempty"`
	Versions   []string           `json:"versions"`
	Metrics    map[string]float64 `json:"metrics"`
	Error      *galley.Error      `json:"error,omitempty"`
	Created    time.Time          `json:"created"`
	Updated    time.Time          `json:"updated"`
	Tenant     string             `json:"tenant,omitempty"`
	Preempting string             `json:"preempting,omitempty"`
	NotBefore  *time.Time         `json:"not_before,omitempty"`
	Memory     int64              `json:"memory,omitempty"`
	Steps      []pipelineStepJSON `json:"steps,omitempty"`
	Within     string             `json:"within,omitempty"`
}

type progressJSON struct {
	Step       int64   `json:"step"`
	Steps      int64   `json:"steps"`
	Epoch      int32   `json:"epoch"`
	Loss       float64 `json:"loss,omitempty"`
	LR         float64 `json:"lr,omitempty"`
	Checkpoint int64   `json:"checkpoint"`
}

type attemptJSON struct {
	Number     int32         `json:"number"`
	Started    time.Time     `json:"started"`
	Ended      *time.Time    `json:"ended,omitempty"`
	From       int64         `json:"from_step"`
	Step       int64         `json:"step"`
	Checkpoint int64         `json:"checkpoint,omitempty"`
	Outcome    string        `json:"outcome,omitempty"`
	Cause      string        `json:"cause,omitempty"`
	Error      *galley.Error `json:"error,omitempty"`
}

func jobOf(j *controlpb.Job) jobJSON {
	p := j.GetProgress()
	out := jobJSON{
		Job: j.GetJob(), Kind: j.GetKind(), Name: j.GetName(), Phase: j.GetPhase(), Attempt: j.GetAttempt(),
		Progress: progressJSON{p.GetStep(), p.GetSteps(), p.GetEpoch(), p.GetLoss(), p.GetLr(), p.GetCheckpoint()},
		Attempts: []attemptJSON{}, SpecDigest: j.GetSpecDigest(), Spec: j.GetSpec().AsMap(), Data: j.GetData(),
		Versions: append([]string{}, j.GetVersions()...), Metrics: map[string]float64{}, Error: errorOf(j.GetError()),
		Created: j.GetCreated().AsTime(), Updated: j.GetUpdated().AsTime(),
		Tenant: j.GetTenant(), Preempting: j.GetPreempting(), NotBefore: timeOf(j.GetNotBefore()), Memory: j.GetMemory(), Steps: stepsOf(j), Within: j.GetWithin(),
	}
	for name, value := range j.GetMetrics() {
		out.Metrics[name] = value
	}
	for _, t := range j.GetAttempts() {
		out.Attempts = append(out.Attempts, attemptJSON{
			t.GetNumber(), t.GetStarted().AsTime(), timeOf(t.GetEnded()), t.GetFromStep(), t.GetStep(), t.GetCheckpoint(), t.GetOutcome(), t.GetCause(), errorOf(t.GetError()),
		})
	}
	return out
}

func timeOf(t *timestamppb.Timestamp) *time.Time {
	if t == nil {
		return nil
	}
	at := t.AsTime()
	return &at
}

func errorOf(e *controlpb.Error) *galley.Error {
	if e == nil {
		return nil
	}
	return &galley.Error{Code: galley.Code(e.GetCode()), Subject: e.GetSubject(), Message: e.GetMessage(), Remedy: e.GetRemedy()}
}

func (a *app) printJob(j *controlpb.Job) error {
	if a.json {
		a.printJSON(jobOf(j))
		return nil
	}
	p := j.GetProgress()
	fmt.Fprintf(a.out, "%s  %s  step %d of %d", j.GetJob(), j.GetPhase(), p.GetStep(), p.GetSteps())
	for _, v := range j.GetVersions() {
		fmt.Fprintf(a.out, "  %s", v)
	}
	fmt.Fprintln(a.out)
	if err := printTree(a.out, j); err != nil {
		return err
	}
	for _, t := range j.GetAttempts() {
		outcome := t.GetOutcome()
		if outcome == "" {
			outcome = "running"
		}
		if cause := t.GetCause(); cause != "" && cause != outcome {
			outcome += " (" + cause + ")"
		}
		fmt.Fprintf(a.out, "  attempt %d  steps %d to %d  %s\n", t.GetNumber(), t.GetFromStep(), t.GetStep(), outcome)
	}
	if e := errorOf(j.GetError()); e != nil {
		fmt.Fprintf(a.out, "  %s\n", strings.ReplaceAll(e.Error(), "\n", "\n    "))
	}
	return nil
}
