package control

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"

	"galley"
	"galley/evals"
	"galley/internal/store"
	"galley/registry"
)

func (c *Control) resolveVersion(ctx context.Context, ref galley.Ref) (registry.Version, error) {
	return registry.Resolve(ctx, c.store, ref)
}

// Version returns a version and the names of the aliases that point at it.
func (c *Control) Version(ctx context.Context, ref galley.Ref) (registry.Version, []string, error) {
	v, err := c.resolveVersion(ctx, ref)
	if err != nil {
		return v, nil, err
	}
	m, err := c.store.Outline(ctx, v.Name, v.Number)
	return v, m.AliasesOf(v.Number), err
}

// Models returns the first models, by name.
func (c *Control) Models(ctx context.Context) ([]registry.Model, error) {
	return c.store.Models(ctx, "", store.MaxList)
}

// A Node of a lineage tree is a version and what it came from. An upload that
// was never registered has a digest and no ref.
type Node struct {
	Ref           string                   `json:"ref,omitempty"`
	Digest        galley.Digest            `json:"digest"`
	Task          string                   `json:"task,omitempty"`
	Dataset       string                   `json:"dataset,omitempty"`
	DatasetDigest galley.Digest            `json:"dataset_digest,omitempty"`
	SpecDigest    galley.Digest            `json:"spec_digest,omitempty"`
	Job           string                   `json:"job,omitempty"`
	Engine        string                   `json:"engine,omitempty"`
	EngineVersion string                   `json:"engine_version,omitempty"`
	Revision      string                   `json:"revision,omitempty"`
	Hardware      string                   `json:"hardware,omitempty"`
	External      string                   `json:"external,omitempty"` // see registry.Lineage
	Splits        map[string]registry.Data `json:"splits,omitempty"`
	Parent        *Node                    `json:"parent,omitempty"`
	Unlabelled    string                   `json:"unlabelled,omitempty"`
	DistilledFrom []*Node                  `json:"distilled_from,omitempty"`
	Federation    *registry.Federation     `json:"federation,omitempty"`
}

// node describes a version. Versions of before have no splits in their
// lineage: these are the dataset's, if it is still here.
func (c *Control) node(ctx context.Context, v registry.Version) *Node {
	l := v.Lineage
	if m := c.manifest(ctx, v); l.Splits == nil && m != nil {
		l.Splits = splitsOf(m)
	}
	return &Node{
		Ref: v.Ref(), Digest: v.Digest, Task: v.Task, Dataset: l.Dataset, DatasetDigest: l.DatasetDigest, SpecDigest: l.SpecDigest,
		Job: l.Job, Engine: l.Engine, EngineVersion: l.EngineVersion, Revision: l.Revision, Hardware: l.Hardware,
		External: l.External, Splits: l.Splits, Unlabelled: l.Unlabelled, Federation: l.Federation,
	}
}

// maxAncestors bounds a lineage tree.
const maxAncestors = 100

// Lineage walks from a version to the versions that it came from.
func (c *Control) Lineage(ctx context.Context, ref galley.Ref) (*Node, error) {
	v, err := c.resolveVersion(ctx, ref)
	if err != nil {
		return nil, err
	}
	left := maxAncestors
	return c.ancestry(ctx, v, &left)
}

// ancestry is the tree below a version, with as many more versions as are left.
func (c *Control) ancestry(ctx context.Context, v registry.Version, left *int) (*Node, error) {
	node := c.node(ctx, v)
	if l := v.Lineage; l.ParentDigest != "" {
		var err error
		if node.Parent, err = c.ancestor(ctx, l.Parent, l.ParentDigest, left); err != nil {
			return nil, err
		}
	}
	for _, t := range v.Lineage.DistilledFrom {
		teacher, err := c.ancestor(ctx, t.Ref, t.Digest, left)
		if err != nil {
			return nil, err
		}
		if teacher != nil {
			node.DistilledFrom = append(node.DistilledFrom, teacher)
		}
	}
	return node, nil
}

// ancestor is the tree of a version that another names; nil if none is left.
func (c *Control) ancestor(ctx context.Context, ref string, digest galley.Digest, left *int) (*Node, error) {
	if *left--; *left < 0 {
		return nil, nil
	}
	v, err := c.versionOf(ctx, ref, digest)
	if galley.CodeOf(err) == galley.NotFound {
		return &Node{Ref: ref, Digest: digest}, nil // it was uploaded, not registered, or deleted since
	}
	if err != nil {
		return nil, err
	}
	return c.ancestry(ctx, v, left)
}

// versionOf returns the version of a digest: the one that was named, among those
// of the same content.
func (c *Control) versionOf(ctx context.Context, name string, digest galley.Digest) (registry.Version, error) {
	if ref, err := galley.ParseRef(name); err == nil && ref.Version > 0 {
		if v, err := c.store.Version(ctx, ref.Name, ref.Version); err == nil && v.Digest == digest {
			return v, nil
		}
	}
	return c.store.Find(ctx, digest)
}

// Rollback returns an alias, prod if none is named, to the version before.
func (c *Control) Rollback(ctx context.Context, by galley.Actor, name, alias string) (registry.Change, error) {
	if alias == "" {
		alias = registry.Prod
	}
	r := registry.Request{Model: name, Alias: alias, Expect: registry.AnyGeneration, By: by, At: c.now()}
	return c.moved(ctx, r, c.store.Rollback)
}

