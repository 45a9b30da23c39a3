package control

import (
	"context"
	"crypto/rand"
	"fmt"
	"maps"
	"slices"
	"strings"

	"galley"
	"galley/internal/auth"
	"galley/internal/store"
	"galley/registry"
	"galley/scheduler"
	"galley/task"
	"galley/trainer"
)

// maxKey bounds an idempotency key, in bytes.
const maxKey = 200

// Submit puts a job file into the queue. A key that the same actor used
// before gives the job of then, if it was submitted with the same file.
func (c *Control) Submit(ctx context.Context, by galley.Actor, file []byte, sets []string, key string) (trainer.Job, error) {
	spec, problems := trainer.ParseFile(file, sets)
	if err := problems.AsError("job file"); err != nil {
		return trainer.Job{}, err
	}
	if len(key) > maxKey {
		return trainer.Job{}, galley.Errorf(galley.InvalidArgument, "idempotency key", "is longer than %d bytes", maxKey)
	}
	// Before anything else is asked: since then the queue may be full, or gone
	// what the job names.
	if key != "" {
		before, err := c.submitted(ctx, jobID(spec.Name, by, key), spec.Digest())
		if galley.CodeOf(err) != galley.NotFound {
			return before, err
		}
	}
	if spec.Kind == trainer.KindPipeline {
		return c.submitPipeline(ctx, by, spec, key)
	}
	if spec.Kind == trainer.KindFederate {
		return c.submitFederation(ctx, by, spec, key)
	}
	ctx, release := c.blobs.Hold(ctx) // what the job names is to be there when it is stored
	defer release()
	j, err := c.resolve(ctx, spec)
	if err != nil {
		return j, err
	}
	if err := c.hasRoom(); err != nil {
		return j, err
	}
	j.ID, j.Owner, j.Tenant, j.Phase = jobID(spec.Name, by, key), by, tenantOf(ctx, by), trainer.Queued
	j.Created = c.now()
	j.Updated, j.QueuedAt = j.Created, j.Created
	stored, err := c.create(ctx, j, store.Commit{By: by, At: j.Created, Action: "job.submit", Detail: string(j.SpecDigest)})
	if galley.CodeOf(err) == galley.AlreadyExists && key != "" {
		return c.submitted(ctx, j.ID, j.SpecDigest)
	}
	if err != nil {
		return stored, err
	}
	c.kick()
	return stored, nil
}

// submitted returns the job that an idempotency key made before, which must
// have been asked for with the same spec.
func (c *Control) submitted(ctx context.Context, id string, spec galley.Digest) (trainer.Job, error) {
	j, err := c.store.Job(ctx, id)
	if err == nil && j.SpecDigest != spec {
		err = galley.Errorf(galley.AlreadyExists, "idempotency key", "was used for %s, which has another spec", id).
			WithRemedy("send another key for another job")
	}
	return j, err
}

// create stores a new job and puts it onto the board.
func (c *Control) create(ctx context.Context, j trainer.Job, commit store.Commit) (trainer.Job, error) {
	c.commits.Lock()
	defer c.commits.Unlock()
	stored, err := c.store.CreateJob(ctx, j, commit)
	return stored, c.noted(stored, err)
}

// tenantOf is who a job's resources are counted for: the caller's tenant, or
// the caller.
func tenantOf(ctx context.Context, by galley.Actor) string {
	if caller, ok := auth.CallerOf(ctx); ok && caller.Tenant != "" {
		return caller.Tenant
	}
	return string(by)
}

// jobID names a job. With a key it is the same each time. It is a name, as
// federations need one: of a very long one the beginning is part of it.
func jobID(name string, by galley.Actor, key string) string {
	name = name[:min(len(name), 42)]
	suffix := strings.ToLower(rand.Text())[:10]
	if key != "" {
		suffix = galley.DigestBytes(fmt.Appendf(nil, "%s\x00%s", by, key)).Hex()[:20]
	}
	return name + "-" + suffix
}

