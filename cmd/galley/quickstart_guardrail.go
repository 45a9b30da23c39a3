package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	controlpb "galley/api/control/v1"

	"galley"
	"galley/onnx"
	"galley/task"
)

// What the experiment with the damaged version is. Its window is so long that
// a slow machine has enough requests in it.
const (
	damaged         = "damaged"
	damagedWindow   = time.Minute
	damagedRequests = 20
	damagedPatience = 30 * time.Second // until the end is stored
)

// guardrail tries a version whose weights are damaged on readers, and holds
// that all of them are back with the one in production by themselves, and that
// the audit log says why.
func (s *story) guardrail(ctx context.Context) (string, error) {
	before, err := signedHead(ctx, s.client)
	if err != nil {
		return "", err
	}
	broken, err := s.importDamaged(ctx)
	if err != nil {
		return "", err
	}
	if _, err := s.client.experiments.StartExperiment(ctx, &controlpb.StartExperimentRequest{
		Experiment: damaged, Control: "headlines:prod", Treatment: broken, Split: "50/50", Metric: "accuracy",
		Window: durationpb.New(damagedWindow), MinimumRequests: damagedRequests,
	}); err != nil {
		return "", err
	}
	failed, err := s.readUntilRolledBack(ctx, broken)
	if err != nil {
		return "", err
	}
	if _, err := s.askAll(ctx, s.model); err != nil {
		return "", err
	}
	entry, err := s.entryAfter(ctx, before.Entries, damaged, func(e *controlpb.AuditEntry) bool {
		return e.GetAction() == "experiment.rollback" && strings.Contains(e.GetDetail(), broken)
	})
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%s, a damaged form of %s, failed %d readers; then all %d headlines were answered by %s again; entry %d of the audit log: %s",
		broken, s.model, failed, min(asked, len(s.questions)), s.model, entry.GetNumber(), entry.GetDetail()), nil
}

// readUntilRolledBack has readers ask until the experiment has ended by
// itself, and returns how many of them got no answer.
func (s *story) readUntilRolledBack(ctx context.Context, broken string) (failed int, err error) {
	state := func() (*controlpb.Experiment, error) {
		return s.client.experiments.GetExperiment(ctx, &controlpb.ExperimentRequest{Experiment: damaged})
	}
	e, err := state()
	for i := 0; err == nil && e.GetState() == "running" && i < len(s.questions); i++ {
		p, asking := predictFor(ctx, s.client, galley.Ref{Name: "headlines"}, []string{s.questions[i].text}, reader(i))
		switch {
		case asking != nil && galley.CodeOf(s.explain(asking)) == galley.Internal:
			failed++
		case asking != nil:
			return failed, asking
		case p.Model != s.model:
			return failed, wrong("%s answered, whose weights are not all numbers", p.Model)
		}
		if (i+1)%lookEvery == 0 {
			e, err = state()
		}
	}
	for deadline := time.Now().Add(damagedPatience); err == nil && e.GetState() == "running" && time.Now().Before(deadline); {
		select {
		case <-ctx.Done():
			return failed, ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
		e, err = state()
	}
	if err != nil {
		return failed, err
	}
	if e.GetState() != "rolled-back" || e.GetTraffic() != s.model || e.GetBreach().GetGuardrail() != "error_rate=0.1" {
		return failed, wrong("%d readers got no answer of %s, and the experiment is %s (%v), traffic goes to %s", failed, broken, e.GetState(), e.GetBreach(), e.GetTraffic())
	}
	if failed < damagedRequests {
		return failed, wrong("the experiment ended after %d failures, before its %d requests", failed, damagedRequests)
	}
	return failed, nil
}

// importDamaged takes the version in production out, makes its last weights
// NaN, as a training that diverged does, and brings it back as a version of its
// own.
func (s *story) importDamaged(ctx context.Context) (ref string, err error) {
	dir, err := os.MkdirTemp("", "galley-damaged-*")
	if err != nil {
		return "", fileError(os.TempDir(), err)
	}
	defer os.RemoveAll(dir)
	if _, err := export(ctx, s.client.control, s.model, dir); err != nil {
		return "", err
	}
	model, err := s.client.control.GetVersion(ctx, &controlpb.VersionRequest{Ref: s.model})
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, task.ModelFile)
	m, err := onnx.ReadFile(path, onnx.ReadOptions{})
	if err != nil {
		return "", err
	}
	if !damage(m, len(model.GetLabels())) {
		return "", wrong("the graph of %s has no bias of its labels", s.model)
	}
	if err := onnx.WriteFile(path, m, onnx.WriteOptions{}); err != nil {
		return "", err
	}
	digest, err := uploadModel(ctx, s.client.control, modelFiles{graph: path})
	if err != nil {
		return "", err
	}
	v, err := s.client.control.ImportModel(ctx, &controlpb.ImportModelRequest{Name: "headlines", Digest: digest, Task: string(task.TextClassification)})
	return v.GetRef(), err
}

// damage makes the biases of a classifier's labels NaN.
func damage(m *onnx.Model, labels int) (found bool) {
	for i, t := range m.Graph.Initializers {
		if t.Type == onnx.Float && slices.Equal(t.Dims, []int64{int64(labels)}) {
			m.Graph.Initializers[i] = onnx.NewFloat(t.Name, slices.Repeat([]float32{float32(math.NaN())}, labels), t.Dims...)
			found = true
		}
	}
	return found
}

// entryAfter looks for an entry of the audit log.
func (s *story) entryAfter(ctx context.Context, after int64, subject string, is func(*controlpb.AuditEntry) bool) (*controlpb.AuditEntry, error) {
	stream, err := s.client.audit.ListEntries(ctx, &controlpb.ListAuditEntriesRequest{After: after, Subject: subject})
	if err != nil {
		return nil, err
	}
	for {
		e, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil, wrong("the audit log has no such entry of %s", subject)
		}
		if err != nil {
			return nil, err
		}
		if is(e) {
			return e, nil
		}
	}
}
