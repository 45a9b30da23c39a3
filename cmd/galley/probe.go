package main

import (
	"github.com/spf13/cobra"

	"galley/internal/ort/probe"
)

// probeName is the hidden command that tries a model before the server opens
// it.
const probeName = "probe"

func (a *app) probeCommand() *cobra.Command {
	return &cobra.Command{
		Use: probeName, Hidden: true, Args: cobra.NoArgs,
		Short: "Load a model and run it once, for the server that is to open it",
		RunE: func(*cobra.Command, []string) error {
			if probe.Main(a.newRuntime(), a.in, a.out) != 0 {
				return errReported
			}
			return nil
		},
	}
}
