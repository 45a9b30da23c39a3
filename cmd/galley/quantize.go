package main

import (
	"github.com/spf13/cobra"

	"galley/trainer"
)

func (a *app) quantizeCommand() *cobra.Command {
	return a.jobFileCommand(trainer.KindQuantize, &cobra.Command{
		Use:   "quantize FILE",
		Short: "Make a smaller, faster form of a version",
		Long: `Submit a job file of kind Quantize: the version that it names is published anew
with weights of 8 or 4 bits, or of half precision.

Places that cost more accuracy than max_drop allows stay float. With --wait the
command follows the job to its end; --local implies it.`,
		Example: "  galley quantize headlines-int8.yaml --wait\n  galley quantize job.yaml --set from=news-topic@3 --set method=static --local\n  galley quantize job.yaml --print-spec",
	})
}
