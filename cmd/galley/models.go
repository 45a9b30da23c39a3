package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	controlpb "galley/api/control/v1"
)

func (a *app) modelsCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "models", Short: "Look at versions, promote them and roll back",
		Example: "  galley models list\n  galley models promote news-topic@2 prod\n  galley models rollback news-topic",
	}
	c.AddCommand(
		a.modelsListCommand(), a.modelsShowCommand(), a.modelsLineageCommand(), a.modelsImportCommand(),
		a.modelsPromoteCommand(), a.modelsRollbackCommand(), a.modelsExportCommand(), a.modelsDeleteCommand(),
		a.modelsHistoryCommand(), a.modelsDiffCommand(), a.modelsGateCommand(),
	)
	return c
}

type versionJSON struct {
	Ref         string             `json:"ref"`
	Digest      string             `json:"digest"`
	Task        string             `json:"task"`
	Aliases     []string           `json:"aliases"`
	Labels      []string           `json:"labels"`
	Metrics     map[string]float64 `json:"metrics"`
	Reports     []map[string]any   `json:"reports"`
	Lineage     map[string]any     `json:"lineage"`
	Files       []fileJSON         `json:"files"`
	Untrainable []string           `json:"untrainable,omitempty"`
	Created     time.Time          `json:"created"`
}

type fileJSON struct {
	Path   string `json:"path"`
	Digest string `json:"digest"`
	Size   int64  `json:"size"`
}

func versionOf(v *controlpb.Version) versionJSON {
	out := versionJSON{
		Ref: v.GetRef(), Digest: v.GetDigest(), Task: v.GetTask(), Aliases: append([]string{}, v.GetAliases()...),
		Labels: append([]string{}, v.GetLabels()...), Metrics: map[string]float64{}, Reports: []map[string]any{},
		Lineage: v.GetLineage().AsMap(), Files: []fileJSON{}, Untrainable: v.GetUntrainable(), Created: v.GetCreated().AsTime(),
	}
	for name, value := range v.GetMetrics() {
		out.Metrics[name] = value
	}
	for _, r := range v.GetReports() {
		out.Reports = append(out.Reports, r.GetReport().AsMap())
	}
	for _, f := range v.GetFiles() {
		out.Files = append(out.Files, fileJSON{f.GetPath(), f.GetDigest(), f.GetSize()})
	}
	return out
}

func (a *app) printVersion(v *controlpb.Version) {
	if a.json {
		a.printJSON(versionOf(v))
		return
	}
	fmt.Fprintln(a.out, strings.TrimRight(fmt.Sprintf("%s  %s  %s", v.GetRef(), v.GetTask(), strings.Join(v.GetAliases(), ", ")), " "))
	fmt.Fprintf(a.out, "  %-14s %s\n", "digest", v.GetDigest())
	if len(v.GetLabels()) > 0 {
		fmt.Fprintf(a.out, "  %-14s %s\n", "labels", strings.Join(v.GetLabels(), ", "))
	}
	for _, key := range []string{"dataset", "parent", "engine", "engine_version", "job"} {
		if value, ok := v.GetLineage().AsMap()[key].(string); ok && value != "" {
			fmt.Fprintf(a.out, "  %-14s %s\n", strings.ReplaceAll(key, "_", " "), value)
		}
	}
	a.printReports(v.GetReports())
	if len(v.GetUntrainable()) > 0 {
		fmt.Fprintf(a.out, "  cannot be trained through: %s\n", strings.Join(v.GetUntrainable(), ", "))
	}
}

// printReports writes the newest report of each split for people: the same
// split is measured again and again.
func (a *app) printReports(reports []*controlpb.Report) {
	newest := map[string]int{}
	for i, r := range reports {
		newest[splitOf(r.GetReport().AsMap())] = i
	}
	for i, r := range reports {
		if report := r.GetReport().AsMap(); newest[splitOf(report)] == i {
			printReport(a.out, report, "  ")
		}
	}
	if earlier := len(reports) - len(newest); earlier > 0 {
		fmt.Fprintf(a.out, "  and %d earlier %s of the same splits: -o json has them\n", earlier, plural(earlier, "report", "reports"))
	}
}

func (a *app) modelsListCommand() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List models and their versions", Example: "  galley models list", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.with(cmd.Context(), func(c *client) error {
				r, err := c.control.ListModels(cmd.Context(), &controlpb.ListModelsRequest{})
				if err != nil {
					return err
				}
				if a.json {
					type listedJSON struct {
						Ref     string    `json:"ref"`
						Digest  string    `json:"digest"`
						Task    string    `json:"task"`
						Aliases []string  `json:"aliases"`
						Created time.Time `json:"created"`
					}
					type modelJSON struct {
						Name     string       `json:"name"`
						Versions []listedJSON `json:"versions"`
					}
					models := []modelJSON{}
					for _, m := range r.GetModels() {
						out := modelJSON{Name: m.GetName(), Versions: []listedJSON{}}
						for _, v := range m.GetVersions() {
							out.Versions = append(out.Versions, listedJSON{v.GetRef(), v.GetDigest(), v.GetTask(), append([]string{}, v.GetAliases()...), v.GetCreated().AsTime()})
						}
						models = append(models, out)
					}
					a.printJSON(map[string]any{"models": models})
					return nil
				}
				w := tabwriter.NewWriter(a.out, 0, 0, 2, ' ', 0)
				fmt.Fprintln(w, "VERSION\tTASK\tALIASES\tCREATED")
				for _, m := range r.GetModels() {
					for _, v := range m.GetVersions() {
						fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", v.GetRef(), v.GetTask(), strings.Join(v.GetAliases(), ","), v.GetCreated().AsTime().Local().Format(time.DateTime))
					}
				}
				return w.Flush()
			})
		},
	}
}

