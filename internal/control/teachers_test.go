package control

import (
	"os"
	"slices"
	"strings"
	"testing"

	"galley"
	"galley/dataset"
	"galley/internal/ort/orttest"
	"galley/task"
	"galley/trainer"
)

const distillFile = "apiVersion: galley/v1\nkind: Distill\nname: small\ntask: text-classification\ndata: {dataset: news, unlabelled: texts}\n" +
	"teachers: ['topic:candidate', topic@1]\nrecipe: {epochs: 1}\nresources: {cpus: 1}\n"

// A job's teachers are the versions that its refs named when it was submitted.
// They stay while it waits or runs, and are named in the lineage of what it
// makes.
func TestTeachers(t *testing.T) {
	w := newWorld(t, orttest.Opener(t), 1)
	w.add(t, "news", map[string]string{"train": rows, "valid": rows})
	w.add(t, "texts", map[string]string{"train": "text,label\nsport goal four,none\nmoney bank four,other\n"})
	teacher := func(seed string) {
		t.Helper()
		j := w.wait(t, w.submit(t, jobFile("topic", "text-classification", "recipe: {epochs: 1, seed: "+seed+"}\n")).ID)
		if j.Phase != trainer.Succeeded {
			t.Fatalf("%+v %v", j, j.Error)
		}
	}
	teacher("1")
	teacher("2")
	student := w.wait(t, w.submit(t, []byte(distillFile)).ID)
	if student.Phase != trainer.Succeeded || student.Versions[0] != "small@1" {
		t.Fatalf("%+v %v", student, student.Error)
	}
	refs := func(j trainer.Job) (out []string) {
		for _, teacher := range j.Teachers {
			out = append(out, teacher.Ref)
		}
		return out
	}
	if !slices.Equal(refs(student), []string{"topic@2", "topic@1"}) || student.Unlabelled != "texts@1" {
		t.Errorf("%v, %q", student.Teachers, student.Unlabelled)
	}
	tree, err := w.Lineage(t.Context(), galley.Ref{Name: "small"})
	if err != nil || len(tree.DistilledFrom) != 2 || tree.DistilledFrom[0].Ref != "topic@2" || tree.DistilledFrom[1].Dataset != "news@1" || tree.Unlabelled != "texts@1" {
		t.Errorf("%+v %v", tree, err)
	}
	// Another teacher is another model, also with the same files.
	if v, _, err := w.Version(t.Context(), galley.Ref{Name: "small"}); err != nil || v.Lineage.UnlabelledDigest == "" {
		t.Errorf("%+v %v", v.Lineage, err)
	} else {
		v.Lineage.DistilledFrom = v.Lineage.DistilledFrom[:1]
		if v.ContentDigest() == v.Digest {
			t.Error("the digest does not cover the teachers")
		}
	}

	// While a job waits, its teachers stay, and it keeps those that it has.
	long := w.submit(t, jobFile("long", "text-mlm", "recipe: {epochs: 5000}\n"))
	eventually(t, func() bool { j, _ := w.Job(t.Context(), long.ID); return j.Phase == trainer.Running })
	waiting := w.submit(t, []byte(strings.ReplaceAll(distillFile, "name: small", "name: other")))
	r, err := w.request(t.Context(), waiting)
	if err != nil {
		t.Fatal(err)
	}
	for i, teacher := range r.Teachers {
		if _, err := task.OpenBundleDir(teacher.Folder); err != nil || teacher.Ref != waiting.Teachers[i].Ref || teacher.Digest != waiting.Teachers[i].Digest {
			t.Errorf("%+v %v", teacher, err)
		}
	}
	texts, err := w.dataset(t.Context(), "texts@1")
	if err != nil || len(r.Teachers) != 2 || r.Unlabelled == nil || r.Unlabelled.Digest != texts.Manifest.Splits[dataset.Train].Digest {
		t.Errorf("%+v %v", r, err)
	}
	if info, err := os.Stat(r.Cache); err != nil || !info.IsDir() || !strings.HasPrefix(r.Cache, w.home) {
		t.Errorf("%q %v", r.Cache, err)
	}
	two := galley.Ref{Name: "topic", Version: 2}
	if _, err := w.Delete(t.Context(), "ann", galley.Ref{Name: "small", Version: 1}); galley.CodeOf(err) != galley.FailedPrecondition {
		t.Error("the newest candidate was deleted")
	}
	if _, err := w.Delete(t.Context(), "ann", two); galley.CodeOf(err) != galley.FailedPrecondition {
		t.Error("a teacher was deleted")
	}

	// One that is deleted meanwhile is named.
	for _, id := range []string{waiting.ID, long.ID} {
		if _, err := w.Cancel(t.Context(), "ann", id); err != nil {
			t.Fatal(err)
		}
		w.wait(t, id)
	}
	gone := waiting
	gone.Teachers = []trainer.Teacher{{Ref: "topic@7", Digest: galley.DigestBytes([]byte("gone"))}}
	_, err = w.request(t.Context(), gone)
	want := "teachers: topic@7 is not here any more: it was deleted after the job was submitted — import it again, or submit a job with another teacher"
	if galley.CodeOf(err) != galley.FailedPrecondition || err.Error() != want {
		t.Error(err)
	}
}

func TestTeachersRefused(t *testing.T) {
	w := newWorld(t, orttest.Opener(t), 1)
	w.add(t, "news", map[string]string{"train": rows, "valid": rows})
	w.add(t, "other", map[string]string{"train": strings.ReplaceAll(rows, "money", "rain"), "valid": strings.ReplaceAll(rows, "money", "rain")})
	w.add(t, "texts", map[string]string{"train": rows})
	for _, file := range [][]byte{
		jobFile("topic", "text-classification", "recipe: {epochs: 1}\n"), jobFile("base", "text-mlm", "recipe: {epochs: 1}\n"),
		[]byte(strings.ReplaceAll(string(jobFile("rain", "text-classification", "recipe: {epochs: 1}\n")), "dataset: news", "dataset: other")),
	} {
		if j := w.wait(t, w.submit(t, file).ID); j.Phase != trainer.Succeeded {
			t.Fatalf("%+v", j.Error)
		}
	}
	for _, c := range []struct {
		teachers string
		code     galley.Code
		text     string
	}{
		{"[nothing@3]", galley.NotFound, "teachers: nothing@3: there is no such model"},
		{"[topic@9]", galley.NotFound, "teachers: topic@9: there is no such version; the newest is topic@1"},
		{"[base]", galley.FailedPrecondition, "teachers: base@1 is a text-mlm model, and a teacher is a text classifier"},
		{"[topic, rain]", galley.FailedPrecondition, `teachers: rain@1 tells other labels apart than the data: it does not know "money", and the data do not have its "rain"`},
		{"[topic, topic@1]", galley.InvalidArgument, "teachers: topic and topic@1 are the same model — name it once"},
	} {
		_, err := w.Submit(t.Context(), "ann", []byte(distillFile), []string{"teachers=" + c.teachers}, "")
		if galley.CodeOf(err) != c.code || !strings.Contains(err.Error(), c.text) {
			t.Errorf("%s: %v", c.teachers, err)
		}
	}
	if _, err := w.Submit(t.Context(), "ann", []byte(distillFile), []string{"teachers=[topic]", "data.unlabelled=old"}, ""); galley.CodeOf(err) != galley.NotFound {
		t.Error(err)
	}
}
