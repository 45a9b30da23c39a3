// Package telemetry writes down what galley does for those who run it: logs
// as text or JSON, and traces for an OpenTelemetry collector. Both name the
// request that they belong to.
package telemetry
