package strictyaml

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"galley"
)

type recipe struct {
	Epochs int     `yaml:"epochs"`
	LR     float64 `yaml:"lr"`
	Seed   uint64  `yaml:"seed"`
	Mixed  bool    `yaml:"mixed"`
}

type file struct {
	Name    string            `yaml:"name"`
	Recipe  recipe            `yaml:"recipe"`
	Stop    *recipe           `yaml:"stop"`
	Orders  []int             `yaml:"orders"`
	Teams   []recipe          `yaml:"teams"`
	Columns map[string]string `yaml:"columns"`
	Ignored string
}

// read parses and decodes over a default of three epochs.
func read(text string) (file, Problems) {
	f := file{Recipe: recipe{Epochs: 3}}
	doc, problems := Parse([]byte(text))
	if problems != nil {
		return f, problems
	}
	return f, doc.Decode(&f)
}

func TestDecode(t *testing.T) {
	for _, tt := range []struct {
		name, text string
		want       file
	}{
		{"all", "name: news\nrecipe: {epochs: 5, lr: 5e-4, seed: 7, mixed: true}\nstop: {epochs: 2}\norders: [1, 2]\nteams:\n  - lr: 0.1\ncolumns: {text: title}\n",
			file{Name: "news", Recipe: recipe{5, 5e-4, 7, true}, Stop: &recipe{Epochs: 2}, Orders: []int{1, 2},
				Teams: []recipe{{LR: .1}}, Columns: map[string]string{"text": "title"}}},
		{"defaults stay", "name: news\nrecipe:\n", file{Name: "news", Recipe: recipe{Epochs: 3}}},
		{"a null stays a default", "recipe: {epochs: ~, lr: null}\n", file{Recipe: recipe{Epochs: 3}}},
		{"numbers are texts where a text is wanted", "name: 2024\n", file{Name: "2024", Recipe: recipe{Epochs: 3}}},
		{"hexadecimal", "recipe: {seed: 0x1f}\n", file{Recipe: recipe{Epochs: 3, Seed: 31}}},
		{"JSON", `{"name": "news", "orders": []}`, file{Name: "news", Orders: []int{}, Recipe: recipe{Epochs: 3}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, problems := read(tt.text)
			if problems != nil || !reflect.DeepEqual(got, tt.want) {
				t.Errorf("%+v, want %+v: %v", got, tt.want, problems)
			}
		})
	}
}

func TestProblems(t *testing.T) {
	for _, tt := range []struct{ name, text, want string }{
		{"unknown", "recipe:\n  epoch: 3\n", `line 2, column 3: recipe.epoch: is not a field here — did you mean "epochs"?`},
		{"swapped letters", "nmae: a\n", `line 1, column 1: nmae: is not a field here — did you mean "name"?`},
		{"nothing like it", "recipe: {temperature: 3}\n", "line 1, column 10: recipe.temperature: is not a field here — known here: epochs, lr, mixed, seed"},
		{"Go's own name", "Ignored: a\n", "line 1, column 1: Ignored: is not a field here — known here: columns, name, orders, recipe, stop, teams"},
		{"no name", "\"\": 1\n", "line 1, column 1: file: is not a field here — known here: columns, name, orders, recipe, stop, teams"},
		{"two", "a: 1\nrecipe: 3\n", "line 1, column 1: a: is not a field here — known here: columns, name, orders, recipe, stop, teams\n" +
			`line 2, column 9: recipe: is "3" — write a mapping`},
		{"a text for a number", "recipe: {epochs: many}\n", `line 1, column 18: recipe.epochs: is "many" — write a whole number`},
		{"a fraction", "recipe: {epochs: 1.5}\n", `line 1, column 18: recipe.epochs: is "1.5" — write a whole number`},
		{"too large", "recipe: {epochs: 99999999999999999999}\n", `line 1, column 18: recipe.epochs: is "99999999999999999999" — write a whole number`},
		{"negative", "recipe: {seed: -1}\n", `line 1, column 16: recipe.seed: is "-1" — write a whole number, 0 or more`},
		{"infinite", "recipe: {lr: .inf}\n", `line 1, column 14: recipe.lr: is ".inf" — write a number`},
		{"not a number", "recipe: {lr: NaN}\n", `line 1, column 14: recipe.lr: is "NaN" — write a number`},
		{"quoted", `recipe: {lr: "0.1"}`, `line 1, column 14: recipe.lr: is "0.1" — write a number`},
		{"yes", "recipe: {mixed: yes}\n", `line 1, column 17: recipe.mixed: is "yes" — write true or false`},
		{"a list for a text", "name: [a]\n", "line 1, column 7: name: is a list — write a text"},
		{"in a list", "orders: [1, b]\n", `line 1, column 13: orders[1]: is "b" — write a whole number`},
		{"in a mapping", "columns: {text: [a]}\n", "line 1, column 17: columns.text: is a list — write a text"},
		{"long", "recipe: {epochs: " + strings.Repeat("長", 100) + "}\n",
			`line 1, column 18: recipe.epochs: is "` + strings.Repeat("長", 13) + `…" — write a whole number`},
		{"twice", "name: a\nrecipe: {}\nname: b\n", "line 3, column 1: name: is given twice — keep one"},
		{"anchor", "name: &x a\n", "line 1, column 7: name: uses an anchor or alias — write the value out"},
		{"merge", "recipe: {<<: {epochs: 1}}\n", "line 1, column 10: recipe: has a key that is not a name — write keys as plain words"},
		{"tag", "name: !!binary aGk=\n", "line 1, column 7: name: has the tag !!binary — remove the tag"},
		{"key", "[a, b]: c\n", "line 1, column 1: file: has a key that is not a name — write keys as plain words"},
		{"list", "- a\n", "line 1, column 1: file: is not a mapping — begin with a line such as `apiVersion: galley/v1`"},
		{"empty", "", "line 1, column 1: file: is empty"},
		{"two documents", "name: a\n---\nname: b\n", "line 2, column 1: file: holds more than one document — keep one document a file"},
		{"no YAML", "name: [a\n", "line 1, column 1: file: is not YAML: did not find expected ',' or ']'"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, problems := read(tt.text)
			if problems == nil || problems.Error() != tt.want {
				t.Errorf("got\n%v\nwant\n%s", problems, tt.want)
			}
			if err := problems.AsError("job.yaml"); galley.CodeOf(err) != galley.InvalidArgument {
				t.Errorf("error %v", err)
			}
		})
	}
}

