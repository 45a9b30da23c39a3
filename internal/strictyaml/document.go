// Package strictyaml reads YAML files written by people into Go structs and
// reports every mistake with its line, its column and what was probably meant.
//
// It accepts one document of mappings, lists and scalars; anchors, aliases,
// merge keys and custom tags are refused, since they hide what a file says.
package strictyaml

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"galley"
)

// Bounds of a document and of what is said about it.
const (
	MaxBytes    = 1 << 20
	MaxProblems = 50
	maxDepth    = 32
	maxNodes    = 100_000
	maxWord     = 64 // bytes of a name that is compared with the known ones
)

// A Document is a parsed file, whose values can be overridden before it is
// decoded.
//
// A field of type Document takes a mapping as it stands, to be decoded later.
type Document struct {
	root *yaml.Node // a mapping
	path string     // of root within the file, for problems
}

// A Problem is one mistake in a file.
type Problem struct {
	Line    int    `json:"line"`
	Column  int    `json:"column"`
	Path    string `json:"path"` // recipe.optimizer.lr
	Message string `json:"message"`
	Remedy  string `json:"remedy,omitempty"`
}

func (p Problem) String() string {
	s := fmt.Sprintf("line %d, column %d: %s: %s", p.Line, p.Column, p.Path, p.Message)
	if p.Line == 0 {
		s = fmt.Sprintf("%s: %s", p.Path, p.Message)
	}
	if p.Remedy != "" {
		s += " — " + p.Remedy
	}
	return s
}

// Problems is an error that lists mistakes, one a line.
type Problems []Problem

func (p Problems) Error() string {
	lines := make([]string, len(p))
	for i, x := range p {
		lines[i] = x.String()
	}
	return strings.Join(lines, "\n")
}

// Clip keeps the first MaxProblems, and says that there are more.
func (p Problems) Clip() Problems {
	if len(p) <= MaxProblems {
		return p
	}
	return append(p[:MaxProblems:MaxProblems], Problem{Path: "file", Message: "has more mistakes", Remedy: "mend these first"})
}

// AsError gives the problems as one coded error about subject; nil if there
// are none.
func (p Problems) AsError(subject string) error {
	if len(p) == 0 {
		return nil
	}
	return &galley.Error{Code: galley.InvalidArgument, Subject: subject, Message: p.Error(), Cause: p}
}

var yamlLine = regexp.MustCompile(`^yaml: line (\d+): `)

// Parse reads one document whose top is a mapping.
func Parse(data []byte) (*Document, Problems) {
	if len(data) > MaxBytes {
		return nil, Problems{{Path: "file", Message: fmt.Sprintf("has %d bytes", len(data)),
			Remedy: fmt.Sprintf("a job file has at most %d", MaxBytes)}}
	}
	var doc yaml.Node
	dec := yaml.NewDecoder(bytes.NewReader(data))
	if err := dec.Decode(&doc); err != nil {
		if errors.Is(err, io.EOF) {
			return nil, Problems{{Line: 1, Column: 1, Path: "file", Message: "is empty"}}
		}
		message := err.Error()
		p := Problem{Line: 1, Column: 1, Path: "file"}
		if m := yamlLine.FindStringSubmatch(message); m != nil {
			p.Line, _ = strconv.Atoi(m[1])
			message = message[len(m[0]):]
		}
		p.Message = "is not YAML: " + strings.TrimPrefix(message, "yaml: ")
		return nil, Problems{p}
	}
	var second yaml.Node
	if err := dec.Decode(&second); !errors.Is(err, io.EOF) {
		return nil, Problems{{Line: max(1, second.Line), Column: 1, Path: "file", Message: "holds more than one document",
			Remedy: "keep one document a file"}}
	}
	root := &doc
	if root.Kind == yaml.DocumentNode && len(root.Content) == 1 {
		root = root.Content[0]
	}
	if root.Kind != yaml.MappingNode {
		return nil, Problems{at(root, "file", "is not a mapping", "begin with a line such as `apiVersion: galley/v1`")}
	}
	count := 0
	if p := checkTree(root, "", 0, &count); p != nil {
		return nil, Problems{*p}
	}
	return &Document{root: root}, nil
}

// checkTree refuses what the package does not accept, and unbounded files.
func checkTree(n *yaml.Node, path string, depth int, count *int) *Problem {
	refuse := func(message, remedy string) *Problem {
		p := at(n, orTop(path), message, remedy)
		return &p
	}
	if *count++; *count > maxNodes || depth > maxDepth {
		return refuse("is nested too deep or too large", "write a smaller file")
	}
	if n.Kind == yaml.AliasNode || n.Anchor != "" {
		return refuse("uses an anchor or alias", "write the value out")
	}
	if n.Style&yaml.TaggedStyle != 0 {
		return refuse("has the tag "+n.Tag, "remove the tag")
	}
	if n.Kind == yaml.MappingNode {
		seen := make(map[string]bool, len(n.Content)/2)
		for i := 0; i+1 < len(n.Content); i += 2 {
			key := n.Content[i]
			if key.Kind != yaml.ScalarNode || key.Value == "<<" {
				p := at(key, orTop(path), "has a key that is not a name", "write keys as plain words")
				return &p
			}
			if seen[key.Value] {
				p := at(key, orTop(join(path, galley.Clip(key.Value, 40))), "is given twice", "keep one")
				return &p
			}
			seen[key.Value] = true
			if p := checkTree(n.Content[i+1], join(path, galley.Clip(key.Value, 40)), depth+1, count); p != nil {
				return p
			}
		}
		return nil
	}
	for i, c := range n.Content {
		if p := checkTree(c, fmt.Sprintf("%s[%d]", path, i), depth+1, count); p != nil {
			return p
		}
	}
	return nil
}

