package task

import (
	"encoding/binary"
	"math/bits"
	"math/rand/v2"
	"slices"

	"galley"
	"galley/feature/text"
)

// A Masker makes examples of masked-language modelling (Devlin et al. 2019):
// of the chosen tokens, 80 % become the mask, 10 % some other token, 10 % stay
// as they are; all are to be predicted. What it chooses depends on its seed,
// the epoch and the row alone. It may be used by several goroutines at once.
type Masker struct {
	fraction float64 // of the tokens that are not special
	seed     uint64
	mask     int32
	size     int     // of the vocabulary
	special  []int32 // tokens that are neither masked nor put in a masked one's place, rising
}

// Masked is a row with tokens masked. Targets are the tokens that stood at
// Positions, which rise.
type Masked struct {
	IDs       []int32
	Positions []int32
	Targets   []int32
}

// DefaultMaskFraction is the share of tokens that is masked, 15 %.
const DefaultMaskFraction = 0.15

// NewMasker makes a masker for rows of a tokenizer.
func NewMasker(tokenizer *text.Tokenizer, fraction float64, seed uint64) (*Masker, error) {
	sp := tokenizer.Special()
	return newMasker(tokenizer.VocabSize(), sp.Mask, []int32{sp.Pad, sp.Unknown, sp.Class, sp.Separator, sp.Mask}, fraction, seed)
}

// newMasker leaves out special tokens below 0, which do not exist. Unknown
// words are special: there is nothing to learn from predicting them.
func newMasker(size int, mask int32, special []int32, fraction float64, seed uint64) (*Masker, error) {
	if !(fraction > 0 && fraction < 1) {
		return nil, galley.Errorf(galley.InvalidArgument, "mask fraction", "%v is not between 0 and 1", fraction).
			WithRemedy("the usual share is %v", DefaultMaskFraction)
	}
	if mask < 0 {
		return nil, galley.Errorf(galley.FailedPrecondition, TokenizerFile, "the tokenizer has no mask token").
			WithRemedy("pretrain with a tokenizer that has a token [MASK]")
	}
	m := &Masker{fraction: fraction, seed: seed, mask: mask, size: size}
	m.special = slices.DeleteFunc(slices.Clone(special), func(id int32) bool { return id < 0 })
	slices.Sort(m.special)
	m.special = slices.Compact(m.special)
	if size <= len(m.special) {
		return nil, galley.Errorf(galley.FailedPrecondition, TokenizerFile, "all of the %d tokens are special", size)
	}
	return m, nil
}

// Mask makes the example of a row in an epoch. A fraction of a token is
// rounded by chance, so that the share holds on average for short rows too;
// at least one is chosen if any can be. ids is left as it is.
func (m *Masker) Mask(ids []int32, epoch, row int) Masked {
	out := Masked{IDs: slices.Clone(ids)}
	left := 0
	for _, id := range ids {
		if !m.isSpecial(id) {
			left++
		}
	}
	if left == 0 {
		return out
	}
	r := m.random(epoch, row)
	needed := min(max(int(m.fraction*float64(left)+r.unit()), 1), left)
	for i, id := range ids {
		if m.isSpecial(id) {
			continue
		}
		if r.below(left) < needed { // selection sampling
			needed--
			out.Positions = append(out.Positions, int32(i))
			out.Targets = append(out.Targets, id)
			out.IDs[i] = m.replace(id, r)
		}
		left--
	}
	return out
}

func (m *Masker) replace(id int32, r random) int32 {
	switch u := r.unit(); {
	case u < 0.8:
		return m.mask
	case u < 0.9:
		other := int32(r.below(m.size - len(m.special)))
		for _, s := range m.special { // skip the special ones below it
			if s <= other {
				other++
			}
		}
		return other
	default:
		return id
	}
}

func (m *Masker) isSpecial(id int32) bool {
	_, found := slices.BinarySearch(m.special, id)
	return found
}

// random is a stream of numbers fixed by seed, epoch and row: ChaCha8, whose
// outputs are specified, so they outlast versions of Go.
type random struct{ source *rand.ChaCha8 }

func (m *Masker) random(epoch, row int) random {
	var key [32]byte
	copy(key[:], "masking\x00")
	binary.LittleEndian.PutUint64(key[8:], m.seed)
	binary.LittleEndian.PutUint64(key[16:], uint64(epoch))
	binary.LittleEndian.PutUint64(key[24:], uint64(row))
	return random{rand.NewChaCha8(key)}
}

// unit returns a number in [0, 1).
func (r random) unit() float64 { return float64(r.source.Uint64()>>11) / (1 << 53) }

// below returns a number in [0, n).
func (r random) below(n int) int {
	hi, _ := bits.Mul64(r.source.Uint64(), uint64(n))
	return int(hi)
}
