// Package jobs holds the job files that galley ships: those that the
// quickstart runs, and one for each of the public datasets that the README
// quotes figures for.
package jobs

import "embed"

// Files holds the job files by name.
//
//go:embed *.yaml
var Files embed.FS
