package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// A batch prediction that is killed again and again leaves the same bytes as
// one that is left alone, with the version that it began with.
func TestBatchSurvivesKills(t *testing.T) {
	if testing.Short() {
		t.Skip("scores a file of 60,000 rows four times")
	}
	lib := runtimePath(t)
	if lib == "" {
		t.Skip("ONNX Runtime is not here")
	}
	home := &trainedHome{t: t, runtime: lib}
	home.once.Do(home.make)
	if home.err != nil {
		t.Fatal(home.err)
	}
	var rows bytes.Buffer
	rows.WriteString("text\n")
	for i := range 60_000 {
		fmt.Fprintf(&rows, "match number %d ended with a late goal %s\n", i, bytes.Repeat([]byte("and more "), i%5))
	}
	input := filepath.Join(home.dir, "articles.csv")
	if err := os.WriteFile(input, rows.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, format := range []string{"jsonl", "parquet"} {
		command := func(out string) *exec.Cmd {
			c := exec.Command("galley", "predict", "news", "--file", input, "--out", out, "--local", "--home", filepath.Join(home.dir, "home"), "-o", "json")
			c.Env = append(os.Environ(), "GALLEY_ORT_LIB="+lib)
			return c
		}
		calm, killed := filepath.Join(home.dir, "calm."+format), filepath.Join(home.dir, "killed."+format)
		if out, err := command(calm).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		kills := 0
		for last := int64(0); kills < 3; {
			c := command(killed)
			if err := c.Start(); err != nil {
				t.Fatal(err)
			}
			ended := make(chan error, 1)
			go func() { ended <- c.Wait() }()
			if rows := waitForRows(killed+".state", last, ended); rows > last {
				last, kills = rows, kills+1
				_ = c.Process.Kill()
				<-ended
				continue
			}
			break // it was quicker
		}
		answer, err := command(killed).Output()
		if kills == 3 && err != nil {
			t.Fatalf("%v: %s", err, answer)
		}
		want, err := os.ReadFile(calm)
		if err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(killed)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s after %d kills: %d bytes, undisturbed %d, %v", format, kills, len(got), len(want), err)
		}
		if left, _ := filepath.Glob(killed + ".*"); len(left) > 0 || kills == 0 {
			t.Errorf("%d kills, left %q", kills, left)
		}
		t.Logf("%s: %d kills, %d bytes, %s", format, kills, len(got), answer)
	}
}

// waitForRows waits until a state has more rows than before, or the process
// has ended.
func waitForRows(path string, before int64, ended chan error) int64 {
	for {
		var state batchState
		if data, err := os.ReadFile(path); err == nil && json.Unmarshal(data, &state) == nil && state.Rows > before {
			return state.Rows
		}
		select {
		case err := <-ended:
			ended <- err
			return 0
		case <-time.After(5 * time.Millisecond):
		}
	}
}
