package partner

import (
	"bytes"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/durationpb"

	federationpb "galley/api/federation/v1"

	"galley"
	"galley/federation"
	"galley/task"
	"galley/trainer"
)

// Offers that the agreement forbids are declined before anything is fetched,
// and offers that make no sense are left alone.
func TestForbiddenOffers(t *testing.T) {
	c := newCoordinator(t, nil)
	a := newSide(t, c, "harbour")
	a.serve(nil)
	attempt := 0
	for _, test := range []struct {
		name   string
		change func(*federationpb.Offer)
		why    string
	}{
		{"purpose", func(o *federationpb.Offer) { o.Purpose = "who reads what" }, `agreement.purpose: is "topics of headlines", not "who reads what"`},
		{"model", func(o *federationpb.Offer) { o.Model = "other" }, "agreement.models: does not name"},
		{"cohort of one", func(o *federationpb.Offer) { o.MinCohort = 1 }, "agreement.min_cohort: wants 2"},
		{"metrics", func(o *federationpb.Offer) { o.Metrics = []string{"loss", "accuracy"} }, `agreement.leaves.metrics: does not let "accuracy" leave`},
		{"agreement", func(o *federationpb.Offer) { o.Agreement = string(galley.DigestBytes(nil)) }, "agreement.digest"},
		{"federation", func(o *federationpb.Offer) { o.Federation = "other" }, "agreement.federation"},
		{"partner", func(o *federationpb.Offer) { o.Partner = "valley" }, "agreement.partner"},
		{"protocol", func(o *federationpb.Offer) { o.Protocol = 2 }, "protocol: the coordinator speaks version 2"},
		{"capability", func(o *federationpb.Offer) { o.Capabilities = []string{"secure-aggregation"} }, "capabilities"},
		{"clip", func(o *federationpb.Offer) { o.Clip = math.NaN() }, "offer: has a clip of NaN"},
		{"no recipe", func(o *federationpb.Offer) { o.Recipe = nil }, badRecipe},
		{"recipe that is none", func(o *federationpb.Offer) { o.Recipe = []byte("[]") }, "offer.recipe"},
		{"recipe with more", func(o *federationpb.Offer) { o.Recipe = []byte(`{"upload_rows":true}`) }, badRecipe},
		{"endless recipe", func(o *federationpb.Offer) { o.Recipe = recipe(t, func(r *trainer.Recipe) { r.Epochs = 1 << 30 }) }, "recipe.epochs"},
		{"recipe with a huge batch", func(o *federationpb.Offer) { o.Recipe = recipe(t, func(r *trainer.Recipe) { r.BatchSize = 1 << 30 }) }, "recipe.batch_size"},
		{"large recipe", func(o *federationpb.Offer) {
			o.Recipe = fmt.Appendf(nil, `{"x":%q}`, strings.Repeat("x", 20<<10))
		}, "offer.recipe"},
	} {
		attempt++
		o := c.honest("harbour", 1, attempt)
		test.change(o)
		c.offer("harbour", o)
		c.waitFor(test.name, func() bool { return len(c.declined) == attempt })
		got := stateOf(c, func() *federationpb.DeclineRequest { return c.declined[attempt-1] })
		if !strings.Contains(got.GetWhy(), test.why) || int(got.GetAttempt()) != attempt || len(got.GetWhy()) > maxWhy+8 || leaks(got.GetWhy()) != "" {
			t.Errorf("%s: %q", test.name, got.GetWhy())
		}
		if c.calls["model"]+c.calls["weights"] > 0 || len(a.double.seen()) > 0 {
			t.Errorf("%s: something was fetched", test.name)
		}
	}
}