// Set overrides the value at a dotted path, as `--set recipe.epochs=3` does;
// value is YAML. Mappings on the way are made as needed; entries of lists are
// named by their id, as in steps.pretrain.spec.name.
func (d *Document) Set(path, value string) error {
	var v yaml.Node
	if err := yaml.Unmarshal([]byte(value), &v); err != nil {
		return galley.Errorf(galley.InvalidArgument, "--set "+path, "%q is not a YAML value", value)
	}
	leaf := &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: ""}
	if v.Kind == yaml.DocumentNode {
		leaf = v.Content[0]
	}
	count := 0
	if p := checkTree(leaf, path, 0, &count); p != nil {
		return galley.Errorf(galley.InvalidArgument, "--set "+path, "%s", p.Message)
	}
	clearPlace(leaf)
	names := strings.Split(path, ".")
	if slices.Contains(names, "") {
		return galley.Errorf(galley.InvalidArgument, "--set", "%q is not a path", path).
			WithRemedy("write --set recipe.epochs=3")
	}
	if len(names) > maxDepth {
		return galley.Errorf(galley.InvalidArgument, "--set", "a path of %d names is too deep", len(names)).
			WithRemedy("write --set recipe.epochs=3")
	}
	node := d.root
	for i, name := range names {
		last := i == len(names)-1
		at := child(node, name)
		if node.Kind == yaml.SequenceNode && at == nil {
			return galley.Errorf(galley.InvalidArgument, "--set "+path, "%s has no entry with the id %q", strings.Join(names[:i], "."), galley.Clip(name, 40))
		}
		if node.Kind == yaml.ScalarNode {
			return galley.Errorf(galley.InvalidArgument, "--set "+path, "%s is not a mapping", strings.Join(names[:i], "."))
		}
		switch {
		case at != nil && last:
			*at = *leaf
		case at != nil:
			node = at
		case last:
			node.Content = append(node.Content, &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: name}, leaf)
		default:
			child := &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map"}
			node.Content = append(node.Content, &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: name}, child)
			node = child
		}
	}
	return nil
}

// clearPlace forgets lines and columns of a value that no file holds.
func clearPlace(n *yaml.Node) {
	n.Line, n.Column = 0, 0
	for _, c := range n.Content {
		clearPlace(c)
	}
}

// Problem makes a problem at a dotted path, with the place where the file
// writes it, or else its nearest parent.
func (d *Document) Problem(path, message, remedy string) Problem {
	node := d.root
	for _, name := range strings.Split(path, ".") {
		next := child(node, name)
		if next == nil {
			break
		}
		node = next
	}
	return at(node, join(d.path, path), message, remedy)
}

// Has reports whether the file gives a value at a dotted path.
func (d *Document) Has(path string) bool {
	node := d.at(path)
	return node != nil && !isNull(node)
}

// String returns the scalar at a dotted path, "" if there is none.
func (d *Document) String(path string) string {
	if v := d.at(path); v != nil && v.Kind == yaml.ScalarNode && !isNull(v) {
		return v.Value
	}
	return ""
}

// at is what the file has at a dotted path, nil if that is nothing.
func (d *Document) at(path string) *yaml.Node {
	node := d.root
	for name := range strings.SplitSeq(path, ".") {
		if node == nil {
			return nil
		}
		node = child(node, name)
	}
	return node
}

// child is what a name of a dotted path leads to: the value of a mapping's key,
// the entry of a list that has the name as its id, or an entry by its number,
// as in steps[0]; nil if there is none.
func child(n *yaml.Node, name string) *yaml.Node {
	switch n.Kind {
	case yaml.MappingNode:
		if v := valueOf(n, name); v != nil {
			return v
		}
		list, number, ok := strings.Cut(strings.TrimSuffix(name, "]"), "[")
		if i, err := strconv.Atoi(number); ok && err == nil {
			if v := valueOf(n, list); v != nil && v.Kind == yaml.SequenceNode && 0 <= i && i < len(v.Content) {
				return v.Content[i]
			}
		}
	case yaml.SequenceNode:
		for _, entry := range n.Content {
			if idOf(entry) == name {
				return entry
			}
		}
	}
	return nil
}

// idOf is the id of a list's entry, "" if it has none.
func idOf(n *yaml.Node) string {
	if n.Kind != yaml.MappingNode {
		return ""
	}
	if id := valueOf(n, "id"); id != nil && id.Kind == yaml.ScalarNode {
		return id.Value
	}
	return ""
}

func valueOf(mapping *yaml.Node, key string) *yaml.Node {
	for i := 0; i+1 < len(mapping.Content); i += 2 {
		if mapping.Content[i].Value == key {
			return mapping.Content[i+1]
		}
	}
	return nil
}

func at(n *yaml.Node, path, message, remedy string) Problem {
	return Problem{Line: n.Line, Column: n.Column, Path: path, Message: message, Remedy: remedy}
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

func orTop(path string) string {
	if path == "" {
		return "file"
	}
	return path
}
