// Package api holds galley's interfaces: the .proto files, beside them their
// Go, and the description of the REST routes that they give.
package api

import _ "embed"

// OpenAPI describes the REST routes in OpenAPI 3, as JSON.
//
//go:embed openapi.json
var OpenAPI []byte
