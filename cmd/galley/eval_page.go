package main

import (
	"os"

	"galley/evals"
	"galley/evals/page"
	"galley/internal/durable"
)

// writePage writes a report as a page: it is at its path whole or as it was.
// One that shows texts of rows is for this user alone.
func writePage(path string, r *evals.Report, texts bool) error {
	mode := os.FileMode(0o644)
	if texts {
		mode = 0o600
	}
	err := durable.Replace(path, mode, func(to *os.File) error { return page.Write(to, r) })
	return durable.WriteError(path, err)
}
