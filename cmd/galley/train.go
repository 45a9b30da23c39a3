package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	controlpb "galley/api/control/v1"

	"galley"
	"galley/internal/strictyaml"
	"galley/trainer"
)

func (a *app) trainCommand() *cobra.Command {
	return a.jobFileCommand("", &cobra.Command{
		Use:   "train FILE",
		Short: "Submit a job file",
		Long: `Submit a job file, of any kind.

Paths in the file (data.train, from: model.onnx) are read here, relative to the
file, and sent to the server. With --wait the command follows the job to its
end; --local implies it. A file of kind Pipeline has several jobs as steps, and
what of them is unchanged is not run again.`,
		Example: "  galley train job.yaml --wait\n  galley train job.yaml --set recipe.epochs=2 --set recipe.seed=7 --local\n  galley train job.yaml --print-spec",
	})
}

// kindCommands are the commands that take job files of one kind; galley train
// takes all.
var kindCommands = map[string]string{
	trainer.KindTrain: "train", trainer.KindDistill: "distill", trainer.KindQuantize: "quantize", trainer.KindFederate: "federate", trainer.KindPipeline: "train",
}

// jobFileCommand makes c a command that submits job files of a kind, of any if
// it is empty.
func (a *app) jobFileCommand(kind string, c *cobra.Command) *cobra.Command {
	var sets []string
	var wait, printSpec bool
	c.Args = cobra.ExactArgs(1)
	c.RunE = func(cmd *cobra.Command, args []string) error {
		file, spec, err := readJobFile(args[0], sets)
		if err != nil {
			return err
		}
		if kind != "" && spec.Kind != kind {
			return galley.Errorf(galley.InvalidArgument, args[0], "is of kind %s, and galley %s takes kind: %s", spec.Kind, c.Name(), kind).
				WithRemedy("run galley %s %s", kindCommands[spec.Kind], args[0])
		}
		if printSpec && a.json {
			a.printJSON(spec)
			return nil
		}
		if printSpec {
			text, err := spec.YAML()
			if err == nil {
				fmt.Fprint(a.out, string(text))
			}
			return err
		}
		return a.with(cmd.Context(), func(c *client) error {
			job, err := a.submit(cmd.Context(), c, filepath.Dir(args[0]), file, spec, sets)
			if err != nil {
				return err
			}
			if wait || a.local {
				if job, err = a.follow(cmd.Context(), c, job); err != nil {
					return err
				}
			}
			metrics, err := measured(cmd.Context(), c, job)
			if err != nil {
				return err
			}
			return a.printResult(job, metrics)
		})
	}
	f := c.Flags()
	f.Var(setsFlag(&sets), "set", "override a value of the file: recipe.epochs=3 (repeatable)")
	f.BoolVar(&wait, "wait", false, "follow the job to its end")
	f.BoolVar(&printSpec, "print-spec", false, "print the file with each default filled in, and submit nothing")
	return c
}

// readJobFile reads and checks a job file before anything is sent.
func readJobFile(path string, sets []string) ([]byte, trainer.Spec, error) {
	data, err := readFile(path, strictyaml.MaxBytes, "a job file")
	if err != nil {
		return nil, trainer.Spec{}, err
	}
	spec, problems := trainer.ParseFile(data, sets)
	return data, spec, problems.AsError(path)
}

// submit sends what the file names, then the file.
func (a *app) submit(ctx context.Context, c *client, dir string, file []byte, spec trainer.Spec, sets []string) (*controlpb.Job, error) {
	sets = append([]string{}, sets...)
	more, err := a.sendFiles(ctx, c, dir, spec, "")
	sets = append(sets, more...)
	for _, step := range spec.Steps {
		if err == nil {
			more, err = a.sendFiles(ctx, c, dir, step.Spec, "steps."+step.ID+".spec.")
			sets = append(sets, more...)
		}
	}
	if err != nil {
		return nil, err
	}
	return c.control.SubmitJob(ctx, &controlpb.SubmitJobRequest{JobFile: file, Set: sets})
}

