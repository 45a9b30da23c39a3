// Package docs is galley's documentation. Its tests hold the pages to the
// code: commands parse, links resolve, defaults and dependencies are true.
package docs
