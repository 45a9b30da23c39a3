package main

import (
	"slices"

	"github.com/spf13/cobra"

	"galley/internal/telemetry"
)

// logs are the settings of a server's log.
type logs struct{ format string }

func (l *logs) flags(c *cobra.Command) {
	c.Flags().StringVar(&l.format, "log-format", l.format, "of the log on stderr: text or json")
}

// check refuses what is no format.
func (l *logs) check() error {
	if !slices.Contains(telemetry.Formats, l.format) {
		return usagef("--log-format %s: write text or json", l.format)
	}
	return nil
}
