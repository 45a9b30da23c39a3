package quantize

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"galley"
	"galley/evals"
	"galley/task"
)

// ReportFile is the report of a quantisation in the model's folder.
const ReportFile = "quantization.json"

// reportFormat is the version of its form.
const reportFormat = 1

// metrics are what the version's metrics say.
func (f *form) metrics() map[string]float64 {
	out := map[string]float64{
		"accuracy_drop": f.drop(), "agreement": f.beside.Agreement.Value,
		"size_ratio": float64(f.bytes) / float64(max(f.before, 1)), "latency_ratio": f.ratio().Value,
	}
	for name, m := range f.report.Metrics {
		if _, taken := out[name]; !taken {
			out[name] = m.Value
		}
	}
	return out
}

// lines are what the job's log says.
func (f *form) lines() []string {
	d, r := f.beside.Difference, f.ratio()
	lines := []string{
		fmt.Sprintf("%d places quantised, %d left float; %.2f MB of %.2f MB", len(f.result.Sites), len(f.result.Left), float64(f.bytes)/1e6, float64(f.before)/1e6),
		fmt.Sprintf("accuracy drops by %.2f points [%.2f, %.2f] of at most %g, on %d rows; %.2f %% of the answers are the same", f.drop(), -100*d.High, -100*d.Low, f.maxDrop, f.report.N, 100*f.beside.Agreement.Value),
		fmt.Sprintf("median latency at batch 1 is %.2fx [%.2f, %.2f] of the float model's: %.3f ms", r.Value, r.Low, r.High, f.report.LatencyMS.P50),
	}
	for i, l := range f.result.Left {
		if i == mostLines {
			lines = append(lines, fmt.Sprintf("and %d more stay float; %s lists them", len(f.result.Left)-i, ReportFile))
			break
		}
		lines = append(lines, "float: "+l.String())
	}
	if s := f.result.Saturable; s > 0 {
		lines = append(lines, saturationLine(s, Saturates()))
	}
	return lines
}

// mostLines bounds how many places the log lists.
const mostLines = 20

// A report is quantization.json: what was done to a graph and what it costs.
// Times are not part of it, so that the same job writes the same file.
type report struct {
	Format     int              `json:"format"`
	Method     Method           `json:"method"`
	Quantised  []Site           `json:"quantised"`
	Float      []Left           `json:"float"`
	Ranges     map[string]Range `json:"ranges,omitempty"`
	Calibrated *calibrated      `json:"calibration,omitempty"`
	SevenBits  bool             `json:"seven_bits"`
	Saturable  float64          `json:"saturable"` // share of pairs of weights
	Accuracy   accuracy         `json:"accuracy"`
	Bytes      int64            `json:"bytes"`
	FloatBytes int64            `json:"float_bytes"`
}

// calibrated names the rows that ranges were found on.
type calibrated struct {
	Search Search        `json:"search"`
	Rows   int           `json:"rows"`
	Digest galley.Digest `json:"digest"` // of the record file that they were drawn from
}

type accuracy struct {
	Before  float64 `json:"before"`
	After   float64 `json:"after"`
	Drop    float64 `json:"drop"` // points
	MaxDrop float64 `json:"max_drop"`
	Rows    int     `json:"rows"`
}

// write writes the model's folder with the report.
func (f *form) write(a *attempt, dir string) error {
	if err := os.RemoveAll(dir); err != nil { // of an attempt before
		return err
	}
	if err := task.WriteBundle(dir, f.model, a.bundle.Config, a.bundle.Tokenizer); err != nil {
		return err
	}
	r := report{
		Format: reportFormat, Method: f.options.Method,
		Quantised: slices.Clone(f.result.Sites), Float: append([]Left{}, f.result.Left...), Ranges: f.options.Ranges,
		SevenBits: f.options.Narrow && f.options.Method != WeightOnly && f.options.Method != Float16, Saturable: f.result.Saturable,
		Accuracy: accuracy{
			Before: f.beside.Metrics[evals.Accuracy].Value, After: f.report.Metrics[evals.Accuracy].Value,
			Drop: f.drop(), MaxDrop: f.maxDrop, Rows: f.report.N,
		},
		Bytes: f.bytes, FloatBytes: f.before,
	}
	if f.options.Method == Static {
		r.Calibrated = &calibrated{Search: Search(a.spec.Calibration.Ranges), Rows: len(a.order), Digest: a.data.Splits["train"].Digest}
	}
	data, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return galley.Errorf(galley.Internal, ReportFile, "%w", err)
	}
	return os.WriteFile(filepath.Join(dir, ReportFile), append(data, '\n'), 0o644)
}
