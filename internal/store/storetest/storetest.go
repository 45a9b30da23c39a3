// Package storetest is the conformance suite of the databases that keep
// galley's state: what every one of them must do, whatever it is written
// with.
package storetest

import (
	"context"
	"fmt"
	"testing"
	"time"

	"galley"
	"galley/dataset"
	"galley/evals"
	"galley/experiment"
	"galley/federation"
	"galley/internal/audit"
	"galley/internal/auth"
	"galley/internal/store"
	"galley/registry"
	"galley/trainer"
)

// A Store is what the suite tests.
type Store interface {
	registry.Store
	DeleteVersion(ctx context.Context, name string, number int, by registry.Stamp) (registry.Version, error)
	AddDataset(ctx context.Context, m *dataset.Manifest, c store.Commit) (store.Dataset, bool, error)
	Dataset(ctx context.Context, ref galley.Ref) (store.Dataset, error)
	Datasets(ctx context.Context, after string, limit int) ([]store.Dataset, error)
	CreateJob(ctx context.Context, j trainer.Job, c store.Commit) (trainer.Job, error)
	SaveJob(ctx context.Context, j trainer.Job, c store.Commit) (trainer.Job, error)
	Job(ctx context.Context, id string) (trainer.Job, error)
	Jobs(ctx context.Context, q store.JobQuery) ([]trainer.Job, error)
	CountJobs(ctx context.Context, phase trainer.Phase) (int, error)
	AppendLines(ctx context.Context, job string, lines []store.Line) error
	Lines(ctx context.Context, job string, after int64, limit int) ([]store.Line, error)
	PendingEffects(ctx context.Context, limit int) ([]store.Effect, error)
	EffectDone(ctx context.Context, aggregate string, sequence int64) error
	Gate(ctx context.Context, model, alias string) (evals.Gate, bool, error)
	SetGate(ctx context.Context, model, alias string, g *evals.Gate, by registry.Stamp) error
	AddToken(ctx context.Context, t auth.Token, c store.Commit) error
	RotateToken(ctx context.Context, next auth.Token, until time.Time, c store.Commit) (auth.Token, error)
	RevokeToken(ctx context.Context, id string, c store.Commit) (auth.Token, error)
	Tokens(ctx context.Context) ([]auth.Token, error)
	NoteRefusal(ctx context.Context, what string, c store.Commit) error
	Audit(ctx context.Context, q store.AuditQuery) ([]audit.Entry, error)
	AuditHead(ctx context.Context) (audit.Head, error)
	Record(ctx context.Context, subject string, c store.Commit) error
	CreateExperiment(ctx context.Context, e experiment.Experiment, c store.Commit) (experiment.Experiment, error)
	ChangeExperiment(ctx context.Context, name string, f func(store.ExperimentRecord) (store.ExperimentChange, error)) (experiment.Experiment, *registry.Change, error)
	Experiment(ctx context.Context, name string) (store.ExperimentRecord, error)
	ExperimentName(ctx context.Context, id uint32) (string, error)
	Experiments(ctx context.Context, limit int) ([]store.ExperimentRecord, error)
	Routing(ctx context.Context, model string) ([]experiment.Experiment, error)
	CountAnswers(ctx context.Context, counts []store.ExperimentCounts) error
	RecordOutcomes(ctx context.Context, outcomes []store.Outcome) ([]store.OutcomeState, error)
	PredictionKey(ctx context.Context) ([]byte, error)
	References(ctx context.Context, named func(galley.Digest)) error
	AddUpload(ctx context.Context, d galley.Digest, at time.Time) error
	ForgetUploads(ctx context.Context, before time.Time) error
	EnrolPartner(ctx context.Context, p store.Partner, replace bool, c store.Commit) (store.Partner, error)
	SetRevoked(ctx context.Context, name, why string, c store.Commit) (store.Partner, error)
	Partners(ctx context.Context) ([]store.Partner, error)
	JoinFederation(ctx context.Context, m store.Membership, file []byte, c store.Commit) error
	Memberships(ctx context.Context, partner, federationName string) ([]store.Membership, error)
	Agreement(ctx context.Context, d galley.Digest) (store.Agreement, error)
	CreateFederation(ctx context.Context, j trainer.Job, f federation.Federation, c store.Commit) (trainer.Job, store.Federation, error)
	SaveFederation(ctx context.Context, ch store.FederationChange) (store.Federation, *trainer.Job, error)
	Federation(ctx context.Context, job string) (store.Federation, error)
	Rounds(ctx context.Context, job string, limit int) ([]store.Round, error)
	Round(ctx context.Context, job string, number, attempt int) (store.Round, error)
	ClosedRounds(ctx context.Context, job string, f func(store.Round) error) error
	AmendRound(ctx context.Context, job string, r store.Round) (store.Round, error)
}

