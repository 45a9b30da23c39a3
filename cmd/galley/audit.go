package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	controlpb "galley/api/control/v1"

	"galley"
	"galley/internal/audit"
	"galley/internal/rpc"
)

func (a *app) auditCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "audit",
		Short: "Look at the audit log, and verify it",
		Long: `Look at the audit log, and verify it.

Each change has an entry, written with it or not at all: who did what, when, to
what, from where, on whose token. Entries are chained by digest; a head that is
kept where the log is not shows later whether anything was altered, dropped,
reordered, inserted or cut off.`,
		Example: "  galley audit head > head.json\n  galley audit verify --head head.json\n  galley audit list --subject news-topic:prod",
	}
	c.AddCommand(a.auditHeadCommand(), a.auditVerifyCommand(), a.auditListCommand())
	return c
}

func (a *app) auditHeadCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "head",
		Short: "Sign what the log has come to; keep the output elsewhere",
		Long: `Sign what the log has come to. Keep the output, which is JSON in any case, where
who can change the log cannot change it: galley audit verify --head shows
whether the log still begins with what it was.`,
		Example: "  galley audit head > head.json", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.with(cmd.Context(), func(c *client) error {
				head, err := signedHead(cmd.Context(), c)
				if err == nil {
					a.printJSON(head)
				}
				return err
			})
		},
	}
}

func signedHead(ctx context.Context, c *client) (audit.SignedHead, error) {
	m, err := c.audit.GetHead(ctx, &controlpb.GetAuditHeadRequest{})
	if err != nil {
		return audit.SignedHead{}, err
	}
	head := rpc.AuditHeadFrom(m)
	return head, head.Check()
}

func (a *app) auditVerifyCommand() *cobra.Command {
	var kept string
	c := &cobra.Command{
		Use:   "verify",
		Short: "Check each entry of the log, and a head that was kept",
		Long: `Check each entry of the log, from the first to the last, and that the log goes
through the head that was kept. The entries are checked here, not by the
server. Exits 1 and names the first wrong entry if there is one.`,
		Example: "  galley audit verify\n  galley audit verify --head head.json", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var head *audit.SignedHead
			if kept != "" {
				h, err := readHead(kept)
				if err != nil {
					return err
				}
				head = &h
			}
			return a.with(cmd.Context(), func(c *client) error {
				v, err := verifyAudit(cmd.Context(), c, head)
				if err != nil {
					return err
				}
				return a.printVerified(v, head)
			})
		},
	}
	c.Flags().StringVar(&kept, "head", "", "file with a head that galley audit head, or GET /v1/audit/head, wrote before")
	return c
}

func readHead(path string) (audit.SignedHead, error) {
	f, err := os.Open(path)
	if err != nil {
		return audit.SignedHead{}, fileError(path, err)
	}
	defer f.Close()
	return audit.ReadHead(f)
}

// verified is what became of checking a log.
type verified struct {
	OK      bool          `json:"ok"`
	Entries int64         `json:"entries"` // of the log
	Head    galley.Digest `json:"head"`
	Key     []byte        `json:"key,omitempty"` // the home's, public
	Kept    *keptHead     `json:"kept,omitempty"`
	Error   *galley.Error `json:"error,omitempty"`
}

// keptHead is the head that a log was compared with.
type keptHead struct {
	Entries int64         `json:"entries"`
	Head    galley.Digest `json:"head"`
	Time    time.Time     `json:"time"`
	SameKey bool          `json:"same_key"` // the home still has the key that signed it
}

