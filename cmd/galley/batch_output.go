package main

import (
	"bufio"
	"encoding/csv"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/parquet-go/parquet-go"

	controlpb "galley/api/control/v1"

	"galley"
	"galley/dataset"
	"galley/internal/durable"
)

// A scored row is a row of the output. Line is where it stands in the input;
// in a Parquet file, its number.
type scored struct {
	Line      int64     `json:"line"`
	Text      string    `json:"text"`
	Label     string    `json:"label"`
	Score     float32   `json:"score"`
	Scores    []float32 `json:"scores"` // in the order of the model's labels
	Truncated bool      `json:"truncated"`
}

// A batchPart is the output under way: rows that are appended, and cut off
// behind what the state says. CSV is written as such, all else as JSON lines,
// of which Parquet is made at the end.
type batchPart struct {
	path  string
	file  *os.File
	w     *bufio.Writer
	csv   bool
	bytes int64
}

func openBatchPart(s *batchState) (*batchPart, error) {
	p := &batchPart{path: s.part(), csv: s.Output == "csv", bytes: s.Bytes}
	var err error
	if p.file, err = os.OpenFile(p.path, os.O_CREATE|os.O_RDWR, 0o644); err != nil {
		return nil, fileError(p.path, err)
	}
	info, err := p.file.Stat()
	if err == nil && info.Size() < s.Bytes {
		err = galley.Errorf(galley.DataLoss, p.path, "has %d bytes, not the %d that were written", info.Size(), s.Bytes).
			WithRemedy("remove it and %s to begin anew", s.path)
	}
	if err == nil {
		err = p.file.Truncate(s.Bytes)
	}
	if err == nil {
		_, err = p.file.Seek(s.Bytes, io.SeekStart)
	}
	if err != nil {
		p.close()
		return nil, fileErrorOf(p.path, err)
	}
	p.w = bufio.NewWriterSize(p.file, 1<<18)
	if p.csv && s.Bytes == 0 {
		header := []string{"line", "text", "label", "score", "truncated"}
		for _, label := range s.Labels {
			header = append(header, "score_"+label)
		}
		err = p.record(header)
	}
	return p, err
}

// fileErrorOf leaves an error that is worded already as it is.
func fileErrorOf(path string, err error) error {
	var own *galley.Error
	if errors.As(err, &own) {
		return err
	}
	return fileError(path, err)
}

// write appends a chunk's rows.
func (p *batchPart) write(rows []dataset.NumberedRow, answers *controlpb.PredictAnswers, labels []string) error {
	scores, n := answers.GetScores(), len(labels)
	if n == 0 || len(scores) != len(rows)*n || len(answers.GetTruncated()) != len(rows) {
		return galley.Errorf(galley.Internal, "answer", "has %d scores for %d rows and %d labels", len(scores), len(rows), n)
	}
	for i, row := range rows {
		own := scores[i*n : (i+1)*n]
		best := 0
		for j, x := range own {
			if x != x {
				return galley.Errorf(galley.Internal, "answer", "the score of line %d for %q is not a number", row.Line, labels[j])
			}
			if x > own[best] {
				best = j
			}
		}
		s := scored{row.Line, row.Text, labels[best], own[best], own, answers.GetTruncated()[i]}
		if err := p.append(s, labels); err != nil {
			return err
		}
	}
	return nil
}

func (p *batchPart) append(s scored, labels []string) error {
	if p.csv {
		record := []string{strconv.FormatInt(s.Line, 10), s.Text, s.Label, number(s.Score), strconv.FormatBool(s.Truncated)}
		for _, x := range s.Scores {
			record = append(record, number(x))
		}
		return p.record(record)
	}
	return p.line(s, labels)
}

func number(x float32) string { return strconv.FormatFloat(float64(x), 'g', -1, 32) }

func (p *batchPart) record(fields []string) error {
	count := &counter{w: p.w}
	w := csv.NewWriter(count)
	err := w.Write(fields)
	w.Flush()
	p.bytes += count.n
	return p.failed(errors.Join(err, w.Error()))
}

