// Package newsroompb is typed inference for newsrooms: texts in, labels out.
package newsroompb
