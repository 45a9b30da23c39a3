// Package page writes an evaluation as one HTML page that needs nothing
// else: no script, no font, no picture from anywhere, so that it can be sent,
// kept and printed. Plots are SVG inside it; each has its figures as a table,
// too. Light or dark is what the reader's system says.
//
// All that a report says comes from outside, labels and texts of rows above
// all: html/template escapes it, and a content policy in the page forbids
// what it does not need. Long lists are cut, and say so.
package page

import (
	"bytes"
	"embed"
	"html/template"
	"io"

	"galley"
	"galley/evals"
)

//go:embed templates
var files embed.FS

var templates = template.Must(template.New("").Funcs(formats).ParseFS(files, "templates/*"))

// Write writes the page of a report. The same report gives the same bytes. An
// error of w is returned as it is.
func Write(w io.Writer, r *evals.Report) error {
	var b bytes.Buffer
	if err := templates.ExecuteTemplate(&b, "page.html", newView(r)); err != nil {
		return galley.Errorf(galley.Internal, "page", "cannot be made: %w", err)
	}
	_, err := b.WriteTo(w)
	return err
}