// resolve checks a spec against what there is, and pins what it names.
func (c *Control) resolve(ctx context.Context, spec trainer.Spec) (trainer.Job, error) {
	j := trainer.Job{Spec: spec, SpecDigest: spec.Digest()}
	if _, err := c.drivers.For(spec); err != nil {
		return j, err
	}
	if err := c.reachable(ctx, spec.Needs); err != nil {
		return j, err
	}
	j.Memory = spec.MemoryNeed(0)
	if err := c.tooLarge(j); err != nil {
		return j, err
	}
	if err := noFiles(spec); err != nil {
		return j, err
	}
	ref, err := c.dataOf(ctx, spec)
	if err != nil {
		return j, err
	}
	d, err := c.store.Dataset(ctx, ref)
	if err != nil {
		return j, err
	}
	j.Data, j.DataDigest = d.Ref(), d.Digest
	if err := fits(spec, d); err != nil {
		return j, err
	}
	teachers, err := c.resolveTeachers(ctx, &j, d)
	if err != nil {
		return j, err
	}
	j.Memory = spec.MemoryNeed(0, teachers...)
	start := spec.Start()
	if start == "" {
		return j, nil
	}
	from, err := galley.ParseRef(start)
	if err != nil {
		return j, err
	}
	v, err := c.resolveVersion(ctx, from)
	if galley.CodeOf(err) == galley.NotFound && from.Digest != "" {
		files, err := c.keepUpload(ctx, from.Digest)
		j.Parent = from.Digest
		if err != nil {
			return j, err
		}
		j.Memory = spec.MemoryNeed(graphSize(files), teachers...)
		return j, canGoOn(files)
	}
	if err != nil {
		return j, err
	}
	j.Parent, j.ParentRef = v.Digest, v.Ref()
	j.Memory = spec.MemoryNeed(graphSize(v.Artifacts), teachers...)
	return j, canGoOn(v.Artifacts)
}

// noFiles refuses a spec that names files.
func noFiles(spec trainer.Spec) error {
	const message = "names a file, and the server opens no file that a client names"
	if spec.Data.Train != "" {
		return galley.Errorf(galley.InvalidArgument, "data.train", message).
			WithRemedy("register it with galley data add, and write data: {dataset: NAME}; galley train does so by itself")
	}
	if strings.HasSuffix(spec.Start(), ".onnx") {
		return galley.Errorf(galley.InvalidArgument, spec.StartPath(), message).
			WithRemedy("upload it and write its digest; galley train does so by itself")
	}
	return nil
}

// dataOf names the dataset of a spec: what it says, or what the version that it
// makes smaller was trained on.
func (c *Control) dataOf(ctx context.Context, spec trainer.Spec) (galley.Ref, error) {
	if spec.Kind != trainer.KindQuantize || spec.Data.Dataset != "" {
		return galley.ParseRef(spec.Data.Dataset)
	}
	from, err := galley.ParseRef(spec.From)
	if err != nil {
		return from, err
	}
	v, err := c.resolveVersion(ctx, from)
	if err != nil {
		return from, err
	}
	if v.Lineage.Dataset == "" {
		return from, galley.Errorf(galley.FailedPrecondition, "data", "%s does not say what it was trained on", v.Ref()).
			WithRemedy("name the data to measure it on, with the model's labels: data: {dataset: NAME}")
	}
	return galley.ParseRef(v.Lineage.Dataset)
}

// graphSize is the size of a model's largest file, in bytes.
func graphSize(files []registry.Artifact) int64 {
	most := int64(0)
	for _, a := range files {
		most = max(most, a.Size)
	}
	return most
}

// canGoOn checks that a model has what training it needs.
func canGoOn(files []registry.Artifact) error {
	if slices.ContainsFunc(files, func(a registry.Artifact) bool { return a.Path == task.TokenizerFile }) {
		return nil
	}
	return galley.Errorf(galley.FailedPrecondition, "from", "the model has no %s", task.TokenizerFile).
		WithRemedy("put the tokenizer.json that the model was trained with beside its graph")
}

