package text

import (
	"slices"
	"sync"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// A form is a Unicode normal form. The decompositions are golang.org/x/text's,
// restricted to the edition of Unicode that the tables were observed with. Its
// own transformations are not used: they insert U+034F into long runs of
// marks, and follow the edition of the Go release.
type form struct {
	compatible bool // NFKC, NFKD
	composed   bool // NFC, NFKC
}

var formNames = map[string]form{
	"NFC":  {composed: true},
	"NFD":  {},
	"NFKC": {compatible: true, composed: true},
	"NFKD": {compatible: true},
}

func (f form) apply(dst, src []rune) []rune {
	start := len(dst)
	for _, r := range src {
		dst = f.appendDecomposed(dst, r)
	}
	reorder(dst[start:])
	if f.composed {
		dst = dst[:start+compose(dst[start:])]
	}
	return dst
}

// local reports whether the form of src is part of the form of every text
// around it that is local too: nothing reorders across its ends or composes
// with what stands before it.
func (f form) local(src []rune) bool {
	for i, r := range f.apply(nil, src) {
		if combiningClass(r) != 0 || f.composed && i == 0 && composesBackwards(r) {
			return false
		}
	}
	return true
}

// Hangul syllables are composed by arithmetic (Unicode, section 3.12).
const (
	hangulS, hangulL, hangulV, hangulT = 0xAC00, 0x1100, 0x1161, 0x11A7
	countL, countV, countT             = 19, 21, 28
	countS                             = countL * countV * countT
)

func (f form) appendDecomposed(dst []rune, r rune) []rune {
	if r < 0x80 {
		return append(dst, r)
	}
	if s := r - hangulS; s >= 0 && s < countS {
		dst = append(dst, hangulL+s/(countV*countT), hangulV+s%(countV*countT)/countT)
		if t := s % countT; t != 0 {
			dst = append(dst, hangulT+t)
		}
		return dst
	}
	ranges, tables := canonicalRanges, norm.NFD
	if f.compatible {
		ranges, tables = compatibleRanges, norm.NFKD
	}
	if !contains(ranges, r) {
		return append(dst, r)
	}
	var buf [utf8.UTFMax]byte
	n := utf8.EncodeRune(buf[:], r)
	d := tables.Properties(buf[:n]).Decomposition()
	for len(d) > 0 {
		r, size := utf8.DecodeRune(d)
		dst, d = append(dst, r), d[size:]
	}
	return dst
}

func combiningClass(r rune) uint8 {
	if r < 0x300 || !contains(combiningRanges, r) {
		return 0
	}
	var buf [utf8.UTFMax]byte
	return norm.NFD.Properties(buf[:utf8.EncodeRune(buf[:], r)]).CCC()
}

// reorder sorts each run of marks by combining class, keeping the order of
// equals.
func reorder(runes []rune) {
	for i := 0; i < len(runes); i++ {
		last := combiningClass(runes[i])
		if last == 0 {
			continue
		}
		start, sorted := i, true
		for i++; i < len(runes); i++ {
			class := combiningClass(runes[i])
			if class == 0 {
				break
			}
			sorted = sorted && last <= class
			last = class
		}
		if !sorted {
			sortMarks(runes[start:i])
		}
	}
}

// sortMarks sorts by counting, as a run may be as long as the text.
func sortMarks(marks []rune) {
	var ends [256]int
	classes := make([]uint8, len(marks))
	for i, r := range marks {
		classes[i] = combiningClass(r)
		ends[classes[i]]++
	}
	for class := 1; class < len(ends); class++ {
		ends[class] += ends[class-1]
	}
	unsorted := slices.Clone(marks)
	for i := len(marks) - 1; i >= 0; i-- {
		ends[classes[i]]--
		marks[ends[classes[i]]] = unsorted[i]
	}
}

// compose joins what composes, in place, and returns the new length.
func compose(runes []rune) int {
	n, starter, last := 0, -1, uint8(0)
	for _, r := range runes {
		class := combiningClass(r)
		if starter >= 0 && (n-1 == starter || last < class) {
			if joined, ok := composed(runes[starter], r); ok {
				runes[starter] = joined
				continue
			}
		}
		if class == 0 {
			starter = n
		}
		last = class
		runes[n] = r
		n++
	}
	return n
}

func composed(a, b rune) (rune, bool) {
	if l, v := a-hangulL, b-hangulV; l >= 0 && l < countL && v >= 0 && v < countV {
		return hangulS + (l*countV+v)*countT, true
	}
	if s, t := a-hangulS, b-hangulT; s >= 0 && s < countS && s%countT == 0 && t > 0 && t < countT {
		return a + t, true
	}
	r, ok := compositions().pairs[[2]rune{a, b}]
	return r, ok
}

func composesBackwards(r rune) bool {
	if v, t := r-hangulV, r-hangulT; v >= 0 && v < countV || t > 0 && t < countT {
		return true
	}
	return compositions().seconds[r]
}

type compositionTable struct {
	pairs   map[[2]rune]rune
	seconds map[rune]bool
}

// compositions inverts the canonical decompositions, leaving out those that
// Unicode excludes from composition: their composed form is not themselves.
var compositions = sync.OnceValue(func() compositionTable {
	table := compositionTable{map[[2]rune]rune{}, map[rune]bool{}}
	for _, x := range canonicalRanges {
		for r := x.lo; r <= x.hi; r++ {
			if s := string(r); r >= hangulS && r < hangulS+countS || norm.NFC.String(s) != s {
				continue
			}
			d := form{}.appendDecomposed(nil, r)
			first := []rune(norm.NFC.String(string(d[:len(d)-1])))
			if len(first) == 1 {
				second := d[len(d)-1]
				table.pairs[[2]rune{first[0], second}] = r
				table.seconds[second] = true
			}
		}
	}
	return table
})