func TestPick(t *testing.T) {
	doc, problems := Parse([]byte("other: 1\nrecipe: {epochs: 2, lrr: 1}\nname: [a]\n"))
	if problems != nil {
		t.Fatal(problems)
	}
	var head struct {
		Name string `yaml:"name"`
		Kind string `yaml:"kind"`
	}
	if problems := doc.Pick(&head); len(problems) != 1 || problems[0].Path != "name" || problems[0].Line != 3 {
		t.Errorf("%v", problems)
	}
}

func TestSet(t *testing.T) {
	doc, problems := Parse([]byte("name: a\nrecipe:\n  epochs: 1\n"))
	if problems != nil {
		t.Fatal(problems)
	}
	for path, value := range map[string]string{"recipe.epochs": "4", "stop.lr": "2e-3", "orders": "[3, 4]", "name": ""} {
		if err := doc.Set(path, value); err != nil {
			t.Fatal(err)
		}
	}
	f := file{Name: "default"}
	if problems := doc.Decode(&f); problems != nil {
		t.Fatal(problems)
	}
	if f.Recipe.Epochs != 4 || f.Stop.LR != 2e-3 || !reflect.DeepEqual(f.Orders, []int{3, 4}) || f.Name != "" {
		t.Errorf("%+v", f)
	}
	for path, value := range map[string]string{
		"": "1", "recipe.": "1", "name.first": "1", "recipe.lr": "[", "orders": "&x 1", strings.Repeat("a.", 100) + "a": "1",
	} {
		if err := doc.Set(path, value); galley.CodeOf(err) != galley.InvalidArgument {
			t.Errorf("--set %s=%s: %v", path, value, err)
		}
	}
	if p := doc.Problem("recipe.lr", "is wrong", ""); p.Line != 3 || p.Path != "recipe.lr" {
		t.Errorf("%+v", p) // the nearest parent that the file writes
	}
}

// What a file costs is bounded by its size, whatever it holds.
func TestLargeFiles(t *testing.T) {
	keys := func(n int, key func(int) string) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, "%s: 1\n", key(i))
		}
		return b.String()
	}
	long := strings.Repeat("k", 400<<10)
	for name, text := range map[string]string{
		"unknown keys":   keys(45_000, func(i int) string { return fmt.Sprint("unknown-key-", i) }),
		"similar keys":   keys(45_000, func(i int) string { return fmt.Sprint("epochs", i) }),
		"below long key": long + ":\n" + strings.ReplaceAll("  "+keys(30_000, func(i int) string { return fmt.Sprint("x", i) }), "\n", "\n  "),
		"wrong values":   "orders: [" + strings.Repeat("a, ", 90_000) + "a]",
		"nodes":          "orders: [" + strings.Repeat("1, ", 200_000) + "1]",
		"depth":          "name: " + strings.Repeat("[", 5000) + strings.Repeat("]", 5000),
		"bytes":          "name: " + strings.Repeat("a", MaxBytes),
	} {
		t.Run(name, func(t *testing.T) {
			began := time.Now()
			_, problems := read(text)
			if len(problems) == 0 || len(problems) > MaxProblems+1 || len(problems.Error()) > 64<<10 {
				t.Errorf("%d problems in %d bytes", len(problems), len(problems.Error()))
			}
			if spent := time.Since(began); spent > 5*time.Second {
				t.Errorf("took %v", spent)
			}
		})
	}
}