// fits checks a spec against its dataset.
func fits(spec trainer.Spec, d store.Dataset) error {
	if spec.Task != trainer.TextClassification {
		return nil
	}
	labels := d.Manifest.Labels
	if len(labels) == 0 {
		return galley.Errorf(galley.FailedPrecondition, "data.dataset", "%s has no labels to classify by", d.Ref()).
			WithRemedy("add the data again with a label column: --columns text=…,label=…")
	}
	for _, label := range slices.Sorted(maps.Keys(spec.Recipe.ClassWeights.Values)) {
		if !slices.Contains(labels, label) {
			return galley.Errorf(galley.InvalidArgument, "recipe.class_weights.values", "%q is not a label of %s", label, d.Ref()).
				WithRemedy("its labels are %s", galley.Clip(strings.Join(labels, ", "), 500))
		}
	}
	return nil
}

func (c *Control) hasRoom() error {
	if n := c.board.queued(); n >= maxJobs {
		return galley.Errorf(galley.ResourceExhausted, "queue", "%d jobs wait already", n).
			WithRemedy("wait for some to end, or cancel some")
	}
	return nil
}

// reachable checks the jobs that have to succeed first.
func (c *Control) reachable(ctx context.Context, needs []string) error {
	for _, id := range needs {
		need, err := c.store.Job(ctx, id)
		if err != nil {
			return err
		}
		if need.Phase == trainer.Failed || need.Phase == trainer.Cancelled {
			return galley.Errorf(galley.FailedPrecondition, "needs", "%s is %s", id, need.Phase).
				WithRemedy("resume it first: galley jobs resume %s", id)
		}
	}
	return nil
}

// tooLarge refuses a job that this machine could never run as it was asked
// for.
func (c *Control) tooLarge(j trainer.Job) error {
	have := c.board.capacity[scheduler.Memory]
	if j.Spec.Resources.Memory == "" || have == 0 || j.Memory <= have {
		return nil
	}
	return galley.Errorf(galley.ResourceExhausted, "resources.memory", "%s is more than the %d MiB that this machine has for jobs", j.Spec.Resources.Memory, have>>20).
		WithRemedy("ask for less, leave it out for an estimate, or use a larger machine")
}

// Job returns a job.
func (c *Control) Job(ctx context.Context, id string) (trainer.Job, error) {
	return c.store.Job(ctx, id)
}

// Jobs lists jobs, the newest first.
func (c *Control) Jobs(ctx context.Context, q store.JobQuery) ([]trainer.Job, error) {
	for _, p := range q.Phases {
		switch p {
		case trainer.Queued, trainer.Running, trainer.Succeeded, trainer.Failed, trainer.Cancelled:
		default:
			return nil, galley.Errorf(galley.InvalidArgument, "phase", "%q is not a phase", galley.Clip(string(p), 80)).
				WithRemedy("choose queued, running, succeeded, failed or cancelled")
		}
	}
	if q.Limit < 0 || q.Limit > store.MaxList {
		return nil, galley.Errorf(galley.OutOfRange, "limit", "%d is not from 0 to %d", q.Limit, store.MaxList)
	}
	return c.store.Jobs(ctx, q)
}

// CountJobs returns how many jobs are in a phase.
func (c *Control) CountJobs(ctx context.Context, phase trainer.Phase) (int, error) {
	return c.store.CountJobs(ctx, phase)
}

// Cancel ends a job: at once if it waits, else after its attempt has stored a
// checkpoint.
func (c *Control) Cancel(ctx context.Context, by galley.Actor, id string) (trainer.Job, error) {
	j, err := c.step(ctx, id, trainer.CancelAsked{At: c.now()}, change{by: by, action: "job.cancel"})
	c.pipelines.nudge(id)
	c.federating.nudge(id)
	return j, err
}

// Resume queues a failed or cancelled job again; it goes on from its last
// checkpoint. A pipeline goes on with the steps that have not succeeded, a
// federation with its next round.
func (c *Control) Resume(ctx context.Context, by galley.Actor, id string) (trainer.Job, error) {
	before, err := c.store.Job(ctx, id)
	if err != nil {
		return before, err
	}
	if before.Spec.Kind == trainer.KindFederate {
		return c.resumeFederation(ctx, by, before)
	}
	if err := mayPromote(ctx, before); err != nil {
		return before, err
	}
	j, err := c.step(ctx, id, trainer.ResumeAsked{At: c.now()}, change{by: by, action: "job.resume"})
	if before.Spec.Kind == trainer.KindPipeline {
		c.drivePipeline(id)
	}
	return j, err
}
