// Package processors is how a process shares the machine's processors among
// its threads: those that answer callers at once go before those that compute.
package processors
