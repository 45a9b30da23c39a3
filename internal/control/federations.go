package control

import (
	"context"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"galley"
	"galley/federation"
	"galley/internal/store"
	"galley/trainer"
)

// A Federation is where a job of kind Federate stands.
type Federation struct {
	federation.Federation
	Job       string
	Connected []string // members whose agents attend
}

// An AgreementRecord is an agreement as a partner handed it over.
type AgreementRecord struct {
	Digest     galley.Digest
	Partner    string
	Federation string
	File       []byte
	Joined     time.Time
}

// Federation returns where a job of kind Federate stands.
func (c *Control) Federation(ctx context.Context, job string) (Federation, error) {
	f, err := c.store.Federation(ctx, job)
	if err != nil {
		return Federation{}, err
	}
	out := Federation{Federation: f.Federation, Job: job}
	for _, name := range c.presence.at(f.Terms.Federation) {
		if isMember(f.Federation, name) {
			out.Connected = append(out.Connected, name)
		}
	}
	return out, nil
}

// Rounds returns the attempts at a job's rounds that have ended, the newest
// first. Of very large records there are fewer than were asked for.
func (c *Control) Rounds(ctx context.Context, job string, limit int) ([]federation.Round, error) {
	if limit < 0 || limit > store.MaxList {
		return nil, galley.Errorf(galley.OutOfRange, "limit", "%d is not from 0 to %d", limit, store.MaxList)
	}
	if _, err := c.store.Federation(ctx, job); err != nil {
		return nil, err
	}
	records, err := c.store.Rounds(ctx, job, limit)
	if err != nil {
		return nil, err
	}
	out := make([]federation.Round, len(records))
	for i, r := range records {
		out[i] = r.Round
	}
	return out, nil
}

// Round returns the record of an attempt at a round, the last one if attempt is
// 0, with the digest by which lineage names it. One that is open has no digest:
// its record still changes.
func (c *Control) Round(ctx context.Context, job string, number, attempt int) (federation.Round, galley.Digest, error) {
	f, err := c.store.Federation(ctx, job)
	if err != nil {
		return federation.Round{}, "", err
	}
	if r := f.Round; r != nil && r.Number == number && (attempt == 0 || attempt == r.Attempt) {
		return *r, "", nil
	}
	r, err := c.store.Round(ctx, job, number, attempt)
	return r.Round, r.Digest, err
}

// Agreement returns an agreement that a partner handed over.
func (c *Control) Agreement(ctx context.Context, digest galley.Digest) (AgreementRecord, error) {
	a, err := c.store.Agreement(ctx, digest)
	return AgreementRecord(a), err
}

// explainFederation says how the rounds of a job are.
func (c *Control) explainFederation(ctx context.Context, j trainer.Job, say func(string, ...any)) error {
	f, err := c.store.Federation(ctx, j.ID)
	if err != nil {
		return err
	}
	present := c.presence.at(f.Terms.Federation)
	switch r := f.Round; {
	case j.Phase == trainer.Succeeded:
		say("published as %s", strings.Join(j.Versions, ", "))
	case j.Phase == trainer.Cancelled:
		say("cancelled after %d of %d rounds; submit its file again to begin anew", f.Closed, f.Terms.Rounds)
	case j.Phase == trainer.Failed:
		if j.Error != nil {
			say("%s", j.Error.Error())
		}
		say("%d of %d rounds are closed; galley jobs resume %s goes on from there", f.Closed, f.Terms.Rounds, j.ID)
	case j.Cancelling && !f.Staged:
		say("it is being cancelled")
	case f.State != federation.Running:
		say("its rounds are closed; its model is being measured and published")
	case r == nil && f.Waiting != "":
		say("%s", f.Waiting)
	case r == nil && c.now().Before(f.After):
		say("round %d is tried again at %s", f.Closed+1, f.After.UTC().Format(time.RFC3339))
	case r == nil:
		say("round %d begins; %d of %d members are there", f.Closed+1, len(present), len(f.Members))
	case r.Phase == federation.Aggregating:
		say("round %d of %d aggregates %d updates", r.Number, f.Terms.Rounds, len(r.Parts()))
	default:
		say("round %d of %d has %d updates of %d that were asked for; its deadline is %s",
			r.Number, f.Terms.Rounds, len(r.Parts()), len(r.Cohort), r.Deadline.UTC().Format(time.RFC3339))
		for _, e := range r.Cohort {
			if e.Standing == federation.Offered && !slices.Contains(present, e.Partner) {
				say("%s has not answered, and its agent is not connected", e.Partner)
			}
		}
	}
	return nil
}

func isMember(f federation.Federation, name string) bool {
	_, ok := memberOf(f, name)
	return ok
}

