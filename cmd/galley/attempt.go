package main

import (
	"github.com/spf13/cobra"

	"galley/trainer/engine"
	"galley/trainer/engine/onnx"
	"galley/trainer/launch/process"
)

// attemptName is the hidden command that an attempt of a job runs as.
const attemptName = "attempt"

// drivers are the engines of this build.
func (a *app) drivers(r *runtime) engine.Drivers {
	d := onnx.Driver{Opener: r}
	return engine.Drivers{d.Name(): d}
}

func (a *app) attemptCommand() *cobra.Command {
	return &cobra.Command{
		Use: attemptName, Hidden: true, Args: cobra.NoArgs,
		Short: "Run one attempt of a job, for the server that started it",
		RunE: func(*cobra.Command, []string) error {
			if process.Main(a.drivers(a.newRuntime())) != 0 {
				return errReported
			}
			return nil
		},
	}
}
