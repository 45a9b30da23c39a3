package rpc

import (
	"bufio"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/timestamppb"

	controlpb "galley/api/control/v1"

	"galley/internal/control"
)

// Maintenance answers the API that keeps a home alive.
type Maintenance struct {
	controlpb.UnimplementedMaintenanceServer
	control *control.Control
	unread  time.Duration // of a piece, until the backup is given up
}

var _ controlpb.MaintenanceServer = (*Maintenance)(nil)

// NewMaintenance makes the API's handlers over c.
func NewMaintenance(c *control.Control) *Maintenance {
	return &Maintenance{control: c, unread: stallTime}
}

// backupPiece is how much of an archive one message carries.
const backupPiece = 256 << 10

// Backup sends an archive of the home. Until it is sent no blob is removed, so
// who does not read it gets no more.
func (s *Maintenance) Backup(_ *controlpb.BackupRequest, stream grpc.ServerStreamingServer[controlpb.BackupPiece]) error {
	ctx := stream.Context()
	out := bufio.NewWriterSize(pieces{stream, s.unread}, backupPiece)
	summary, err := s.control.Backup(ctx, actorOf(ctx), out)
	if err == nil {
		err = out.Flush()
	}
	if err != nil {
		return statusOf(err)
	}
	m := &controlpb.BackupSummary{
		Files: int64(summary.Files), Bytes: summary.Bytes, AuditEntries: summary.Audit.Entries, AuditHead: string(summary.Audit.Digest),
		Created: timestamppb.New(summary.Created),
	}
	for _, d := range summary.Damaged {
		m.Damaged = append(m.Damaged, string(d))
	}
	return statusOf(pieces{stream, s.unread}.send(&controlpb.BackupPiece{Part: &controlpb.BackupPiece_Summary{Summary: m}}))
}

// pieces writes to a stream. A slow reader slows it down, one that reads
// nothing ends it.
type pieces struct {
	stream grpc.ServerStreamingServer[controlpb.BackupPiece]
	unread time.Duration
}

func (p pieces) send(m *controlpb.BackupPiece) error {
	return sendWithin(p.unread, "backup", func() error { return p.stream.Send(m) })
}

func (p pieces) Write(data []byte) (int, error) {
	sent := 0
	for len(data) > 0 {
		n := min(len(data), backupPiece)
		if err := p.send(&controlpb.BackupPiece{Part: &controlpb.BackupPiece_Data{Data: data[:n]}}); err != nil {
			return sent, err
		}
		sent, data = sent+n, data[n:]
	}
	return sent, nil
}
