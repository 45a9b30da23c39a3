package rpc

import (
	"context"
	"errors"
	"io"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	controlpb "galley/api/control/v1"

	"galley"
	"galley/dataset"
	"galley/evals"
	"galley/internal/control"
	"galley/registry"
)

// Bounds of what is sent.
const (
	maxReports = 50        // of a version, the newest
	chunkSize  = 256 << 10 // bytes of a file
)

// UploadModel stores an outside graph and names it by digest.
func (s *Control) UploadModel(stream grpc.ClientStreamingServer[controlpb.UploadModelRequest, controlpb.UploadModelResponse]) error {
	digest, err := s.uploadModel(stream)
	if err != nil {
		return statusOf(err)
	}
	return stream.SendAndClose(&controlpb.UploadModelResponse{Digest: string(digest)})
}

func (s *Control) uploadModel(stream grpc.ClientStreamingServer[controlpb.UploadModelRequest, controlpb.UploadModelResponse]) (galley.Digest, error) {
	files, err := s.control.NewSpool()
	if err != nil {
		return "", err
	}
	defer files.Close()
	err = s.receive(files, func() (*controlpb.FilePiece, error) {
		m, err := stream.Recv()
		return m.GetPiece(), err
	})
	if err != nil {
		return "", err
	}
	return s.control.Upload(stream.Context(), files)
}

// ImportModel registers an uploaded graph.
func (s *Control) ImportModel(ctx context.Context, r *controlpb.ImportModelRequest) (*controlpb.Version, error) {
	digest, err := galley.ParseDigest(r.GetDigest())
	if err != nil {
		return nil, statusOf(err)
	}
	imported, err := s.control.Import(ctx, actorOf(ctx), r.GetName(), digest, r.GetTask())
	if err != nil {
		return nil, statusOf(err)
	}
	out, err := s.version(ctx, galley.Ref{Name: imported.Version.Name, Version: imported.Version.Number})
	if err != nil {
		return nil, statusOf(err)
	}
	out.Untrainable = imported.Untrainable
	return out, nil
}

// ListModels lists models with their versions, in short.
func (s *Control) ListModels(ctx context.Context, _ *controlpb.ListModelsRequest) (*controlpb.ListModelsResponse, error) {
	models, err := s.control.Models(ctx)
	if err != nil {
		return nil, statusOf(err)
	}
	out := &controlpb.ListModelsResponse{}
	for _, m := range models {
		model := &controlpb.Model{Name: m.Name}
		for _, v := range m.Versions {
			model.Versions = append(model.Versions, &controlpb.Version{
				Ref: galley.Ref{Name: m.Name, Version: v.Number}.String(), Digest: string(v.Digest), Task: v.Task,
				Aliases: m.AliasesOf(v.Number), Created: timestamppb.New(v.Created),
			})
		}
		out.Models = append(out.Models, model)
	}
	return out, nil
}

// GetVersion describes a version.
func (s *Control) GetVersion(ctx context.Context, r *controlpb.VersionRequest) (*controlpb.Version, error) {
	ref, err := galley.ParseRef(r.GetRef())
	if err != nil {
		return nil, statusOf(err)
	}
	v, err := s.version(ctx, ref)
	return v, statusOf(err)
}

func (s *Control) version(ctx context.Context, ref galley.Ref) (*controlpb.Version, error) {
	v, aliases, err := s.control.Version(ctx, ref)
	if err != nil {
		return nil, err
	}
	out := &controlpb.Version{
		Ref: v.Ref(), Digest: string(v.Digest), Task: v.Task, Aliases: aliases, Labels: v.Labels, Metrics: v.Metrics,
		Created: timestamppb.New(v.Created),
	}
	if out.Lineage, err = structOf(v.Lineage); err != nil {
		return nil, err
	}
	for _, a := range v.Artifacts {
		out.Files = append(out.Files, &controlpb.File{Path: a.Path, Digest: string(a.Digest), Size: a.Size})
	}
	for _, r := range v.Reports[max(0, len(v.Reports)-maxReports):] {
		report, err := s.control.Report(ctx, r.Digest)
		if err != nil {
			return nil, err
		}
		answer, err := reportOf(report, r.Digest)
		if err != nil {
			return nil, err
		}
		out.Reports = append(out.Reports, answer)
	}
	return out, nil
}