// sendFiles sends what a spec names, and returns what is to be set in its stead
// below a path of the job file.
func (a *app) sendFiles(ctx context.Context, c *client, dir string, spec trainer.Spec, at string) (sets []string, err error) {
	if spec.Data.Train != "" {
		d, err := addData(ctx, c.control, spec.Name, dataFiles{
			train: within(dir, spec.Data.Train), valid: within(dir, spec.Data.Valid), test: within(dir, spec.Data.Test),
			format: spec.Data.Format, columns: spec.Data.Columns, unlabelled: spec.Task == "text-mlm", seed: spec.Recipe.Seed,
		})
		if err != nil {
			return nil, err
		}
		if !a.json {
			a.printDataset(d)
		}
		sets = append(sets, fmt.Sprintf("%sdata.dataset=%s@%d", at, d.GetName(), d.GetVersion()))
		for _, field := range []string{"train", "valid", "test", "format", "columns"} {
			sets = append(sets, at+"data."+field+"=")
		}
	}
	if start := spec.Start(); strings.HasSuffix(start, ".onnx") {
		digest, err := uploadModel(ctx, c.control, modelFiles{graph: within(dir, start)})
		if err != nil {
			return nil, err
		}
		sets = append(sets, at+spec.StartPath()+"="+digest)
	}
	return sets, nil
}

// within makes a path of a job file relative to the file's folder.
func within(dir, path string) string {
	if path == "" || filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(dir, path)
}

// follow shows a job's progress until it is final.
func (a *app) follow(ctx context.Context, c *client, job *controlpb.Job) (*controlpb.Job, error) {
	stream, err := c.control.WatchJob(ctx, &controlpb.JobRequest{Job: job.GetJob()})
	if err != nil {
		return nil, err
	}
	var show interface {
		update(*controlpb.Job)
		finish()
	} = newProgress(a.err, job.GetJob())
	if job.GetKind() == trainer.KindPipeline {
		show = newPipelineProgress(ctx, a.err, c)
	}
	defer show.finish()
	for {
		j, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return job, nil
		}
		if err != nil {
			return nil, err
		}
		job = j
		show.update(job)
	}
}

// measured returns a job's metrics on the validation split, each with value,
// low, high, method and n as the report of its version has them; with the value
// alone while there is no report of them.
func measured(ctx context.Context, c *client, j *controlpb.Job) (map[string]any, error) {
	metrics := map[string]any{}
	for name, value := range j.GetMetrics() {
		metrics[name] = map[string]any{"value": value}
	}
	for _, ref := range j.GetVersions() {
		v, err := c.control.GetVersion(ctx, &controlpb.VersionRequest{Ref: ref})
		if err != nil {
			return nil, err
		}
		for _, r := range v.GetReports() {
			report := r.GetReport().AsMap()
			data, _ := report["dataset"].(map[string]any)
			if found, ok := report["metrics"].(map[string]any); ok && data["split"] == "valid" {
				metrics = found
			}
		}
	}
	return metrics, nil
}

// printResult prints a submitted job; a failed one fails the command.
func (a *app) printResult(j *controlpb.Job, metrics map[string]any) error {
	if a.json {
		out := map[string]any{"job": j.GetJob(), "phase": j.GetPhase(), "versions": append([]string{}, j.GetVersions()...), "metrics": metrics}
		if len(j.GetSteps()) > 0 {
			out["steps"] = stepsOf(j)
		}
		if e := errorOf(j.GetError()); e != nil {
			out["error"] = e
		}
		a.printJSON(out)
	} else {
		if err := a.printJob(j); err != nil {
			return err
		}
	}
	if e := errorOf(j.GetError()); e != nil && j.GetPhase() == string(trainer.Failed) {
		if !a.json {
			return e
		}
		fmt.Fprintf(a.err, "galley: %s\n", e)
		return errReported
	}
	if j.GetPhase() == string(trainer.Cancelled) {
		return errReported
	}
	return nil
}
