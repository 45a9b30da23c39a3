package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/structpb"

	controlpb "galley/api/control/v1"

	"galley"
	"galley/dataset"
	"galley/evals"
	"galley/internal/strictyaml"
)

func (a *app) modelsGateCommand() *cobra.Command {
	var file string
	var reset bool
	c := &cobra.Command{
		Use: "gate NAME [ALIAS]", Short: "Show or set what a version must pass to take an alias",
		Long: `Show or set the gate of an alias, prod if none is named. A gate is a list of
rules, in YAML:

  rules:
    - {metric: accuracy, max_worse: 0.01, max_worse_bound: 0.05}
    - {metric: accuracy, slice: language=zh, min: 0.8}
    - {metric: latency_ms.p50, max_ratio: 1.1}

With data: NAME (and split: test) it compares on these rows whoever promotes;
without, on those of the version's own dataset, or those that promote --data
names. An alias that no gate was set for has galley's own, if it is prod, or none.`,
		Example: "  galley models gate news-topic\n  galley models gate news-topic prod --set gate.yaml\n  galley models gate news-topic --reset",
		Args:    cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			if reset && file != "" {
				return usagef("gate: --set and --reset exclude each other")
			}
			alias := ""
			if len(args) == 2 {
				alias = args[1]
			}
			var gate *structpb.Struct
			if file != "" {
				var err error
				if gate, err = readGate(file); err != nil {
					return err
				}
			}
			return a.with(cmd.Context(), func(c *client) error {
				var g *controlpb.Gate
				var err error
				if gate != nil || reset {
					g, err = c.control.SetGate(cmd.Context(), &controlpb.SetGateRequest{Name: args[0], Alias: alias, Gate: gate})
				} else {
					g, err = c.control.GetGate(cmd.Context(), &controlpb.GateRequest{Name: args[0], Alias: alias})
				}
				if err == nil {
					a.printGateRules(g)
				}
				return err
			})
		},
	}
	c.Flags().StringVar(&file, "set", "", "file with the rules")
	c.Flags().BoolVar(&reset, "reset", false, "return to galley's own gate")
	return c
}

// A gateFile is a gate as people write it.
type gateFile struct {
	Data  string        `yaml:"data"`
	Split dataset.Split `yaml:"split"`
	Rules []struct {
		Metric        string   `yaml:"metric"`
		Slice         string   `yaml:"slice"`
		Min           *float64 `yaml:"min"`
		Max           *float64 `yaml:"max"`
		MaxWorse      *float64 `yaml:"max_worse"`
		MaxWorseBound *float64 `yaml:"max_worse_bound"`
		MaxRatio      *float64 `yaml:"max_ratio"`
	} `yaml:"rules"`
}

func readGate(path string) (*structpb.Struct, error) {
	data, err := readFile(path, strictyaml.MaxBytes, "a gate")
	if err != nil {
		return nil, err
	}
	document, problems := strictyaml.Parse(data)
	var file gateFile
	if problems == nil {
		problems = document.Decode(&file)
	}
	if problems != nil {
		return nil, problems.AsError(path)
	}
	gate := evals.Gate{Data: file.Data, Split: file.Split, Rules: []evals.Rule{}}
	for _, r := range file.Rules {
		gate.Rules = append(gate.Rules, evals.Rule(r))
	}
	if err := gate.Validate(); err != nil {
		return nil, err
	}
	encoded, err := json.Marshal(gate)
	if err != nil {
		return nil, galley.Errorf(galley.InvalidArgument, path, "cannot be sent: %w", err)
	}
	out := new(structpb.Struct)
	return out, out.UnmarshalJSON(encoded)
}

func (a *app) printGateRules(g *controlpb.Gate) {
	if a.json {
		a.printJSON(map[string]any{"name": g.GetName(), "alias": g.GetAlias(), "set": g.GetSet(), "gate": g.GetGate().AsMap()})
		return
	}
	whose := "galley's own gate"
	if g.GetSet() {
		whose = "a gate of its own"
	}
	if g.GetGate() == nil {
		whose = "no gate"
	}
	fmt.Fprintf(a.out, "%s:%s has %s\n", g.GetName(), g.GetAlias(), whose)
	data, err := g.GetGate().MarshalJSON()
	if err != nil {
		return
	}
	gate, err := evals.DecodeGate(bytes.NewReader(data))
	if err != nil {
		return // nothing more can be said of it
	}
	if gate.Data != "" {
		fmt.Fprintf(a.out, "  compares on %s of %s\n", cmp.Or(string(gate.Split), "the test split"), gate.Data)
	}
	for _, r := range gate.Rules {
		line := "  " + r.Metric
		if r.Slice != "" {
			line += " of " + r.Slice
		}
		for _, bound := range []struct {
			text string
			at   *float64
		}{
			{"at least %g", r.Min}, {"at most %g", r.Max}, {"at most %g worse than the version before", r.MaxWorse},
			{"the worse end of the difference at most %g worse", r.MaxWorseBound}, {"at most %g times that of the version before", r.MaxRatio},
		} {
			if bound.at != nil {
				line += "; " + fmt.Sprintf(bound.text, *bound.at)
			}
		}
		fmt.Fprintln(a.out, line)
	}
}
