package control

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"galley"
	"galley/internal/blob"
	"galley/trainer"
)

// Without room for its model a job fails and says so; with room it goes on
// from its last checkpoint, and nothing is trained twice.
func TestNoRoom(t *testing.T) {
	home := t.TempDir()
	w, err := openWith(home, noOpener{}, 1, blob.Options{MaxSize: 400})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.stop)
	w.add(t, "news", map[string]string{"train": "text,label\na,x\nb,y\n"})
	j := w.wait(t, w.submit(t, jobFile("a", "text-mlm", "recipe: {epochs: 1, checkpoint_every: 20}\n")).ID)
	if j.Phase != trainer.Failed || j.Error.Code != galley.ResourceExhausted || j.Progress.Checkpoint != 20 {
		t.Fatalf("%+v %v", j, j.Error)
	}
	w.stop()
	if w, err = open(home, noOpener{}, 1); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.stop)
	if _, err := w.Resume(t.Context(), "ann", j.ID); err != nil {
		t.Fatal(err)
	}
	if j = w.wait(t, j.ID); j.Phase != trainer.Succeeded || j.Attempts[1].From != 20 {
		t.Errorf("%+v", j)
	}
}

func TestReadOnlyHome(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Skip("root may write everywhere")
	}
	home := t.TempDir()
	if err := os.Chmod(home, 0o500); err != nil {
		t.Fatal(err)
	}
	if _, err := open(home, noOpener{}, 1); galley.CodeOf(err) != galley.PermissionDenied {
		t.Error(err)
	}
}

func TestSecondProcess(t *testing.T) {
	w := newWorld(t, noOpener{}, 1)
	if _, err := open(w.home, noOpener{}, 1); err == nil || !strings.Contains(err.Error(), fmt.Sprint(os.Getpid())) {
		t.Errorf("%v does not name the process", err)
	}
}

// A request that is bounded is refused, and the server stands.
func TestSpoolBounds(t *testing.T) {
	w := newWorld(t, noOpener{}, 1)
	s, err := w.NewSpool()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for i := range maxSpoolFiles {
		if err := s.Write(fmt.Sprint("file", i), "", nil); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Write("more", "", nil); galley.CodeOf(err) != galley.ResourceExhausted {
		t.Error(err)
	}
	s.size = maxSpool
	if err := s.Write("file0", "", []byte("x")); galley.CodeOf(err) != galley.ResourceExhausted {
		t.Error(err)
	}
}
