package control

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"

	"galley"
	"galley/internal/blob"
	"galley/internal/ort/orttest"
	"galley/internal/store"
	"galley/onnx/session"
	"galley/registry"
	"galley/trainer"
)

// A holdingOpener lets who measures a model wait, until they give up.
type holdingOpener struct {
	session.Opener
	hold    atomic.Bool
	waiting atomic.Int32
}

func (o *holdingOpener) held(ctx context.Context) error {
	if !o.hold.Load() {
		return nil
	}
	o.waiting.Add(1)
	defer o.waiting.Add(-1)
	<-ctx.Done()
	return ctx.Err()
}

func (o *holdingOpener) Open(ctx context.Context, model []byte, opts session.Options) (session.Session, error) {
	if err := o.held(ctx); err != nil {
		return nil, err
	}
	return o.Opener.Open(ctx, model, opts)
}

func (o *holdingOpener) OpenFile(ctx context.Context, path string, opts session.Options) (session.Session, error) {
	if err := o.held(ctx); err != nil {
		return nil, err
	}
	return o.Opener.OpenFile(ctx, path, opts)
}

// A measurement that is under way when its pipeline is cancelled, or the server
// goes away, is given up, and made when the pipeline goes on.
func TestPipelineMeasurementGivenUp(t *testing.T) {
	home, opener := t.TempDir(), &holdingOpener{Opener: orttest.Opener(t)}
	w, err := openWith(home, opener, 2, blob.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { w.stop() }()
	w.add(t, "news", map[string]string{"train": rows, "valid": rows})
	w.wait(t, w.submit(t, jobFile("topic", "text-classification", "recipe: {epochs: 1}\n")).ID)
	w.wait(t, w.submit(t, jobFile("topic", "text-classification", "recipe: {epochs: 1, seed: 2}\n")).ID)
	opener.hold.Store(true)
	j := w.submit(t, []byte("apiVersion: galley/v1\nkind: Pipeline\nname: pair\nsteps:\n"+
		"  - {id: measure, spec: {kind: Eval, version: topic@2, against: topic@1}}\n"+
		"  - {id: release, needs: [measure], spec: {kind: Promote, version: topic@2}}\n"))
	underWay := func() bool { return opener.waiting.Load() > 0 }
	eventually(t, underWay)
	if _, err := w.Cancel(t.Context(), "ann", j.ID); err != nil {
		t.Fatal(err)
	}
	j = w.wait(t, j.ID)
	if j.Phase != trainer.Cancelled || j.Steps[0].Phase != trainer.Cancelled || j.Steps[1].Phase != trainer.Queued {
		t.Fatalf("%+v %v", j, j.Error)
	}
	if _, err := w.Resume(t.Context(), "ann", j.ID); err != nil {
		t.Fatal(err)
	}
	eventually(t, underWay)
	w.stop()
	opener.hold.Store(false)
	if w, err = openWith(home, opener, 2, blob.Options{}); err != nil {
		t.Fatal(err)
	}
	j = w.wait(t, j.ID)
	history, err := w.History(t.Context(), "topic", registry.Prod, 10)
	if err != nil || j.Phase != trainer.Succeeded || j.Steps[0].Report == "" || len(history) != 1 || history[0].To != 2 {
		t.Errorf("%+v %v: %+v %v", j, j.Error, history, err)
	}
}

// Two pipelines with the same steps at once may both make a version: it is the
// same one, and neither is in the other's way.
func TestPipelinesAtOnce(t *testing.T) {
	w := newWorld(t, orttest.Opener(t), 2)
	w.add(t, "news", map[string]string{"train": rows, "valid": rows})
	one, two := w.submit(t, storyFile("")), w.submit(t, storyFile(""))
	one, two = w.wait(t, one.ID), w.wait(t, two.ID)
	if one.Phase != trainer.Succeeded || two.Phase != trainer.Succeeded {
		t.Fatalf("%+v %v\n%+v %v", one, one.Error, two, two.Error)
	}
	if want := []string{"small@1", "topic@1", "base@1"}; !slices.Equal(one.Versions, want) || !slices.Equal(two.Versions, want) {
		t.Errorf("%v and %v", one.Versions, two.Versions)
	}
	history, err := w.History(t.Context(), "small", registry.Prod, 10)
	if err != nil || len(history) != 1 {
		t.Errorf("%+v %v", history, err)
	}
	// One that is there before the other begins runs nothing.
	before := w.jobsOf(t)
	three := w.wait(t, w.submit(t, storyFile("")).ID)
	if three.Phase != trainer.Succeeded || w.jobsOf(t) != before {
		t.Errorf("%+v %v", three, three.Error)
	}
}

// A step that promoted, of which a crash kept that it ended, does not undo what
// someone did since.
func TestPipelinePromotesOnce(t *testing.T) {
	w := newWorld(t, noOpener{}, 2)
	w.add(t, "news", map[string]string{"train": rows})
	for seed := range 2 {
		w.wait(t, w.submit(t, jobFile("base", "text-mlm", fmt.Sprintf("recipe: {epochs: 1, seed: %d}\n", seed+1))).ID)
	}
	release := func(pipeline string, reused bool, now int) {
		t.Helper()
		e, err := w.promoteStep(t.Context(), "ann", trainer.Spec{Kind: trainer.KindPromote, Measure: trainer.Measure{Version: "base@1", Alias: registry.Prod}}, pipeline, "release")
		if err != nil || e.Version != "base@1" || e.Reused != reused {
			t.Errorf("%s: %+v %v", pipeline, e, err)
		}
		if v, _, err := w.Version(t.Context(), galley.Ref{Name: "base", Alias: registry.Prod}); err != nil || v.Number != now {
			t.Errorf("after %s: %s %v", pipeline, v.Ref(), err)
		}
	}
	release("one", false, 1)
	release("one", false, 1)
	release("two", true, 1)
	if _, err := w.Promote(t.Context(), "bob", Promotion{Ref: galley.Ref{Name: "base", Version: 2}, Alias: registry.Prod}); err != nil {
		t.Fatal(err)
	}
	release("one", false, 2)
	release("two", false, 1)
	history, err := w.History(t.Context(), "base", registry.Prod, store.MaxList)
	if err != nil || len(history) != 3 {
		t.Errorf("%+v %v", history, err)
	}
}
