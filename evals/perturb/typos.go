package perturb

import (
	"math/rand/v2"
	"strings"
	"unicode"
)

// lettersPerTypo is how many letters a typing error goes with; every text
// with enough letters has at least one.
const lettersPerTypo = 20

// places draws the places of a text's typing errors from those where one can
// be, evenly and without repetition (Knuth's algorithm S, TAOCP 3.4.2), in
// order. room is how many places an error takes.
func places(text []rune, room int, possible func(i int) bool, random *rand.Rand) []int {
	var able []int
	for i := range text {
		if possible(i) {
			able = append(able, i)
		}
	}
	wanted := min(len(able), 1+len(able)/lettersPerTypo)
	var out []int
	for k, i := range able {
		if random.IntN(len(able)-k) >= wanted {
			continue
		}
		wanted--
		if len(out) == 0 || i >= out[len(out)-1]+room {
			out = append(out, i)
		}
	}
	return out
}

// keyRows are the letters of a keyboard; each row stands half a key to the
// right of the one above.
var keyRows = [...]string{"qwertyuiop", "asdfghjkl", "zxcvbnm"}

// beside has the keys around each key.
var beside = func() map[rune][]rune {
	out := make(map[rune][]rune)
	for r, row := range keyRows {
		for i, key := range row {
			for _, at := range [][2]int{{r, i - 1}, {r, i + 1}, {r - 1, i}, {r - 1, i + 1}, {r + 1, i - 1}, {r + 1, i}} {
				if at[0] >= 0 && at[0] < len(keyRows) && at[1] >= 0 && at[1] < len(keyRows[at[0]]) {
					out[key] = append(out[key], rune(keyRows[at[0]][at[1]]))
				}
			}
		}
	}
	return out
}()

func keyboard(text []rune, random *rand.Rand) []rune {
	for _, i := range places(text, 1, func(i int) bool { return len(beside[unicode.ToLower(text[i])]) > 0 }, random) {
		keys := beside[unicode.ToLower(text[i])]
		key := keys[random.IntN(len(keys))]
		if unicode.IsUpper(text[i]) {
			key = unicode.ToUpper(key)
		}
		text[i] = key
	}
	return text
}

// swap exchanges letters with the next one, Chinese characters, too: input by
// sound mixes them up in the same manner.
func swap(text []rune, random *rand.Rand) []rune {
	able := func(i int) bool {
		return i+1 < len(text) && unicode.IsLetter(text[i]) && unicode.IsLetter(text[i+1]) && text[i] != text[i+1]
	}
	for _, i := range places(text, 2, able, random) {
		text[i], text[i+1] = text[i+1], text[i]
	}
	return text
}

// drop leaves letters out, but for those without a letter beside them: what is
// left is a word still.
func drop(text []rune, random *rand.Rand) []rune {
	letter := func(i int) bool { return i >= 0 && i < len(text) && unicode.IsLetter(text[i]) }
	gone := places(text, 2, func(i int) bool { return letter(i) && (letter(i-1) || letter(i+1)) }, random)
	out := text[:0]
	for i, r := range text {
		if len(gone) > 0 && i == gone[0] {
			gone = gone[1:]
			continue
		}
		out = append(out, r)
	}
	return out
}

func lower(text []rune, _ *rand.Rand) []rune { return []rune(strings.ToLower(string(text))) }

func upper(text []rune, _ *rand.Rand) []rune { return []rune(strings.ToUpper(string(text))) }

// title gives each word a capital, as headlines of some papers have. An
// apostrophe does not end a word.
func title(text []rune, _ *rand.Rand) []rune {
	inside := false
	for i, r := range text {
		switch {
		case inside:
			text[i] = unicode.ToLower(r)
		default:
			text[i] = unicode.ToTitle(r)
		}
		inside = unicode.IsLetter(r) || unicode.IsMark(r) || unicode.IsDigit(r) || inside && (r == '\'' || r == '’')
	}
	return text
}
