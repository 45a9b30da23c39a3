package control

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"galley"
	"galley/dataset"
	"galley/internal/audit"
	"galley/internal/blob"
	"galley/registry"
)

// An acknowledgement is a line that a server under load writes once a change
// has been answered without an error, or with one that tells of a defect.
type acknowledgement struct {
	Ready  bool              `json:"ready,omitempty"`
	Data   string            `json:"data,omitempty"` // ref, with Digest
	Digest galley.Digest     `json:"digest,omitempty"`
	Job    string            `json:"job,omitempty"` // with Key
	Key    string            `json:"key,omitempty"`
	Moved  *registry.Change  `json:"moved,omitempty"`
	Head   *audit.SignedHead `json:"head,omitempty"`
	Defect string            `json:"defect,omitempty"`
}

// The jobs of the load: so many seeds of so many epochs, 20 steps each.
const (
	faultRecipes = 3
	faultEpochs  = 3
	faultModel   = "base"
)

// A load is a process that runs a home and asks it for things without end.
type load struct {
	*world
	prefix string // of keys and names
	skew   atomic.Int64

	mu  sync.Mutex
	out *json.Encoder
}

// loadedServer is a server whose callers live in its own process; it runs
// until it is killed. args are the home, the seed and the number of its life.
func loadedServer(args []string) int {
	var n [2]uint64
	for i := range n {
		n[i], _ = strconv.ParseUint(args[1+i], 10, 64)
	}
	l := &load{prefix: fmt.Sprint("s", n[0], "-", n[1]), out: json.NewEncoder(os.Stdout)}
	l.skew.Store(rand.New(rand.NewPCG(n[0], 100+n[1])).Int64N(int64(2*time.Hour)) - int64(time.Hour))
	w, err := openWith(args[0], noOpener{}, 2, blob.Options{}, func(o *Options) {
		o.Clock = func() time.Time { return time.Now().Add(time.Duration(l.skew.Load())) }
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	l.world = w
	l.say(acknowledgement{Ready: true})
	for caller := range uint64(3) {
		go l.call(rand.New(rand.NewPCG(n[0], n[1]<<8+caller)), fmt.Sprint(l.prefix, "-", caller))
	}
	select {}
}

func (l *load) say(a acknowledgement) {
	l.mu.Lock()
	defer l.mu.Unlock()
	_ = l.out.Encode(a) // one write; the parent may have gone
}

// call asks for one thing after the other.
func (l *load) call(r *rand.Rand, name string) {
	ctx := context.Background()
	for i := 0; ; i++ {
		var a acknowledgement
		var err error
		switch n := r.IntN(100); {
		case n < 10:
			a, err = l.addData(ctx, fmt.Sprint(name, "-", i))
		case n < 25:
			a.Key = fmt.Sprint(name, "-", i-r.IntN(2)) // sometimes, one that was used
			spec := fmt.Sprintf("recipe: {epochs: %d, checkpoint_every: 7, seed: %d}\n", faultEpochs, 1+r.IntN(faultRecipes))
			j, failed := l.Submit(ctx, "ann", jobFile(faultModel, "text-mlm", spec), nil, a.Key)
			a.Job, err = j.ID, failed
		case n < 65:
			number := 1 + r.IntN(faultRecipes)
			p, failed := l.Promote(ctx, "ann", Promotion{Ref: galley.Ref{Name: faultModel, Version: number}, Alias: registry.Prod, Force: true, Reason: name})
			a.Moved, err = &p.Change, failed
		case n < 80:
			c, failed := l.Rollback(ctx, "bob", faultModel, registry.Prod)
			a.Moved, err = &c, failed
		case n < 90:
			h, failed := l.AuditHead(ctx)
			a.Head, err = &h, failed
		default:
			l.skew.Store(r.Int64N(int64(2*time.Hour)) - int64(time.Hour)) // the clock is set
			continue
		}
		switch code := galley.CodeOf(err); code {
		case "":
			l.say(a)
		case galley.Internal, galley.Unknown, galley.DataLoss:
			l.say(acknowledgement{Defect: fmt.Sprintf("%s: %v", code, err)})
		default: // a full disk, a model that is not there yet, a key of another spec
		}
		time.Sleep(time.Duration(r.IntN(8)) * time.Millisecond)
	}
}

func (l *load) addData(ctx context.Context, name string) (acknowledgement, error) {
	s, err := l.NewSpool()
	if err != nil {
		return acknowledgement{}, err
	}
	defer s.Close()
	if err := s.Write("train", "train.csv", []byte(rows+name+",sport\n")); err != nil {
		return acknowledgement{}, err
	}
	d, _, err := l.AddData(ctx, "ann", dataset.FreezeOptions{Name: "more", Format: dataset.CSV, Seed: 1}, s)
	return acknowledgement{Data: d.Ref(), Digest: d.Digest}, err
}
