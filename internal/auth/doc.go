// Package auth says who may call what: roles, the table of every method and
// route with the permission that it asks for, tokens and how they are held,
// and the caller that travels in a request's context.
//
// Whatever is not in the table is denied. The package reads no clock of
// its own and keeps no file: clocks and times come in as values, and tokens are
// kept by a store.
package auth
