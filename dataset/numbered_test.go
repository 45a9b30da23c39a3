package dataset

import (
	"io"
	"strings"
	"testing"
)

func TestReadNumbered(t *testing.T) {
	in := Input{Name: "a.csv", Open: func() (io.ReadCloser, error) {
		return io.NopCloser(strings.NewReader("text,label\none,a\n,a\n\"two\nlines\",b\nthree,a\n")), nil
	}}
	var rejected Rejections
	var lines []int64
	for row, err := range ReadNumbered(t.Context(), in, ReadOptions{Format: CSV}, &rejected) {
		if err != nil {
			t.Fatal(err)
		}
		lines = append(lines, row.Line)
		if row.Text == "three" {
			break
		}
	}
	if len(lines) != 3 || lines[0] != 2 || lines[1] != 4 || lines[2] != 6 || rejected.Total != 1 || rejected.First[0].Line != 3 {
		t.Errorf("lines %v, %+v", lines, rejected)
	}
	for _, err := range ReadNumbered(t.Context(), in, ReadOptions{Format: CSV, Columns: Columns{Text: []string{"body"}}}, &rejected) {
		if err == nil {
			t.Error("a column that is not there")
		}
	}
}
