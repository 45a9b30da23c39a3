package rpc

import (
	"context"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/timestamppb"

	controlpb "galley/api/control/v1"

	"galley"
	"galley/internal/store"
	"galley/trainer"
)

// SubmitJob puts a job file into the queue.
func (s *Control) SubmitJob(ctx context.Context, r *controlpb.SubmitJobRequest) (*controlpb.Job, error) {
	return jobAnswer(s.control.Submit(ctx, actorOf(ctx), r.GetJobFile(), r.GetSet(), r.GetIdempotencyKey()))
}

// GetJob describes a job.
func (s *Control) GetJob(ctx context.Context, r *controlpb.JobRequest) (*controlpb.Job, error) {
	return jobAnswer(s.control.Job(ctx, r.GetJob()))
}

// CancelJob ends a job.
func (s *Control) CancelJob(ctx context.Context, r *controlpb.JobRequest) (*controlpb.Job, error) {
	return jobAnswer(s.control.Cancel(ctx, actorOf(ctx), r.GetJob()))
}

// ResumeJob queues a failed or cancelled job again.
func (s *Control) ResumeJob(ctx context.Context, r *controlpb.JobRequest) (*controlpb.Job, error) {
	return jobAnswer(s.control.Resume(ctx, actorOf(ctx), r.GetJob()))
}

func jobAnswer(j trainer.Job, err error) (*controlpb.Job, error) {
	if err != nil {
		return nil, statusOf(err)
	}
	out, err := jobOf(j)
	return out, statusOf(err)
}

// ListJobs lists jobs, the newest first.
func (s *Control) ListJobs(ctx context.Context, r *controlpb.ListJobsRequest) (*controlpb.ListJobsResponse, error) {
	q := store.JobQuery{Limit: int(r.GetLimit())}
	if r.GetPhase() != "" {
		q.Phases = []trainer.Phase{trainer.Phase(r.GetPhase())}
	}
	jobs, err := s.control.Jobs(ctx, q)
	if err != nil {
		return nil, statusOf(err)
	}
	out := &controlpb.ListJobsResponse{}
	for _, j := range jobs {
		job, err := jobOf(j)
		if err != nil {
			return nil, statusOf(err)
		}
		out.Jobs = append(out.Jobs, job)
	}
	return out, nil
}

// WatchJob sends a job now and after its changes, until it is final.
func (s *Control) WatchJob(r *controlpb.JobRequest, stream grpc.ServerStreamingServer[controlpb.Job]) error {
	return statusOf(s.control.Watch(stream.Context(), r.GetJob(), func(j trainer.Job) error {
		job, err := jobOf(j)
		if err != nil {
			return err
		}
		return stream.Send(job)
	}))
}

// JobLogs sends the lines of a job's log.
func (s *Control) JobLogs(r *controlpb.JobLogsRequest, stream grpc.ServerStreamingServer[controlpb.LogLine]) error {
	if r.GetAfter() < 0 {
		return statusOf(galley.Errorf(galley.OutOfRange, "after", "%d is not a line's number", r.GetAfter()))
	}
	return statusOf(s.control.Logs(stream.Context(), r.GetJob(), r.GetAfter(), r.GetFollow(), func(j trainer.Job, l store.Line) error {
		return stream.Send(&controlpb.LogLine{
			Sequence: l.Number, Time: timestamppb.New(l.At), Attempt: attemptAt(j, l.At), Text: utf8Text(l.Text),
		})
	}))
}

// attemptAt is the attempt that ran at a time.
func attemptAt(j trainer.Job, at time.Time) int32 {
	n := 0
	for _, a := range j.Attempts {
		if !a.Started.After(at) {
			n = a.Number
		}
	}
	return int32(n)
}

// ExplainJob says why a job is as it is.
func (s *Control) ExplainJob(ctx context.Context, r *controlpb.JobRequest) (*controlpb.ExplainJobResponse, error) {
	e, err := s.control.Explain(ctx, r.GetJob())
	if err != nil {
		return nil, statusOf(err)
	}
	out := &controlpb.ExplainJobResponse{Job: e.Job.ID, Phase: string(e.Job.Phase)}
	for _, reason := range e.Reasons {
		out.Reasons = append(out.Reasons, utf8Text(reason))
	}
	if w := e.Waiting; w != nil {
		out.Waiting = &controlpb.Waiting{Reason: string(w.Reason), Place: int32(w.Place), By: w.By, Until: timeOf(w.Until)}
		if w.Need > 0 {
			out.Waiting.Resource, out.Waiting.Need, out.Waiting.Free = w.Kind.String(), w.Need, w.Free
		}
	}
	return out, nil
}

// timeOf is nil for no time.
func timeOf(t time.Time) *timestamppb.Timestamp {
	if t.IsZero() {
		return nil
	}
	return timestamppb.New(t)
}

func jobOf(j trainer.Job) (*controlpb.Job, error) {
	spec, err := structOf(j.Spec)
	if err != nil {
		return nil, err
	}
	out := &controlpb.Job{
		Job: j.ID, Kind: j.Spec.Kind, Name: j.Spec.Name, Phase: string(j.Phase), Attempt: int32(j.Attempt()),
		Progress: &controlpb.Progress{
			Step: int64(j.Progress.Step), Steps: int64(j.Progress.Steps), Epoch: int32(j.Progress.Epoch),
			Loss: j.Progress.Loss, Lr: j.Progress.LR, Checkpoint: int64(j.Progress.Checkpoint),
		},
		SpecDigest: string(j.SpecDigest), Spec: spec, Metrics: j.Metrics, Versions: j.Versions, Error: errorOf(j.Error), Data: j.Data,
		Created: timestamppb.New(j.Created), Updated: timestamppb.New(j.Updated), Owner: string(j.Owner),
		Tenant: j.Tenant, Preempting: j.Preempting, NotBefore: timeOf(j.NotBefore), Memory: j.Memory, Within: j.Within,
	}
	for i, s := range j.Steps {
		of := j.Spec.Steps[i]
		out.Steps = append(out.Steps, &controlpb.Step{
			Id: s.ID, Kind: of.Spec.Kind, Requires: of.Requires(), Phase: string(s.Phase), Job: s.Job, Version: s.Version,
			Report: string(s.Report), Found: s.Found, Reused: s.Reused, Error: errorOf(s.Error), Started: timeOf(s.Started), Ended: timeOf(s.Ended),
		})
	}
	for _, a := range j.Attempts {
		attempt := &controlpb.Attempt{
			Number: int32(a.Number), Started: timestamppb.New(a.Started), FromStep: int64(a.From), Step: int64(a.Step),
			Outcome: a.Outcome, Error: errorOf(a.Error), Cause: string(a.Cause), Checkpoint: int64(a.Checkpoint),
		}
		if a.Ended != nil {
			attempt.Ended = timestamppb.New(*a.Ended)
		}
		out.Attempts = append(out.Attempts, attempt)
	}
	return out, nil
}

func errorOf(e *galley.Error) *controlpb.Error {
	if e == nil {
		return nil
	}
	return &controlpb.Error{Code: string(e.Code), Subject: utf8Text(e.Subject), Message: utf8Text(e.Message), Remedy: utf8Text(e.Remedy)}
}
