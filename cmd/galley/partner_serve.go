package main

import (
	"log/slog"
	"time"

	"github.com/spf13/cobra"

	"galley"
	"galley/dataset"
	"galley/federation"
	"galley/internal/ort/library"
	"galley/internal/partner"
	"galley/internal/telemetry"
	"galley/trainer"
	"galley/trainer/launch/process"
)

// partnerGrace is what a training has to store a checkpoint when the agent is
// asked to end: less than service managers wait before they kill.
const partnerGrace = 20 * time.Second

// maxPartnerCPUs bounds the threads of training, as a job file does.
const maxPartnerCPUs = 1024

// A partnerServe are the flags of galley partner serve.
type partnerServe struct {
	home, data, valid string
	format, columns   string
	seed              uint64
	cpus, rounds      int
	maxTime           time.Duration
	once              bool
	maxModel          string
}

func (a *app) partnerServeCommand() *cobra.Command {
	var s partnerServe
	c := &cobra.Command{
		Use: "serve --home DIR --data FILE", Short: "Answer the rounds of the federation that was joined",
		Long: `Answer the rounds of the federation that was joined, until SIGTERM: what the
agreement forbids is declined, what it permits is trained here, in a process of
its own, and the update is stored, signed and sent. A connection that breaks is
made again.

The log says of each round what was asked, what was checked and what left; the
same is kept in sent.jsonl in the agent's folder, a line each, before it leaves.

The rows are read as galley data add reads them. If metrics may leave and --valid
is not given, a tenth of the rows is cut off to measure on, always the same.`,
		Example: "  galley partner serve --home agent --data train.csv\n" +
			"  galley partner serve --home agent --data train.csv --valid valid.csv --columns text=title+body,label=topic --cpus 4\n" +
			"  galley partner serve --home agent --data train.csv --once",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			o, err := s.options()
			if err != nil {
				return err
			}
			if err := a.logs.check(); err != nil {
				return err
			}
			if o.Log, err = telemetry.NewLogger(a.err, a.logs.format, slog.LevelInfo); err != nil {
				return err
			}
			if _, err := library.Find(a.libraryOptions()); err != nil {
				return galley.Errorf(galley.FailedPrecondition, "ONNX Runtime", "%w", err).
					WithRemedy("run `galley doctor --fix`, or set GALLEY_ORT_LIB to the library")
			}
			o.Launcher, o.Version, o.Dial = process.Launcher{Args: []string{attemptName}, Grace: partnerGrace}, revision, a.overhearAgent
			if err := partner.Serve(cmd.Context(), o); err != nil || !a.json {
				return err
			}
			return a.printPartner(s.home)
		},
	}
	partnerHome(c, &s.home)
	f := c.Flags()
	f.StringVar(&s.data, "data", "", "file with this institution's rows (required)")
	f.StringVar(&s.valid, "valid", "", "file with the rows to measure on")
	f.Var(formatFlag(&s.format), "format", "csv, jsonl or parquet; by the file's ending if not given")
	f.Var(columnsFlag(&s.columns), "columns", "where fields come from: text=title+description,label=label")
	f.Uint64Var(&s.seed, "seed", 1, "cuts the rows to measure on off the others")
	f.IntVar(&s.cpus, "cpus", 1, "threads of training")
	f.StringVar(&s.maxModel, "max-model", "2GiB", "the largest model that is fetched")
	f.DurationVar(&s.maxTime, "max-time", 0, "the longest that a round may take here, as 2h; 0 leaves it to the coordinator")
	f.IntVar(&s.rounds, "rounds", 0, "end when so many rounds have an accepted update; 0 goes on")
	f.BoolVar(&s.once, "once", false, "end after one: --rounds 1")
	a.logs.flags(c)
	cobra.CheckErr(c.MarkFlagRequired("data"))
	return c
}

// options checks the flags.
func (s *partnerServe) options() (o partner.Options, err error) {
	switch {
	case s.cpus < 1 || s.cpus > maxPartnerCPUs:
		return o, usagef("--cpus %d: write a number from 1 to %d", s.cpus, maxPartnerCPUs)
	case s.maxTime < 0:
		return o, usagef("--max-time %s: write a time, as 2h, or 0", s.maxTime)
	case s.rounds < 0 || s.rounds > federation.MaxRounds:
		return o, usagef("--rounds %d: write a number from 0, for no end, to %d", s.rounds, federation.MaxRounds)
	case s.once && s.rounds > 1:
		return o, usagef("--once and --rounds %d: keep one", s.rounds)
	}
	o = partner.Options{Home: s.home, CPUs: s.cpus, MaxTime: s.maxTime, Rounds: s.rounds, Rows: partner.Rows{Train: s.data, Valid: s.valid, Seed: s.seed}}
	if s.once {
		o.Rounds = 1
	}
	if o.MaxModel, err = trainer.ParseMemory(s.maxModel); err != nil {
		return o, usagef("--max-model %s: write an amount as 512MiB or 2GiB", s.maxModel)
	}
	format, err := formatOf(s.format, s.data)
	if err != nil {
		return o, err
	}
	o.Rows.Format = dataset.Format(format)
	o.Rows.Columns, err = dataset.ParseColumns(s.columns)
	return o, err
}
