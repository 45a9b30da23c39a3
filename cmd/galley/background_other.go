//go:build !linux

package main

// inBackground calls f; elsewhere than on Linux priority is a process's.
func inBackground(f func()) { f() }
