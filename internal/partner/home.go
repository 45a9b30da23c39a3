package partner

import (
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"galley"
	"galley/federation"
	"galley/internal/durable"
)

// What lies in an agent's home beside its identity.
const (
	homeLock     = "lock"
	ledgerFile   = "ledger.json"
	updateFolder = "updates" // the last update that was signed
	modelFolder  = "models"  // the run's model
	baseFolder   = "weights" // those that the present round begins with
	dataFolder   = "data"    // record files of the partner's rows
	workFolder   = "work"    // of the attempt under way
)

// folders are emptied of what is not needed any more.
var folders = []string{updateFolder, modelFolder, baseFolder, dataFolder, workFolder}

// maxLedger bounds the ledger that is read: more than the most rounds of an
// agreement make, also in a ledger of an earlier release.
const maxLedger = 64 << 20

// A home is an agent's folder, which one agent has at a time.
type home struct {
	dir  string
	lock *lock
}

// openHome takes an agent's folder over, and heals what a kill has left.
func openHome(dir string) (*home, error) {
	// In a folder that is no agent's nothing is made.
	if _, err := os.Stat(filepath.Join(dir, identityFile)); errors.Is(err, fs.ErrNotExist) {
		return nil, noIdentity(dir)
	}
	l, err := acquire(filepath.Join(dir, homeLock), lockPatience)
	if err != nil {
		return nil, err
	}
	h := &home{dir, l}
	if err := h.heal(); err != nil {
		return nil, errors.Join(err, h.close())
	}
	return h, nil
}

// heal removes what killed processes have left half-written.
func (h *home) heal() error {
	for _, name := range []string{ledgerFile, endedFile, membershipFile, agreementFile, serverFile} {
		if err := durable.Clean(h.path(name)); err != nil {
			return durable.WriteError(h.dir, err)
		}
	}
	for _, name := range folders {
		if err := os.MkdirAll(h.path(name), 0o700); err != nil {
			return durable.WriteError(h.dir, err)
		}
	}
	return h.keepOnly(updateFolder, func(name string) bool { return !strings.HasSuffix(name, ".tmp") })
}

func (h *home) close() error { return h.lock.release() }

func (h *home) path(parts ...string) string {
	return filepath.Join(append([]string{h.dir}, parts...)...)
}

// keepOnly removes all else of a folder.
func (h *home) keepOnly(folder string, keep func(name string) bool) error {
	entries, err := os.ReadDir(h.path(folder))
	if err != nil {
		return durable.ReadError(h.path(folder), err)
	}
	for _, e := range entries {
		if keep(e.Name()) {
			continue
		}
		if err := os.RemoveAll(h.path(folder, e.Name())); err != nil {
			return durable.WriteError(h.path(folder), err)
		}
	}
	return nil
}

// keepNames is keepOnly with a list.
func (h *home) keepNames(folder string, names ...string) error {
	return h.keepOnly(folder, func(name string) bool { return slices.Contains(names, name) })
}

// ledger reads what the agent has answered.
func (h *home) ledger() (federation.Ledger, error) {
	var l federation.Ledger
	switch err := readJSON(h.path(ledgerFile), maxLedger, &l); galley.CodeOf(err) {
	case "", galley.NotFound:
		return l.Upgrade(), nil
	default:
		return l, err
	}
}

// keepLedger stores it: before anything of it is sent.
func (h *home) keepLedger(l federation.Ledger) error { return writeJSON(h.path(ledgerFile), l) }

// updatePath is where a signed update lies.
func (h *home) updatePath(d galley.Digest) string { return h.path(updateFolder, d.Hex()) }

// keepUpdate moves a file that was written and flushed below updates/ to its
// name, where the ledger's answer will be looked for.
func (h *home) keepUpdate(file string, d galley.Digest) error {
	path := h.updatePath(d)
	if err := os.Rename(file, path); err != nil {
		return durable.WriteError(path, err)
	}
	return durable.WriteError(path, durable.SyncFolder(filepath.Dir(path)))
}

// dropUpdates removes the updates that nobody will ask for again: all but that
// of the ledger's last answer. An update that was written and not signed goes,
// too; its round is trained again.
func (h *home) dropUpdates(l federation.Ledger) error {
	if len(l.Answers) == 0 {
		return h.keepNames(updateFolder)
	}
	return h.keepNames(updateFolder, l.Answers[len(l.Answers)-1].Update.Hex())
}

// readJSON reads one value of a file of at most so many bytes.
func readJSON(path string, most int64, into any) error {
	f, err := os.Open(path)
	if err != nil {
		return durable.ReadError(path, err)
	}
	defer f.Close()
	d := json.NewDecoder(io.LimitReader(f, most))
	d.DisallowUnknownFields()
	if err = d.Decode(into); err == nil {
		if _, more := d.Token(); !errors.Is(more, io.EOF) {
			err = errors.New("more follows its end")
		}
	}
	if err != nil {
		return galley.Errorf(galley.DataLoss, path, "cannot be read: %w", err).
			WithRemedy("it was changed by something else than galley, or is of another release; put it back from a copy")
	}
	return nil
}

func writeJSON(path string, v any) error {
	data, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return galley.Errorf(galley.Internal, path, "%w", err)
	}
	return durable.WriteError(path, durable.Write(path, 0o600, append(data, '\n')))
}
