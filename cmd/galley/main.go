// Command galley is the whole platform in one binary: the server, the command
// line that talks to it, and the process in which an attempt of a job runs.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"galley"
)

// revision is the code's, set when the binary is built.
var revision = "unknown"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr, os.LookupEnv)
	stop()
	os.Exit(code)
}

// Exit codes.
const (
	exitOK     = 0
	exitFailed = 1
	exitUsage  = 2
)

// A usageError is a command line that cannot be understood.
type usageError struct{ error }

func usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// coded is the error as all others are.
func (u usageError) coded() *galley.Error {
	e := galley.Errorf(galley.InvalidArgument, "", "%w", u.error)
	if inner := galley.AsError(u.error); inner.Remedy != "" {
		e.Message, e.Remedy = strings.TrimSuffix(e.Message, " — "+inner.Remedy), inner.Remedy
	}
	return e
}

// asksForJSON reports whether arguments have -o json, however they may be
// wrong besides.
func asksForJSON(args []string) bool {
	for i, arg := range args {
		switch arg {
		case "--":
			return false
		case "-ojson", "-o=json", "--output=json":
			return true
		case "-o", "--output":
			if i+1 < len(args) && args[i+1] == "json" {
				return true
			}
		}
	}
	return false
}

// errReported ends a command whose failure its output has told already.
var errReported = errors.New("failed")

// run is the program, with all it takes from the outside as arguments.
func run(ctx context.Context, args []string, in io.Reader, out, errOut io.Writer, env func(string) (string, bool)) int {
	a := newApp(in, out, errOut, env)
	root := a.root()
	root.SetArgs(args)
	root.SetIn(in)
	root.SetOut(out)
	root.SetErr(errOut)
	err := root.ExecuteContext(ctx)
	var usage usageError
	switch {
	case err == nil:
		return exitOK
	case errors.Is(err, errReported):
		return exitFailed
	case errors.As(err, &usage):
		// The flags may not have been read as far as -o.
		a.json = a.json || asksForJSON(args)
		a.printError(usage.coded())
		return exitUsage
	}
	a.printError(err)
	return exitFailed
}

// printError says what failed, to people on stderr and, under -o json, to
// programs on stdout.
func (a *app) printError(err error) {
	e := galley.AsError(err)
	fmt.Fprintf(a.err, "galley: %s\n", strings.ReplaceAll(e.Error(), "\n", "\n  "))
	if a.json {
		a.printJSON(map[string]any{"error": e})
	}
}

// printJSON writes the one document of -o json.
func (a *app) printJSON(v any) {
	enc := json.NewEncoder(a.out)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	// A broken pipe is the reader's choice.
	_ = enc.Encode(v)
}

// root is the tree of commands.
func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "galley",
		Short: "Train, register and serve models for newsrooms",
		Long: `galley trains, evaluates, registers, rolls out and serves models for newsrooms.

It talks to the server at GALLEY_SERVER (localhost:8001 by default). --local
runs the same command against the state in GALLEY_HOME (.galley by default)
without a server.`,
		Example:       "  galley quickstart\n  galley data add headlines --train train.csv --test test.csv --format csv\n  galley train job.yaml --wait\n  galley models promote news-topic@1 prod\n  galley predict news-topic --text 'Central bank holds rates'",
		SilenceErrors: true,
		SilenceUsage:  true,
		Version:       revision,
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error {
			return a.configure()
		},
	}
	flags := root.PersistentFlags()
	flags.StringVarP(&a.format, "output", "o", "text", "text or json (one document on stdout)")
	flags.BoolVar(&a.local, "local", false, "use the state in the home, without a server")
	flags.StringVar(&a.home, "home", a.home, "folder of the state (GALLEY_HOME)")
	flags.StringVar(&a.server, "server", a.server, "address of the server (GALLEY_SERVER)")
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	root.AddCommand(
		a.quickstartCommand(), a.upCommand(), a.dataCommand(), a.trainCommand(), a.distillCommand(), a.quantizeCommand(), a.federateCommand(), a.jobsCommand(),
		a.modelsCommand(), a.predictCommand(), a.abCommand(), a.feedbackCommand(), a.evalCommand(), a.federationCommand(), a.partnerCommand(), a.auditCommand(), a.backupCommand(), a.restoreCommand(), a.authCommand(), a.doctorCommand(), a.attemptCommand(), a.probeCommand(),
	)
	root.AddCommand(laterCommands()...)
	for _, c := range commandsOf(root) {
		checkArguments(c)
	}
	return root
}

func commandsOf(c *cobra.Command) []*cobra.Command {
	all := []*cobra.Command{c}
	for _, child := range c.Commands() {
		all = append(all, commandsOf(child)...)
	}
	return all
}

// checkArguments makes a wrong number of arguments, a word that is no
// subcommand, or a flag that is missing a usage error.
func checkArguments(c *cobra.Command) {
	inner := c.Args
	c.Args = func(cmd *cobra.Command, args []string) error {
		if inner == nil && cmd.HasSubCommands() && len(args) > 0 {
			return usagef("%q is not a command of %q; see %s --help", args[0], cmd.CommandPath(), cmd.CommandPath())
		}
		if inner != nil && inner(cmd, args) != nil {
			return usagef("%s takes %s, and %d %s given; see %s --help", cmd.CommandPath(), operandsOf(cmd), len(args), plural(len(args), "was", "were"), cmd.CommandPath())
		}
		if err := cmd.ValidateRequiredFlags(); err != nil {
			return usagef("%w; see %s --help", err, cmd.CommandPath())
		}
		return nil
	}
	if c.Run == nil && c.RunE == nil {
		c.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
	}
}

// operandsOf are the arguments that a command takes besides its flags, as its
// usage line has them.
func operandsOf(c *cobra.Command) string {
	var names []string
	for _, word := range strings.Fields(c.Use)[1:] {
		if strings.HasPrefix(word, "-") {
			break
		}
		names = append(names, word)
	}
	if len(names) == 0 {
		return "no arguments"
	}
	return strings.Join(names, " ")
}

func plural(n int, one, many string) string {
	if n == 1 {
		return one
	}
	return many
}

// laterCommands are those of the contract whose issue has not come: they are
// absent from the help, and say so when called.
func laterCommands() []*cobra.Command {
	return []*cobra.Command{laterCommand("search")}
}

func laterCommand(name string) *cobra.Command {
	return &cobra.Command{
		Use: name, Hidden: true, DisableFlagParsing: true,
		RunE: func(c *cobra.Command, _ []string) error {
			return galley.Errorf(galley.Unimplemented, c.CommandPath(), "this command is not there yet").
				WithRemedy("see galley --help for what is")
		},
	}
}
