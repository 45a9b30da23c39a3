package partner

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"google.golang.org/grpc"

	"galley"
	"galley/federation"
	"galley/trainer/launch"
)

// Options are what an agent serves with.
type Options struct {
	Home     string
	Rows     Rows
	Launcher launch.Launcher // of training, in a process of its own
	CPUs     int             // threads of training; 1 if 0
	MaxModel int64           // bytes of a model's files; DefaultMaxModel if 0
	MaxTime  time.Duration   // that a round may take here, whatever its offer says; 0 for no bound
	Rounds   int             // end when so many rounds have an accepted update; 0 to go on
	Version  string          // of this program, which the coordinator is told
	Log      *slog.Logger
	Now      func() time.Time // the clock that agreements end by; time.Now if nil
	Pause    time.Duration    // before a call that failed is tried again, growing; 1 s if 0

	Dial []grpc.DialOption // beside its own, for tests that read along
}

// DefaultMaxModel bounds a model's files unless the operator says otherwise.
const DefaultMaxModel = 2 << 30

// An agent is a partner's side of a federation while it serves.
type agent struct {
	options Options
	home    *home
	log     *slog.Logger
	now     func() time.Time
	doing   *reporter
	offers  chan timed // from the session to the worker

	// Of the session; the worker reads what was settled before it began.
	membership Membership

	mu       sync.Mutex
	identity Identity
	link     *link         // nil while there is none
	linked   chan struct{} // closed when there is one

	// Of the worker.
	ledger  federation.Ledger
	source  source
	model   *model             // of the present run
	checked map[string]records // by the name of their folder
	done    map[roundKey]bool  // rounds whose update was accepted, of this process
}

// A roundKey names a round of a run.
type roundKey struct {
	run    string
	number int
}

// A timed offer is one with the time that it must be answered by, on this
// machine's own clock.
type timed struct {
	federation.Offer
	deadline time.Time
}

// soon is how long before its end a certificate is warned of.
const soon = 30 * 24 * time.Hour

// errEnough ends an agent that has answered as many rounds as it was asked to.
var errEnough = errors.New("as many rounds were answered as were asked for")

// Serve attends the federation that the home has joined until ctx ends, or as
// many rounds are answered as Options say. What goes wrong with the coordinator
// or the network is logged and tried again; an error is about this side.
func Serve(ctx context.Context, o Options) (err error) {
	a, err := open(ctx, o)
	if err != nil {
		return err
	}
	defer func() {
		a.doing.working(Doing{State: "stopped"})
		if closed := a.home.close(); err == nil {
			err = closed
		}
	}()
	serving, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	var attending sync.WaitGroup
	attending.Go(func() { a.attend(serving) })
	stop(a.work(serving))
	attending.Wait()
	if cause := context.Cause(serving); ctx.Err() == nil && !errors.Is(cause, errEnough) {
		return cause
	}
	return nil
}

// open takes the home over and checks all that is the partner's own.
func open(ctx context.Context, o Options) (*agent, error) {
	o.CPUs, o.MaxModel, o.Pause = max(1, o.CPUs), cmp.Or(o.MaxModel, DefaultMaxModel), cmp.Or(o.Pause, time.Second)
	if o.Now == nil {
		o.Now = time.Now
	}
	h, err := openHome(o.Home)
	if err != nil {
		return nil, err
	}
	a := &agent{
		options: o, home: h, log: o.Log, now: o.Now, doing: &reporter{home: h, now: o.Now},
		offers: make(chan timed), linked: make(chan struct{}), done: map[roundKey]bool{}, checked: map[string]records{},
	}
	if err := a.load(ctx); err != nil {
		return nil, errors.Join(err, h.close())
	}
	return a, nil
}

func (a *agent) load(ctx context.Context) (err error) {
	if a.identity, err = a.home.identity(); err != nil {
		return err
	}
	if a.membership, err = a.home.membership(); err != nil {
		return err
	}
	if a.ledger, err = a.home.ledger(); err != nil {
		return err
	}
	if err := a.home.dropUpdates(a.ledger); err != nil {
		return err
	}
	terms := a.membership.Terms
	if a.identity.Partner != terms.Partner {
		return galley.Errorf(galley.FailedPrecondition, "agreement.partner", "is %q, and the key in this home is of %q", terms.Partner, a.identity.Partner).
			WithRemedy("join again: galley partner join")
	}
	if !a.now().Before(terms.Expires) {
		return galley.Errorf(galley.FailedPrecondition, "agreement.expires", "has ended at %s", terms.Expires.UTC().Format(time.RFC3339)).
			WithRemedy("write a new agreement, and join with it: galley partner join")
	}
	if a.source, err = a.options.Rows.look(ctx, a.home.path(workFolder)); err != nil {
		return err
	}
	a.log.Info("the partner's rows were read", "train", a.source.rows, "left_out", a.source.dropped)
	a.log.Info("serving", "partner", terms.Partner, "federation", terms.Federation, "coordinator", a.membership.Coordinator,
		"agreement", a.membership.Agreement.Short(), "agreement_ends", terms.Expires.UTC().Format(time.RFC3339),
		"rounds_answered", answered(a.ledger, terms.Federation), "rounds_permitted", terms.Rounds,
		"certificate_ends", a.identity.Certificate.NotAfter.UTC().Format(time.RFC3339))
	if left := a.identity.Certificate.NotAfter.Sub(a.now()); left < soon {
		a.log.Warn("the certificate ends soon: galley partner keygen --rotate makes the next one", "days", int(left.Hours()/24))
	}
	return nil
}

// core is the agent as package federation has it: it decides.
func (a *agent) core() federation.Agent {
	a.mu.Lock()
	defer a.mu.Unlock()
	return federation.Agent{Agreement: a.membership.Terms, Ledger: a.ledger, Key: a.identity.Key}
}

// answered returns how many rounds a ledger has answered, in all runs.
func answered(l federation.Ledger, name string) int {
	return l.Answered(federation.Offer{Federation: name})
}

// setLink says over which connection the coordinator is reached; nil for none.
func (a *agent) setLink(l *link) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.link == nil && l != nil {
		close(a.linked)
	}
	if a.link != nil && l == nil {
		a.linked = make(chan struct{})
	}
	a.link = l
}

// reach returns the connection to the coordinator, and waits for one.
func (a *agent) reach(ctx context.Context) (*link, error) {
	for {
		a.mu.Lock()
		l, linked := a.link, a.linked
		a.mu.Unlock()
		if l != nil {
			return l, nil
		}
		select {
		case <-linked:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}
