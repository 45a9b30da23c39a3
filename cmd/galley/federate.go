package main

import (
	"github.com/spf13/cobra"

	"galley/trainer"
)

func (a *app) federateCommand() *cobra.Command {
	return a.jobFileCommand(trainer.KindFederate, &cobra.Command{
		Use:   "federate FILE",
		Short: "Train a model together with partner institutions",
		Long: `Submit a job file of kind Federate: partners train the version that it names, each
on rows of its own, in rounds; what they make of it together is published as the
next version.

Partners are enrolled with galley federation enrol, and their agents call the
port of galley up --partners. Without enough of them the job waits; galley jobs
explain says for whom.`,
		Example: "  galley federate headlines-together.yaml --wait\n  galley federate job.yaml --set from=news-topic@3 --set rounds=20\n  galley federate job.yaml --print-spec",
	})
}
