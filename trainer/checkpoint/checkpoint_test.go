package checkpoint

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"galley"
)

func sample() (State, []Section) {
	state := State{
		Spec: "sha256:aa", Layout: "sha256:bb", Step: 7, Epoch: 1, Batch: 3, Best: 0.5, BestStep: 4,
		Metrics: map[string]float64{"accuracy": 0.5}, Stale: 2, Stopped: true, Truncated: 9,
	}
	negativeZero := float32(math.Copysign(0, -1))
	return state, []Section{
		{"weights", []float32{1, -2.5, negativeZero, float32(math.Inf(1)), math.SmallestNonzeroFloat32}},
		{"m", nil},
		{"v", []float32{3}},
	}
}

// blank returns sections to read the given ones into.
func blank(sections []Section) []Section {
	var out []Section
	for _, s := range sections {
		out = append(out, Section{s.Name, make([]float32, len(s.Values))})
	}
	return out
}

func write(t testing.TB, dir, name string, state State, sections ...Section) {
	t.Helper()
	if err := Write(dir, name, state, sections...); err != nil {
		t.Fatal(err)
	}
}

func TestReadGivesWhatWasWritten(t *testing.T) {
	dir := t.TempDir()
	state, sections := sample()
	write(t, dir, "step-1", state, sections...)
	into := blank(sections)
	got, err := Read(dir, "step-1", into...)
	if err != nil || !reflect.DeepEqual(got, state) {
		t.Fatalf("%+v, %v", got, err)
	}
	for i := range sections {
		if !bytes.Equal(bytesOf(into[i].Values), bytesOf(sections[i].Values)) {
			t.Errorf("section %s holds %v", into[i].Name, into[i].Values)
		}
	}
	if got, err := ReadState(dir, "step-1"); err != nil || !reflect.DeepEqual(got, state) {
		t.Errorf("the state alone: %+v, %v", got, err)
	}
}

func TestReadGivesWhatWasWrittenProperty(t *testing.T) {
	dir := t.TempDir()
	rapid.Check(t, func(t *rapid.T) {
		numbers := rapid.SliceOfN(rapid.Float32(), 0, 50)
		sections := []Section{{"weights", numbers.Draw(t, "weights")}, {"m", numbers.Draw(t, "m")}}
		state := State{Step: rapid.IntRange(0, 1<<40).Draw(t, "step"), Best: rapid.Float64().Draw(t, "best")}
		if err := Write(dir, "step-1", state, sections...); err != nil {
			t.Fatal(err)
		}
		into := blank(sections)
		got, err := Read(dir, "step-1", into...)
		if err != nil || !reflect.DeepEqual(got, state) {
			t.Fatalf("%+v, %v", got, err)
		}
		for i := range sections {
			if !bytes.Equal(bytesOf(into[i].Values), bytesOf(sections[i].Values)) {
				t.Fatalf("section %s holds %v", into[i].Name, into[i].Values)
			}
		}
	})
}

func TestWriteReplaces(t *testing.T) {
	dir := t.TempDir()
	state, sections := sample()
	write(t, dir, "step-1", state, sections...)
	state.Step = 8
	write(t, dir, "step-1", state, sections...)
	if got, err := ReadState(dir, "step-1"); err != nil || got.Step != 8 {
		t.Errorf("%+v, %v", got, err)
	}
	if files, _ := os.ReadDir(dir); len(files) != 1 {
		t.Errorf("the folder holds %v", files)
	}
}

// damaged writes content as a checkpoint and holds that reading it is an
// error that names the file.
func damaged(t *testing.T, dir string, content []byte, what string, sections []Section) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, "step-9"+suffix), content, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, into := range [][]Section{nil, blank(sections)} {
		if _, err := Read(dir, "step-9", into...); galley.CodeOf(err) != galley.DataLoss {
			t.Fatalf("%s: %v", what, err)
		}
	}
}

