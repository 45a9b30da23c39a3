package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	gort "runtime"

	"github.com/spf13/cobra"

	"galley"
	"galley/internal/ort"
	"galley/internal/ort/library"
	"galley/internal/store/sqlite"
)

// A check is one thing that the machine has or lacks.
type check struct {
	Name   string `json:"name"`
	OK     bool   `json:"ok"`
	Detail string `json:"detail"`
	Fix    string `json:"fix"`
}

func (a *app) doctorCommand() *cobra.Command {
	var fix bool
	c := &cobra.Command{
		Use: "doctor", Short: "Say what this machine has and lacks",
		Long:    "Say what this machine has and lacks. --fix obtains ONNX Runtime, from npm, pip or its release, with a checked digest.",
		Example: "  galley doctor\n  galley doctor --fix",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			checks := []check{a.checkRuntime(cmd.Context(), fix), a.checkHome(cmd.Context()), checkMachine()}
			ok := true
			for _, c := range checks {
				ok = ok && c.OK
			}
			if a.json {
				a.printJSON(map[string]any{"checks": checks})
			} else {
				for _, c := range checks {
					mark := "ok     "
					if !c.OK {
						mark = "missing"
					}
					fmt.Fprintf(a.out, "%s  %-12s %s\n", mark, c.Name, c.Detail)
					if c.Fix != "" {
						fmt.Fprintf(a.out, "         %-12s %s\n", "", c.Fix)
					}
				}
			}
			if !ok {
				return errReported
			}
			return nil
		},
	}
	c.Flags().BoolVar(&fix, "fix", false, "obtain what is missing")
	return c
}

func (a *app) checkRuntime(ctx context.Context, fix bool) check {
	c := check{Name: "ONNX Runtime"}
	if !ort.Enabled {
		c.Detail = "this galley was built without cgo and cannot run models"
		c.Fix = "build it with CGO_ENABLED=1 and a C compiler"
		return c
	}
	options := a.libraryOptions()
	lib, err := library.Find(options)
	if err != nil && fix && options.Path == "" {
		lib, err = library.Obtain(ctx, options, a.err)
	}
	if err == nil {
		// Found is not enough: a library that cannot be loaded is missing.
		var loaded *ort.Runtime
		if loaded, err = ort.Load(lib.Path); err == nil {
			c.OK, c.Detail = true, fmt.Sprintf("%s at %s (%s)", loaded.Version(), lib.Path, lib.Source)
			return c
		}
	}
	c.Detail = err.Error()
	c.Fix = "run `galley doctor --fix`, or set GALLEY_ORT_LIB to the library"
	return c
}

// checkHome opens the home as a server does, unless one is running.
func (a *app) checkHome(ctx context.Context) check {
	c := check{Name: "home"}
	path, err := filepath.Abs(a.home)
	if err != nil {
		c.Detail = err.Error()
		return c
	}
	if _, err := os.Stat(path); os.IsNotExist(err) {
		c.OK, c.Detail = true, path+" will be made when it is needed"
		return c
	}
	store, err := sqlite.Open(ctx, path)
	if errors.Is(err, sqlite.ErrInUse) {
		c.OK, c.Detail = true, galley.AsError(err).Error()
		return c
	}
	if err != nil {
		c.Detail = err.Error()
		return c
	}
	c.OK, c.Detail = true, path
	if err := store.Close(); err != nil {
		c.OK, c.Detail = false, err.Error()
	}
	return c
}

func checkMachine() check {
	return check{Name: "machine", OK: true, Detail: fmt.Sprintf("%s/%s, %d cores", gort.GOOS, gort.GOARCH, gort.NumCPU())}
}