func (c *Control) moved(ctx context.Context, r registry.Request, move func(context.Context, registry.Request) (registry.Change, error)) (registry.Change, error) {
	change, err := move(ctx, r)
	if err != nil {
		return change, err
	}
	if change.From != change.To {
		// At once, so that who asked sees new answers; the effect does it
		// again if the server goes away meanwhile.
		c.follow(ctx, change)
		c.kick()
	}
	return change, nil
}

// Delete deletes a version that nothing needs, and returns it. Its blobs go,
// too, unless something else names them.
func (c *Control) Delete(ctx context.Context, by galley.Actor, ref galley.Ref) (registry.Version, error) {
	if ref.Version == 0 && ref.Digest == "" {
		return registry.Version{}, galley.Errorf(galley.InvalidArgument, ref.String(), "does not name one version for good").
			WithRemedy("name the version to delete: galley models delete %s@N", ref.Name)
	}
	v, err := c.resolveVersion(ctx, ref)
	if err != nil {
		return v, err
	}
	if v, err = c.store.DeleteVersion(ctx, v.Name, v.Number, registry.Stamp{By: by, At: c.now()}); err != nil {
		return v, err
	}
	if c.forget != nil {
		c.forget(v.Name, v.Number)
	}
	c.sweepSoon()
	return v, nil
}

// Export gives the files of a version, one after the other: its artifacts,
// labels, card and reports.
func (c *Control) Export(ctx context.Context, ref galley.Ref, file func(registry.Artifact, io.Reader) error) error {
	v, aliases, err := c.Version(ctx, ref)
	if err != nil {
		return err
	}
	for _, a := range v.Artifacts {
		if err := c.exportBlob(ctx, a, file); err != nil {
			return err
		}
	}
	made := map[string][]byte{"card.md": []byte(card(v, aliases))}
	if made["version.json"], err = json.MarshalIndent(v, "", "  "); err != nil {
		return galley.Errorf(galley.Internal, v.Ref(), "cannot be written: %w", err)
	}
	if made[lineageFile], err = exportedLineage(v); err != nil {
		return err
	}
	if len(v.Labels) > 0 {
		if made["labels.json"], err = json.MarshalIndent(v.Labels, "", "  "); err != nil {
			return galley.Errorf(galley.Internal, v.Ref(), "its labels cannot be written: %w", err)
		}
	}
	for i, r := range v.Reports {
		report, err := c.store.Report(ctx, r.Digest)
		if err != nil {
			return err
		}
		if made[fmt.Sprintf("reports/%d.json", i+1)], err = report.Encode(); err != nil {
			return err
		}
	}
	names := make([]string, 0, len(made))
	for name := range made {
		if _, taken := v.Artifact(name); !taken {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	for _, name := range names {
		data := made[name]
		a := registry.Artifact{Path: name, Digest: galley.DigestBytes(data), Size: int64(len(data))}
		if err := file(a, strings.NewReader(string(data))); err != nil {
			return err
		}
	}
	return nil
}

func (c *Control) exportBlob(ctx context.Context, a registry.Artifact, file func(registry.Artifact, io.Reader) error) error {
	f, _, err := c.blobs.OpenVerified(ctx, a.Digest)
	if err != nil {
		return err
	}
	defer f.Close()
	return file(a, f)
}

// card describes a version for people.
func card(v registry.Version, aliases []string) string {
	var b strings.Builder
	line := func(name, value string) {
		if value != "" {
			fmt.Fprintf(&b, "- %s: %s\n", name, value)
		}
	}
	fmt.Fprintf(&b, "# %s\n\n", v.Ref())
	line("digest", string(v.Digest))
	line("task", v.Task)
	line("labels", strings.Join(v.Labels, ", "))
	line("aliases when exported", strings.Join(aliases, ", "))
	line("trained on", v.Lineage.Dataset)
	line("data digest", string(v.Lineage.DatasetDigest))
	line("spec digest", string(v.Lineage.SpecDigest))
	line("from", v.Lineage.Parent)
	for _, t := range v.Lineage.DistilledFrom {
		line("distilled from", t.Ref)
	}
	line("unlabelled", v.Lineage.Unlabelled)
	line("trained by partners", partnersLine(v.Lineage.Federation))
	line("engine", strings.TrimSpace(v.Lineage.Engine+" "+v.Lineage.EngineVersion))
	line("job", v.Lineage.Job)
	if len(v.Reports) > 0 {
		b.WriteString("\n## Evaluations\n\n")
	}
	for _, r := range v.Reports {
		line(strings.TrimSpace(r.Dataset+" "+r.Split), fmt.Sprintf("%s (%d rows)", metricsLine(r.Metrics), r.N))
	}
	b.WriteString("\nThe graph runs in any ONNX runtime; galley.json names its inputs and outputs, tokenizer.json makes token ids of text.\n")
	return b.String()
}

// Report returns a recorded report.
func (c *Control) Report(ctx context.Context, digest galley.Digest) (*evals.Report, error) {
	return c.store.Report(ctx, digest)
}