func reportOf(r *evals.Report, digest galley.Digest) (*controlpb.Report, error) {
	fields, err := structOf(r)
	if err != nil {
		return nil, err
	}
	return &controlpb.Report{Digest: string(digest), Report: fields}, nil
}

// Lineage walks from a version to its data, specs and parents.
func (s *Control) Lineage(ctx context.Context, r *controlpb.VersionRequest) (*controlpb.LineageResponse, error) {
	ref, err := galley.ParseRef(r.GetRef())
	if err != nil {
		return nil, statusOf(err)
	}
	node, err := s.control.Lineage(ctx, ref)
	if err != nil {
		return nil, statusOf(err)
	}
	tree, err := structOf(node)
	return &controlpb.LineageResponse{Lineage: tree}, statusOf(err)
}

// Promote points an alias at a version.
func (s *Control) Promote(ctx context.Context, r *controlpb.PromoteRequest) (*controlpb.AliasChange, error) {
	ref, err := galley.ParseRef(r.GetRef())
	if err != nil {
		return nil, statusOf(err)
	}
	promoted, err := s.control.Promote(ctx, actorOf(ctx), control.Promotion{
		Ref: ref, Alias: r.GetAlias(), Expect: r.Expect, Force: r.GetForce(), Reason: r.GetReason(),
		Dataset: r.GetDataset(), Split: dataset.Split(r.GetSplit()),
	})
	if err != nil {
		return nil, refusalOf(err)
	}
	out := changeOf(promoted.Change)
	out.Gate, err = structOf(promoted.Gate)
	return out, statusOf(err)
}

// refusalOf turns the error of a promotion into a status; that of a gate
// lists the failed checks as violations of google.rpc.PreconditionFailure.
func refusalOf(err error) error {
	plain := statusOf(err)
	var refusal *control.Refusal
	if !errors.As(err, &refusal) {
		return plain
	}
	failure := &errdetails.PreconditionFailure{}
	for _, check := range refusal.Gate.Checks {
		if !check.Passed && len(failure.Violations) < maxViolations {
			failure.Violations = append(failure.Violations, &errdetails.PreconditionFailure_Violation{
				Type: "gate", Subject: text(check.Name), Description: text(check.Detail),
			})
		}
	}
	if detailed, err := status.Convert(plain).WithDetails(failure); err == nil {
		return detailed.Err()
	}
	return plain
}

// Rollback returns an alias to the version before.
func (s *Control) Rollback(ctx context.Context, r *controlpb.RollbackRequest) (*controlpb.AliasChange, error) {
	return changeAnswer(s.control.Rollback(ctx, actorOf(ctx), r.GetName(), r.GetAlias()))
}

func changeAnswer(c registry.Change, err error) (*controlpb.AliasChange, error) {
	if err != nil {
		return nil, statusOf(err)
	}
	return changeOf(c), nil
}

func changeOf(c registry.Change) *controlpb.AliasChange {
	out := &controlpb.AliasChange{
		Name: c.Model, Alias: c.Alias, To: galley.Ref{Name: c.Model, Version: c.To}.String(), Generation: c.Generation,
		Move: string(c.Move), By: string(c.By), Time: timestamppb.New(c.At), Reason: c.Reason, Report: string(c.Report),
	}
	if c.From > 0 {
		out.From = galley.Ref{Name: c.Model, Version: c.From}.String()
	}
	return out
}

// AliasHistory lists the moves of a model's aliases.
func (s *Control) AliasHistory(ctx context.Context, r *controlpb.AliasHistoryRequest) (*controlpb.AliasHistoryResponse, error) {
	changes, err := s.control.History(ctx, r.GetName(), r.GetAlias(), int(r.GetLimit()))
	if err != nil {
		return nil, statusOf(err)
	}
	out := &controlpb.AliasHistoryResponse{}
	for _, c := range changes {
		out.Changes = append(out.Changes, changeOf(c))
	}
	return out, nil
}

