package dataset

import (
	"slices"
	"strings"

	"galley"
)

// Columns says from which columns of a file each field of a row is read. A
// field with several columns is their values joined by one space, empty
// values left out. The zero value takes the columns named text, label and
// language, the last two if they exist.
type Columns struct {
	Text     []string `json:"text,omitempty"`
	Label    []string `json:"label,omitempty"`
	Language []string `json:"language,omitempty"`
}

const columnsRemedy = "write --columns text=title+description,label=label"

// ParseColumns reads a mapping as users write it:
// "text=title+description,label=label". The empty string is the zero value.
func ParseColumns(s string) (Columns, error) {
	var c Columns
	if s == "" {
		return c, nil
	}
	if len(s) > 1<<16 {
		return c, galley.Errorf(galley.InvalidArgument, "columns", "the mapping is longer than 64 KiB").WithRemedy(columnsRemedy)
	}
	for _, part := range strings.Split(s, ",") {
		field, list, ok := strings.Cut(part, "=")
		if !ok {
			return c, galley.Errorf(galley.InvalidArgument, "columns", "%q is not field=column", galley.Clip(part, 200)).WithRemedy(columnsRemedy)
		}
		to := c.field(strings.TrimSpace(field))
		switch {
		case to == nil:
			return c, galley.Errorf(galley.InvalidArgument, "columns", "%q is not a field", galley.Clip(field, 200)).
				WithRemedy("the fields are text, label and language; %s", columnsRemedy)
		case *to != nil:
			return c, galley.Errorf(galley.InvalidArgument, "columns", "%s is mapped twice", field).
				WithRemedy("join several columns with +, as in text=title+description")
		}
		for _, name := range strings.Split(list, "+") {
			name = strings.TrimSpace(name)
			if name == "" {
				return c, galley.Errorf(galley.InvalidArgument, "columns", "%q names no column", galley.Clip(part, 200)).WithRemedy(columnsRemedy)
			}
			*to = append(*to, name)
		}
	}
	if c.Text == nil {
		return c, galley.Errorf(galley.InvalidArgument, "columns", "no column is mapped to text").WithRemedy(columnsRemedy)
	}
	return c, nil
}

// String writes the mapping as ParseColumns reads it.
func (c Columns) String() string {
	var parts []string
	for _, f := range []struct {
		name string
		from []string
	}{{"text", c.Text}, {"label", c.Label}, {"language", c.Language}} {
		if len(f.from) > 0 {
			parts = append(parts, f.name+"="+strings.Join(f.from, "+"))
		}
	}
	return strings.Join(parts, ",")
}

func (c *Columns) field(name string) *[]string {
	switch name {
	case "text":
		return &c.Text
	case "label":
		return &c.Label
	case "language":
		return &c.Language
	default:
		return nil
	}
}

// isZero reports whether the mapping is the default one.
func (c Columns) isZero() bool { return c.Text == nil && c.Label == nil && c.Language == nil }

// resolve checks the mapping against the columns found in a file, and fills
// in the defaults. The result lists only columns that exist.
func (c Columns) resolve(file string, found []string) (Columns, error) {
	if c.isZero() {
		for _, name := range []string{"text", "label", "language"} {
			if slices.Contains(found, name) {
				*c.field(name) = []string{name}
			}
		}
	}
	if c.Text == nil {
		return c, missingColumn(file, "text", found)
	}
	for _, name := range slices.Concat(c.Text, c.Label, c.Language) {
		if !slices.Contains(found, name) {
			return c, missingColumn(file, name, found)
		}
	}
	return c, nil
}

func missingColumn(file, name string, found []string) error {
	shown := found
	more := ""
	if len(shown) > 30 {
		shown, more = shown[:30], ", …"
	}
	err := galley.Errorf(galley.InvalidArgument, file, "no column %q; the columns are: %s%s",
		galley.Clip(name, 200), galley.Clip(strings.Join(shown, ", "), 200), more)
	if len(found) == 1 && strings.ContainsAny(found[0], ";\t|") {
		return err.WithRemedy("separate the columns with commas")
	}
	return err.WithRemedy("say which columns to read with --columns, for example --columns %s", example(found))
}

// example proposes a mapping made of columns that exist.
func example(found []string) string {
	label := ""
	var text []string
	for _, name := range found {
		switch l := strings.ToLower(name); {
		case strings.ContainsAny(name, ",=+") || len(name) > 60:
		case label == "" && slices.Contains([]string{"label", "labels", "class", "category", "topic", "target"}, l):
			label = name
		case slices.Contains([]string{"text", "title", "headline", "description", "body", "content", "sentence"}, l):
			text = append(text, name)
		}
	}
	if text == nil {
		return "text=title+description,label=label"
	}
	return strings.TrimSuffix("text="+strings.Join(text, "+")+",label="+label, ",label=")
}
