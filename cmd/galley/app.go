package main

import (
	"context"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	"galley"
	"galley/internal/rpc"
	"galley/internal/telemetry"
)

// An app is one run of the command.
type app struct {
	in       io.Reader
	out, err io.Writer
	format   string // of the output
	json     bool
	local    bool
	home     string
	server   string
	library  string // GALLEY_ORT_LIB
	cache    string // where obtained libraries lie
	env      func(string) (string, bool)
	logs     logs

	drainWait time.Duration // between going unready and going away
	identity  identity

	protection    protection          // of a server's ports
	overhear      []grpc.ServerOption // of the partners' server, for tests
	overhearAgent []grpc.DialOption   // of a partner's agent, for tests

	unloadIdle time.Duration // models that nobody asks for; 0 keeps them
}

// newApp takes the settings that the environment gives.
func newApp(in io.Reader, out, errOut io.Writer, env func(string) (string, bool)) *app {
	a := &app{in: in, out: out, err: errOut, env: env, logs: logs{telemetry.Formats[0]}, home: ".galley", server: "localhost:8001", identity: identityOf(env)}
	if v, ok := env("GALLEY_HOME"); ok && v != "" {
		a.home = v
	}
	if v, ok := env("GALLEY_SERVER"); ok && v != "" {
		a.server = v
	}
	a.library, _ = env("GALLEY_ORT_LIB")
	if dir, ok := env("XDG_CACHE_HOME"); ok && dir != "" {
		a.cache = filepath.Join(dir, "galley")
	} else if dir, ok := env("HOME"); ok {
		a.cache = filepath.Join(dir, ".cache", "galley")
	}
	return a
}

// configure checks the flags that all commands have.
func (a *app) configure() error {
	switch a.format {
	case "text":
	case "json":
		a.json = true
	default:
		return usagef("-o %s: write -o text or -o json", a.format)
	}
	return nil
}

// connect reaches the server, or opens the home with --local.
func (a *app) connect(ctx context.Context) (*client, error) {
	if !a.local {
		return a.dialServer()
	}
	p, err := a.openPlatform(ctx, ports{}, slog.New(slog.NewTextHandler(a.err, &slog.HandlerOptions{Level: slog.LevelWarn})))
	if err != nil {
		return nil, err
	}
	listener := bufconn.Listen(1 << 20)
	served := make(chan error, 1)
	go func() { served <- p.server.Serve(listener) }()
	return dial("passthrough:local", func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }, func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
		defer cancel()
		p.close(ctx)
		<-served
	})
}

// explain turns an error of a call into one for people.
func (a *app) explain(err error) error {
	if err == nil {
		return nil
	}
	if status.Code(err) == codes.Unavailable && !a.local {
		if e := rpc.FromStatus(err); e.Remedy == "" {
			if err := tlsTrouble(a.server, e.Message); err != nil {
				return err
			}
			return galley.Errorf(galley.Unavailable, a.server, "no server answers there").
				WithRemedy("run `galley up`, or add --local to work on %s without a server", a.home)
		}
	}
	return rpc.FromStatus(err)
}

// with runs a command's work against the server or the home.
func (a *app) with(ctx context.Context, work func(*client) error) error {
	c, err := a.connect(ctx)
	if err != nil {
		return err
	}
	defer c.close()
	return a.explain(work(c))
}

// terminal reports whether w is one, so that progress can be drawn on it.
func terminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