func TestTruncatedAtEveryByte(t *testing.T) {
	dir := t.TempDir()
	state, sections := sample()
	write(t, dir, "step-1", state, sections...)
	content, err := os.ReadFile(filepath.Join(dir, "step-1"+suffix))
	if err != nil {
		t.Fatal(err)
	}
	for n := range content {
		damaged(t, dir, content[:n], "cut off", sections)
	}
	damaged(t, dir, append(slices.Clone(content), 0), "a byte more", sections)
}

func TestEveryBitMatters(t *testing.T) {
	dir := t.TempDir()
	state, sections := sample()
	write(t, dir, "step-1", state, sections...)
	content, err := os.ReadFile(filepath.Join(dir, "step-1"+suffix))
	if err != nil {
		t.Fatal(err)
	}
	for i := range content {
		flipped := slices.Clone(content)
		flipped[i] ^= 1 << (i % 8)
		damaged(t, dir, flipped, "a bit flipped", sections)
	}
}

func TestReadWantsTheSameSections(t *testing.T) {
	dir := t.TempDir()
	state, sections := sample()
	write(t, dir, "step-1", state, sections...)
	for name, into := range map[string][]Section{
		"fewer":        blank(sections)[:2],
		"another name": {{"weights", make([]float32, 5)}, {"n", nil}, {"v", make([]float32, 1)}},
		"another size": {{"weights", make([]float32, 4)}, {"m", nil}, {"v", make([]float32, 1)}},
		"more":         append(blank(sections), Section{"more", nil}),
	} {
		if _, err := Read(dir, "step-1", into...); galley.CodeOf(err) != galley.DataLoss {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := Read(dir, "step-2"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("one that is not there: %v", err)
	}
}

func TestListAndPrune(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "[a") // no pattern
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if names, err := List(filepath.Join(dir, "none"), "step-"); err != nil || len(names) != 0 {
		t.Errorf("a folder that is not there: %v, %v", names, err)
	}
	for _, name := range []string{"step-000000003", "step-000000001", "step-000000002", "best-000000001"} {
		write(t, dir, name, State{})
	}
	left := filepath.Join(dir, "step-000000004.123.tmp")
	other := filepath.Join(dir, "notes.txt")
	for _, path := range []string{left, other} {
		if err := os.WriteFile(path, []byte("half"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	names, err := List(dir, "step-")
	if want := []string{"step-000000001", "step-000000002", "step-000000003"}; err != nil || !slices.Equal(names, want) {
		t.Fatalf("%v, %v", names, err)
	}
	if err := Prune(dir, "step-", "step-000000002", "step-000000003"); err != nil {
		t.Fatal(err)
	}
	var found []string
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		found = append(found, e.Name())
	}
	want := []string{"best-000000001" + suffix, "notes.txt", "step-000000002" + suffix, "step-000000003" + suffix}
	if !slices.Equal(found, want) {
		t.Errorf("left are %v, want %v", found, want)
	}
}

func FuzzRead(f *testing.F) {
	dir := f.TempDir()
	state, sections := sample()
	write(f, dir, "step-1", state, sections...)
	content, err := os.ReadFile(filepath.Join(dir, "step-1"+suffix))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(content)
	f.Add(content[:len(content)/2])
	f.Add([]byte(magic))
	f.Add(binary.LittleEndian.AppendUint32([]byte(magic), math.MaxUint32))
	f.Add(append(binary.LittleEndian.AppendUint32([]byte(magic), 44), `{"sections":[{"name":"a","len":4611686018427`...))
	f.Add(append(binary.LittleEndian.AppendUint32([]byte(magic), 2), "{}"...))
	f.Fuzz(func(t *testing.T, content []byte) {
		if err := os.WriteFile(filepath.Join(dir, "step-1"+suffix), content, 0o600); err != nil {
			t.Fatal(err)
		}
		for _, into := range [][]Section{nil, blank(sections)} {
			state, err := Read(dir, "step-1", into...)
			if err != nil && galley.CodeOf(err) != galley.DataLoss {
				t.Fatal(err)
			}
			if err != nil && !reflect.DeepEqual(state, State{}) {
				t.Fatalf("an error and the state %+v", state)
			}
		}
	})
}
