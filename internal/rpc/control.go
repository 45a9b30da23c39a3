package rpc

import (
	"context"
	"encoding/json"
	"errors"
	"io"

	"google.golang.org/protobuf/types/known/structpb"

	controlpb "galley/api/control/v1"

	"galley"
	"galley/internal/auth"
	"galley/internal/control"
)

// Control answers the control API.
type Control struct {
	controlpb.UnimplementedControlServer
	control *control.Control
}

var _ controlpb.ControlServer = (*Control)(nil)

// NewControl makes the API's handlers over c.
func NewControl(c *control.Control) *Control { return &Control{control: c} }

// actorOf is who asks, as the entrance found out.
func actorOf(ctx context.Context) galley.Actor {
	caller, _ := auth.CallerOf(ctx)
	return caller.Actor
}

// maxPiece bounds one piece of a file.
const maxPiece = 1 << 20

// receive spools the pieces that next gives until io.EOF. next returns nil
// for a message that is no piece.
func (s *Control) receive(files *control.Spool, next func() (*controlpb.FilePiece, error)) error {
	for {
		piece, err := next()
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		case piece == nil:
			return galley.Errorf(galley.InvalidArgument, "upload", "a message has no piece of a file").
				WithRemedy("send the header once, first, and then pieces")
		case len(piece.GetData()) > maxPiece:
			return galley.Errorf(galley.InvalidArgument, "upload", "a piece has %d bytes", len(piece.GetData())).
				WithRemedy("send at most %d", maxPiece)
		}
		if err := files.Write(piece.GetName(), piece.GetPath(), piece.GetData()); err != nil {
			return err
		}
	}
}

// structOf writes a value as its JSON. Large whole numbers lose digits, as
// they do in JavaScript.
func structOf(v any) (*structpb.Struct, error) {
	data, err := json.Marshal(v)
	if err != nil {
		return nil, galley.Errorf(galley.Internal, "answer", "cannot be written: %w", err)
	}
	s := new(structpb.Struct)
	if err := s.UnmarshalJSON(data); err != nil {
		return nil, galley.Errorf(galley.Internal, "answer", "cannot be written: %w", err)
	}
	return s, nil
}
