// Package backup is the form of a backup: a tar archive of a home's files,
// with a manifest as its last entry.
//
//	galley.db       the database
//	audit.key       the key that signs heads of the audit log
//	tenants.yaml    weights and quotas of tenants, if there are any
//	partners/       the certificate and the key that partners' agents know the
//	                server by, if it made them: server.crt, server.key
//	blobs/HEX       each blob, named by the 64 digits of its SHA-256
//	manifest.json   format, time, the audit log's head, path, size and digest
//	                of each file
//
// An archive is whole or refused: files that are missing, doubled, changed, of
// another kind or under another name, and anything after the manifest.
package backup
