package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	controlpb "galley/api/control/v1"

	"galley"
	"galley/internal/control"
	"galley/internal/durable"
)

func (a *app) backupCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "backup FILE",
		Short: "Write the state and its blobs into one file, while serving",
		Long: `Write the state, as of one moment, and the blobs that it names into one file,
while the server goes on. The file has all that the home has, also the key that
signs heads of the audit log: keep it as safe as the home.

Checkpoints of unfinished jobs are left out: restored, such jobs begin again.
A blob that cannot be read is left out and named, and the command exits 1; what
else the file has can be restored.`,
		Example: "  galley backup galley-monday.tar\n  galley backup galley.tar --local", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			path := args[0]
			if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
				return galley.Errorf(galley.AlreadyExists, path, "is there already").WithRemedy("choose another name, or remove it first")
			}
			return a.with(cmd.Context(), func(c *client) error {
				s, err := writeBackup(cmd.Context(), c, path)
				if err != nil {
					return err
				}
				return a.printBackup(path, s)
			})
		},
	}
}

// writeBackup writes an archive: it is at its path whole or not at all.
func writeBackup(ctx context.Context, c *client, path string) (*controlpb.BackupSummary, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := c.maintenance.Backup(ctx, &controlpb.BackupRequest{})
	if err != nil {
		return nil, err
	}
	var s *controlpb.BackupSummary
	var failed error
	err = durable.Replace(path, 0o600, func(f *os.File) error {
		s, failed = receiveBackup(stream.Recv, f)
		return failed
	})
	switch {
	case failed != nil: // the server's word, or one that is worded already
		return nil, failed
	case err != nil:
		return nil, fileError(path, err)
	}
	return s, nil
}

// receiveBackup writes what comes until the summary.
func receiveBackup(next func() (*controlpb.BackupPiece, error), to io.Writer) (*controlpb.BackupSummary, error) {
	for {
		m, err := next()
		switch {
		case errors.Is(err, io.EOF):
			return nil, galley.Errorf(galley.Unavailable, "backup", "the server ended before the backup did").WithRemedy("try again")
		case err != nil:
			return nil, err
		case m.GetSummary() != nil:
			return m.GetSummary(), nil
		}
		if _, err := to.Write(m.GetData()); err != nil {
			return nil, fileError("backup", err)
		}
	}
}

func (a *app) printBackup(path string, s *controlpb.BackupSummary) error {
	if a.json {
		a.printJSON(map[string]any{
			"file": path, "files": s.GetFiles(), "bytes": s.GetBytes(), "created": s.GetCreated().AsTime(),
			"audit": map[string]any{"entries": s.GetAuditEntries(), "head": s.GetAuditHead()}, "damaged": append([]string{}, s.GetDamaged()...),
		})
	} else {
		fmt.Fprintf(a.out, "%s  %d files, %d bytes, audit log of %d entries, head %s\n", path, s.GetFiles(), s.GetBytes(), s.GetAuditEntries(), s.GetAuditHead())
	}
	if len(s.GetDamaged()) > 0 {
		fmt.Fprintf(a.err, "galley: the backup is without %d blobs, whose bytes are damaged: %s\n", len(s.GetDamaged()), strings.Join(s.GetDamaged(), ", "))
		return errReported
	}
	return nil
}

func (a *app) restoreCommand() *cobra.Command {
	var replace bool
	c := &cobra.Command{
		Use:   "restore FILE",
		Short: "Make a backup the home",
		Long: `Make a backup the home. No server may use the home meanwhile. Nothing of it
changes before the whole backup is there and checked: each file's digest, the
database, the audit log against the head in the backup.

A home that has something already is refused without --replace, which moves what
is there into a folder of it. Tokens that were revoked after the backup are valid
again in it: look at galley auth token list.`,
		Example: "  galley restore galley-monday.tar --home /srv/galley\n  galley restore galley-monday.tar --replace", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			f, err := os.Open(args[0])
			if err != nil {
				return fileError(args[0], err)
			}
			defer f.Close()
			info, err := f.Stat()
			if err != nil {
				return fileError(args[0], err)
			}
			r := control.Restore{Home: a.home, Replace: replace, By: restorer, Clock: time.Now}
			done, err := r.Run(cmd.Context(), f, info.Size())
			if err != nil {
				return err
			}
			a.printRestored(done)
			return nil
		},
	}
	c.Flags().BoolVar(&replace, "replace", false, "move aside what the home has")
	return c
}

// restorer is who restores in the audit log: whoever may write the home.
const restorer galley.Actor = "local"

func (a *app) printRestored(done control.Restored) {
	for _, ref := range done.Missing {
		fmt.Fprintf(a.err, "galley: %s lacks files; they were damaged when the backup was made\n", ref)
	}
	if a.json {
		a.printJSON(map[string]any{
			"home": a.home, "files": done.Files, "bytes": done.Bytes, "created": done.Created,
			"audit":    map[string]any{"entries": done.Audit.Entries, "head": done.Audit.Digest},
			"replaced": done.Replaced, "missing": append([]string{}, done.Missing...),
		})
		return
	}
	fmt.Fprintf(a.out, "%s  is the backup of %s: %d files, %d bytes, audit log of %d entries\n",
		a.home, done.Created.Format(time.RFC3339), done.Files, done.Bytes, done.Audit.Entries)
	if done.Replaced != "" {
		fmt.Fprintf(a.out, "  what was there is in %s\n", done.Replaced)
	}
}
