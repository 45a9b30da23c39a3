// Package durable writes files that outlive a loss of power, whole or not at
// all, and says what is wrong with a file that cannot be written or read.
package durable
