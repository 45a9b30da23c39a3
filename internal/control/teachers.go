package control

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"galley"
	"galley/dataset"
	"galley/distill"
	"galley/internal/durable"
	"galley/internal/store"
	"galley/registry"
	"galley/task"
	"galley/trainer"
	"galley/trainer/engine"
)

// teacherFolder is where an attempt finds the models that its student learns
// from, below the job's work folder.
const teacherFolder = "teachers"

// resolveTeachers pins the versions that a job of kind Distill names as
// teachers, and its unlabelled data, and returns the sizes of the graphs.
func (c *Control) resolveTeachers(ctx context.Context, j *trainer.Job, d store.Dataset) (sizes []int64, err error) {
	byDigest := map[galley.Digest]string{}
	for _, name := range j.Spec.Teachers {
		ref, err := galley.ParseRef(name)
		if err != nil {
			return nil, err
		}
		v, err := c.resolveVersion(ctx, ref)
		if galley.CodeOf(err) == galley.NotFound {
			e := galley.AsError(err)
			return nil, galley.Errorf(galley.NotFound, "teachers", "%s: %s", name, e.Message).WithRemedy("%s", e.Remedy)
		}
		if err != nil {
			return nil, err
		}
		if err := teaches(v, d.Manifest.Labels); err != nil {
			return nil, err
		}
		if same, twice := byDigest[v.Digest]; twice {
			return nil, galley.Errorf(galley.InvalidArgument, "teachers", "%s and %s are the same model", same, name).WithRemedy("name it once")
		}
		byDigest[v.Digest] = name
		j.Teachers = append(j.Teachers, trainer.Teacher{Ref: v.Ref(), Digest: v.Digest})
		sizes = append(sizes, graphSize(v.Artifacts))
	}
	if name := j.Spec.Data.Unlabelled; name != "" {
		ref, err := galley.ParseRef(name)
		if err != nil {
			return nil, err
		}
		more, err := c.store.Dataset(ctx, ref)
		if err != nil {
			return nil, err
		}
		j.Unlabelled = more.Ref()
	}
	return sizes, nil
}

// teaches checks that a version can be a teacher of a student with the labels.
func teaches(v registry.Version, labels []string) error {
	_, config := v.Artifact(task.ConfigFile)
	if v.Task != string(task.TextClassification) || !config {
		return distill.NoClassifier(v.Ref(), v.Task)
	}
	_, err := distill.Align(v.Ref(), v.Labels, labels)
	return err
}

// requestTeachers puts a job's teachers into its work folder, and its
// unlabelled data and the cache of answers into the request.
func (c *Control) requestTeachers(ctx context.Context, j trainer.Job, r *engine.Request) error {
	if j.Spec.Kind != trainer.KindDistill {
		return nil
	}
	for i, t := range j.Teachers {
		v, err := c.store.Find(ctx, t.Digest)
		if galley.CodeOf(err) == galley.NotFound {
			return galley.Errorf(galley.FailedPrecondition, "teachers", "%s is not here any more: it was deleted after the job was submitted", t.Ref).
				WithRemedy("import it again, or submit a job with another teacher")
		}
		if err != nil {
			return err
		}
		teacher := engine.Teacher{Ref: t.Ref, Digest: t.Digest, Folder: filepath.Join(r.WorkDir, teacherFolder, fmt.Sprint(i+1))}
		if err := c.materialise(ctx, teacher.Folder, v.Artifacts); err != nil {
			return err
		}
		r.Teachers = append(r.Teachers, teacher)
	}
	if j.Unlabelled != "" {
		d, err := c.dataset(ctx, j.Unlabelled)
		if err != nil {
			return err
		}
		info := d.Manifest.Splits[dataset.Train]
		path, err := c.blobs.VerifiedPath(ctx, info.Digest)
		if err != nil {
			return err
		}
		r.Unlabelled = &engine.Source{Digest: info.Digest, Path: path}
	}
	r.Cache = c.answers()
	if err := os.MkdirAll(r.Cache, 0o700); err != nil {
		return durable.WriteError(r.Cache, err)
	}
	return distill.Prune(r.Cache, maxAnswers)
}

// maxAnswers bounds what is kept of teachers' answers between jobs, in bytes.
const maxAnswers = 4 << 30

// answers is the folder of teachers' answers.
func (c *Control) answers() string { return filepath.Join(c.home, cacheFolder, "answers") }

// distilledFrom is what lineage says of a job's teachers.
func distilledFrom(j trainer.Job) (out []registry.Teacher) {
	for _, t := range j.Teachers {
		out = append(out, registry.Teacher{Ref: t.Ref, Digest: t.Digest})
	}
	return out
}