// FuzzDecode holds that no input panics, and that each problem has a place.
func FuzzDecode(f *testing.F) {
	for _, seed := range []string{
		"name: news\nrecipe: {epochs: 5, lr: 5e-4}\n", "recipe:\n  epoch: 3\n", "a: &x [1]\nb: *x\n", "- 1\n", "<<: {a: b}\n",
		"name: !!binary aGk=\n", "---\n---\n", "{\"name\": [}", "? [a]\n: b\n", "name: \xff\n", "\t", "a: b: c", "stop: ~\nteams: [{}, {lr: 1}]\n",
	} {
		f.Add(seed, "recipe.epochs", "3")
	}
	f.Fuzz(func(t *testing.T, text, path, value string) {
		doc, problems := Parse([]byte(text))
		if doc != nil {
			if err := doc.Set(path, value); err != nil && galley.CodeOf(err) != galley.InvalidArgument {
				t.Errorf("--set %q=%q: %v", path, value, err)
			}
			problems = doc.Decode(new(file))
			doc.Pick(new(recipe))
			doc.Problem(path, "is wrong", "")
		}
		for _, p := range problems {
			if p.Path == "" || p.Message == "" || p.Line < 0 {
				t.Errorf("%+v", p)
			}
		}
	})
}

// Entries of lists are found by their id, and parts of a file can be read
// later, with their places.
func TestParts(t *testing.T) {
	type part struct {
		Size int `yaml:"size"`
	}
	type file struct {
		Parts []struct {
			ID   string   `yaml:"id"`
			Spec Document `yaml:"spec"`
		} `yaml:"parts"`
	}
	const text = "parts:\n  - id: a\n    spec: {size: 1}\n  - id: b\n    spec:\n      size: many\n  - spec: {size: 3}\n"
	doc, ps := Parse([]byte(text))
	if ps != nil {
		t.Fatal(ps)
	}
	for _, set := range []struct{ path, problem string }{
		{"parts.a.spec.size", ""}, {"parts[2].spec.size", ""}, {"parts.c.spec.size", `parts has no entry with the id "c"`}, {"parts.a.id.x", "parts.a.id is not a mapping"},
	} {
		err := doc.Set(set.path, "7")
		if (err == nil) != (set.problem == "") || err != nil && !strings.Contains(err.Error(), set.problem) {
			t.Errorf("%s: %v", set.path, err)
		}
	}
	var f file
	if ps := doc.Decode(&f); ps != nil || len(f.Parts) != 3 {
		t.Fatal(ps)
	}
	var sizes []int
	for i := range f.Parts {
		var p part
		ps := f.Parts[i].Spec.Decode(&p)
		sizes = append(sizes, p.Size)
		if want := `line 6, column 13: parts.b.spec.size: is "many" — write a whole number`; i == 1 && ps.Error() != want {
			t.Errorf("got %v, want %s", ps, want)
		}
	}
	if sizes[0] != 7 || sizes[2] != 7 {
		t.Errorf("%v", sizes)
	}
	if !doc.Has("parts.b.spec") || !doc.Has("parts[2].spec.size") || doc.Has("parts[3]") || doc.Has("parts[-1]") || doc.Has("parts.b.nothing") {
		t.Error("what there is is not found")
	}
	if p := doc.Problem("parts.b.spec.size", "is wrong", ""); p.Line != 6 || p.Column != 13 {
		t.Errorf("%+v", p)
	}
	if p := f.Parts[1].Spec.Problem("size", "is wrong", ""); p.Line != 6 || p.Path != "parts.b.spec.size" {
		t.Errorf("%+v", p)
	}
	if doc, ps := Parse([]byte("parts: [{id: a, spec: 3}]")); ps != nil {
		t.Error(ps)
	} else if ps := doc.Decode(&f); len(ps) != 1 || ps[0].Path != "parts.a.spec" {
		t.Error(ps)
	}
}
