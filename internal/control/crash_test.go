package control

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
	"testing"
	"time"

	"galley/internal/store"
	"galley/trainer"
)

// server is a process that runs a home until SIGTERM.
func server(home string) int {
	w, err := open(home, noOpener{}, 2)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	fmt.Println("ready")
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM)
	<-stop
	w.stop()
	return 0
}

// startServer starts a server on a home and waits until it runs. A child that
// the last server was just forking may hold the home's lock for a moment after
// that one's death.
func startServer(t *testing.T, home string) *exec.Cmd {
	t.Helper()
	var said bytes.Buffer
	for range 20 {
		cmd := exec.Command(os.Args[0], "server", home)
		said.Reset()
		cmd.Stderr = &said
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		var word string
		if _, err := fmt.Fscan(out, &word); err == nil {
			t.Cleanup(func() { _ = cmd.Process.Kill() })
			return cmd
		}
		_ = cmd.Wait()
		time.Sleep(50 * time.Millisecond)
	}
	t.Fatalf("no server: %s", said.String())
	return nil
}

// A server killed at random moments loses no job and changes no model.
func TestKilledServers(t *testing.T) {
	if testing.Short() {
		t.Skip("kills servers for several seconds")
	}
	home := t.TempDir()
	w, err := open(home, noOpener{}, 2)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.stop)
	w.add(t, "news", map[string]string{"train": rows})
	spec := "recipe: {epochs: 12, checkpoint_every: 7}\n"
	whole := w.wait(t, w.submit(t, jobFile("whole", "text-mlm", spec)).ID)
	want := w.modelDigest(t, whole.Versions[0])
	var ids []string
	for i := range 3 {
		ids = append(ids, w.submit(t, jobFile(fmt.Sprintf("job-%d", i), "text-mlm", spec)).ID)
	}
	w.stop()

	r := rand.New(rand.NewPCG(3, 4))
	for range 6 {
		cmd := startServer(t, home)
		time.Sleep(time.Duration(r.IntN(300)) * time.Millisecond)
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait()
	}
	// One is stopped politely.
	cmd := startServer(t, home)
	time.Sleep(100 * time.Millisecond)
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}

	if w, err = open(home, noOpener{}, 2); err != nil {
		t.Fatal(err)
	}
	defer w.stop()
	for _, id := range ids {
		j := w.wait(t, id)
		if j.Phase != trainer.Succeeded {
			t.Fatalf("%s: %+v %v", id, j, j.Error)
		}
		if got := w.modelDigest(t, j.Versions[0]); got != want {
			t.Errorf("%s made %s instead of %s after %d attempts", id, got, want, len(j.Attempts))
		}
		for _, a := range j.Attempts[:len(j.Attempts)-1] {
			if a.Outcome != "interrupted" {
				t.Errorf("%s: attempt %d was %s", id, a.Number, a.Outcome)
			}
		}
	}
	eventually(t, func() bool {
		pending, err := w.store.PendingEffects(t.Context(), store.MaxList)
		return err == nil && len(pending) == 0
	})
}