// Run runs the suite. open returns an empty store that is closed when its
// test ends.
func Run(t *testing.T, open func(testing.TB) Store) {
	tests := []struct {
		name string
		test func(*testing.T, Store)
	}{
		{"Datasets", testDatasets},
		{"Jobs", testJobs},
		{"JobConflict", testJobConflict},
		{"JobLifecycle", testJobLifecycle},
		{"Lines", testLines},
		{"Effects", testEffects},
		{"EffectsArePruned", testEffectsArePruned},
		{"Versions", testVersions},
		{"VersionsRefused", testVersionsRefused},
		{"Resolution", testResolution},
		{"Aliases", testAliases},
		{"AliasSequences", testAliasSequences},
		{"Reports", testReports},
		{"Gates", testGates},
		{"Delete", testDelete},
		{"DeleteRefused", testDeleteRefused},
		{"DeleteAliasPasts", testDeleteAliasPasts},
		{"Audit", testAudit},
		{"Tokens", testTokens},
		{"Owners", testOwners},
		{"AuditChain", testAuditChain},
		{"AuditIsAtomic", testAuditIsAtomic},
		{"ConcurrentAudit", testConcurrentAudit},
		{"References", testReferences},
		{"Experiments", testExperiments},
		{"ExperimentRouting", testExperimentRouting},
		{"Outcomes", testOutcomes},
		{"Partners", testPartners},
		{"Federations", testFederations},
		{"Rounds", testRounds},
		{"ConcurrentOutcomes", testConcurrentOutcomes},
		{"ConcurrentSaves", testConcurrentSaves},
		{"ConcurrentPromotions", testConcurrentPromotions},
		{"ConcurrentRegistrations", testConcurrentRegistrations},
		{"CanceledContext", testCanceledContext},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) { tt.test(t, open(t)) })
	}
}

// noon is the time of the suite's changes. Times come in as values, so that
// they can be compared.
var noon = time.Date(2026, 3, 1, 12, 0, 0, 123456789, time.UTC)

func by(action string) store.Commit {
	return store.Commit{By: "editor", At: noon, Action: action}
}

// Digest returns a digest that depends on its arguments.
func Digest(v ...any) galley.Digest { return galley.DigestBytes([]byte(fmt.Sprint(v...))) }

// Version returns a version of a model that differs from others by seed.
func Version(model string, seed int) registry.Version {
	return registry.Version{
		Name: model, Task: "text-classification", Labels: []string{"culture", "sports"},
		Artifacts: []registry.Artifact{
			{Path: "tokenizer.json", Digest: Digest("tokenizer"), Size: 10},
			{Path: "model.onnx", Digest: Digest(model, seed), Size: int64(seed)},
		},
		Lineage: registry.Lineage{
			Spec: []byte(fmt.Sprintf(`{"seed":%d}`, seed)), SpecDigest: Digest("spec", seed), Job: fmt.Sprint("job-", seed),
			Dataset: "headlines@1", DatasetDigest: Digest("data"), Engine: "onnx", EngineVersion: "1", Hardware: "2 cores",
		},
		Metrics: map[string]float64{"accuracy": .9}, Creator: "editor", Created: noon,
	}
}

// Manifest returns a manifest of a dataset that differs from others by seed.
func Manifest(name string, seed uint64) *dataset.Manifest {
	return &dataset.Manifest{
		Format: dataset.ManifestFormat, Name: name, Labels: []string{"culture", "sports"}, Seed: seed,
		Splits: map[dataset.Split]dataset.SplitInfo{
			dataset.Train: {
				Rows: 2, Bytes: 100, Digest: Digest("records", seed),
				Classes: map[string]int64{"culture": 1, "sports": 1}, Languages: map[string]int64{"en": 2},
			},
		},
	}
}

// Job returns a queued job.
func Job(id string) trainer.Job {
	return trainer.Job{
		ID: id, Spec: trainer.Spec{APIVersion: trainer.APIVersion, Kind: "Train", Name: "news"}, SpecDigest: Digest(id),
		Data: "headlines@1", DataDigest: Digest("data"), Owner: "editor", Phase: trainer.Queued, Created: noon, Updated: noon,
	}
}

func must[T any](t testing.TB) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func wantCode(t testing.TB, err error, code galley.Code) {
	t.Helper()
	if galley.CodeOf(err) != code {
		t.Errorf("error %v, want code %s", err, code)
	}
}

func wantEqual[T any](t testing.TB, what string, got, want T) {
	t.Helper()
	if g, w := fmt.Sprintf("%+v", got), fmt.Sprintf("%+v", want); g != w {
		t.Errorf("%s:\n got %s\nwant %s", what, g, w)
	}
}
