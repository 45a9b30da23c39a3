package control

import (
	"os"
	"path/filepath"
	"testing"

	"galley/scheduler"
)

func TestMachine(t *testing.T) {
	total := memoryTotal("/proc/meminfo")
	limit := memoryLimit()
	if total <= 0 || limit <= 0 || limit > total {
		t.Errorf("%d bytes of %d", limit, total)
	}
	have := machine(3)
	if have[scheduler.CPU] != 3000 || have[scheduler.Memory] >= limit || have[scheduler.Memory] < limit/2 {
		t.Errorf("%v of %d", have, limit)
	}
}

func TestReadLimit(t *testing.T) {
	path := filepath.Join(t.TempDir(), "memory.max")
	for text, want := range map[string]int64{"4294967296\n": 4 << 30, "max\n": 0, "": 0, "-1\n": 0} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if n, ok := readLimit(path); ok != (want > 0) || ok && n != want {
			t.Errorf("%q: %d %v", text, n, ok)
		}
	}
	if _, ok := readLimit(path + ".absent"); ok {
		t.Error("a file that is not there has a limit")
	}
}
