// Package sqlite keeps galley's state in one SQLite file: datasets, jobs and
// their logs, model versions, aliases, reports, pending effects, audit.
//
// Each exported method is one transaction; it commits a change together with
// its effects and its audit entry. Synchronous writes and a write-ahead log
// make what was acknowledged durable, also when the machine loses power.
// Writes go through one connection, one after the other; reads have
// connections of their own and see the last commit. All methods may be called
// at the same time.
//
// One process owns the file: a second one is refused and told who has it.
package sqlite
