package strictyaml

import (
	"fmt"
	"math"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"galley"
)

// Decode fills into, a pointer to a struct whose fields carry `yaml:"name"`
// tags, and returns every unknown field and every value of a wrong type, or
// the first MaxProblems of them and one more that says so. Values that the file
// does not give keep what into holds: its defaults.
//
// Fields of an embedded struct are the struct's own. Fields may be structs,
// pointers to structs, strings, booleans, integers, floats, lists of these, maps
// from string to these, and Documents.
func (d *Document) Decode(into any) Problems {
	var ps Problems
	decode(d.root, reflect.ValueOf(into).Elem(), d.path, &ps)
	return ps.Clip()
}

// Pick fills the fields of into, as Decode does, and says nothing of the
// file's other keys.
func (d *Document) Pick(into any) Problems {
	var ps Problems
	v := reflect.ValueOf(into).Elem()
	for _, f := range fieldsOf(v.Type()) {
		if n := valueOf(d.root, f.name); n != nil {
			decode(n, v.FieldByIndex(f.index), join(d.path, f.name), &ps)
		}
	}
	return ps.Clip()
}

func decode(n *yaml.Node, v reflect.Value, path string, ps *Problems) {
	if len(*ps) > MaxProblems {
		return // enough to mend
	}
	wrong := func(want string) {
		*ps = append(*ps, at(n, orTop(path), fmt.Sprintf("is %s", describe(n)), "write "+want))
	}
	if v.Kind() == reflect.Pointer {
		if isNull(n) {
			return
		}
		if v.IsNil() {
			v.Set(reflect.New(v.Type().Elem()))
		}
		decode(n, v.Elem(), path, ps)
		return
	}
	if isNull(n) {
		return // a key without a value keeps its default
	}
	switch v.Kind() {
	case reflect.Struct:
		if n.Kind != yaml.MappingNode {
			wrong("a mapping")
			return
		}
		if part, ok := v.Addr().Interface().(*Document); ok {
			*part = Document{root: n, path: path}
			return
		}
		decodeStruct(n, v, path, ps)
	case reflect.Map:
		if n.Kind != yaml.MappingNode {
			wrong("a mapping")
			return
		}
		v.Set(reflect.MakeMap(v.Type()))
		for i := 0; i+1 < len(n.Content); i += 2 {
			e := reflect.New(v.Type().Elem()).Elem()
			decode(n.Content[i+1], e, join(path, galley.Clip(n.Content[i].Value, 40)), ps)
			v.SetMapIndex(reflect.ValueOf(n.Content[i].Value), e)
		}
	case reflect.Slice:
		if n.Kind != yaml.SequenceNode {
			wrong("a list")
			return
		}
		s := reflect.MakeSlice(v.Type(), len(n.Content), len(n.Content))
		for i, c := range n.Content {
			decode(c, s.Index(i), entry(path, i, c), ps)
		}
		v.Set(s)
	case reflect.String:
		if n.Kind != yaml.ScalarNode {
			wrong("a text")
			return
		}
		v.SetString(n.Value)
	case reflect.Bool:
		b, err := strconv.ParseBool(n.Value)
		if n.Kind != yaml.ScalarNode || n.Tag != "!!bool" || err != nil {
			wrong("true or false")
			return
		}
		v.SetBool(b)
	case reflect.Int, reflect.Int64:
		i, err := strconv.ParseInt(n.Value, 0, 64)
		if n.Kind != yaml.ScalarNode || n.Tag != "!!int" || err != nil {
			wrong("a whole number")
			return
		}
		v.SetInt(i)
	case reflect.Uint64:
		i, err := strconv.ParseUint(n.Value, 0, 64)
		if n.Kind != yaml.ScalarNode || n.Tag != "!!int" || err != nil {
			wrong("a whole number, 0 or more")
			return
		}
		v.SetUint(i)
	case reflect.Float64:
		// The schema takes 5e-4, without a dot, for a string; people do not.
		f, err := strconv.ParseFloat(n.Value, 64)
		quoted := n.Style&(yaml.SingleQuotedStyle|yaml.DoubleQuotedStyle) != 0
		if n.Kind != yaml.ScalarNode || quoted || err != nil || math.IsNaN(f) || math.IsInf(f, 0) {
			wrong("a number")
			return
		}
		v.SetFloat(f)
	default:
		panic("strictyaml: a struct has a field of kind " + v.Kind().String())
	}
}

// entry is the path of a list's entry: by its id, if that could be a name.
func entry(path string, i int, n *yaml.Node) string {
	if id := idOf(n); entryName.MatchString(id) {
		return join(path, id)
	}
	return fmt.Sprintf("%s[%d]", path, i)
}

var entryName = regexp.MustCompile(`^[a-z0-9][a-z0-9_-]{0,62}$`)

func decodeStruct(n *yaml.Node, v reflect.Value, path string, ps *Problems) {
	fields := fieldsOf(v.Type())
	for i := 0; i+1 < len(n.Content) && len(*ps) <= MaxProblems; i += 2 {
		key := n.Content[i]
		index := slices.IndexFunc(fields, func(f field) bool { return f.name == key.Value })
		if index < 0 {
			names := make([]string, len(fields))
			for j, f := range fields {
				names[j] = f.name
			}
			*ps = append(*ps, at(key, orTop(join(path, galley.Clip(key.Value, 40))), "is not a field here", suggest(key.Value, names)))
			continue
		}
		decode(n.Content[i+1], v.FieldByIndex(fields[index].index), join(path, key.Value), ps)
	}
}

type field struct {
	name  string
	index []int
}

func fieldsOf(t reflect.Type) []field {
	var fs []field
	for i := range t.NumField() {
		f := t.Field(i)
		if f.Anonymous && f.Type.Kind() == reflect.Struct {
			for _, of := range fieldsOf(f.Type) {
				fs = append(fs, field{of.name, append([]int{i}, of.index...)})
			}
			continue
		}
		name, _, _ := strings.Cut(f.Tag.Get("yaml"), ",")
		if name != "" && name != "-" {
			fs = append(fs, field{name, f.Index})
		}
	}
	return fs
}

func isNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.Tag == "!!null" }

func describe(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	default:
		return strconv.Quote(galley.Clip(n.Value, 40))
	}
}

// suggest names the nearest of the known names, or all of them.
func suggest(name string, known []string) string {
	if len(name) > maxWord {
		name = "" // not a slip of the pen
	}
	best, least := "", len(name)/2+1
	for _, k := range known {
		if d := distance(strings.ToLower(name), strings.ToLower(k)); d < least || (d == least && best != "" && k < best) {
			best, least = k, d
		}
	}
	if best != "" {
		return fmt.Sprintf("did you mean %q?", best)
	}
	sorted := slices.Sorted(slices.Values(known))
	return "known here: " + strings.Join(sorted, ", ")
}

// Nearest returns the suggestion for a wrong word out of a closed set.
func Nearest(word string, known []string) string { return suggest(word, known) }

// distance is the number of insertions, deletions, substitutions and swaps of
// neighbours that lead from a to b (optimal string alignment), maxWord if one
// is longer than any name.
func distance(a, b string) int {
	if len(a) > maxWord || len(b) > maxWord {
		return maxWord
	}
	before, row := make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	var twoBefore []int
	for i := 1; i <= len(a); i++ {
		twoBefore, before = before, row
		row = make([]int, len(b)+1)
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(before[j]+1, row[j-1]+1, before[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], twoBefore[j-2]+1)
			}
		}
	}
	return row[len(b)]
}