func (a *app) modelsShowCommand() *cobra.Command {
	return &cobra.Command{
		Use: "show REF", Short: "Show a version", Example: "  galley models show news-topic:prod", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.with(cmd.Context(), func(c *client) error {
				v, err := c.control.GetVersion(cmd.Context(), &controlpb.VersionRequest{Ref: args[0]})
				if err == nil {
					a.printVersion(v)
				}
				return err
			})
		},
	}
}

func (a *app) modelsLineageCommand() *cobra.Command {
	return &cobra.Command{
		Use: "lineage REF", Short: "Walk from a version to its data, spec, parents and teachers", Example: "  galley models lineage news-topic@2", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.with(cmd.Context(), func(c *client) error {
				r, err := c.control.Lineage(cmd.Context(), &controlpb.VersionRequest{Ref: args[0]})
				if err != nil {
					return err
				}
				if a.json {
					a.printJSON(r.GetLineage().AsMap())
					return nil
				}
				printLineage(a.out, r.GetLineage().AsMap(), "")
				return nil
			})
		},
	}
}

// printLineage draws a version and, indented, what it came from.
func printLineage(w io.Writer, node map[string]any, indent string) {
	get := func(key string) string { s, _ := node[key].(string); return s }
	fmt.Fprintf(w, "%s%s  %s\n", indent, get("ref"), get("digest"))
	for _, key := range []string{"external", "dataset", "dataset_digest", "unlabelled", "spec_digest", "engine", "engine_version", "revision", "hardware", "job"} {
		if v := get(key); v != "" {
			fmt.Fprintf(w, "%s  %-14s %s\n", indent, strings.ReplaceAll(key, "_", " "), v)
		}
	}
	splits, _ := node["splits"].(map[string]any)
	for _, name := range slices.Sorted(maps.Keys(splits)) {
		split, _ := splits[name].(map[string]any)
		fmt.Fprintf(w, "%s  %-14s %v rows  %v\n", indent, name, split["rows"], split["digest"])
	}
	if f, ok := node["federation"].(map[string]any); ok {
		printFederated(w, f, indent)
	}
	if parent, ok := node["parent"].(map[string]any); ok {
		fmt.Fprintf(w, "%s  from\n", indent)
		printLineage(w, parent, indent+"    ")
	}
	teachers, _ := node["distilled_from"].([]any)
	for _, teacher := range teachers {
		if teacher, ok := teacher.(map[string]any); ok {
			fmt.Fprintf(w, "%s  distilled from\n", indent)
			printLineage(w, teacher, indent+"    ")
		}
	}
}

// printFederated says what rounds a version is made of, and whose.
func printFederated(w io.Writer, f map[string]any, indent string) {
	rounds, _ := f["rounds"].([]any)
	fmt.Fprintf(w, "%s  %-14s %v, %d rounds of %v\n", indent, "federation", f["name"], len(rounds), f["run"])
	partners, _ := f["partners"].([]any)
	for _, p := range partners {
		if p, ok := p.(map[string]any); ok {
			fmt.Fprintf(w, "%s  %-14s %v, %v rounds, agreement %v\n", indent, "partner", p["name"], p["rounds"], p["agreement"])
		}
	}
	if seen, _ := f["coordinator_saw_single_updates"].(bool); seen {
		fmt.Fprintf(w, "%s  %-14s the coordinator saw single updates\n", indent, "")
	}
}

func (a *app) modelsRollbackCommand() *cobra.Command {
	return &cobra.Command{
		Use: "rollback NAME [ALIAS]", Short: "Return an alias to the version before", Example: "  galley models rollback news-topic",
		Args: cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			request := &controlpb.RollbackRequest{Name: args[0]}
			if len(args) == 2 {
				request.Alias = args[1]
			}
			return a.with(cmd.Context(), func(c *client) error {
				change, err := c.control.Rollback(cmd.Context(), request)
				if err == nil {
					a.printChange(change)
				}
				return err
			})
		},
	}
}

func (a *app) modelsDeleteCommand() *cobra.Command {
	return &cobra.Command{
		Use: "delete REF", Short: "Delete a version that nothing needs", Example: "  galley models delete news-topic@1", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.with(cmd.Context(), func(c *client) error {
				r, err := c.control.DeleteVersion(cmd.Context(), &controlpb.VersionRequest{Ref: args[0]})
				if err != nil {
					return err
				}
				if a.json {
					a.printJSON(map[string]any{"ref": r.GetRef()})
				} else {
					fmt.Fprintf(a.out, "%s deleted\n", r.GetRef())
				}
				return nil
			})
		},
	}
}