// An offer whose names would be paths is not answered at all.
func TestSenselessOffers(t *testing.T) {
	for name, change := range map[string]func(*federationpb.Offer){
		"run":      func(o *federationpb.Offer) { o.Run = "../../outside" },
		"long run": func(o *federationpb.Offer) { o.Run = strings.Repeat("x", 1<<16) },
		"base":     func(o *federationpb.Offer) { o.Base = "sha256:../../x" },
		"round":    func(o *federationpb.Offer) { o.Round = -1 },
		"rounds":   func(o *federationpb.Offer) { o.Round = 1 << 30 },
		"attempt":  func(o *federationpb.Offer) { o.Attempt = 0 },
		"time":     func(o *federationpb.Offer) { o.Within = durationpb.New(-time.Second) },
		"strategy": func(o *federationpb.Offer) { o.Strategy = "send-rows" },
		"mu":       func(o *federationpb.Offer) { o.Mu = 1 },
		"weighing": func(o *federationpb.Offer) { o.Weighting = "" },
		"many":     func(o *federationpb.Offer) { o.Capabilities = make([]string, 100) },
		"model":    func(o *federationpb.Offer) { o.Model = "a/b" },
		"metrics":  func(o *federationpb.Offer) { o.Metrics = make([]string, 100) },
		"metric":   func(o *federationpb.Offer) { o.Metrics = []string{strings.Repeat("x", 1<<16)} },
		"purpose":  func(o *federationpb.Offer) { o.Purpose = strings.Repeat("x", 1<<16) },
		"partner":  func(o *federationpb.Offer) { o.Partner = "" },
	} {
		o := message(federation.Offer{
			Protocol: 1, Federation: "headlines", Run: "job-1", Round: 1, Attempt: 1, Partner: "harbour", Agreement: galley.DigestBytes(nil), Purpose: "p",
			Model: "news-topic", Base: galley.DigestBytes(nil), MinCohort: 2, Strategy: federation.FedAvg, Weighting: federation.ByRows, Within: time.Minute,
		})
		if _, err := offerOf(o); err != nil {
			t.Fatal(err)
		}
		change(o)
		if _, err := offerOf(o); galley.CodeOf(err) != galley.InvalidArgument || len(err.Error()) > 400 {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A coordinator that sends nothing else is left, and tried again as one that is
// not there: the agent's log does not grow with what it sends.
func TestEndlessSenselessOffers(t *testing.T) {
	c := newCoordinator(t, nil)
	a := newSide(t, c, "harbour")
	a.serve(nil)
	o := c.honest("harbour", 1, 1)
	o.Round = -1
	for range maxIdle {
		c.offer("harbour", o)
	}
	a.log.has(t, "messages that ask nothing, or are not understood")
	c.waitFor("another stream", func() bool { return c.calls["attend"] == 2 })
	c.offer("harbour", c.honest("harbour", 1, 1))
	c.waitFor("an update", func() bool { return len(c.headers) == 1 })
	if n := strings.Count(a.log.String(), "an offer was not understood"); n != maxIdle {
		t.Errorf("%d lines", n)
	}
}

// A round that comes back with other weights after it was answered is asked the
// same question twice.
func TestOtherWeights(t *testing.T) {
	c := newCoordinator(t, nil)
	a := newSide(t, c, "harbour")
	a.serve(nil)
	c.offer("harbour", c.honest("harbour", 1, 1))
	c.waitFor("an update", func() bool { return len(c.headers) == 1 })
	o := c.honest("harbour", 1, 2)
	o.Base = string(galley.DigestBytes([]byte("others")))
	c.offer("harbour", o)
	c.waitFor("a refusal", func() bool { return len(c.declined) == 1 })
	if why := c.declined[0].GetWhy(); !strings.Contains(why, "round 1 was answered for the weights") {
		t.Error(why)
	}
	if c.calls["weights"] != 1 || len(a.ledger().Answers) != 1 {
		t.Errorf("%v", c.calls)
	}
}

// A hostileModel sends chunks that no honest coordinator sends.
type hostileModel func(stream grpc.ServerStreamingServer[federationpb.ModelChunk], files []modelFile, read func(string) []byte) error

func TestHostileModels(t *testing.T) {
	whole := func(stream grpc.ServerStreamingServer[federationpb.ModelChunk], f modelFile, data []byte) error {
		return stream.Send(&federationpb.ModelChunk{Name: f.Name, Size: f.Size, Digest: string(f.Digest), Data: data})
	}
	for name, send := range map[string]hostileModel{
		"path": func(s grpc.ServerStreamingServer[federationpb.ModelChunk], files []modelFile, read func(string) []byte) error {
			f := files[1]
			f.Name = "../../../outside"
			return whole(s, f, read(files[1].Name))
		},
		"absolute path": func(s grpc.ServerStreamingServer[federationpb.ModelChunk], files []modelFile, read func(string) []byte) error {
			f := files[1]
			f.Name = "/tmp/outside"
			return whole(s, f, read(files[1].Name))
		},
		"another file": func(s grpc.ServerStreamingServer[federationpb.ModelChunk], files []modelFile, read func(string) []byte) error {
			f := files[1]
			f.Name = "identity.pem"
			return whole(s, f, read(files[1].Name))
		},
		"said to be huge": func(s grpc.ServerStreamingServer[federationpb.ModelChunk], files []modelFile, _ func(string) []byte) error {
			return s.Send(&federationpb.ModelChunk{Name: task.ModelFile, Size: 1 << 60, Digest: string(files[0].Digest), Data: []byte("x")})
		},
		"negative": func(s grpc.ServerStreamingServer[federationpb.ModelChunk], files []modelFile, _ func(string) []byte) error {
			return s.Send(&federationpb.ModelChunk{Name: task.ModelFile, Size: -1, Digest: string(files[0].Digest), Data: []byte("x")})
		},
		"huge settings": func(s grpc.ServerStreamingServer[federationpb.ModelChunk], files []modelFile, _ func(string) []byte) error {
			return s.Send(&federationpb.ModelChunk{Name: task.ConfigFile, Size: maxSettings + 1, Digest: string(files[0].Digest), Data: []byte("x")})
		},
		"endless": func(s grpc.ServerStreamingServer[federationpb.ModelChunk], files []modelFile, _ func(string) []byte) error {
			f := files[0]
			for err := whole(s, f, []byte("x")); ; err = s.Send(&federationpb.ModelChunk{Data: make([]byte, 1<<16)}) {
				if err != nil {
					return err
				}
			}
		},
		"nothing, endlessly": func(s grpc.ServerStreamingServer[federationpb.ModelChunk], files []modelFile, _ func(string) []byte) error {
			for err := whole(s, files[0], []byte("x")); ; err = s.Send(&federationpb.ModelChunk{}) {
				if err != nil {
					return err
				}
			}
		},
		"wrong digest": func(s grpc.ServerStreamingServer[federationpb.ModelChunk], files []modelFile, read func(string) []byte) error {
			data := bytes.Clone(read(files[0].Name))
			data[len(data)/2] ^= 1
			return whole(s, files[0], data)
		},
		"cut off": func(s grpc.ServerStreamingServer[federationpb.ModelChunk], files []modelFile, read func(string) []byte) error {
			return whole(s, files[0], read(files[0].Name)[:100])
		},
		"twice": func(s grpc.ServerStreamingServer[federationpb.ModelChunk], files []modelFile, read func(string) []byte) error {
			if err := whole(s, files[1], read(files[1].Name)); err != nil {
				return err
			}
			return whole(s, files[1], read(files[1].Name))
		},
		"one alone": func(s grpc.ServerStreamingServer[federationpb.ModelChunk], files []modelFile, read func(string) []byte) error {
			return whole(s, files[1], read(files[1].Name))
		},
		"no graph": func(s grpc.ServerStreamingServer[federationpb.ModelChunk], files []modelFile, read func(string) []byte) error {
			junk := []byte("not a graph")
			for _, f := range files {
				data := read(f.Name)
				if f.Name == task.ModelFile {
					data, f.Size, f.Digest = junk, int64(len(junk)), galley.DigestBytes(junk)
				}
				if err := whole(s, f, data); err != nil {
					return err
				}
			}
			return nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newCoordinator(t, nil)
			c.fetch = func(stream grpc.ServerStreamingServer[federationpb.ModelChunk]) error {
				return send(stream, c.files, func(name string) []byte {
					data, _ := os.ReadFile(filepath.Join(c.model, name))
					return data
				})
			}
			a := newSide(t, c, "harbour")
			a.serve(func(o *Options) { o.MaxModel = 1 << 20 })
			c.offer("harbour", c.honest("harbour", 1, 1))
			c.waitFor("a refusal", func() bool { return len(c.declined) == 1 })
			if why := c.declined[0].GetWhy(); why != badModel {
				t.Error(why)
			}
			if _, err := os.Stat(filepath.Join(filepath.Dir(a.dir), "outside")); err == nil {
				t.Error("a file was written outside of the home")
			}
			if left := a.files(modelFolder); len(left) > 0 && name != "no graph" {
				t.Errorf("left %v", left)
			}
			if len(a.double.seen()) > 0 {
				t.Error("it trained")
			}
		})
	}
}

func TestHostileWeights(t *testing.T) {
	type stream = grpc.ServerStreamingServer[federationpb.WeightsChunk]
	for name, send := range map[string]func(s stream, data []byte) error{
		"said to be huge": func(s stream, data []byte) error {
			return s.Send(&federationpb.WeightsChunk{Size: 1 << 60, Data: data[:10]})
		},
		"endless": func(s stream, data []byte) error {
			for at := int64(0); ; at += 1000 {
				if err := s.Send(&federationpb.WeightsChunk{Offset: at, Size: int64(len(data)), Data: make([]byte, 1000)}); err != nil {
					return err
				}
			}
		},
		"nothing, endlessly": func(s stream, data []byte) error {
			for {
				if err := s.Send(&federationpb.WeightsChunk{Size: int64(len(data))}); err != nil {
					return err
				}
			}
		},
		"another offset": func(s stream, data []byte) error {
			return s.Send(&federationpb.WeightsChunk{Offset: 1 << 40, Size: int64(len(data)), Data: data[:10]})
		},
		"others": func(s stream, data []byte) error {
			other := bytes.Clone(data)
			other[len(other)-40] ^= 1
			return sendWeights(s, other, 0, int64(len(other)))
		},
		"cut off": func(s stream, data []byte) error { return sendWeights(s, data, 0, 500) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newCoordinator(t, nil)
			c.weights = func(r *federationpb.FetchWeightsRequest, s stream) error {
				return send(s, c.shelf[galley.Digest(r.GetDigest())])
			}
			a := newSide(t, c, "harbour")
			a.serve(nil)
			c.offer("harbour", c.honest("harbour", 1, 1))
			c.waitFor("a refusal", func() bool { return len(c.declined) == 1 })
			if why := c.declined[0].GetWhy(); why != badWeights || len(a.double.seen()) > 0 {
				t.Error(why)
			}
		})
	}
}
