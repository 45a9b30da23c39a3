//go:build peers

package dataset

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// writeWithPyArrow writes the same 5,000 rows in the ways that people do.
const writeWithPyArrow = `
import sys, pyarrow as pa, pyarrow.parquet as pq
n = 5000
texts = [None if i % 100 == 99 else f"新闻 headline {i}" for i in range(n)]
labels = [f"l{i % 4}" for i in range(n)]
def table(text=pa.string(), label=pa.string()):
    return pa.table({"extra": pa.array([[i] for i in range(n)]), "text": pa.array(texts, text), "label": pa.array(labels, pa.string()).cast(label) if not pa.types.is_integer(label) else pa.array([i % 4 for i in range(n)], label)})
out = sys.argv[1]
pq.write_table(table(), out + "/snappy.parquet")
pq.write_table(table(), out + "/zstd_v2.parquet", compression="zstd", data_page_version="2.0", version="2.6")
pq.write_table(table(), out + "/gzip_groups.parquet", compression="gzip", row_group_size=700)
pq.write_table(table(), out + "/brotli_plain.parquet", compression="brotli", use_dictionary=False)
pq.write_table(table(), out + "/lz4_delta.parquet", compression="lz4", use_dictionary=False, column_encoding={"text": "DELTA_BYTE_ARRAY", "label": "DELTA_LENGTH_BYTE_ARRAY"})
pq.write_table(table(pa.large_string(), pa.dictionary(pa.int32(), pa.string())), out + "/large_dictionary.parquet", data_page_size=1000)
pq.write_table(table(pa.string(), pa.int8()), out + "/int8.parquet", compression="none")
pq.write_table(table(pa.string(), pa.uint64()), out + "/uint64.parquet", write_page_index=True)
`

func TestPeerPyArrow(t *testing.T) {
	python := os.Getenv("GALLEY_PEERS_PYTHON")
	if python == "" {
		python = "python3"
	}
	if err := exec.CommandContext(t.Context(), python, "-c", "import pyarrow").Run(); err != nil {
		t.Skipf("%s has no pyarrow: set GALLEY_PEERS_PYTHON to one that has", python)
	}
	dir := t.TempDir()
	if out, err := exec.CommandContext(t.Context(), python, "-c", writeWithPyArrow, dir).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.parquet"))
	if err != nil || len(files) != 8 {
		t.Fatal(files, err)
	}
	for _, path := range files {
		t.Run(filepath.Base(path), func(t *testing.T) {
			m, rejected, s := freeze(t, FreezeOptions{Format: Parquet, ValidFraction: -1}, Inputs{Train: file(path)})
			if m.Splits[Train].Rows != 4950 || rejected.Total != 50 || rejected.First[0].Line != 100 || len(m.Labels) != 4 {
				t.Fatal(m.Splits[Train], rejected.Total)
			}
			rows := s.rows(t, Train)
			if last := rows[len(rows)-1]; last.Text != "新闻 headline 4998" || last.Label != m.Labels[2] {
				t.Error(last)
			}
		})
	}
}
