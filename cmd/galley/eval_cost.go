package main

import (
	"fmt"
	"io"

	"galley/evals"
)

// printCost writes for people what a thousand rows take of processors, money
// and energy.
func printCost(w io.Writer, r evals.Resources) {
	fmt.Fprintf(w, "  a thousand rows take %.4g CPU seconds", r.CPUSecondsPerThousand)
	if c := r.Cost; c != nil {
		fmt.Fprintf(w, ", which cost %.4g at %v a CPU hour", c.PerThousand, c.PerCPUHour)
	}
	fmt.Fprintln(w)
	switch e := r.Energy; {
	case e == nil:
	case e.NotMeasured != "":
		fmt.Fprintf(w, "  energy is not measured: %s\n", e.NotMeasured)
	default:
		fmt.Fprintf(w, "  energy of a thousand rows: %.4g J at %.3g W (%s)\n", e.PerThousand, e.Watts, e.Source)
	}
}
