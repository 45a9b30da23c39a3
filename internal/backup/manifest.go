package backup

import (
	"regexp"
	"time"

	"galley"
)

// The names in an archive.
const (
	Database          = "galley.db"
	AuditKey          = "audit.key"
	Tenants           = "tenants.yaml"
	ServerCertificate = "partners/server.crt"
	ServerKey         = "partners/server.key"
	blobFolder        = "blobs/"
	manifestName      = "manifest.json"
)

// format names what an archive is.
const format = "galley-backup/1"

// Bounds of an archive.
const (
	maxManifest = 1 << 30 // bytes
	maxSmall    = 1 << 20 // bytes of a file that is neither the database nor a blob
)

// A Manifest says what an archive holds.
type Manifest struct {
	Format  string        `json:"format"`
	Galley  string        `json:"galley"`  // revision that wrote it
	Created time.Time     `json:"created"` // UTC
	Entries int64         `json:"audit_entries"`
	Head    galley.Digest `json:"audit_head"`
	Files   []File        `json:"files"` // in the order of the archive
}

// A File is an entry of an archive.
type File struct {
	Path   string        `json:"path"`
	Size   int64         `json:"size"`
	Digest galley.Digest `json:"digest"`
}

var blobName = regexp.MustCompile(`^blobs/[0-9a-f]{64}$`)

// BlobPath is the path of a blob in an archive.
func BlobPath(d galley.Digest) string { return blobFolder + d.Hex() }

// Blob returns the digest that a path names, "" if it is not that of a blob.
func Blob(path string) galley.Digest {
	if !blobName.MatchString(path) {
		return ""
	}
	return galley.Digest("sha256:" + path[len(blobFolder):])
}

// allowed reports whether a file of that path and size may be in an archive.
func allowed(path string, size int64) bool {
	switch path {
	case Database:
		return true
	case AuditKey, Tenants, ServerCertificate, ServerKey:
		return size <= maxSmall
	default:
		return Blob(path) != ""
	}
}
