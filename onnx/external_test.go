package onnx

import (
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"galley"
	onnxpb "galley/api/onnx/v1"
)

func writeMessage(t *testing.T, path string, p *onnxpb.ModelProto) {
	t.Helper()
	data, err := proto.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestExternalDataStaysInItsFolder(t *testing.T) {
	dir := t.TempDir()
	folder := filepath.Join(dir, "model")
	if err := os.MkdirAll(filepath.Join(folder, "sub"), 0o700); err != nil {
		t.Fatal(err)
	}
	secret := filepath.Join(dir, "secret.bin")
	for _, path := range []string{secret, filepath.Join(folder, "w.bin"), filepath.Join(folder, "sub", "w.bin")} {
		if err := os.WriteFile(path, []byte("0123456789abcdef"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	links := map[string]string{"escape.bin": secret, "relative.bin": "../secret.bin", "inside.bin": "w.bin", "up": ".."}
	for name, target := range links {
		if err := os.Symlink(target, filepath.Join(folder, name)); err != nil {
			t.Skip("symbolic links cannot be made here:", err)
		}
	}
	path := filepath.Join(folder, "model.onnx")
	for _, tt := range []struct {
		name    string
		entries []string
		code    galley.Code
		want    string
	}{
		{"beside", []string{"location", "w.bin", "offset", "4", "length", "12"}, "", ""},
		{"below", []string{"location", "sub/w.bin"}, "", ""},
		{"dot", []string{"location", "./sub/../w.bin"}, "", ""},
		{"link inside", []string{"location", "inside.bin"}, "", ""},
		{"parent", []string{"location", "../secret.bin"}, galley.PermissionDenied, `tensor "w": external data "../secret.bin" lies outside of the model's folder`},
		{"hidden parent", []string{"location", "sub/../../secret.bin"}, galley.PermissionDenied, "lies outside of the model's folder"},
		{"absolute", []string{"location", secret}, galley.PermissionDenied, "lies outside of the model's folder"},
		{"link out", []string{"location", "escape.bin"}, galley.PermissionDenied, `tensor "w": external data "escape.bin" cannot be read`},
		{"relative link out", []string{"location", "relative.bin"}, galley.PermissionDenied, "cannot be read"},
		{"link to a folder out", []string{"location", "up/secret.bin"}, galley.PermissionDenied, "cannot be read"},
		{"folder", []string{"location", "sub"}, galley.InvalidArgument, "not a regular file"},
		{"missing", []string{"location", "none.bin"}, galley.NotFound, `external data "none.bin" cannot be read`},
		{"no location", nil, galley.InvalidArgument, "external data has no location"},
		{"short file", []string{"location", "w.bin", "offset", "5"}, galley.InvalidArgument, `external data "w.bin" has 16 bytes; the tensor needs 12 from offset 5`},
		{"huge offset", []string{"location", "w.bin", "offset", "9223372036854775807"}, galley.InvalidArgument, "needs 12 from offset 9223372036854775807"},
		{"negative offset", []string{"location", "w.bin", "offset", "-1"}, galley.InvalidArgument, `external data has the offset "-1", which is no size`},
		{"wrong length", []string{"location", "w.bin", "length", "13"}, galley.InvalidArgument, `tensor "w": has 13 bytes of external data; its type and dimensions take 12`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			writeMessage(t, path, external(tiny(), tt.entries...))
			m, err := ReadFile(path, ReadOptions{})
			if tt.want != "" {
				checkError(t, err, tt.code, tt.want)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if w := m.Graph.Initializers[0]; len(w.Data) != 12 {
				t.Errorf("read %q", w.Data)
			}
		})
	}
	if runtime.GOOS == "linux" {
		t.Run("device", func(t *testing.T) {
			if err := os.Symlink("/dev/zero", filepath.Join(folder, "zero")); err != nil {
				t.Skip(err)
			}
			writeMessage(t, path, external(tiny(), "location", "zero"))
			_, err := ReadFile(path, ReadOptions{})
			checkError(t, err, galley.PermissionDenied, "cannot be read")
		})
	}
}

func TestWriteFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "model.onnx")
	m, err := (&decoder{limits: Limits{}.withDefaults()}).model(tiny())
	if err != nil {
		t.Fatal(err)
	}
	m.Graph.Initializers = append(m.Graph.Initializers, NewFloat("big", make([]float32, 5000), 50, 100), NewFloat("v", []float32{1, 2, 3}, 3))
	for _, external := range []int64{0, 8, 1 << 20} {
		if err := WriteFile(path, m, WriteOptions{External: external}); err != nil {
			t.Fatal(err)
		}
		got, err := ReadFile(path, ReadOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(got, m) {
			t.Errorf("external %d: reading gives another model", external)
		}
		if Digest(got) != Digest(m) {
			t.Errorf("external %d: the digest depends on where the data lies", external)
		}
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	names := []string{}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	if len(names) != 2 || !slices.ContainsFunc(names, func(n string) bool { return strings.HasSuffix(n, ".data") }) {
		t.Errorf("the folder holds %v", names)
	}
}

func TestWriteFileKeepsTheOldOne(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "model.onnx")
	m, err := (&decoder{limits: Limits{}.withDefaults()}).model(tiny())
	if err != nil {
		t.Fatal(err)
	}
	if err := WriteFile(path, m, WriteOptions{}); err != nil {
		t.Fatal(err)
	}
	before, _ := os.ReadFile(path)
	broken := m.Clone()
	broken.Graph.Initializers[0].Data = nil
	for _, external := range []int64{0, 1} {
		checkError(t, WriteFile(path, broken, WriteOptions{External: external}), galley.InvalidArgument, `tensor "w": has 0 bytes`)
	}
	after, _ := os.ReadFile(path)
	if !slices.Equal(before, after) {
		t.Error("a failed write changed the file")
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 1 {
		t.Errorf("a failed write left %v", entries)
	}
	checkError(t, WriteFile(filepath.Join(dir, "no", "model.onnx"), m, WriteOptions{}), galley.Unknown, "cannot be written")
	_, err = ReadFile(filepath.Join(dir, "none.onnx"), ReadOptions{})
	checkError(t, err, galley.NotFound, "there is no such file")
	_, err = ReadFile(dir, ReadOptions{})
	checkError(t, err, galley.InvalidArgument, "is a folder, not a file")
}
