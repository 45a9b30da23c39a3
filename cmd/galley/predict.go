package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"os"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/spf13/cobra"

	controlpb "galley/api/control/v1"
	inferencepb "galley/api/inference/v2"

	"galley"
	"galley/dataset"
)

// maxPredictTexts is how many texts one command takes.
const maxPredictTexts = 4096

func (a *app) predictCommand() *cobra.Command {
	var texts, files []string
	var out, format, columns, key string
	c := &cobra.Command{
		Use:   "predict REF --text S",
		Short: "Ask a model, or score a file",
		Long: `Ask a model, by name (what traffic goes to), name@3 or name:alias. --file reads
one text a line.

With --out, --file is a CSV, JSONL or Parquet file of any size, and each of its
rows is scored into the output, whose ending says its format. The output appears
when it is whole. A run that was interrupted goes on where it was, with the same
version, when the command is given again, and leaves the same bytes. Rows that
cannot be scored are left out and reported by line.`,
		Example: "  galley predict news-topic --text 'Central bank holds rates' --text '央行维持利率不变'\n  galley predict news-topic@2 --file headlines.txt -o json\n" +
			"  galley predict news-topic --file articles.parquet --columns text=title+body --out scored.parquet",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ref, err := galley.ParseRef(args[0])
			if err != nil {
				return err
			}
			if out != "" {
				if len(files) != 1 || len(texts) > 0 || key != "" {
					return usagef("predict: --out needs one --file, and neither --text nor --request-key")
				}
				return a.predictFile(cmd.Context(), args[0], files[0], out, format, columns)
			}
			if format != "" || columns != "" {
				return usagef("predict: --format and --columns need --out")
			}
			for _, path := range files {
				if _, err := formatOf("", path); err == nil {
					return usagef("predict: %s has rows and columns, and without --out a file has one text a line; add --out scored.jsonl", path)
				}
			}
			for _, path := range files {
				lines, err := readLines(path)
				if err != nil {
					return err
				}
				texts = append(texts, lines...)
			}
			if len(texts) == 0 && len(files) > 0 {
				return galley.Errorf(galley.InvalidArgument, strings.Join(files, ", "), "has no text").WithRemedy("write one text a line")
			}
			if len(texts) == 0 {
				return usagef("predict: give --text or --file")
			}
			if len(texts) > maxPredictTexts {
				return galley.Errorf(galley.InvalidArgument, "text", "%d texts in one command", len(texts)).
					WithRemedy("send at most %d", maxPredictTexts)
			}
			return a.with(cmd.Context(), func(c *client) error {
				p, err := predictFor(cmd.Context(), c, ref, texts, key)
				if err != nil {
					return err
				}
				a.printPrediction(p, texts)
				return nil
			})
		},
	}
	c.Flags().StringArrayVar(&texts, "text", nil, "a text (repeatable)")
	c.Flags().StringArrayVar(&files, "file", nil, "a file with one text a line (repeatable); with --out, the one file to score")
	c.Flags().StringVar(&out, "out", "", "where to write scored rows: .jsonl, .csv or .parquet")
	c.Flags().Var(formatFlag(&format), "format", "of --file with --out: csv, jsonl or parquet; by its ending if not given")
	c.Flags().Var(columnsFlag(&columns), "columns", "of --file with --out: text=title+body; column text if not given")
	c.Flags().StringVar(&key, "request-key", "", "of a reader or an article: under an experiment, requests with the same key go to the same arm")
	return c
}

// predictFile scores the rows of a file.
func (a *app) predictFile(ctx context.Context, ref, path, out, format, columns string) error {
	from, err := formatOf(format, path)
	if err != nil {
		return err
	}
	b := &batchRun{ref: ref, out: out, in: fileInput(path), progress: a.err}
	if b.read.Format, err = dataset.ParseFormat(from); err != nil {
		return err
	}
	if b.read.Columns, err = dataset.ParseColumns(columns); err != nil {
		return err
	}
	to, err := outputFormat(out)
	if err != nil {
		return err
	}
	return a.with(ctx, func(c *client) error {
		r, err := b.run(ctx, c.batch, to)
		if err != nil {
			return err
		}
		if a.json {
			a.printJSON(r)
			return nil
		}
		fmt.Fprintf(a.out, "%s  %d rows by %s", r.Out, r.Rows, r.Model)
		if r.Resumed > 0 {
			fmt.Fprintf(a.out, ", %d of them by an earlier run", r.Resumed)
		}
		fmt.Fprintf(a.out, ", in %.1f s\n", r.Seconds)
		printRejected(a.err, r.Rejected, r.Total)
		return nil
	})
}

// maxLine is how long a line of --file is.
const maxLine = 1 << 20

// readLines reads the texts of a file with one a line, but for empty lines.
func readLines(path string) ([]string, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fileError(path, err)
	}
	defer f.Close()
	var lines []string
	s := bufio.NewScanner(f)
	s.Buffer(nil, maxLine+1)
	number := 0
	for len(lines) <= maxPredictTexts && s.Scan() {
		number++
		text := strings.TrimSpace(s.Text())
		if !utf8.ValidString(text) {
			return nil, galley.Errorf(galley.InvalidArgument, fmt.Sprintf("%s:%d", path, number), "is not valid UTF-8").
				WithRemedy("convert the file to UTF-8")
		}
		if text != "" {
			lines = append(lines, text)
		}
	}
	if errors.Is(s.Err(), bufio.ErrTooLong) {
		return nil, galley.Errorf(galley.InvalidArgument, fmt.Sprintf("%s:%d", path, number+1), "is longer than %d bytes", maxLine).
			WithRemedy("write one text a line")
	}
	if err := s.Err(); err != nil {
		return nil, fileError(path, err)
	}
	return lines, nil
}

