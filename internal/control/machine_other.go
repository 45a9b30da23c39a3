//go:build !linux

package control

// memoryLimit is 0 where it is not known.
func memoryLimit() int64 { return 0 }
