package main

import (
	"fmt"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"galley/internal/partner"
)

func (a *app) partnerStatusCommand() *cobra.Command {
	var home string
	c := &cobra.Command{
		Use: "status --home DIR", Short: "Show what an agent has joined, answered and sent",
		Example: "  galley partner status --home agent\n  galley partner status --home agent -o json",
		Args:    cobra.NoArgs,
		RunE:    func(*cobra.Command, []string) error { return a.printPartner(home) },
	}
	partnerHome(c, &home)
	return c
}

// printPartner prints the status of an agent.
func (a *app) printPartner(home string) error {
	s, err := partner.ReadStatus(home)
	if err != nil {
		return err
	}
	if a.json {
		a.printJSON(s)
		return nil
	}
	w := tabwriter.NewWriter(a.out, 0, 4, 2, ' ', 0)
	line := func(name, format string, args ...any) {
		fmt.Fprintf(w, "%s\t%s\n", name, fmt.Sprintf(format, args...))
	}
	at := func(t time.Time) string { return t.UTC().Format(time.RFC3339) }
	line("partner", "%s", s.Partner)
	line("certificate", "%s, until %s", s.Certificate, at(s.Expires))
	if s.Next != "" {
		line("next", "%s, not accepted yet", s.Next)
	}
	if s.Federation == "" {
		line("federation", "none was joined")
		return w.Flush()
	}
	line("federation", "%s, at %s", s.Federation, s.Coordinator)
	line("agreement", "%s, until %s", s.Agreement, at(s.Ends))
	line("answered", "%d of %d rounds", s.Answered, s.Rounds)
	switch last := s.Last; {
	case last.Outcome != "":
		line("last run", "%s, %d rounds answered, %s at %s", last.Run, last.Answered, last.Outcome, at(last.Ended))
	case last.Run != "":
		line("last run", "%s, %d rounds answered", last.Run, last.Answered)
	}
	switch {
	case !s.Serving:
		line("serving", "no")
	case s.Doing == nil:
		line("serving", "yes")
	default:
		doing := s.Doing.State
		if s.Doing.Round > 0 {
			doing += fmt.Sprintf(", round %d of %s", s.Doing.Round, s.Doing.Run)
		}
		if s.Doing.Trouble != "" {
			doing += "; not connected: " + s.Doing.Trouble
		}
		line("serving", "%s, since %s", doing, at(s.Doing.Since))
	}
	for _, sent := range s.Sent {
		what := sent.What
		switch what {
		case partner.SentUpdate:
			what += fmt.Sprintf(" of round %d: %s, %d bytes, %d rows told, %d metrics", sent.Round, sent.Digest.Short(), sent.Bytes, sent.Rows, len(sent.Metrics))
		case partner.SentDecline:
			what += fmt.Sprintf(" of round %d: %s", sent.Round, sent.Why)
		case partner.GotAnswer:
			what += fmt.Sprintf(" to %s: %s", sent.Digest.Short(), sent.Answer)
		default:
			what += fmt.Sprintf(" %s, %d bytes", sent.Digest.Short(), sent.Bytes)
		}
		line(at(sent.At), "%s", what)
	}
	return w.Flush()
}
