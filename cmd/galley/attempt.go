package main

import (
	"github.com/spf13/cobra"

	"galley/quantize"
	"galley/trainer/engine"
	"galley/trainer/engine/onnx"
	"galley/trainer/launch/process"
)

// attemptName is the hidden command that an attempt of a job runs as.
const attemptName = "attempt"

// drivers are what this build runs attempts with.
func (a *app) drivers(r *runtime) engine.Drivers {
	return engine.NewDrivers(onnx.Driver{Opener: r}, quantize.Driver{Opener: r})
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
