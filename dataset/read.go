package dataset

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"strings"
	"unicode/utf8"

	"galley"
)

// ReadOptions say how the rows of a file are read.
type ReadOptions struct {
	Format  Format
	Columns Columns
	// NeedLabel refuses a file without labels.
	NeedLabel bool
}

// Read yields the good rows of a file and adds the others to rejected. An
// error ends the sequence; it may be ranged over again, which opens the file
// again.
func Read(ctx context.Context, in Input, opts ReadOptions, rejected *Rejections) iter.Seq2[Row, error] {
	return func(yield func(Row, error) bool) {
		_, err := read(ctx, in, opts, rejected, func(_ int64, row Row) error {
			if !yield(row, nil) {
				return errStop
			}
			return nil
		})
		if err != nil && !errors.Is(err, errStop) {
			yield(Row{}, err)
		}
	}
}

var errStop = errors.New("the consumer stopped")

// read calls each with the good rows of a file, and returns the columns they
// were read from.
func read(ctx context.Context, in Input, opts ReadOptions, rejected *Rejections, each func(line int64, row Row) error) (columns Columns, err error) {
	r, err := in.Open()
	if err != nil {
		return columns, readError(in.Name, 0, err)
	}
	defer func() {
		if closeErr := r.Close(); err == nil && closeErr != nil {
			err = readError(in.Name, 0, closeErr)
		}
	}()
	src, err := newSource(in.Name, opts.Format, r)
	if err != nil {
		return columns, err
	}
	if columns, err = opts.Columns.resolve(in.Name, src.columns()); err != nil {
		return columns, err
	}
	if opts.NeedLabel && columns.Label == nil {
		return columns, missingColumn(in.Name, "label", src.columns())
	}
	if nested, ok := src.(*parquetSource); ok {
		defer nested.release()
	}
	c := newChecker(columns)
	src.want(c.wanted)
	for {
		if err := ctx.Err(); err != nil {
			return columns, err
		}
		rec, err := src.next()
		var bad *badRow
		switch {
		case err == nil:
			row, why := c.row(rec.values)
			if why != "" {
				rejected.add(in.Name, rec.line, why)
				continue
			}
			if err := each(rec.line, row); err != nil {
				return columns, err
			}
		case errors.As(err, &bad):
			rejected.add(in.Name, bad.line, bad.why)
		case errors.Is(err, io.EOF):
			return columns, nil
		default:
			return columns, err
		}
	}
}

const invalidUTF8 = "invalid UTF-8"

// A checker makes rows of records.
type checker struct {
	wanted          []string // text columns, then label columns, then language columns
	texts, labels   int      // where the label columns and the language columns begin
	tongues         map[string]bool
	labelled, named bool
}

func newChecker(c Columns) *checker {
	k := &checker{texts: len(c.Text), labels: len(c.Text) + len(c.Label), tongues: map[string]bool{}}
	k.wanted = append(append(append(k.wanted, c.Text...), c.Label...), c.Language...)
	k.labelled, k.named = c.Label != nil, c.Language != nil
	return k
}

// row makes a row of values, or says why it cannot.
func (k *checker) row(values []string) (Row, string) {
	var row Row
	row.Text = join(values[:k.texts])
	switch {
	case row.Text == "":
		return row, "empty text"
	case len(row.Text) > MaxText:
		return row, fmt.Sprintf("the text has %d bytes, more than 1 MiB", len(row.Text))
	case !utf8.ValidString(row.Text):
		return row, invalidUTF8
	}
	if k.labelled {
		row.Label = join(values[k.texts:k.labels])
		if why := checkLabel(row.Label); why != "" {
			return row, why
		}
	}
	if k.named {
		row.Language = strings.ToLower(join(values[k.labels:]))
		if why := checkLanguage(row.Language); why != "" {
			return row, why
		}
	}
	if row.Language == "" {
		row.Language = LanguageOf(row.Text)
	}
	if !k.tongues[row.Language] {
		if len(k.tongues) == maxTongues {
			return row, fmt.Sprintf("more than %d languages", maxTongues)
		}
		k.tongues[row.Language] = true
	}
	return row, ""
}

// join joins the values that are not blank by one space.
func join(values []string) string {
	if len(values) == 1 {
		return strings.TrimSpace(values[0])
	}
	var b strings.Builder
	for _, v := range values {
		if v = strings.TrimSpace(v); v == "" {
			continue
		}
		if b.Len() > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(v)
	}
	return b.String()
}

// emptyInput is the error of a file without a single good row.
func emptyInput(name string, rejected *Rejections) error {
	for _, r := range rejected.First {
		if r.File != name {
			continue
		}
		err := galley.Errorf(galley.InvalidArgument, name, "no row can be used; line %d: %s", r.Line, r.Why)
		if r.Why == invalidUTF8 {
			return err.WithRemedy("save the file as UTF-8")
		}
		return err.WithRemedy("check --format and --columns")
	}
	return galley.Errorf(galley.InvalidArgument, name, "the file has no rows").
		WithRemedy("add rows below the header")
}
