// Package checkpoint stores the state of a training run so that a run killed
// at any moment goes on exactly where its last checkpoint was.
//
// A checkpoint is one file: a magic number, a JSON header, the sections of
// float32 numbers in little-endian order, and the SHA-256 of all before it.
// Files appear under their name only when they are whole and on disk.
package checkpoint

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"unsafe"

	"galley"
	"galley/internal/durable"
)

const (
	magic     = "GLYCKPT1"
	maxHeader = 16 << 20
	suffix    = ".checkpoint"
)

// State is where a run stands.
type State struct {
	Spec      galley.Digest      `json:"spec"`              // the run's spec
	Layout    galley.Digest      `json:"layout"`            // names and shapes of the weights
	Step      int                `json:"step"`              // optimizer steps done
	Epoch     int                `json:"epoch"`             // epoch of the next batch
	Batch     int                `json:"batch"`             // next batch in that epoch
	Best      float64            `json:"best"`              // best validation score so far
	BestStep  int                `json:"best_step"`         // step of it, 0 if none yet
	Metrics   map[string]float64 `json:"metrics,omitempty"` // of the best step
	Beside    map[string]float64 `json:"beside,omitempty"`  // what belongs to the best step's weights
	Stale     int                `json:"stale"`             // validations since the best
	Pending   bool               `json:"pending,omitempty"` // the step's validation is still to be done
	Stopped   bool               `json:"stopped"`           // early stopping has ended training
	Truncated int                `json:"truncated"`         // texts cut in the first epoch
}

type header struct {
	State    State     `json:"state"`
	Sections []section `json:"sections"`
}

type section struct {
	Name string `json:"name"`
	Len  int64  `json:"len"` // float32 numbers
}

// A Section is a named run of numbers, written from and read into Values.
type Section struct {
	Name   string
	Values []float32
}

// Write stores state and sections under dir as name, replacing what is there
// in one step.
func Write(dir, name string, state State, sections ...Section) error {
	h := header{State: state}
	for _, s := range sections {
		h.Sections = append(h.Sections, section{s.Name, int64(len(s.Values))})
	}
	head, err := json.Marshal(h)
	if err != nil {
		return err
	}
	return durable.Replace(filepath.Join(dir, name+suffix), 0o600, func(f *os.File) error {
		sum := sha256.New()
		w := bufio.NewWriterSize(io.MultiWriter(f, sum), 1<<20)
		w.WriteString(magic)
		binary.Write(w, binary.LittleEndian, uint32(len(head)))
		w.Write(head)
		for _, s := range sections {
			if _, err := w.Write(bytesOf(s.Values)); err != nil {
				return err
			}
		}
		if err := w.Flush(); err != nil {
			return err
		}
		_, err := f.Write(sum.Sum(nil))
		return err
	})
}

// ReadState reads and verifies the checkpoint called name and returns its
// state alone.
func ReadState(dir, name string) (State, error) { return Read(dir, name) }

// Read verifies the checkpoint called name and fills the sections, which must
// be those that were written, in order. Sections are filled even if the
// checksum at the end turns out wrong: a caller who gets an error starts from
// another checkpoint or afresh.
func Read(dir, name string, sections ...Section) (State, error) {
	path := filepath.Join(dir, name+suffix)
	f, err := os.Open(path)
	if err != nil {
		return State{}, err
	}
	defer f.Close()
	state, err := read(f, sections)
	if err != nil {
		return State{}, galley.Errorf(galley.DataLoss, filepath.Base(path), "%w", err)
	}
	return state, nil
}

func read(f *os.File, sections []Section) (State, error) {
	info, err := f.Stat()
	if err != nil {
		return State{}, err
	}
	sum := sha256.New()
	r := bufio.NewReaderSize(f, 1<<20)
	start := make([]byte, len(magic)+4)
	if _, err := io.ReadFull(r, start); err != nil || !bytes.HasPrefix(start, []byte(magic)) {
		return State{}, errors.New("is not a checkpoint")
	}
	n := binary.LittleEndian.Uint32(start[len(magic):])
	if n > maxHeader || int64(n) > info.Size() {
		return State{}, errors.New("has a header of an impossible size")
	}
	head := make([]byte, n)
	if _, err := io.ReadFull(r, head); err != nil {
		return State{}, errors.New("is cut off")
	}
	sum.Write(start)
	sum.Write(head)
	var h header
	if err := json.Unmarshal(head, &h); err != nil {
		return State{}, errors.New("has a damaged header")
	}
	size := int64(len(start)) + int64(n) + sha256.Size
	for _, s := range h.Sections {
		if s.Len < 0 || s.Len > info.Size() {
			return State{}, errors.New("has a section of an impossible size")
		}
		size += 4 * s.Len
	}
	if size != info.Size() {
		return State{}, fmt.Errorf("has %d bytes instead of %d", info.Size(), size)
	}
	if err := readSections(r, sum, h.Sections, sections); err != nil {
		return State{}, err
	}
	want := make([]byte, sha256.Size)
	if _, err := io.ReadFull(r, want); err != nil || !bytes.Equal(want, sum.Sum(nil)) {
		return State{}, errors.New("is damaged: its checksum is wrong")
	}
	return h.State, nil
}

func readSections(r io.Reader, sum hash.Hash, written []section, into []Section) error {
	if len(into) == 0 { // verify only
		for _, s := range written {
			if _, err := io.CopyN(sum, r, 4*s.Len); err != nil {
				return errors.New("is cut off")
			}
		}
		return nil
	}
	if len(into) != len(written) {
		return fmt.Errorf("has %d sections instead of %d", len(written), len(into))
	}
	for i, s := range written {
		if s.Name != into[i].Name || s.Len != int64(len(into[i].Values)) {
			return fmt.Errorf("has section %s of %d numbers instead of %s of %d", s.Name, s.Len, into[i].Name, len(into[i].Values))
		}
		if _, err := io.ReadFull(io.TeeReader(r, sum), bytesOf(into[i].Values)); err != nil {
			return errors.New("is cut off")
		}
	}
	return nil
}

// List returns the names of the checkpoints in dir that begin with prefix,
// in ascending order. A folder that does not exist has none.
func List(dir, prefix string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var names []string
	for _, e := range entries {
		if name, ok := strings.CutSuffix(e.Name(), suffix); ok && strings.HasPrefix(name, prefix) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names, err
}

// Prune removes the checkpoints in dir that begin with prefix, but for those
// to keep, and temporary files that a killed run left behind.
func Prune(dir, prefix string, keep ...string) error {
	names, err := List(dir, prefix)
	if err != nil {
		return err
	}
	for _, name := range names {
		if !slices.Contains(keep, name) {
			if err := os.Remove(filepath.Join(dir, name+suffix)); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
	}
	left, err := fs.Glob(os.DirFS(dir), prefix+"*.tmp")
	if err != nil {
		return err
	}
	for _, name := range left {
		os.Remove(filepath.Join(dir, name))
	}
	return nil
}

// bytesOf views numbers as bytes; the machines that galley runs on are
// little-endian, which is the format's order.
func bytesOf(values []float32) []byte {
	if len(values) == 0 {
		return nil
	}
	return unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(values))), 4*len(values))
}