// DeleteVersion deletes a version that nothing needs.
func (s *Control) DeleteVersion(ctx context.Context, r *controlpb.VersionRequest) (*controlpb.DeleteVersionResponse, error) {
	ref, err := galley.ParseRef(r.GetRef())
	if err != nil {
		return nil, statusOf(err)
	}
	v, err := s.control.Delete(ctx, actorOf(ctx), ref)
	if err != nil {
		return nil, statusOf(err)
	}
	return &controlpb.DeleteVersionResponse{Ref: v.Ref()}, nil
}

// ExportVersion streams the files of a version.
func (s *Control) ExportVersion(r *controlpb.VersionRequest, stream grpc.ServerStreamingServer[controlpb.FileChunk]) error {
	ref, err := galley.ParseRef(r.GetRef())
	if err != nil {
		return statusOf(err)
	}
	return statusOf(s.control.Export(stream.Context(), ref, func(a registry.Artifact, from io.Reader) error {
		return sendFile(stream, a, from)
	}))
}

// sendFile sends a file in chunks, an empty one as one chunk without data.
func sendFile(stream grpc.ServerStreamingServer[controlpb.FileChunk], a registry.Artifact, from io.Reader) error {
	for first := true; ; first = false {
		data := make([]byte, chunkSize)
		n, err := io.ReadFull(from, data)
		if n > 0 || first {
			if err := stream.Send(&controlpb.FileChunk{Path: a.Path, Digest: string(a.Digest), Size: a.Size, Data: data[:n]}); err != nil {
				return err
			}
		}
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			return nil
		case err != nil:
			return galley.Errorf(galley.Unavailable, a.Path, "cannot be read: %w", err)
		}
	}
}

// Evaluate measures a version on a split, or on an uploaded file.
func (s *Control) Evaluate(stream grpc.ClientStreamingServer[controlpb.EvaluateRequest, controlpb.Report]) error {
	r, err := s.evaluate(stream)
	if err != nil {
		return statusOf(err)
	}
	return stream.SendAndClose(r)
}

func (s *Control) evaluate(stream grpc.ClientStreamingServer[controlpb.EvaluateRequest, controlpb.Report]) (*controlpb.Report, error) {
	first, err := stream.Recv()
	if err != nil {
		return nil, noHeader(err)
	}
	e, err := evaluationOf(first.GetHeader())
	if err != nil {
		return nil, err
	}
	files, err := s.control.NewSpool()
	if err != nil {
		return nil, err
	}
	defer files.Close()
	err = s.receive(files, func() (*controlpb.FilePiece, error) {
		m, err := stream.Recv()
		return m.GetPiece(), err
	})
	if err != nil {
		return nil, err
	}
	ctx := stream.Context()
	report, ref, err := s.control.Evaluate(ctx, actorOf(ctx), e, files)
	if err != nil {
		return nil, err
	}
	return reportOf(report, ref.Digest)
}

func evaluationOf(h *controlpb.EvaluateHeader) (e control.Evaluation, err error) {
	if h == nil {
		return e, galley.Errorf(galley.InvalidArgument, "header", "is missing").WithRemedy("send the header first")
	}
	e = control.Evaluation{Dataset: h.GetDataset(), Split: dataset.Split(h.GetSplit()), Baseline: h.GetBaseline(), ShowTexts: h.GetShowTexts(),
		Robustness: h.GetRobustness(), Seed: h.GetSeed(), PerCPUHour: h.GetCpuHourPrice()}
	if e.Ref, err = galley.ParseRef(h.GetRef()); err != nil {
		return e, err
	}
	if h.GetAgainst() != "" {
		if e.Against, err = galley.ParseRef(h.GetAgainst()); err != nil {
			return e, err
		}
	}
	if e.Dataset != "" {
		return e, nil
	}
	if e.Format, err = dataset.ParseFormat(h.GetFormat()); err != nil {
		return e, err
	}
	e.Columns, err = dataset.ParseColumns(h.GetColumns())
	return e, err
}
