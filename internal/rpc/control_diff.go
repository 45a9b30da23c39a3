package rpc

import (
	"context"

	controlpb "galley/api/control/v1"

	"galley"
)

// DiffVersions says in what two versions differ.
func (s *Control) DiffVersions(ctx context.Context, r *controlpb.DiffVersionsRequest) (*controlpb.DiffVersionsResponse, error) {
	var refs [2]galley.Ref
	for i, ref := range []string{r.GetA(), r.GetB()} {
		var err error
		if refs[i], err = galley.ParseRef(ref); err != nil {
			return nil, statusOf(err)
		}
	}
	d, err := s.control.Diff(ctx, refs[0], refs[1])
	if err != nil {
		return nil, statusOf(err)
	}
	out := &controlpb.DiffVersionsResponse{}
	out.Diff, err = structOf(d)
	return out, statusOf(err)
}
