package rpc

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	controlpb "galley/api/control/v1"

	"galley"
	"galley/internal/audit"
	"galley/internal/backup"
)

// addHeadlines makes a change that has an audit entry.
func addHeadlines(t *testing.T, c controlpb.ControlClient) {
	t.Helper()
	_, err := addData(t, c, &controlpb.AddDataHeader{Name: "headlines", Format: "csv"},
		&controlpb.FilePiece{Name: "train", Data: []byte("text,label\na goal,sport\na bank,money\nmore goals,sport\nmore banks,money\n")})
	if err != nil {
		t.Fatal(err)
	}
}

func entriesOf(t *testing.T, c controlpb.AuditClient, r *controlpb.ListAuditEntriesRequest) ([]audit.Entry, error) {
	t.Helper()
	stream, err := c.ListEntries(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	var out []audit.Entry
	for {
		m, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			return out, err
		}
		out = append(out, AuditEntryFrom(m))
	}
}

// The log comes over the wire so that who gets it can verify it.
func TestAuditAPI(t *testing.T) {
	conn := newConn(t)
	c := controlpb.NewAuditClient(conn)
	addHeadlines(t, controlpb.NewControlClient(conn))
	m, err := c.GetHead(t.Context(), &controlpb.GetAuditHeadRequest{})
	if err != nil {
		t.Fatal(err)
	}
	head := AuditHeadFrom(m)
	if err := head.Check(); err != nil {
		t.Error(err)
	}
	log, err := entriesOf(t, c, &controlpb.ListAuditEntriesRequest{})
	if err != nil || len(log) != 1 || log[0].Action != "data.add" {
		t.Fatalf("%+v, %v", log, err)
	}
	v := audit.NewVerifier(head.Head())
	if err := errors.Join(v.Add(log[0]), v.Finish()); err != nil {
		t.Error(err)
	}
	for _, r := range []*controlpb.ListAuditEntriesRequest{
		{After: 1}, {Actor: "nobody"}, {Subject: "nothing"}, {Subject: "\x00'; DROP TABLE audit"}, {After: 1 << 62}, {Until: 1, After: 1},
	} {
		if some, err := entriesOf(t, c, r); err != nil || len(some) != 0 {
			t.Errorf("%v: %+v, %v", r, some, err)
		}
	}
	for _, r := range []*controlpb.ListAuditEntriesRequest{{After: -1}, {Until: -1}, {Last: -1}, {Last: 1001}} {
		if _, err := entriesOf(t, c, r); status.Code(err) != codes.OutOfRange {
			t.Errorf("%v: %v", r, err)
		}
	}
}

// A head that was fetched over HTTP is one to keep as it came.
func TestAuditHeadOverREST(t *testing.T) {
	server := newREST(t)
	for range 2 { // of an empty log, and of one with an entry
		status, text := call(t, server, "GET", "/v1/audit/head", "")
		head, err := audit.ReadHead(strings.NewReader(text))
		if status != 200 || err != nil || strconv.FormatInt(head.Entries, 10) != fields(t, text)["entries"] {
			t.Errorf("%d %s: %v", status, text, err)
		}
		if status, got := form(t, server, "/v1/data", "name", "news", "format", "csv", "@train", news); status != 200 {
			t.Fatal(got)
		}
	}
}

// A backup comes in pieces, with its summary at the end; who goes away in the
// middle leaves nothing behind.
func TestBackupAPI(t *testing.T) {
	conn := newConn(t)
	c := controlpb.NewMaintenanceClient(conn)
	addHeadlines(t, controlpb.NewControlClient(conn))
	for range 3 {
		ctx, cancel := context.WithCancel(t.Context())
		stream, err := c.Backup(ctx, &controlpb.BackupRequest{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := stream.Recv(); err != nil {
			t.Error(err)
		}
		cancel()
	}
	stream, err := c.Backup(t.Context(), &controlpb.BackupRequest{})
	if err != nil {
		t.Fatal(err)
	}
	var archive bytes.Buffer
	var summary *controlpb.BackupSummary
	for {
		m, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if summary != nil || len(m.GetData()) > 1<<20 {
			t.Errorf("%d bytes, after the summary: %v", len(m.GetData()), summary != nil)
		}
		archive.Write(m.GetData())
		summary = m.GetSummary()
	}
	files := 0
	m, err := backup.Read(t.Context(), bytes.NewReader(archive.Bytes()), int64(archive.Len()), func(f backup.File, r io.Reader) error {
		files++
		_, err := io.Copy(io.Discard, r)
		return err
	})
	if err != nil || int64(files) != summary.GetFiles() || m.Entries != summary.GetAuditEntries() || string(m.Head) != summary.GetAuditHead() || files < 3 {
		t.Errorf("%d files, %+v of %+v, %v", files, m, summary, err)
	}
}

// A backup that nobody reads ends, and what it held is free again.
func TestBackupThatIsNotRead(t *testing.T) {
	home := t.TempDir()
	conn := newConnTo(t, home, 500*time.Millisecond)
	var rows strings.Builder // more than goes unread
	rows.WriteString("text,label\n")
	for i := range 4000 {
		fmt.Fprintf(&rows, "%d %s,%d\n", i, strings.Repeat("x", 1000), i%2)
	}
	var sent []*controlpb.FilePiece
	for piece := range slices.Chunk([]byte(rows.String()), 512<<10) {
		sent = append(sent, &controlpb.FilePiece{Name: "train", Data: piece})
	}
	_, err := addData(t, controlpb.NewControlClient(conn), &controlpb.AddDataHeader{Name: "large", Format: "csv"}, sent...)
	if err != nil {
		t.Fatal(err)
	}
	stream, err := controlpb.NewMaintenanceClient(conn).Backup(t.Context(), &controlpb.BackupRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); err != nil {
		t.Fatal(err)
	}
	underWay := func() bool {
		found, err := filepath.Glob(filepath.Join(home, "tmp", "backup-*"))
		return err != nil || len(found) > 0
	}
	for began := time.Now(); underWay(); time.Sleep(5 * time.Millisecond) {
		if time.Since(began) > 10*time.Second {
			t.Fatal("it goes on")
		}
	}
	for err == nil {
		_, err = stream.Recv()
	}
	if e := FromStatus(err); e.Code != galley.DeadlineExceeded || e.Subject != "backup" || e.Message != "the client has read nothing for 500ms" || e.Remedy == "" {
		t.Errorf("%v", err)
	}
}
