package rpc

import (
	"slices"
	"sync"
	"time"

	"galley/experiment"
	"galley/onnx/session"
	"galley/serving"
)

// unkept signs the ids of servers that take no feedback.
var unkept = sync.OnceValue(func() *experiment.Signer { return experiment.NewSigner(experiment.NewKey()) })

// predictionID names an answer, for feedback on it. The id says which arm of
// which experiment gave it, so that nothing need be stored.
func (s *Inference) predictionID(lease *serving.Lease, outputs map[string]*session.Tensor) string {
	signer := s.Signer
	if signer == nil {
		signer = unkept()
	}
	p := experiment.Prediction{
		Version: uint32(lease.Version.Number), Model: experiment.HashModel(lease.Version.Name), At: time.Now(),
		Place: lease.Assignment.Place, Label: labelOf(lease, outputs), Nonce: experiment.Nonce(),
	}
	if r := lease.Assignment.Route; lease.Assignment.Split() {
		p.Experiment, p.Stage, p.Arm = r.Experiment, r.Number, lease.Assignment.Arm
	}
	return signer.Sign(p)
}

// labelOf is the index of the label that the answer to one text has, from 1; 0
// for other answers.
func labelOf(lease *serving.Lease, outputs map[string]*session.Tensor) uint16 {
	t := outputs["label"]
	if t == nil || len(t.Strings()) != 1 {
		return 0
	}
	const most = 1<<16 - 2
	if i := slices.Index(lease.Version.Labels, t.Strings()[0]); i <= most {
		return uint16(i + 1)
	}
	return 0
}
