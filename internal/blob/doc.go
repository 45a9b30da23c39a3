// Package blob keeps bytes in a folder, named by their digest.
//
// A blob is written to a temporary file beside its place, flushed to the
// disk, and renamed: it is there whole or not at all, and writing it twice
// is the same as once. Blobs are read-only files, so that processes which
// read by path can be given [Store.Path].
//
// What nothing names any more is removed by [Store.Sweep], which never takes
// what a writer is about to name: see [Store.Hold].
//
//	DIR/sha256/ab/ab34…   a blob, under the first two digits of its digest
//	DIR/tmp/              what is being written; emptied by Open
package blob
