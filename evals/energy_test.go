package evals

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// counters writes a folder as Linux shows one.
func counters(t *testing.T, zones map[string][3]string) string {
	t.Helper()
	root := t.TempDir()
	for dir, z := range zones {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o700); err != nil {
			t.Fatal(err)
		}
		for i, name := range []string{"name", "max_energy_range_uj", "energy_uj"} {
			set(t, filepath.Join(root, dir, name), z[i])
		}
	}
	return root
}

func set(t *testing.T, path, value string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(value+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestEnergy(t *testing.T) {
	root := counters(t, map[string][3]string{
		"intel-rapl:0":      {"package-0", "10000000", "1000000"},
		"intel-rapl:1":      {"package-1", "10000000", "9000000"},
		"intel-rapl:2":      {"psys", "10000000", "5"},
		"intel-rapl:0:0":    {"core", "10000000", "7"},
		"intel-rapl-mmio:0": {"package-0", "10000000", "1000000"},
	})
	m := newEnergyMeter(root)
	set(t, filepath.Join(root, "intel-rapl:0", "energy_uj"), "2000000") // before it begins
	m.begin()
	set(t, filepath.Join(root, "intel-rapl:0", "energy_uj"), "5000000") // 3 J
	set(t, filepath.Join(root, "intel-rapl:1", "energy_uj"), "1000000") // around the end: 2 J
	m.end()
	e := m.energy(500, 2)
	if e.Source != "RAPL package-0, package-1" || e.NotMeasured != "" {
		t.Errorf("%+v", e)
	}
	near(t, "joules", e.Joules, 5, 1e-9)
	near(t, "a thousand", e.PerThousand, 10, 1e-9)
	near(t, "watts", e.Watts, 2.5, 1e-9)

	set(t, filepath.Join(root, "intel-rapl:1", "energy_uj"), "nonsense")
	m.end()
	if e := m.energy(500, 2); e.Joules != 0 || !strings.Contains(e.NotMeasured, "to the end") {
		t.Errorf("%+v", e)
	}
}

func TestEnergyIsNotMeasured(t *testing.T) {
	closed := counters(t, map[string][3]string{"intel-rapl:0": {"package-0", "1", "1"}, "intel-rapl:1": {"package-1", "1", "1"}})
	if err := os.Remove(filepath.Join(closed, "intel-rapl:1", "energy_uj")); err != nil {
		t.Fatal(err)
	}
	for root, why := range map[string]string{
		filepath.Join(t.TempDir(), "absent"): "shows no energy counters",
		t.TempDir():                          "virtual machines",
		closed:                               "cannot be read",
		counters(t, map[string][3]string{"intel-rapl:0": {"dram", "1"}}): "cannot be read",
		counters(t, map[string][3]string{"dtpm": {"dtpm", "1", "1"}}):    "virtual machines",
	} {
		m := newEnergyMeter(root)
		m.begin()
		m.end()
		if e := m.energy(1, 1); !strings.Contains(e.NotMeasured, why) || e.Joules != 0 || e.Source != "" {
			t.Errorf("%+v, want %q", e, why)
		}
	}
}