// verifyAudit checks the log against its own head and one that was kept, nil
// for none. What is wrong with the log is in the answer; the error is one of
// asking.
func verifyAudit(ctx context.Context, c *client, kept *audit.SignedHead) (verified, error) {
	now, err := signedHead(ctx, c)
	if err != nil {
		return faulty(verified{}, err)
	}
	v := verified{Entries: now.Entries, Head: now.Digest, Key: now.Key}
	heads := []audit.Head{now.Head()}
	if kept != nil {
		v.Kept = &keptHead{Entries: kept.Entries, Head: kept.Digest, Time: kept.Time, SameKey: now.Key.Equal(kept.Key)}
		if kept.Entries <= now.Entries {
			heads = []audit.Head{kept.Head(), now.Head()}
		} else { // the log is cut off: say where
			heads = append(heads, kept.Head())
		}
	}
	if err := checkEntries(ctx, c, now.Entries, heads); err != nil {
		return faulty(v, err)
	}
	v.OK = true
	return v, nil
}

// faulty sorts a fault of the log from a failure to look at it.
func faulty(v verified, err error) (verified, error) {
	if e := rpc.FromStatus(err); e.Code == galley.DataLoss {
		v.Error = e
		return v, nil
	}
	return v, err
}

func checkEntries(ctx context.Context, c *client, until int64, heads []audit.Head) error {
	check := audit.NewVerifier(heads...)
	if until == 0 {
		return check.Finish()
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := c.audit.ListEntries(ctx, &controlpb.ListAuditEntriesRequest{Until: until})
	if err != nil {
		return err
	}
	for {
		m, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return check.Finish()
		}
		if err != nil {
			return err
		}
		if err := check.Add(rpc.AuditEntryFrom(m)); err != nil {
			return err
		}
	}
}

// printVerified tells what became of it; a log that is not what it was fails
// the command.
func (a *app) printVerified(v verified, kept *audit.SignedHead) error {
	if v.Kept != nil && v.Key != nil && !v.Kept.SameKey {
		fmt.Fprintln(a.err, "galley: the home signs with another key than the one that signed the head; the log decides")
	}
	switch {
	case a.json:
		a.printJSON(v)
		if !v.OK {
			fmt.Fprintf(a.err, "galley: %s\n", v.Error)
			return errReported
		}
		return nil
	case !v.OK:
		return v.Error
	}
	fmt.Fprintf(a.out, "ok  %d entries  head %s\n", v.Entries, v.Head)
	if kept != nil {
		fmt.Fprintf(a.out, "    the first %d are those of %s\n", kept.Entries, kept.Time.Format(time.RFC3339))
	}
	return nil
}

func (a *app) auditListCommand() *cobra.Command {
	r := &controlpb.ListAuditEntriesRequest{}
	c := &cobra.Command{
		Use: "list", Short: "Print the newest entries", Args: cobra.NoArgs,
		Example: "  galley audit list --last 20\n  galley audit list --actor ann\n  galley audit list --subject news-topic:prod",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.with(cmd.Context(), func(c *client) error {
				stream, err := c.audit.ListEntries(cmd.Context(), r)
				if err != nil {
					return err
				}
				list := []audit.Entry{}
				for {
					m, err := stream.Recv()
					if errors.Is(err, io.EOF) {
						break
					}
					if err != nil {
						return err
					}
					list = append(list, rpc.AuditEntryFrom(m))
				}
				a.printEntries(list)
				return nil
			})
		},
	}
	c.Flags().StringVar(&r.Actor, "actor", "", "only what this one did")
	c.Flags().StringVar(&r.Subject, "subject", "", "only what was done to this: news-topic:prod, news-topic@3, a job")
	c.Flags().Int32Var(&r.Last, "last", 100, "how many, at most 1000")
	return c
}

func (a *app) printEntries(list []audit.Entry) {
	if a.json {
		a.printJSON(map[string]any{"entries": list})
		return
	}
	w := tabwriter.NewWriter(a.out, 0, 4, 2, ' ', 0)
	for _, e := range list {
		from := strings.TrimSpace(e.Address + " " + e.Token)
		fmt.Fprintf(w, "%d\t%s\t%s\t%s\t%s\t%s\t%s\n", e.Number, e.At.Format(time.RFC3339), e.Actor, e.Action, e.Subject, from, e.Detail)
	}
	_ = w.Flush() // a broken pipe is the reader's choice
}
