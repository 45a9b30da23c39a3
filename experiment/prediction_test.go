package experiment

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"galley"
)

func testKey() []byte {
	key := make([]byte, KeySize)
	for i := range key {
		key[i] = byte(i)
	}
	return key
}

// TestIDIsThatOfPython: struct.pack, hmac and base64 make the same id.
func TestIDIsThatOfPython(t *testing.T) {
	p := Prediction{
		Experiment: 7, Stage: 2, Arm: Treatment, Version: 3, Model: HashModel("news"),
		At: time.UnixMilli(1700000000123).UTC(), Place: 0x0123456789abcdef, Label: 4, Nonce: 0xfedcba9876543210,
	}
	const want = "AQAAAAcCAQAAAAMZ-6DplQGLz-VoewEjRWeJq83vAAT-3LqYdlQyEErRyGsw4qUsNMwOtJXG"
	s := NewSigner(testKey())
	if got := s.Sign(p); got != want {
		t.Errorf("%s, not %s", got, want)
	}
	if got, err := s.Verify(want); err != nil || got != p {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestIDsCannotBeForged(t *testing.T) {
	s := NewSigner(testKey())
	rapid.Check(t, func(t *rapid.T) {
		p := Prediction{
			Experiment: rapid.Uint32().Draw(t, "experiment"), Stage: rapid.Uint8().Draw(t, "stage"), Arm: Arm(rapid.IntRange(0, 1).Draw(t, "arm")),
			Version: rapid.Uint32().Draw(t, "version"), Model: HashModel(rapid.String().Draw(t, "model")),
			At: time.UnixMilli(rapid.Int64Range(0, 1<<47).Draw(t, "at")).UTC(), Place: rapid.Uint64().Draw(t, "place"), Label: rapid.Uint16().Draw(t, "label"), Nonce: rapid.Uint64().Draw(t, "nonce"),
		}
		id := s.Sign(p)
		if got, err := s.Verify(id); err != nil || got != p {
			t.Fatalf("%+v came back as %+v, %v", p, got, err)
		}
		at := rapid.IntRange(0, len(id)-1).Draw(t, "changed")
		other := rapid.SampledFrom([]byte("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_=. ")).Draw(t, "to")
		if other == id[at] {
			return
		}
		forged := id[:at] + string(other) + id[at+1:]
		if _, err := s.Verify(forged); galley.CodeOf(err) != galley.NotFound {
			t.Fatalf("%s was taken for %s: %v", forged, id, err)
		}
	})
	if _, err := NewSigner(NewKey()).Verify(s.Sign(Prediction{})); galley.CodeOf(err) != galley.NotFound {
		t.Errorf("the id of another home: %v", err)
	}
}

func FuzzVerify(f *testing.F) {
	s := NewSigner(testKey())
	f.Add(s.Sign(Prediction{Experiment: 1}))
	f.Add("")
	f.Add("0123456789abcdef0123456789abcdef")
	f.Fuzz(func(t *testing.T, id string) {
		p, err := s.Verify(id)
		if err == nil && s.Sign(p) != id {
			t.Errorf("%q stands for %+v, whose id is %q", id, p, s.Sign(p))
		}
	})
}

// BenchmarkDecision is what an experiment adds to a request: the arm of its
// key, the count of its answer, and its signed id.
func BenchmarkDecision(b *testing.B) {
	e := example()
	r, s, model := NewRoute(e, nil), NewSigner(testKey()), HashModel("news")
	now := time.Now()
	b.ReportAllocs()
	for b.Loop() {
		a := r.Assign("reader-42", 0)
		a.Observe(now, time.Millisecond, false, false)
		s.Sign(Prediction{Experiment: r.Experiment, Arm: a.Arm, Version: 2, Model: model, At: now, Place: a.Place, Nonce: Nonce()})
	}
}
