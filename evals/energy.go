package evals

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// powercap is where Linux shows the energy counters of processors (RAPL).
const powercap = "/sys/class/powercap"

// maxZones bounds how many processors' counters are read.
const maxZones = 64

// Energy is what the machine's processors used during the model's predictions,
// whatever else they did.
type Energy struct {
	Joules      float64 `json:"joules,omitempty"`
	PerThousand float64 `json:"joules_per_thousand,omitempty"` // rows
	Watts       float64 `json:"watts,omitempty"`               // their mean
	Source      string  `json:"source,omitempty"`              // "RAPL package-0, package-1"
	// NotMeasured says why there are no figures; empty if there are.
	NotMeasured string `json:"not_measured,omitempty"`
}

// An energyMeter adds up what the counters show between begin and end.
type energyMeter struct {
	zones  []zone
	joules float64
	why    string // nothing is measured
}

// A zone is the counter of one processor package, in microjoules. It wraps
// around after span.
type zone struct {
	name, path string
	span, last uint64
}

// newEnergyMeter finds the counters below a folder, powercap but in tests.
func newEnergyMeter(root string) *energyMeter {
	m := &energyMeter{}
	entries, err := os.ReadDir(root)
	if err != nil {
		m.why = "this system shows no energy counters"
		return m
	}
	for _, e := range entries {
		// intel-rapl:0 is a package; intel-rapl:0:1 is part of one, and
		// intel-rapl-mmio:0 shows the same package again. AMD's have these names, too.
		number, ok := strings.CutPrefix(e.Name(), "intel-rapl:")
		if _, err := strconv.Atoi(number); !ok || err != nil || len(m.zones) == maxZones {
			continue
		}
		z, err := openZone(filepath.Join(root, e.Name()))
		switch {
		case errors.Is(err, fs.ErrPermission):
			m.why = "the energy counters may not be read: on most systems by root alone"
		case err != nil:
			m.why = "the energy counters cannot be read"
		case strings.HasPrefix(z.name, "package"): // psys counts packages again
			m.zones = append(m.zones, z)
		}
	}
	switch {
	case m.why != "": // part of the machine would look like all of it
		m.zones = nil
	case len(m.zones) == 0:
		m.why = "this machine has no energy counters of its processors; virtual machines seldom have"
	}
	return m
}

func openZone(dir string) (z zone, err error) {
	name, err := os.ReadFile(filepath.Join(dir, "name"))
	if err != nil {
		return z, err
	}
	z.name, z.path = strings.TrimSpace(string(name)), filepath.Join(dir, "energy_uj")
	if z.span, err = readCounter(filepath.Join(dir, "max_energy_range_uj")); err != nil {
		return z, err
	}
	z.last, err = readCounter(z.path)
	return z, err
}

func readCounter(path string) (uint64, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	return strconv.ParseUint(strings.TrimSpace(string(data)), 10, 64)
}

// begin reads the counters before a prediction.
func (m *energyMeter) begin() { m.read(func(float64) {}) }

// end adds what was used since begin.
func (m *energyMeter) end() { m.read(func(joules float64) { m.joules += joules }) }

func (m *energyMeter) read(used func(joules float64)) {
	if m.why != "" {
		return
	}
	for i := range m.zones {
		z := &m.zones[i]
		now, err := readCounter(z.path)
		if err != nil {
			m.why = "the energy counters could not be read to the end"
			return
		}
		delta := now - z.last
		if now < z.last {
			delta = z.span - z.last + now
		}
		z.last = now
		used(float64(delta) / 1e6)
	}
}

// energy describes the predictions of so many rows.
func (m *energyMeter) energy(rows int, seconds float64) *Energy {
	if m.why != "" {
		return &Energy{NotMeasured: m.why}
	}
	var names []string
	for _, z := range m.zones {
		names = append(names, z.name)
	}
	slices.Sort(names)
	return &Energy{
		Joules: m.joules, PerThousand: m.joules / float64(rows) * 1000, Watts: m.joules / max(seconds, 1e-9),
		Source: "RAPL " + strings.Join(names, ", "),
	}
}
