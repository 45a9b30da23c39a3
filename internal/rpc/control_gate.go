package rpc

import (
	"bytes"
	"context"

	controlpb "galley/api/control/v1"

	"galley"
	"galley/evals"
	"galley/internal/control"
)

// GetGate returns the gate of an alias.
func (s *Control) GetGate(ctx context.Context, r *controlpb.GateRequest) (*controlpb.Gate, error) {
	return gateAnswer(s.control.GateOf(ctx, r.GetName(), r.GetAlias()))
}

// SetGate sets the gate of an alias.
func (s *Control) SetGate(ctx context.Context, r *controlpb.SetGateRequest) (*controlpb.Gate, error) {
	var gate *evals.Gate
	if r.GetGate() != nil {
		data, err := r.GetGate().MarshalJSON()
		if err != nil {
			return nil, statusOf(galley.Errorf(galley.InvalidArgument, "gate", "cannot be understood: %w", err))
		}
		g, err := evals.DecodeGate(bytes.NewReader(data))
		if err != nil {
			return nil, statusOf(err)
		}
		gate = &g
	}
	return gateAnswer(s.control.SetGate(ctx, actorOf(ctx), r.GetName(), r.GetAlias(), gate))
}

func gateAnswer(g control.Gating, err error) (*controlpb.Gate, error) {
	if err != nil {
		return nil, statusOf(err)
	}
	out := &controlpb.Gate{Name: g.Model, Alias: g.Alias, Set: g.Own}
	if g.Gate != nil {
		out.Gate, err = structOf(g.Gate)
	}
	return out, statusOf(err)
}
