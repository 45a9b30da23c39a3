package sqlite

import (
	"testing"

	"galley/internal/store"
	"galley/internal/store/storetest"
	"galley/registry"
)

// BenchmarkSaveJob is one durable change with its effect and audit entry.
func BenchmarkSaveJob(b *testing.B) {
	s := open(b, b.TempDir())
	j, err := s.CreateJob(b.Context(), storetest.Job("a"), store.Commit{})
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if j, err = s.SaveJob(b.Context(), j, store.Commit{Action: "job.step", Effects: []store.Effect{{Kind: "e"}}}); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkResolveTraffic finds the version that answers a request.
func BenchmarkResolveTraffic(b *testing.B) {
	s := open(b, b.TempDir())
	for i := range 20 {
		if _, _, err := s.Register(b.Context(), storetest.Version("news", i)); err != nil {
			b.Fatal(err)
		}
	}
	if _, err := s.Promote(b.Context(), registry.Request{Model: "news", Alias: "prod", Target: 3, Expect: registry.AnyGeneration}); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := registry.ResolveTraffic(b.Context(), s, "news", ""); err != nil {
			b.Fatal(err)
		}
	}
}