// A prediction is the answer to a request.
type prediction struct {
	Model        string   `json:"model"` // name@3
	PredictionID string   `json:"prediction_id"`
	Outputs      []output `json:"outputs"`
}

// An output is the answer for one text.
type output struct {
	Label     string             `json:"label"`
	Score     float32            `json:"score"`
	Scores    map[string]float32 `json:"scores"`
	Truncated bool               `json:"truncated"`
}

// predict asks by the Open Inference Protocol, as any application does.
func predict(ctx context.Context, c *client, ref galley.Ref, texts []string) (*prediction, error) {
	return predictFor(ctx, c, ref, texts, "")
}

// predictFor asks with the key that an experiment knows the reader by, if any.
func predictFor(ctx context.Context, c *client, ref galley.Ref, texts []string, key string) (*prediction, error) {
	version := ref.Alias
	if ref.Version > 0 {
		version = fmt.Sprint(ref.Version)
	}
	if ref.Digest != "" {
		return nil, galley.Errorf(galley.InvalidArgument, "ref", "a digest cannot be asked").WithRemedy("write name, name@3 or name:alias")
	}
	var raw []byte
	for i, t := range texts {
		if !utf8.ValidString(t) {
			return nil, galley.Errorf(galley.InvalidArgument, fmt.Sprintf("text %d", i+1), "is not valid UTF-8").
				WithRemedy("convert it to UTF-8")
		}
		raw = binary.LittleEndian.AppendUint32(raw, uint32(len(t)))
		raw = append(raw, t...)
	}
	request := &inferencepb.ModelInferRequest{
		ModelName: ref.Name, ModelVersion: version,
		Inputs:           []*inferencepb.ModelInferRequest_InferInputTensor{{Name: "text", Datatype: "BYTES", Shape: []int64{int64(len(texts))}}},
		RawInputContents: [][]byte{raw},
	}
	if key != "" {
		request.Parameters = map[string]*inferencepb.InferParameter{
			"request_key": {ParameterChoice: &inferencepb.InferParameter_StringParam{StringParam: key}},
		}
	}
	r, err := c.inference.ModelInfer(ctx, request)
	if err != nil {
		return nil, err
	}
	// Which label a column of scores belongs to is the version's to say.
	v, err := c.control.GetVersion(ctx, &controlpb.VersionRequest{Ref: r.GetModelName() + "@" + r.GetModelVersion()})
	if err != nil {
		return nil, err
	}
	return readPrediction(r, len(texts), v.GetLabels())
}

// readPrediction reads the outputs of a text classifier.
func readPrediction(r *inferencepb.ModelInferResponse, n int, names []string) (*prediction, error) {
	raw := map[string][]byte{}
	classes := 0
	for i, out := range r.GetOutputs() {
		if i < len(r.GetRawOutputContents()) {
			raw[out.GetName()] = r.GetRawOutputContents()[i]
		}
		if out.GetName() == "scores" && len(out.GetShape()) == 2 {
			classes = int(out.GetShape()[1])
		}
	}
	if len(raw["score"]) != 4*n || len(raw["scores"]) != 4*n*classes || len(raw["truncated"]) != n || len(names) != classes {
		return nil, galley.Errorf(galley.FailedPrecondition, r.GetModelName(), "is not a text classifier").
			WithRemedy("call its own inputs and outputs by gRPC; see `galley models show`")
	}
	p := &prediction{Model: r.GetModelName() + "@" + r.GetModelVersion(), PredictionID: r.GetParameters()["prediction_id"].GetStringParam()}
	labels := raw["label"]
	for i := range n {
		if len(labels) < 4 || int(binary.LittleEndian.Uint32(labels)) > len(labels)-4 {
			return nil, galley.Errorf(galley.Internal, r.GetModelName(), "the answer's labels are cut off")
		}
		size := int(binary.LittleEndian.Uint32(labels))
		o := output{Label: string(labels[4 : 4+size]), Score: float(raw["score"], i), Scores: map[string]float32{}, Truncated: raw["truncated"][i] != 0}
		labels = labels[4+size:]
		for j, name := range names {
			o.Scores[name] = float(raw["scores"], i*classes+j)
		}
		p.Outputs = append(p.Outputs, o)
	}
	return p, nil
}

func float(raw []byte, i int) float32 {
	return math.Float32frombits(binary.LittleEndian.Uint32(raw[4*i:]))
}

func (a *app) printPrediction(p *prediction, texts []string) {
	if a.json {
		a.printJSON(p)
		return
	}
	fmt.Fprintf(a.out, "%s  prediction %s\n", p.Model, p.PredictionID)
	for i, o := range p.Outputs {
		cut := ""
		if o.Truncated {
			cut = "  (cut to the model's length)"
		}
		fmt.Fprintf(a.out, "  %-14s %.3f  %s%s\n", o.Label, o.Score, oneLine(texts[i]), cut)
	}
}

// maxShown is how many characters of a text are shown beside its answer.
const maxShown = 120

// oneLine is a text as a line of a table has it: its beginning, without line
// breaks and without what would steer a terminal.
func oneLine(text string) string {
	var b strings.Builder
	n := 0
	for _, r := range text {
		if n == maxShown {
			b.WriteString("…")
			break
		}
		if !unicode.IsPrint(r) {
			r = ' '
		}
		b.WriteRune(r)
		n++
	}
	return b.String()
}
