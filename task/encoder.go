package task

import (
	"fmt"
	"strings"
	"sync"
	"unicode/utf8"

	"galley"
	"galley/feature/text"
	"galley/onnx/session"
)

// MaxText is the most bytes that a text may have.
const MaxText = 1 << 20

// A TextEncoder turns texts into the tensors that a graph reads. It may be
// used by several goroutines at once; its fields are not to be changed then.
type TextEncoder struct {
	Config    *Config
	Tokenizer *text.Tokenizer

	pad     int64
	buffers sync.Pool // of *[]int64
}

// NewTextEncoder makes the encoder of a configuration.
func NewTextEncoder(config *Config, tokenizer *text.Tokenizer) (*TextEncoder, error) {
	if err := config.Validate(); err != nil {
		return nil, err
	}
	pad := tokenizer.Special().Pad
	if pad < 0 {
		if config.Inputs.Mask == "" {
			return nil, galley.Errorf(galley.FailedPrecondition, TokenizerFile, "the tokenizer has no padding token, and the graph reads no mask").
				WithRemedy("add a token [PAD], or name the graph's mask in %s", ConfigFile)
		}
		pad = 0 // any token will do where the mask is 0
	}
	return &TextEncoder{Config: config, Tokenizer: tokenizer, pad: int64(pad)}, nil
}

// A Batch is texts as tensors, each int64 [n, longest].
type Batch struct {
	IDs       *session.Tensor
	Mask      *session.Tensor // 1 where a token stands, 0 where padding does
	Types     *session.Tensor // zeros; nil if the graph does not read them
	Lengths   []int           // tokens of each text
	Truncated []bool          // texts that were longer than the longest input

	encoder *TextEncoder
	buffer  *[]int64
}

// Inputs returns the tensors by the names of the graph's inputs.
func (b *Batch) Inputs() map[string]*session.Tensor {
	names := b.encoder.Config.Inputs
	m := map[string]*session.Tensor{names.IDs: b.IDs}
	if names.Mask != "" {
		m[names.Mask] = b.Mask
	}
	if names.Types != "" {
		m[names.Types] = b.Types
	}
	return m
}

// Release gives the tensors' memory back for later batches. The tensors must
// not be used any more.
func (b *Batch) Release() {
	if b.buffer != nil {
		b.encoder.buffers.Put(b.buffer)
		b.IDs, b.Mask, b.Types, b.buffer = nil, nil, nil, nil
	}
}

// CheckText returns an error if s is not fit to be encoded: blank, longer than
// MaxText, or not UTF-8. subject names it in the error.
func CheckText(subject, s string) error {
	switch {
	case len(s) > MaxText:
		return galley.Errorf(galley.InvalidArgument, subject, "the text has %d bytes, more than 1 MiB", len(s)).
			WithRemedy("send a part of it: only its beginning is read")
	case strings.TrimSpace(s) == "":
		return galley.Errorf(galley.InvalidArgument, subject, "the text is empty").WithRemedy("send at least one word")
	case !utf8.ValidString(s):
		return galley.Errorf(galley.InvalidArgument, subject, "the text is not valid UTF-8").WithRemedy("convert it to UTF-8")
	}
	return nil
}

// Tokenize checks a text and appends its token ids to dst.
func (e *TextEncoder) Tokenize(dst []int32, subject, s string) ([]int32, text.Info, error) {
	if err := CheckText(subject, s); err != nil {
		return dst, text.Info{}, err
	}
	ids, info := e.Tokenizer.Encode(dst, s, e.Config.MaxLength)
	return ids, info, nil
}

// Encode turns texts into a batch. The error names the index of a bad text.
func (e *TextEncoder) Encode(texts []string) (*Batch, error) {
	t, err := e.tokenize(texts)
	if err != nil {
		return nil, err
	}
	b, err := e.Collate(t.rows)
	if err != nil {
		return nil, err
	}
	b.Truncated = t.truncated
	return b, nil
}

// tokenized is texts as token ids.
type tokenized struct {
	rows      [][]int32
	truncated []bool
}

func (e *TextEncoder) tokenize(texts []string) (tokenized, error) {
	t := tokenized{rows: make([][]int32, len(texts)), truncated: make([]bool, len(texts))}
	for i, s := range texts {
		ids, info, err := e.Tokenize(nil, fmt.Sprintf("text[%d]", i), s)
		if err != nil {
			return t, err
		}
		t.rows[i], t.truncated[i] = ids, info.Truncated
	}
	return t, nil
}

// Collate pads rows of token ids to the longest of them.
func (e *TextEncoder) Collate(rows [][]int32) (*Batch, error) {
	longest := 0
	for _, ids := range rows {
		longest = max(longest, len(ids))
	}
	return e.CollateTo(rows, longest)
}

// CollateTo pads rows of token ids to a length that none of them exceeds.
func (e *TextEncoder) CollateTo(rows [][]int32, length int) (*Batch, error) {
	if len(rows) == 0 || length == 0 {
		return nil, galley.Errorf(galley.InvalidArgument, "text", "there are no texts").WithRemedy("send at least one")
	}
	b := &Batch{Lengths: make([]int, len(rows)), Truncated: make([]bool, len(rows)), encoder: e}
	for i, ids := range rows {
		if b.Lengths[i] = len(ids); len(ids) > length {
			return nil, galley.Errorf(galley.OutOfRange, fmt.Sprintf("text[%d]", i), "%d tokens do not fit %d", len(ids), length)
		}
	}
	size := len(rows) * length
	b.buffer = e.memory(3 * size)
	memory := *b.buffer
	ids, mask, types := memory[:size], memory[size:2*size], memory[2*size:3*size]
	for i, row := range rows {
		line, ones := ids[i*length:(i+1)*length], mask[i*length:(i+1)*length]
		for j, id := range row {
			line[j], ones[j] = int64(id), 1
		}
		for j := len(row); j < length; j++ {
			line[j], ones[j] = e.pad, 0
		}
	}
	clear(types)
	shape := []int64{int64(len(rows)), int64(length)}
	var err error
	if b.IDs, err = session.New(ids, shape...); err == nil {
		b.Mask, err = session.New(mask, shape...)
	}
	if err == nil && e.Config.Inputs.Types != "" {
		b.Types, err = session.New(types, shape...)
	}
	if err != nil {
		return nil, galley.Errorf(galley.Internal, "text", "%w", err)
	}
	return b, nil
}

// memory returns n elements, reused if it can be.
func (e *TextEncoder) memory(n int) *[]int64 {
	if p, ok := e.buffers.Get().(*[]int64); ok && cap(*p) >= n {
		*p = (*p)[:n]
		return p
	}
	s := make([]int64, n)
	return &s
}
