package main

import (
	"net"
	"slices"
	"strconv"
	"strings"

	"galley"
	"galley/dataset"
)

// A checkedFlag is one whose value is looked at while the command line is
// read: what cannot be understood is a usage error, before anything is done.
type checkedFlag struct {
	check  func(string) error
	set    func(string)
	string func() string
	kind   string // as the help has it
}

func (f checkedFlag) Set(s string) error {
	if err := f.check(s); err != nil {
		return err
	}
	f.set(s)
	return nil
}

func (f checkedFlag) String() string { return f.string() }
func (f checkedFlag) Type() string   { return f.kind }

func checkedText(to *string, check func(string) error) checkedFlag {
	return checkedFlag{check, func(s string) { *to = s }, func() string { return *to }, "string"}
}

// columnsFlag is a mapping of columns.
func columnsFlag(to *string) checkedFlag {
	return checkedText(to, func(s string) error {
		_, err := dataset.ParseColumns(s)
		return err
	})
}

// rowFormats are those of files with rows.
var rowFormats = []string{"csv", "jsonl", "parquet"}

// formatFlag is a format of a file with rows.
func formatFlag(to *string) checkedFlag {
	return checkedText(to, func(s string) error {
		if s == "" || slices.Contains(rowFormats, s) {
			return nil
		}
		return galley.Errorf(galley.InvalidArgument, "", "is not a format").WithRemedy("write csv, jsonl or parquet")
	})
}

// setsFlag is a value of a job file that is written over; it is repeatable.
func setsFlag(to *[]string) checkedFlag {
	return checkedFlag{
		check: func(s string) error {
			if path, _, ok := strings.Cut(s, "="); !ok || path == "" {
				return galley.Errorf(galley.InvalidArgument, "", "is not path=value").WithRemedy("write --set recipe.epochs=3")
			}
			return nil
		},
		set:    func(s string) { *to = append(*to, s) },
		string: func() string { return strings.Join(*to, " ") },
		kind:   "path=value",
	}
}

// addressFlag is an address to listen on.
func addressFlag(to *string, name, value string) checkedFlag {
	*to = value
	return checkedText(to, func(s string) error {
		_, port, err := net.SplitHostPort(s)
		if err == nil {
			_, err = strconv.ParseUint(port, 10, 16)
		}
		if err != nil {
			return galley.Errorf(galley.InvalidArgument, "", "is not HOST:PORT").WithRemedy("write %s 127.0.0.1:0", name)
		}
		return nil
	})
}
