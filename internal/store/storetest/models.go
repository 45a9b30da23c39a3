package storetest

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"pgregory.net/rapid"

	"galley"
	"galley/evals"
	"galley/registry"
)

func register(t testing.TB, s Store, v registry.Version) registry.Version {
	t.Helper()
	stored, created, err := s.Register(context.Background(), v)
	if err != nil || !created {
		t.Fatalf("created %v, %v", created, err)
	}
	return stored
}

func promote(t testing.TB, s Store, model, alias string, target int) registry.Change {
	t.Helper()
	c, err := s.Promote(context.Background(), request(model, alias, target))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func request(model, alias string, target int) registry.Request {
	return registry.Request{Model: model, Alias: alias, Target: target, Expect: registry.AnyGeneration, By: "editor", At: noon}
}

func testVersions(t *testing.T, s Store) {
	ctx := t.Context()
	one := register(t, s, Version("news", 1))
	if one.Number != 1 || one.Ref() != "news@1" || one.Artifacts[0].Path != "model.onnx" {
		t.Errorf("%+v", one)
	}
	later := Version("news", 1) // the same content by another job, later
	later.Lineage.Job, later.Lineage.Hardware, later.Created = "job-9", "8 cores", noon.Add(1e9)
	again, created, err := s.Register(ctx, later)
	if err != nil || created {
		t.Errorf("created %v, %v", created, err)
	}
	wantEqual(t, "the same content", again, one)
	if two := register(t, s, Version("news", 2)); two.Number != 2 {
		t.Errorf("number %d", two.Number)
	}
	register(t, s, Version("archive", 1))

	wantEqual(t, "version", must[registry.Version](t)(s.Version(ctx, "news", 1)), one)
	wantEqual(t, "by digest", must[registry.Version](t)(s.Find(ctx, one.Digest)), one)
	_, err = s.Version(ctx, "news", 3)
	wantCode(t, err, galley.NotFound)
	_, err = s.Find(ctx, Digest("absent"))
	wantCode(t, err, galley.NotFound)
	_, err = s.Model(ctx, "absent")
	wantCode(t, err, galley.NotFound)

	m := must[registry.Model](t)(s.Model(ctx, "news"))
	if m.Newest() != 2 || m.Versions[0].Digest != one.Digest || !m.Versions[0].Created.Equal(noon) || m.Versions[0].Task != one.Task {
		t.Errorf("%+v", m)
	}
	for number, want := range map[int][]int{0: {2}, 1: {1, 2}, 2: {2}, 9: {2}} {
		outline := must[registry.Model](t)(s.Outline(ctx, "news", number))
		var numbers []int
		for _, v := range outline.Versions {
			numbers = append(numbers, v.Number)
		}
		if !slices.Equal(numbers, want) || outline.Versions[len(want)-1] != m.Versions[1] {
			t.Errorf("outline with %d: %+v", number, outline)
		}
	}
	_, err = s.Outline(ctx, "absent", 1)
	wantCode(t, err, galley.NotFound)
	if all := must[[]registry.Model](t)(s.Models(ctx, "", 10)); len(all) != 2 || all[0].Name != "archive" || len(all[1].Versions) != 2 {
		t.Errorf("%+v", all)
	}
	if rest := must[[]registry.Model](t)(s.Models(ctx, "archive", 1)); len(rest) != 1 || rest[0].Name != "news" {
		t.Errorf("%+v", rest)
	}
}

func testVersionsRefused(t *testing.T, s Store) {
	for name, spoil := range map[string]func(*registry.Version){
		"name":         func(v *registry.Version) { v.Name = "News Room" },
		"no artifacts": func(v *registry.Version) { v.Artifacts = nil },
		"path":         func(v *registry.Version) { v.Artifacts[0].Path = "../../etc/passwd" },
		"digest":       func(v *registry.Version) { v.Digest = Digest("other") },
	} {
		v := Version("news", 1)
		spoil(&v)
		if _, _, err := s.Register(t.Context(), v); galley.CodeOf(err) != galley.InvalidArgument {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := s.Model(t.Context(), "news"); galley.CodeOf(err) != galley.NotFound {
		t.Errorf("something was stored: %v", err)
	}
}

func testResolution(t *testing.T, s Store) {
	ctx := t.Context()
	var digests []galley.Digest
	for i := range 3 {
		digests = append(digests, register(t, s, Version("news", i)).Digest)
	}
	resolve := func(text string, want int) {
		t.Helper()
		v, err := registry.Resolve(ctx, s, must[galley.Ref](t)(galley.ParseRef(text)))
		if err != nil || v.Number != want {
			t.Errorf("%s is %d, want %d: %v", text, v.Number, want, err)
		}
	}
	traffic := func(version string, want int) {
		t.Helper()
		v, err := registry.ResolveTraffic(ctx, s, "news", version)
		if err != nil || v.Number != want {
			t.Errorf("version %q is %d, want %d: %v", version, v.Number, want, err)
		}
	}
	resolve("news", 3)
	resolve("news@2", 2)
	resolve(string(digests[0]), 1)
	traffic("", 3) // never had prod
	promote(t, s, "news", "prod", 1)
	resolve("news", 3)
	resolve("news:prod", 1)
	traffic("", 1)
	traffic("2", 2)
	traffic("prod", 1)
	for _, text := range []string{"absent", "news@4", "news:candidate", string(Digest("absent"))} {
		_, err := registry.Resolve(ctx, s, must[galley.Ref](t)(galley.ParseRef(text)))
		wantCode(t, err, galley.NotFound)
	}
	for version, code := range map[string]galley.Code{"9": galley.NotFound, "0": galley.InvalidArgument, "candidate": galley.NotFound, "Ünfug!": galley.InvalidArgument} {
		_, err := registry.ResolveTraffic(ctx, s, "news", version)
		wantCode(t, err, code)
	}
}

func testAliases(t *testing.T, s Store) {
	ctx := t.Context()
	for i := range 3 {
		register(t, s, Version("news", i))
	}
	r := request("news", "prod", 1)
	r.Expect = 0
	if c := must[registry.Change](t)(s.Promote(ctx, r)); c.From != 0 || c.To != 1 || c.Generation != 1 {
		t.Errorf("%+v", c)
	}
	r.Target = 2
	_, err := s.Promote(ctx, r) // still expects that there is no alias
	wantCode(t, err, galley.Aborted)
	r.Expect = 1
	if c := must[registry.Change](t)(s.Promote(ctx, r)); c.From != 1 || c.To != 2 || c.Generation != 2 || c.By != "editor" || !c.At.Equal(noon) {
		t.Errorf("%+v", c)
	}
	if c := promote(t, s, "news", "prod", 2); c.From != 2 || c.To != 2 || c.Generation != 2 { // nothing to do
		t.Errorf("%+v", c)
	}
	r = request("news", "prod", 0)
	r.Expect = 1
	_, err = s.Rollback(ctx, r)
	wantCode(t, err, galley.Aborted)
	r.Expect = registry.AnyGeneration
	if c := must[registry.Change](t)(s.Rollback(ctx, r)); c.From != 2 || c.To != 1 || c.Generation != 3 || c.Move != registry.RolledBack {
		t.Errorf("%+v", c)
	}
	_, err = s.Rollback(ctx, r) // nothing before
	wantCode(t, err, galley.FailedPrecondition)
	_, err = s.Rollback(ctx, request("news", "candidate", 0))
	wantCode(t, err, galley.NotFound)
	for _, bad := range []registry.Request{request("news", "prod", 4), request("absent", "prod", 1)} {
		_, err = s.Promote(ctx, bad)
		wantCode(t, err, galley.NotFound)
	}
	for _, bad := range []registry.Request{request("news", "7", 1), request("news", "Prod", 1), request("", "prod", 1)} {
		_, err = s.Promote(ctx, bad)
		wantCode(t, err, galley.InvalidArgument)
	}
	m := must[registry.Model](t)(s.Model(ctx, "news"))
	if names := m.AliasesOf(1); !slices.Equal(names, []string{"prod"}) || len(m.Aliases) != 1 {
		t.Errorf("aliases %+v", m.Aliases)
	}
	history := must[[]registry.Change](t)(s.History(ctx, "news", "prod", 10))
	if len(history) != 3 || history[0].Generation != 3 || history[2].Generation != 1 {
		t.Errorf("history %+v", history)
	}
	effects, err := s.PendingEffects(ctx, 10)
	if err != nil || len(effects) != 3 || effects[0].Aggregate != "alias/news/prod" {
		t.Errorf("effects %+v, %v", effects, err)
	}
}

// Whatever is promoted and rolled back in whatever order, the alias is where
// a stack of promotions says, and its history has no gap.
func testAliasSequences(t *testing.T, s Store) {
	ctx := t.Context()
	const versions = 4
	for i := range versions {
		register(t, s, Version("news", i))
	}
	run := 0
	rapid.Check(t, func(t *rapid.T) {
		run++
		alias := fmt.Sprint("a", run)
		var stack []int
		generation := int64(0)
		for range rapid.IntRange(1, 12).Draw(t, "moves") {
			r := request("news", alias, rapid.IntRange(1, versions).Draw(t, "target"))
			stale := rapid.Bool().Draw(t, "stale")
			if r.Expect = generation; stale {
				r.Expect++
			}
			if rapid.Bool().Draw(t, "promote") {
				_, err := s.Promote(ctx, r)
				if (err != nil) != stale {
					t.Fatalf("promote: %v", err)
				}
				if !stale && (len(stack) == 0 || stack[len(stack)-1] != r.Target) {
					stack = append(stack, r.Target)
					generation++
				}
			} else {
				_, err := s.Rollback(ctx, r)
				if (err != nil) != (stale || len(stack) < 2) {
					t.Fatalf("rollback of %v: %v", stack, err)
				}
				if err == nil {
					stack = stack[:len(stack)-1]
					generation++
				}
			}
			m, err := s.Model(ctx, "news")
			if err != nil {
				t.Fatal(err)
			}
			a, ok := m.Alias(alias)
			if ok != (len(stack) > 0) || ok && (a.Target != stack[len(stack)-1] || a.Generation != generation) {
				t.Fatalf("%+v, want %v at generation %d", a, stack, generation)
			}
		}
		history, err := s.History(ctx, "news", alias, 100)
		if err != nil || int64(len(history)) != generation {
			t.Fatalf("%d changes, generation %d, %v", len(history), generation, err)
		}
		for i, c := range history {
			if c.Generation != generation-int64(i) || i > 0 && c.To != history[i-1].From {
				t.Fatalf("history %+v", history)
			}
		}
	})
}

func testReports(t *testing.T, s Store) {
	ctx := t.Context()
	register(t, s, Version("news", 1))
	r := &evals.Report{
		Ref: "news@1", N: 1000, Dataset: evals.Data{Name: "headlines", Version: 1, Split: "test"},
		Metrics: map[string]evals.Metric{evals.Accuracy: evals.Wilson(879, 1000)},
		Gate:    evals.Verdict{Passed: true},
	}
	ref := must[registry.ReportRef](t)(s.AddReport(ctx, "news", 1, r, registry.Stamp{By: "editor", At: noon}))
	if ref.Dataset != "headlines@1" || ref.Metrics["accuracy"] != .879 || !ref.Passed || ref.N != 1000 {
		t.Errorf("%+v", ref)
	}
	again := must[registry.ReportRef](t)(s.AddReport(ctx, "news", 1, r, registry.Stamp{By: "editor", At: noon.Add(1e9)}))
	wantEqual(t, "the same report", again, ref)
	v := must[registry.Version](t)(s.Version(ctx, "news", 1))
	wantEqual(t, "reports", v.Reports, []registry.ReportRef{ref})
	if digest := v.ContentDigest(); digest != v.Digest {
		t.Errorf("the digest of a version with reports is %s, was %s", digest, v.Digest)
	}
	back := must[*evals.Report](t)(s.Report(ctx, ref.Digest))
	wantEqual(t, "report", *back, *r)
	_, err := s.Report(ctx, Digest("absent"))
	wantCode(t, err, galley.NotFound)
	_, err = s.AddReport(ctx, "news", 2, r, registry.Stamp{At: noon})
	wantCode(t, err, galley.NotFound)
}

// Of promotions that expect the same generation one wins; the history shows
// each that did.
func testConcurrentPromotions(t *testing.T, s Store) {
	ctx := t.Context()
	for i := range 3 {
		register(t, s, Version("news", i))
	}
	promote(t, s, "news", "prod", 1)
	var won atomic.Int64
	var wg sync.WaitGroup
	for worker := range 6 {
		wg.Go(func() {
			for i := range 8 {
				m, err := s.Model(ctx, "news")
				if err != nil {
					t.Error(err)
					return
				}
				a, _ := m.Alias("prod")
				r := request("news", "prod", a.Target%3+1)
				r.Expect = a.Generation
				if (worker+i)%3 == 0 && len(a.Previous) > 0 {
					_, err = s.Rollback(ctx, r)
				} else {
					_, err = s.Promote(ctx, r)
				}
				switch galley.CodeOf(err) {
				case "":
					won.Add(1)
				case galley.Aborted:
				default:
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	history := must[[]registry.Change](t)(s.History(ctx, "news", "prod", 1000))
	if int64(len(history)) != 1+won.Load() {
		t.Errorf("%d moves won, %d are in the history", won.Load(), len(history))
	}
	for i := 1; i < len(history); i++ {
		if history[i].To != history[i-1].From || history[i].Generation != history[i-1].Generation-1 {
			t.Errorf("%+v does not follow %+v", history[i-1], history[i])
		}
	}
}

// Numbers have no gap, and the same content gets one number.
func testConcurrentRegistrations(t *testing.T, s Store) {
	var wg sync.WaitGroup
	numbers := make([][10]int, 6)
	for worker := range numbers {
		wg.Go(func() {
			for i := range 10 {
				v, _, err := s.Register(context.Background(), Version("news", i))
				if err != nil {
					t.Error(err)
				}
				numbers[worker][i] = v.Number
			}
		})
	}
	wg.Wait()
	m := must[registry.Model](t)(s.Model(t.Context(), "news"))
	if len(m.Versions) != 10 || m.Newest() != 10 {
		t.Errorf("%d versions, the newest is %d", len(m.Versions), m.Newest())
	}
	for worker := range numbers {
		if numbers[worker] != numbers[0] {
			t.Errorf("numbers %v and %v", numbers[worker], numbers[0])
		}
	}
}
