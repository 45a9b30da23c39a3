package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	controlpb "galley/api/control/v1"

	"galley"
	"galley/examples/headlines"
	"galley/internal/audit"
)

func (a *app) quickstartCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "quickstart", Short: "Run the main job end to end on embedded headlines",
		Long: `Run the main job end to end, on 2,400 headlines that galley brings along: freeze
the data, pretrain, fine-tune, evaluate beside a baseline, promote, serve, ask,
see the gate refuse a worse version, promote it against the gate, roll back;
distill a student, make its form of 8 bits, compare that with production; let
readers decide between two versions, see a guardrail end an experiment with a
damaged one; train a model with three partners, processes of their own; verify
the audit log. It takes about a minute and a half on two cores.

Each step reads back what it claims; the command fails if one does not hold.
The home is kept: go on with it as the last lines say.`,
		Example: "  galley quickstart\n  galley quickstart --home /tmp/try-galley",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			home := ""
			if cmd.Flags().Changed("home") {
				home = a.home
			}
			return a.quickstart(cmd.Context(), home)
		},
	}
	return c
}

// A stepJSON is a step of the quickstart as -o json tells it.
type stepJSON struct {
	Name    string  `json:"name"`
	OK      bool    `json:"ok"`
	Detail  string  `json:"detail"`
	Seconds float64 `json:"seconds"`
}

// A story is a quickstart under way.
type story struct {
	*app
	client  *client
	files   string // folder of the headlines' CSV files
	address string
	// forPartners is the address that partners' agents call.
	forPartners string
	steps       []stepJSON

	base, model, worse string              // refs
	student, small     string              // refs: of the model's student, and of that one's form of 8 bits
	tuning, waiting    *controlpb.Job      // of the model and the worse one
	head               audit.SignedHead    // of the audit log after the promotion
	questions          []question          // texts that are asked
	answers            map[string][]output // by ref of the version that answered
}

// A question is a headline of the test split.
type question struct{ text, label, language string }

func (a *app) quickstart(ctx context.Context, home string) error {
	home, err := freshHome(home)
	if err != nil {
		return err
	}
	a.home, a.local = home, false
	s := &story{app: a, files: filepath.Join(home, "headlines"), answers: map[string][]output{}}
	fmt.Fprintf(a.err, "galley quickstart, in %s\n\n", home)
	stop, err := s.serve(ctx)
	if ctx.Err() != nil && stop == nil {
		err = s.interrupted("quickstart")
	}
	if err != nil {
		return err
	}
	err = s.tell(ctx)
	if stopErr := stop(); err == nil {
		err = stopErr
	}
	if a.json {
		a.printJSON(map[string]any{"home": home, "steps": s.steps, "ok": err == nil})
	}
	if err == nil {
		s.epilogue()
		return nil
	}
	if a.json {
		fmt.Fprintf(a.err, "galley: %v\n", err)
		return errReported
	}
	return err
}

// freshHome is the folder given, which must be empty, or one beside the
// caller that is not there yet.
func freshHome(given string) (string, error) {
	if given != "" {
		if entries, err := os.ReadDir(given); err == nil && len(entries) > 0 {
			return "", galley.Errorf(galley.FailedPrecondition, given, "is not empty").
				WithRemedy("name a folder that is not there yet: the quickstart keeps its home")
		}
		path, err := filepath.Abs(given)
		return path, err
	}
	for i := 1; ; i++ {
		name := "galley-quickstart"
		if i > 1 {
			name = fmt.Sprintf("galley-quickstart-%d", i)
		}
		if _, err := os.Lstat(name); errors.Is(err, os.ErrNotExist) {
			return filepath.Abs(name)
		} else if err != nil {
			return "", fileError(name, err)
		}
	}
}

// serve starts the server on a free port and connects to it.
func (s *story) serve(ctx context.Context) (stop func() error, err error) {
	ctx, cancel := context.WithCancel(ctx)
	quiet := *s.app
	quiet.err = io.Discard
	ready, ended := make(chan endpoints, 1), make(chan error, 1)
	ports := anyPorts
	ports.partners = "127.0.0.1:0"
	go func() { ended <- quiet.up(ctx, ports, func(at endpoints) { ready <- at }) }()
	select {
	case at := <-ready:
		s.address, s.forPartners = at.grpc, at.partners
	case err := <-ended:
		cancel()
		return nil, err
	}
	s.server = s.address
	if s.client, err = dial(s.address, nil, nil); err != nil {
		cancel()
		return nil, errors.Join(err, <-ended)
	}
	return func() error {
		s.client.close()
		cancel()
		return <-ended
	}, nil
}

// tell runs the steps; the first that does not hold ends the story.
func (s *story) tell(ctx context.Context) error {
	for _, step := range []struct {
		name string
		do   func(context.Context) (string, error)
	}{
		{"data", s.addData},
		{"pretrain", s.pretrain},
		{"explain", s.queue},
		{"fine-tune", s.fineTune},
		{"evaluate", s.evaluate},
		{"promote", s.promote},
		{"ask", s.ask},
		{"worse", s.trainWorse},
		{"gate", s.refuseWorse},
		{"force", s.forceWorse},
		{"rollback", s.rollBack},
		{"distill", s.distill},
		{"quantize", s.quantize},
		{"compare", s.compare},
		{"experiment", s.experiment},
		{"guardrail", s.guardrail},
		{"federate", s.federate},
		{"audit", s.verifyAudit},
	} {
		began := time.Now()
		detail, err := step.do(ctx)
		done := stepJSON{Name: step.name, OK: err == nil, Detail: detail, Seconds: time.Since(began).Seconds()}
		if err != nil {
			err = s.failed(ctx, "quickstart step "+step.name, err)
			done.Detail = err.Error()
		}
		s.steps = append(s.steps, done)
		if err != nil {
			return err
		}
		s.print(done)
	}
	return nil
}

// failed is the error of a step.
func (s *story) failed(ctx context.Context, step string, err error) error {
	if ctx.Err() != nil {
		return s.interrupted(step)
	}
	err = s.explain(err)
	return galley.Errorf(galley.CodeOf(err), step, "%w", err)
}

// interrupted is the error of a story that somebody ended.
func (s *story) interrupted(step string) error {
	return galley.Errorf(galley.Canceled, step, "was interrupted").
		WithRemedy("galley quickstart begins anew, in a new folder; galley up --home %s goes on with what was under way", s.home)
}

// print tells people a step.
func (s *story) print(step stepJSON) {
	if s.json {
		fmt.Fprintf(s.err, "%-10s %5.1f s\n", step.Name, step.Seconds)
		return
	}
	fmt.Fprintf(s.out, "%-10s %s  (%.1f s)\n\n", step.Name, step.Detail, step.Seconds)
}

// epilogue says how to go on.
func (s *story) epilogue() {
	w := s.out
	if s.json {
		w = s.err
	}
	fmt.Fprintf(w, `Everything above is kept in %[1]s. Serve it:

  galley up --home %[1]s

and, from another terminal:

  galley predict headlines --text 'Parliament votes on the budget tonight'
  galley models list
  galley models show headlines:prod
  galley ab show readers

Your own data, with columns text and label:

  galley data add mine --train train.csv
  galley train %[2]s --set name=mine --set data.dataset=mine --wait
  galley models promote mine@1 prod
`, s.home, filepath.Join(s.home, "job.yaml"))
}

// unpack writes the embedded headlines where a user can look at them.
func (s *story) unpack() error {
	if err := os.MkdirAll(s.files, 0o755); err != nil {
		return fileError(s.files, err)
	}
	return os.CopyFS(s.files, headlines.Files)
}
