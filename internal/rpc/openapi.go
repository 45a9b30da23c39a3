package rpc

import (
	"net/http"

	"galley/api"
	inferencepb "galley/api/inference/v2"
)

// openAPIRoute serves the description of the REST routes, to whom may read the
// server's metadata.
func openAPIRoute(a *httpAPI) {
	a.mux.HandleMethod("GET /openapi.json", inferencepb.GRPCInferenceService_ServerMetadata_FullMethodName, func(w http.ResponseWriter, _ *http.Request) {
		h := w.Header()
		h.Set("Content-Type", "application/json")
		h.Set("X-Content-Type-Options", "nosniff")
		_, _ = w.Write(api.OpenAPI) // who asked may have gone
	})
}
