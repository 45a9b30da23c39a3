package rpc

import (
	"context"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/timestamppb"

	controlpb "galley/api/control/v1"

	"galley"
	"galley/dataset"
	"galley/internal/store"
)

// AddData freezes uploaded files as a new version of a dataset.
func (s *Control) AddData(stream grpc.ClientStreamingServer[controlpb.AddDataRequest, controlpb.Dataset]) error {
	d, err := s.addData(stream)
	if err != nil {
		return statusOf(err)
	}
	return stream.SendAndClose(d)
}

func (s *Control) addData(stream grpc.ClientStreamingServer[controlpb.AddDataRequest, controlpb.Dataset]) (*controlpb.Dataset, error) {
	first, err := stream.Recv()
	if err != nil {
		return nil, noHeader(err)
	}
	options, err := freezeOptions(first.GetHeader())
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
	d, rejected, err := s.control.AddData(ctx, actorOf(ctx), options, files)
	if err != nil {
		return nil, err
	}
	out := datasetOf(d)
	for _, r := range rejected.First {
		out.Rejected = append(out.Rejected, &controlpb.Rejection{File: utf8Text(r.File), Line: r.Line, Why: utf8Text(r.Why)})
	}
	out.RejectedTotal = rejected.Total
	return out, nil
}

// noHeader is the error of a stream that ends before its header.
func noHeader(err error) error {
	if galley.CodeOf(err) == galley.Canceled {
		return err
	}
	return galley.Errorf(galley.InvalidArgument, "header", "is missing: %w", err).WithRemedy("send the header first")
}

func freezeOptions(h *controlpb.AddDataHeader) (o dataset.FreezeOptions, err error) {
	if h == nil {
		return o, galley.Errorf(galley.InvalidArgument, "header", "is missing").WithRemedy("send the header first")
	}
	o = dataset.FreezeOptions{Name: h.GetName(), NeedLabel: !h.GetUnlabelled(), Labels: h.GetLabels(), Seed: h.GetSeed(), Licence: h.GetLicence()}
	if err := galley.CheckName("dataset", o.Name); err != nil {
		return o, err
	}
	if o.Format, err = dataset.ParseFormat(h.GetFormat()); err != nil {
		return o, err
	}
	o.Columns, err = dataset.ParseColumns(h.GetColumns())
	return o, err
}

// GetData describes a dataset.
func (s *Control) GetData(ctx context.Context, r *controlpb.GetDataRequest) (*controlpb.Dataset, error) {
	d, err := s.control.Dataset(ctx, r.GetRef())
	if err != nil {
		return nil, statusOf(err)
	}
	return datasetOf(d), nil
}

// ListData describes all datasets.
func (s *Control) ListData(ctx context.Context, _ *controlpb.ListDataRequest) (*controlpb.ListDataResponse, error) {
	all, err := s.control.Datasets(ctx)
	if err != nil {
		return nil, statusOf(err)
	}
	out := &controlpb.ListDataResponse{}
	for _, d := range all {
		out.Datasets = append(out.Datasets, datasetOf(d))
	}
	return out, nil
}

func datasetOf(d store.Dataset) *controlpb.Dataset {
	out := &controlpb.Dataset{
		Name: d.Name, Version: int32(d.Version), Digest: string(d.Digest), Labels: d.Manifest.Labels, Created: timestamppb.New(d.Created),
	}
	for _, name := range []dataset.Split{dataset.Train, dataset.Valid, dataset.Test} {
		if i, ok := d.Manifest.Splits[name]; ok {
			out.Splits = append(out.Splits, &controlpb.Split{
				Name: string(name), Rows: i.Rows, Digest: string(i.Digest), Classes: i.Classes, Languages: i.Languages,
				Duplicates: i.Duplicates, Leaks: i.Leaks,
			})
		}
	}
	return out
}
