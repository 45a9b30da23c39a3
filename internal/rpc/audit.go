package rpc

import (
	"context"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/timestamppb"

	controlpb "galley/api/control/v1"

	"galley"
	"galley/internal/audit"
	"galley/internal/control"
)

// Audit answers the API of the audit log.
type Audit struct {
	controlpb.UnimplementedAuditServer
	control *control.Control
}

var _ controlpb.AuditServer = (*Audit)(nil)

// NewAudit makes the API's handlers over c.
func NewAudit(c *control.Control) *Audit { return &Audit{control: c} }

// GetHead signs what the log has come to.
func (s *Audit) GetHead(ctx context.Context, _ *controlpb.GetAuditHeadRequest) (*controlpb.AuditHead, error) {
	h, err := s.control.AuditHead(ctx)
	if err != nil {
		return nil, statusOf(err)
	}
	return &controlpb.AuditHead{
		Format: h.Format, Entries: h.Entries, Digest: string(h.Digest), Time: timestamppb.New(h.Time), Key: h.Key, Signature: h.Signature,
	}, nil
}

// ListEntries sends entries of the log in their order.
func (s *Audit) ListEntries(r *controlpb.ListAuditEntriesRequest, stream grpc.ServerStreamingServer[controlpb.AuditEntry]) error {
	selection := control.AuditSelection{
		After: r.GetAfter(), Until: r.GetUntil(), Actor: r.GetActor(), Subject: r.GetSubject(), Last: int(r.GetLast()),
	}
	return statusOf(s.control.AuditEntries(stream.Context(), selection, func(e audit.Entry) error {
		return stream.Send(&controlpb.AuditEntry{
			Number: e.Number, At: timestamppb.New(e.At), Actor: utf8Text(string(e.Actor)), Action: utf8Text(e.Action), Subject: utf8Text(e.Subject),
			Detail: utf8Text(e.Detail), Address: utf8Text(e.Address), Token: utf8Text(e.Token), Digest: utf8Text(string(e.Digest)),
		})
	}))
}

// AuditHeadFrom is the head of a message.
func AuditHeadFrom(m *controlpb.AuditHead) audit.SignedHead {
	return audit.SignedHead{
		Format: m.GetFormat(), Entries: m.GetEntries(), Digest: galley.Digest(m.GetDigest()), Time: m.GetTime().AsTime(), Key: m.GetKey(), Signature: m.GetSignature(),
	}
}

// AuditEntryFrom is the entry of a message.
func AuditEntryFrom(m *controlpb.AuditEntry) audit.Entry {
	return audit.Entry{
		Number: m.GetNumber(), At: m.GetAt().AsTime(), Actor: galley.Actor(m.GetActor()), Action: m.GetAction(), Subject: m.GetSubject(),
		Detail: m.GetDetail(), Address: m.GetAddress(), Token: m.GetToken(), Digest: galley.Digest(m.GetDigest()),
	}
}
