package backup

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"galley"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func blobPath(content string) string { return BlobPath(galley.DigestBytes([]byte(content))) }

// archived is a whole archive.
func archived(t testing.TB) []byte {
	t.Helper()
	var out bytes.Buffer
	w := NewWriter(&out)
	for _, f := range []struct{ path, content string }{
		{Database, "rows"}, {AuditKey, "key"}, {Tenants, "tenants"}, {blobPath("a blob"), "a blob"}, {blobPath(""), ""},
	} {
		if err := w.Add(f.path, int64(len(f.content)), strings.NewReader(f.content)); err != nil {
			t.Fatal(err)
		}
	}
	if n, size := w.Files(); n != 5 || size != 20 {
		t.Errorf("%d files with %d bytes", n, size)
	}
	if err := w.Close(Manifest{Galley: "test", Created: noon, Entries: 3, Head: galley.DigestBytes(nil)}); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// read reads an archive and returns what it gave.
func read(data []byte) (Manifest, map[string]string, error) {
	got := map[string]string{}
	m, err := Read(context.Background(), bytes.NewReader(data), int64(len(data)), func(f File, r io.Reader) error {
		content, err := io.ReadAll(r)
		got[f.Path] = string(content)
		return err
	})
	return m, got, err
}

func TestRoundTrip(t *testing.T) {
	m, got, err := read(archived(t))
	if err != nil || m.Entries != 3 || !m.Created.Equal(noon) || len(m.Files) != 5 || len(got) != 5 || got[Tenants] != "tenants" || got[Database] != "rows" || got[blobPath("a blob")] != "a blob" {
		t.Errorf("%+v, %v, %v", m, got, err)
	}
}

func TestWriterRefuses(t *testing.T) {
	w := NewWriter(io.Discard)
	for path, content := range map[string]string{"../x": "x", manifestName: "{}", AuditKey: strings.Repeat("x", maxSmall+1)} {
		if err := w.Add(path, int64(len(content)), strings.NewReader(content)); galley.CodeOf(err) != galley.Internal {
			t.Errorf("%s: %v", path, err)
		}
	}
	if err := w.Add(blobPath("a blob"), 6, strings.NewReader("a blub")); galley.CodeOf(err) != galley.DataLoss {
		t.Errorf("a blob with other bytes: %v", err)
	}
	if err := w.Add(Database, 9, strings.NewReader("short")); galley.CodeOf(err) != galley.DataLoss {
		t.Errorf("a file that shrinks: %v", err)
	}
}

// An entry of a hostile archive.
type hostile struct {
	tar.Header
	content string
}

func file(name, content string) hostile { return hostile{tar.Header{Name: name}, content} }

func pack(t testing.TB, entries ...hostile) []byte {
	t.Helper()
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, e := range entries {
		e.Mode, e.Size = 0o600, int64(len(e.content))
		if err := w.WriteHeader(&e.Header); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, e.content); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// manifest is one of files that are as they should be.
func manifest(files ...hostile) hostile {
	m := Manifest{Format: format, Created: noon, Head: galley.DigestBytes(nil)}
	for _, f := range files {
		m.Files = append(m.Files, File{f.Name, int64(len(f.content)), galley.DigestBytes([]byte(f.content))})
	}
	data, _ := json.Marshal(m) // it holds strings and numbers
	return file(manifestName, string(data))
}

func TestHostileArchives(t *testing.T) {
	db := file(Database, "rows")
	good := pack(t, db, manifest(db))
	if _, _, err := read(good); err != nil {
		t.Fatal(err)
	}
	link := func(kind byte, name, to string) hostile {
		return hostile{tar.Header{Name: name, Typeflag: kind, Linkname: to}, ""}
	}
	zeros := strings.Repeat("\x00", 4096)
	huge := good[:512:512] // a header that promises more than there is
	big := bytes.Clone(huge)
	copy(big[124:136], "77777777777\x00")
	sum := 0
	copy(big[148:156], "        ")
	for _, b := range big {
		sum += int(b)
	}
	copy(big[148:156], []byte{'0' + byte(sum>>15&7), '0' + byte(sum>>12&7), '0' + byte(sum>>9&7), '0' + byte(sum>>6&7), '0' + byte(sum>>3&7), '0' + byte(sum&7), 0, ' '})
	for name, tt := range map[string]struct {
		data []byte
		code galley.Code
		says string
	}{
		"empty":               {nil, galley.InvalidArgument, "is empty"},
		"zeros":               {[]byte(zeros), galley.InvalidArgument, "is empty"},
		"text":                {[]byte(strings.Repeat("not an archive ", 100)), galley.InvalidArgument, "is no backup"},
		"path up":             {pack(t, file("../galley.db", "x")), galley.InvalidArgument, "does not belong"},
		"path up in blobs":    {pack(t, file("blobs/../../x", "x")), galley.InvalidArgument, "does not belong"},
		"absolute path":       {pack(t, file("/etc/passwd", "x")), galley.InvalidArgument, "does not belong"},
		"other file":          {pack(t, file("tls.key", "x")), galley.InvalidArgument, "does not belong"},
		"blob in upper case":  {pack(t, file("blobs/"+strings.Repeat("A", 64), "x")), galley.InvalidArgument, "does not belong"},
		"large tenants":       {pack(t, file(Tenants, strings.Repeat("x", maxSmall+1))), galley.InvalidArgument, "does not belong"},
		"large key":           {pack(t, file(AuditKey, strings.Repeat("x", maxSmall+1))), galley.InvalidArgument, "does not belong"},
		"symbolic link":       {pack(t, link(tar.TypeSymlink, Database, "/etc/passwd")), galley.InvalidArgument, "is not a file"},
		"hard link":           {pack(t, link(tar.TypeLink, Database, "/etc/passwd")), galley.InvalidArgument, "is not a file"},
		"device":              {pack(t, link(tar.TypeChar, Database, "")), galley.InvalidArgument, "is not a file"},
		"folder":              {pack(t, link(tar.TypeDir, "blobs/", "")), galley.InvalidArgument, "is not a file"},
		"larger than itself":  {big, galley.InvalidArgument, "more bytes than the archive"},
		"twice":               {pack(t, db, db, manifest(db)), galley.InvalidArgument, "occurs twice"},
		"cut off":             {good[:1024], galley.DataLoss, "ends before its manifest"},
		"cut off in a file":   {good[:514], galley.DataLoss, "is damaged"},
		"without manifest":    {pack(t, db), galley.DataLoss, "ends before its manifest"},
		"without database":    {pack(t, manifest()), galley.DataLoss, "no database"},
		"other bytes":         {pack(t, file(Database, "rowz"), manifest(db)), galley.DataLoss, "other bytes than the manifest"},
		"other blob":          {pack(t, file(blobPath("a"), "b")), galley.DataLoss, "other bytes than its name"},
		"missing file":        {pack(t, db, manifest(db, file(blobPath("a"), "a"))), galley.DataLoss, "is missing"},
		"unlisted file":       {pack(t, db, file(AuditKey, "key"), manifest(db)), galley.DataLoss, "not in its manifest"},
		"listed twice":        {pack(t, db, manifest(db, db)), galley.DataLoss, "twice"},
		"more after":          {pack(t, db, manifest(db), file(AuditKey, "key")), galley.InvalidArgument, "follows the manifest"},
		"manifest of nothing": {pack(t, db, file(manifestName, "")), galley.DataLoss, "manifest cannot be read"},
		"another format":      {pack(t, db, file(manifestName, `{"format":"galley-backup/2"}`)), galley.InvalidArgument, "galley-backup/2"},
		"no head":             {pack(t, db, file(manifestName, `{"format":"galley-backup/1"}`)), galley.DataLoss, "no head"},
	} {
		_, _, err := read(tt.data)
		if galley.CodeOf(err) != tt.code || !strings.Contains(err.Error(), tt.says) || galley.AsError(err).Remedy == "" {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The error of who takes the files, and of the context, comes back as it is.
func TestReadStops(t *testing.T) {
	data := archived(t)
	full := errors.New("the disk is full")
	_, err := Read(t.Context(), bytes.NewReader(data), int64(len(data)), func(File, io.Reader) error { return full })
	if !errors.Is(err, full) {
		t.Error(err)
	}
	_, err = Read(t.Context(), bytes.NewReader(data), int64(len(data)), func(File, io.Reader) error { return nil })
	if galley.CodeOf(err) != galley.DataLoss { // it was not read to its end
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Read(ctx, bytes.NewReader(data), int64(len(data)), nil); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// Every byte of an archive counts: changing one is refused, or changes
// nothing that is restored.
func TestEveryByteCounts(t *testing.T) {
	data := archived(t)
	_, want, err := read(data)
	if err != nil {
		t.Fatal(err)
	}
	for i := range data {
		bad := bytes.Clone(data)
		bad[i] ^= 0x15
		_, got, err := read(bad)
		if err != nil {
			continue
		}
		if len(got) != len(want) {
			t.Fatalf("byte %d: %v", i, got)
		}
		for path, content := range want {
			if got[path] != content {
				t.Fatalf("byte %d: %s is %q", i, path, got[path])
			}
		}
	}
}

// What is read from any bytes is what its manifest says, under names that are
// allowed.
func FuzzRead(f *testing.F) {
	f.Add(archived(f))
	db := file(Database, "rows")
	f.Add(pack(f, db, manifest(db)))
	f.Add(pack(f, file("../x", "x")))
	f.Add([]byte("ustar"))
	f.Fuzz(func(t *testing.T, data []byte) {
		m, got, err := read(data)
		for path := range got {
			if path != Database && path != AuditKey && path != Tenants && path != ServerCertificate && path != ServerKey && Blob(path) == "" {
				t.Fatalf("%q was given", path)
			}
		}
		if err != nil {
			if code := galley.CodeOf(err); code != galley.InvalidArgument && code != galley.DataLoss {
				t.Fatal(err)
			}
			return
		}
		if len(m.Files) != len(got) {
			t.Fatalf("%d files of %d", len(got), len(m.Files))
		}
		for _, file := range m.Files {
			if content := got[file.Path]; galley.DigestBytes([]byte(content)) != file.Digest || int64(len(content)) != file.Size {
				t.Fatalf("%q", file.Path)
			}
		}
	})
}
