// Package faults makes what a server stands on fail, for tests: disks that
// fill up, freeze, or lose power, writes that end half-way, processes that are
// killed. Each fault is the kernel's own, so that the program under test is
// the one that people run.
package faults