func memberOf(f federation.Federation, name string) (federation.Member, bool) {
	i, ok := slices.BinarySearchFunc(f.Members, name, func(m federation.Member, name string) int { return strings.Compare(m.Name, name) })
	if !ok {
		return federation.Member{}, false
	}
	return f.Members[i], true
}

// A run is a federation whose job runs. What is stored of it is in memory, too:
// each agent that asks would otherwise have all of it read and decoded.
type run struct {
	job      string
	name     string   // of the federation
	partners []string // who may take part; all if empty
	nudge    func()   // has the goroutine that drives it look again

	changing sync.Mutex // one change at a time

	mu      sync.Mutex
	unsure  bool              // whether it has its partners as they are stored
	present *store.Federation // as it is stored; nil if that is not known
	layout  federation.Layout // of its weights; nil before it was read
	files   []ModelFile       // of the model that it began with, likewise
}

// federations are the runs.
type federations struct {
	mu   sync.Mutex
	runs map[string]*run // by the federation's name: there is one of each
}

func (f *federations) named(name string) (*run, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	r, ok := f.runs[name]
	return r, ok
}

func (f *federations) all() []*run {
	f.mu.Lock()
	defer f.mu.Unlock()
	var out []*run
	for _, r := range f.runs {
		out = append(out, r)
	}
	return out
}

// begin returns the run of a job that is submitted or resumed, which is new if
// there was none. That of another job has ended, or ends by the next look at it.
func (f *federations) begin(r *run) *run {
	f.mu.Lock()
	defer f.mu.Unlock()
	if before, ok := f.runs[r.name]; ok && before.job == r.job {
		return before
	}
	return f.put(r)
}

// keep is begin for a job that was seen to run: by now it may have ended, and
// another may have begun, whose place it does not take.
func (f *federations) keep(r *run) (*run, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if before, ok := f.runs[r.name]; ok {
		return before, before.job == r.job
	}
	return f.put(r), true
}

func (f *federations) put(r *run) *run {
	if f.runs == nil {
		f.runs = map[string]*run{}
	}
	f.runs[r.name] = r
	return r
}

// end forgets the run of a job.
func (f *federations) end(job string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	maps.DeleteFunc(f.runs, func(_ string, r *run) bool { return r.job == job })
}

// stored returns the federation as it is stored.
func (c *Control) stored(ctx context.Context, r *run) (store.Federation, error) {
	r.mu.Lock()
	present := r.present
	r.mu.Unlock()
	if present != nil {
		return *present, nil
	}
	f, err := c.store.Federation(ctx, r.job)
	if err != nil {
		return f, err
	}
	r.set(&f)
	return f, nil
}

// set notes what is stored, nil if that is not known. Of two changes the later
// one stays.
func (r *run) set(f *store.Federation) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if f == nil || r.present == nil || f.Generation > r.present.Generation {
		r.present = f
	}
}

// doubt says that a run may not have its partners as they are stored.
func (r *run) doubt(unsure bool) (before bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	before, r.unsure = r.unsure, unsure
	return before
}

// runOf returns the run of a federation's name that a partner takes part in.
func (c *Control) runOf(ctx context.Context, partner, name, job string) (*run, store.Federation, error) {
	if _, err := c.roll.access(partner); err != nil {
		return nil, store.Federation{}, err
	}
	r, ok := c.federations.named(name)
	if !ok || r.job != job {
		return nil, store.Federation{}, galley.Errorf(galley.NotFound, galley.Clip(name, 80), "has no run %q under way", galley.Clip(job, 80)).
			WithRemedy("wait for the next offer")
	}
	f, err := c.stored(ctx, r)
	if err != nil {
		return nil, f, err
	}
	if m, ok := memberOf(f.Federation, partner); !ok || m.Revoked != "" {
		return nil, f, galley.Errorf(galley.PermissionDenied, partner, "takes no part in the run %s of %s", job, name).
			WithRemedy("join the federation, or ask the coordinator")
	}
	return r, f, nil
}

// layoutOf returns the layout of a run's weights.
func (c *Control) layoutOf(f store.Federation, r *run) (federation.Layout, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.layout != nil {
		return r.layout, nil
	}
	file, _, err := c.blobs.Open(f.Base)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	in, err := federation.NewReader(file, nil)
	if err == nil && in.Layout().Digest() != f.Terms.Layout {
		err = galley.Errorf(galley.DataLoss, string(f.Base), "has another layout than its federation")
	}
	if err != nil {
		return nil, galley.Errorf(galley.DataLoss, string(f.Base), "the weights of %s cannot be read: %w", f.Job, err)
	}
	r.layout = in.Layout()
	return r.layout, nil
}
