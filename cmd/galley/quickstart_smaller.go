package main

import (
	"context"
	"fmt"
	"slices"

	controlpb "galley/api/control/v1"

	"galley"
	"galley/evals"
	"galley/task"
)

// How small the student and its form of 8 bits have to be, as shares of the
// graph that each was made of.
const (
	mostOfTeacher = 1.0 / 3
	mostOfFloat   = 1.0 / 2
)

// distill makes a small student of the version in production.
func (s *story) distill(ctx context.Context) (string, error) {
	job, err := s.submit(ctx, "headlines-distill.yaml", "teachers=["+s.model+"]")
	if err != nil {
		return "", err
	}
	job, v, err := s.finish(ctx, job)
	if err != nil {
		return "", err
	}
	s.student = v.GetRef()
	teacher, err := s.client.control.GetVersion(ctx, &controlpb.VersionRequest{Ref: s.model})
	if err != nil {
		return "", err
	}
	from, ok := first(v.GetLineage().AsMap()["distilled_from"])
	if !ok || from["digest"] != teacher.GetDigest() {
		return "", wrong("the lineage of %s does not say that %s taught it: %v", s.student, s.model, from)
	}
	share, err := shareOfGraph(v, teacher, mostOfTeacher)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%s learnt from the labels and from %s: accuracy %.3f on the validation split, %.0f %% of its teacher's size",
		s.student, s.model, job.GetMetrics()["accuracy"], 100*share), nil
}

// quantize makes the student's form of 8 bits.
func (s *story) quantize(ctx context.Context) (string, error) {
	job, err := s.submit(ctx, "headlines-int8.yaml", "from="+s.student)
	if err != nil {
		return "", err
	}
	job, v, err := s.finish(ctx, job)
	if err != nil {
		return "", err
	}
	s.small = v.GetRef()
	student, err := s.client.control.GetVersion(ctx, &controlpb.VersionRequest{Ref: s.student})
	if err != nil {
		return "", err
	}
	if from := v.GetLineage().AsMap()["parent_digest"]; from != student.GetDigest() {
		return "", wrong("%s was made of %v, not of %s", s.small, from, s.student)
	}
	share, err := shareOfGraph(v, student, mostOfFloat)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%s is %s in 8 bits: %.0f %% of its size; accuracy drops by %.1f points on the validation split",
		s.small, s.student, 100*share, job.GetMetrics()["accuracy_drop"]), nil
}

// shareOfGraph is the size of a version's graph as a share of another's; it
// fails if it is more than the share given.
func shareOfGraph(v, of *controlpb.Version, most float64) (float64, error) {
	size := func(v *controlpb.Version) float64 {
		i := slices.IndexFunc(v.GetFiles(), func(f *controlpb.File) bool { return f.GetPath() == task.ModelFile })
		if i < 0 {
			return 0
		}
		return float64(v.GetFiles()[i].GetSize())
	}
	if size(v) == 0 || size(of) == 0 {
		return 0, wrong("%s or %s has no graph", v.GetRef(), of.GetRef())
	}
	share := size(v) / size(of)
	if share > most {
		return 0, wrong("the graph of %s has %.0f %% of the size of that of %s, not at most %.0f %%", v.GetRef(), 100*share, of.GetRef(), 100*most)
	}
	return share, nil
}

// mostLost is the accuracy that the small form may lose: beyond it, it did not
// learn what its teacher knows.
const mostLost = 0.1

// compare puts the test split to the small form and to the version in
// production, and holds the figures against each other.
func (s *story) compare(ctx context.Context) (string, error) {
	kept, err := evaluate(ctx, s.client.control, &controlpb.EvaluateHeader{Ref: s.small, Dataset: "headlines@1", Split: "test", Against: s.model}, "")
	if err != nil {
		return "", err
	}
	r, err := decodeReport(kept)
	if err != nil {
		return "", err
	}
	production, err := s.client.control.GetVersion(ctx, &controlpb.VersionRequest{Ref: s.model})
	if err != nil {
		return "", err
	}
	beside, ok := r.Beside(galley.Digest(production.GetDigest()))
	if !ok || r.N != len(s.questions) {
		return "", wrong("the report is of %d rows, and %s beside it: %t", r.N, s.model, ok)
	}
	difference := r.Metrics[evals.Accuracy].Value - beside.Metrics[evals.Accuracy].Value
	if alone := float64(beside.Pairing.OnlyA-beside.Pairing.OnlyB) / float64(r.N); max(difference-alone, alone-difference) > 1e-9 {
		return "", wrong("the accuracies differ by %v, and by the rows that one version alone has right by %v", difference, alone)
	}
	if difference < -mostLost {
		return "", wrong("%s is right on %.1f %% of the test split, %s on %.1f %%", s.small, 100*r.Metrics[evals.Accuracy].Value, s.model, 100*beside.Metrics[evals.Accuracy].Value)
	}
	return fmt.Sprintf("%s is right on %.1f %% of the test split, %s on %.1f %%: a difference of %+.1f points (95 %%: %+.1f to %+.1f; McNemar p %.2g); %.0f %% of the answers agree; its median latency is %.2fx",
		s.small, 100*r.Metrics[evals.Accuracy].Value, s.model, 100*beside.Metrics[evals.Accuracy].Value,
		100*beside.Difference.Value, 100*beside.Difference.Low, 100*beside.Difference.High, beside.P,
		100*beside.Agreement.Value, beside.Ratios[evals.LatencyMedian].Value), nil
}
