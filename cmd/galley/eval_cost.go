package main

import (
	"fmt"
	"io"
)

// printCost writes for people what a thousand rows take of processors, money
// and energy.
func printCost(w io.Writer, r map[string]any, indent string) {
	resources, _ := r["resources"].(map[string]any)
	if seconds, ok := resources["cpu_seconds_per_thousand"].(float64); ok {
		fmt.Fprintf(w, "%sa thousand  %.4g CPU seconds", indent, seconds)
		if cost, ok := resources["cost"].(map[string]any); ok {
			fmt.Fprintf(w, ", costs %.4g at %v a CPU hour", cost["per_thousand"], cost["per_cpu_hour"])
		}
		fmt.Fprintln(w)
	}
	energy, ok := resources["energy"].(map[string]any)
	if !ok {
		return
	}
	if why, ok := energy["not_measured"].(string); ok {
		fmt.Fprintf(w, "%senergy     not measured: %s\n", indent, why)
		return
	}
	fmt.Fprintf(w, "%senergy     %.4g J a thousand rows, %.3g W (%v)\n", indent, energy["joules_per_thousand"], energy["watts"], energy["source"])
}
