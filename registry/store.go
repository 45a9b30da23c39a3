package registry

import (
	"context"
	"strconv"

	"galley"
	"galley/evals"
)

// A Store keeps models. Each method is one transaction, and what it has
// acknowledged is durable; methods may be called at the same time. Errors are
// *galley.Error, NotFound for what is not there.
type Store interface {
	// Register gives v the next number of its model and stores it. If the
	// model already has a version with the same content, that one is
	// returned, and created is false: registering again is safe.
	Register(ctx context.Context, v Version) (stored Version, created bool, err error)
	// Version returns a version with its reports.
	Version(ctx context.Context, name string, number int) (Version, error)
	// Find returns the version with this digest; of several models that
	// share it, the one registered first.
	Find(ctx context.Context, digest galley.Digest) (Version, error)
	// Model returns a model's versions and aliases.
	Model(ctx context.Context, name string) (Model, error)
	// Outline is Model with no more of its versions than the newest and, if
	// there is such a one, the numbered one: what resolving a ref needs,
	// however many versions there are.
	Outline(ctx context.Context, name string, number int) (Model, error)
	// Models returns up to limit models in the order of their names, from the
	// first one after the name given.
	Models(ctx context.Context, after string, limit int) ([]Model, error)
	// Promote moves an alias as Promote does; the target must exist.
	Promote(ctx context.Context, r Request) (Change, error)
	// Rollback moves an alias as Rollback does.
	Rollback(ctx context.Context, r Request) (Change, error)
	// History returns the last moves of an alias, the newest first.
	History(ctx context.Context, model, alias string, limit int) ([]Change, error)
	// AddReport records an evaluation of a version; recording it again
	// changes nothing.
	AddReport(ctx context.Context, name string, number int, r *evals.Report, by Stamp) (ReportRef, error)
	// Report returns a recorded report.
	Report(ctx context.Context, digest galley.Digest) (*evals.Report, error)
}

// Resolve returns the version that a ref stands for.
func Resolve(ctx context.Context, s Store, ref galley.Ref) (Version, error) {
	if ref.Digest != "" {
		return s.Find(ctx, ref.Digest)
	}
	m, err := s.Outline(ctx, ref.Name, ref.Version)
	if err != nil {
		return Version{}, err
	}
	n, err := m.Resolve(ref)
	if err != nil {
		return Version{}, err
	}
	return s.Version(ctx, ref.Name, n)
}

// ResolveTraffic returns the version that answers a request; see
// Model.Traffic.
func ResolveTraffic(ctx context.Context, s Store, name, version string) (Version, error) {
	number, _ := strconv.Atoi(version) // 0 for an alias
	m, err := s.Outline(ctx, name, number)
	if err != nil {
		return Version{}, err
	}
	n, err := m.Traffic(version)
	if err != nil {
		return Version{}, err
	}
	return s.Version(ctx, name, n)
}
