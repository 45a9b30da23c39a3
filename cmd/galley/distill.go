package main

import (
	"github.com/spf13/cobra"

	"galley/trainer"
)

func (a *app) distillCommand() *cobra.Command {
	return a.jobFileCommand(trainer.KindDistill, &cobra.Command{
		Use:   "distill FILE",
		Short: "Train a small model from larger ones' answers",
		Long: `Submit a job file of kind Distill: a student learns from labels and from what
its teachers, versions with the same labels, answer about the same texts.

Teachers are asked about each text once; their answers are kept. With --wait the
command follows the job to its end; --local implies it.`,
		Example: "  galley distill headlines-distill.yaml --wait\n  galley distill job.yaml --set teachers='[news-topic@3]' --set temperature=4 --local\n  galley distill job.yaml --print-spec",
	})
}
