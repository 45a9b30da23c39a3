// Package perturb changes texts as hurried writers, other keyboards and other
// desks do, without changing what they are about: typing errors, casing, the
// other Chinese script, other numbers.
//
// A model that knows what a text is about answers the changed text as it
// answered the text. [All] has the perturbations. Each is a function of the
// text and a seed alone: no other row, and no order of rows, changes what
// comes out.
package perturb

import (
	"hash/fnv"
	"math/rand/v2"
)

// A Perturbation changes texts in one way.
type Perturbation struct {
	Name string // "typos.swap"
	What string // for people: "neighbouring characters swapped"
	edit func(text []rune, random *rand.Rand) []rune
}

// All returns the perturbations, in the order in which reports have them.
func All() []Perturbation {
	return []Perturbation{
		{"typos.keyboard", "letters replaced by keys beside them", keyboard},
		{"typos.swap", "neighbouring characters swapped", swap},
		{"typos.drop", "characters left out", drop},
		{"case.lower", "all in lower case", lower},
		{"case.upper", "all in upper case", upper},
		{"case.title", "each word with a capital", title},
		{"chinese.traditional", "simplified characters as traditional ones", converted(traditional)},
		{"chinese.simplified", "traditional characters as simplified ones", converted(simplified)},
		{"numbers", "other numbers of as many digits", numbers},
	}
}

// Apply returns the text as changed under a seed. It is the text itself where
// there is nothing to change: no letters with case, no numbers.
func (p Perturbation) Apply(text string, seed uint64) string {
	h := fnv.New64a()
	// Writing to a hash returns no error.
	_, _ = h.Write([]byte(p.Name))
	_, _ = h.Write([]byte{0})
	_, _ = h.Write([]byte(text))
	return string(p.edit([]rune(text), rand.New(rand.NewPCG(seed, h.Sum64()))))
}