// line writes a row as JSON, its scores by label, in the model's order.
func (p *batchPart) line(s scored, labels []string) error {
	b := append([]byte(nil), `{"line":`...)
	b = strconv.AppendInt(b, s.Line, 10)
	b = append(append(b, `,"text":`...), quoted(s.Text)...)
	b = append(append(b, `,"label":`...), quoted(s.Label)...)
	b = append(append(b, `,"score":`...), number(s.Score)...)
	b = append(b, `,"scores":{`...)
	for i, label := range labels {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(append(append(b, quoted(label)...), ':'), number(s.Scores[i])...)
	}
	b = append(b, `},"truncated":`...)
	b = append(strconv.AppendBool(b, s.Truncated), "}\n"...)
	n, err := p.w.Write(b)
	p.bytes += int64(n)
	return p.failed(err)
}

func quoted(s string) []byte {
	b, err := json.Marshal(s)
	if err != nil { // strings can be marshalled
		return []byte(`""`)
	}
	return b
}

type counter struct {
	w io.Writer
	n int64
}

func (c *counter) Write(b []byte) (int, error) {
	n, err := c.w.Write(b)
	c.n += int64(n)
	return n, err
}

func (p *batchPart) sync() error {
	err := p.w.Flush()
	if err == nil {
		err = p.file.Sync()
	}
	return p.failed(err)
}

func (p *batchPart) failed(err error) error {
	if err == nil {
		return nil
	}
	return fileError(p.path, err)
}

func (p *batchPart) close() { _ = p.file.Close() } // what is to stay has been synced

// finish makes the output of the part file, and removes what lay beside it.
func (p *batchPart) finish(s *batchState) error {
	var err error
	if s.Output == "parquet" {
		err = durable.Replace(s.out, 0o644, func(to *os.File) error { return p.parquet(to, s.Labels) })
	} else if err = os.Rename(p.path, s.out); err == nil {
		err = durable.SyncFolder(filepath.Dir(s.out))
	}
	if err != nil {
		return fileErrorOf(s.out, err)
	}
	return s.remove()
}

// parquetGroup is how many rows lie in memory until they are written.
const parquetGroup = 1 << 15

// parquet writes the part file's rows as Parquet.
func (p *batchPart) parquet(to io.Writer, labels []string) error {
	group := parquet.Group{
		"line": parquet.Int(64), "text": parquet.String(), "label": parquet.String(),
		"score": parquet.Leaf(parquet.FloatType), "truncated": parquet.Leaf(parquet.BooleanType),
	}
	for _, label := range labels {
		group["score_"+label] = parquet.Leaf(parquet.FloatType)
	}
	schema := parquet.NewSchema("predictions", group)
	at := map[string]int{}
	for i, column := range schema.Columns() {
		at[column[0]] = i
	}
	w := parquet.NewWriter(to, schema, parquet.Compression(&parquet.Zstd), parquet.MaxRowsPerRowGroup(parquetGroup))
	if _, err := p.file.Seek(0, io.SeekStart); err != nil {
		return err
	}
	for d := json.NewDecoder(bufio.NewReaderSize(p.file, 1<<18)); ; {
		var s struct {
			scored
			Scores map[string]float32 `json:"scores"`
		}
		if err := d.Decode(&s); errors.Is(err, io.EOF) {
			return w.Close()
		} else if err != nil {
			return err
		}
		row := make(parquet.Row, len(at))
		set := func(name string, v parquet.Value) { row[at[name]] = v.Level(0, 0, at[name]) }
		set("line", parquet.Int64Value(s.Line))
		set("text", parquet.ByteArrayValue([]byte(s.Text)))
		set("label", parquet.ByteArrayValue([]byte(s.Label)))
		set("score", parquet.FloatValue(s.Score))
		set("truncated", parquet.BooleanValue(s.Truncated))
		for _, label := range labels {
			set("score_"+label, parquet.FloatValue(s.Scores[label]))
		}
		if _, err := w.WriteRows([]parquet.Row{slices.Clip(row)}); err != nil {
			return err
		}
	}
}
