package text

import (
	"context"
	"iter"

	"galley"
)

// Model is the kind of a tokenizer.
type Model string

const (
	// WordPiece splits words into frequent pieces.
	WordPiece Model = "wordpiece"
	// Character makes each code point a token; the ends of words are lost.
	Character Model = "character"
)

// TrainOptions say how Train learns a vocabulary. The zero value of a field
// stands for its default.
type TrainOptions struct {
	Model         Model // WordPiece
	VocabSize     int   // most ids, special tokens included: 16000
	MinFrequency  int   // occurrences below which nothing is learnt, but characters seen twice are: 2
	Lowercase     bool  // folds case, and strips accents
	FoldWidth     bool  // NFKC: fullwidth letters, ligatures and the like become ordinary ones
	MaxLength     int   // written as the tokenizer's truncation: none
	DistinctWords int   // most distinct words counted at a time: 500000
}

// specialTokens have the ids 0 to 4 in what Train learns.
var specialTokens = []string{"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"}

const (
	padID, unknownID, classID, separatorID, maskID = 0, 1, 2, 3, 4

	// continuation marks a piece after the first of its word.
	continuation = "##"
	// trainedWordRunes is the longest word that is not unknown.
	trainedWordRunes = 100
)

func (o TrainOptions) withDefaults() (TrainOptions, error) {
	fill := func(field *int, value int) {
		if *field == 0 {
			*field = value
		}
	}
	if o.Model == "" {
		o.Model = WordPiece
	}
	fill(&o.VocabSize, 16000)
	fill(&o.MinFrequency, 2)
	fill(&o.DistinctWords, 500_000)
	if o.Model != WordPiece && o.Model != Character {
		return o, galley.Errorf(galley.InvalidArgument, "model", "%q is not a tokenizer model", clip(string(o.Model))).
			WithRemedy("use %s or %s", WordPiece, Character)
	}
	for _, field := range []struct {
		name             string
		value, low, high int
	}{
		{"vocabulary size", o.VocabSize, len(specialTokens) + 1, maxVocabulary},
		{"minimum frequency", o.MinFrequency, 1, 1 << 30},
		{"maximum length", o.MaxLength, 0, maxSequenceLength},
		{"distinct words", o.DistinctWords, 1000, 1 << 26},
	} {
		if field.value < field.low || field.value > field.high {
			return o, galley.Errorf(galley.OutOfRange, field.name, "%d is not within %d to %d", field.value, field.low, field.high)
		}
	}
	return o, nil
}

func (o TrainOptions) normalizer() normalizer {
	bert := bertNormalizer{CleanText: true, HandleChineseChars: true, Lowercase: o.Lowercase}
	if o.FoldWidth {
		return normalizer{formNames["NFKC"], bert}
	}
	return normalizer{bert}
}

// Train learns a tokenizer from texts, as the trainer of Hugging Face
// tokenizers does: the vocabulary begins with the characters seen, and grows
// by joining the pair of pieces that most often stand side by side within a
// word. A tie goes to the pair whose pieces came first. The same texts in the
// same order give the same tokenizer. Words with a character that is too rare
// are not learnt from; they are [UNK] to the tokenizer. A corpus without words
// gives a vocabulary of special tokens.
//
// Memory does not grow with the texts: when more than DistinctWords distinct
// words are held, the rarest are forgotten until at most half of them remain.
// Counts of words near that limit of rarity are then too low.
func Train(ctx context.Context, texts iter.Seq[string], options TrainOptions) (*Tokenizer, error) {
	o, err := options.withDefaults()
	if err != nil {
		return nil, err
	}
	p := parts{
		unknown:    unknownID,
		prefix:     continuation,
		maxRunes:   trainedWordRunes,
		normalizer: o.normalizer(),
		characters: o.Model == Character,
		template:   bertTemplate("[CLS]", classID, "[SEP]", separatorID),
		decoder:    decoder{kind: decoderWordPiece, prefix: continuation, cleanup: true},
	}
	if p.characters {
		p.decoder = decoder{kind: decoderFuse}
	}
	if o.MaxLength > 0 {
		p.trunc = &truncation{Direction: "Right", MaxLength: o.MaxLength, Strategy: "LongestFirst"}
	}
	for id, token := range specialTokens {
		p.added = append(p.added, addedToken{ID: int32(id), Content: token, Special: true})
	}
	words, err := countWords(ctx, texts, newSplitter(p.normalizer, p.characters, p.maxRunes, nil), o.DistinctWords)
	if err != nil {
		return nil, err
	}
	if p.tokens, err = learn(ctx, words, o); err != nil {
		return nil, err
	}
	return newTokenizer(p)
}

// textsBetweenChecks is how many texts or merges pass between two looks at the
// context.
const textsBetweenChecks = 256

func countWords(ctx context.Context, texts iter.Seq[string], p *splitter, distinct int) ([]countedWord, error) {
	table := newWordTable(distinct)
	var s scratch
	n := 0
	for text := range texts {
		if n++; n%textsBetweenChecks == 0 && ctx.Err() != nil {
			break
		}
		words := p.scan(&s, text)
		for words.at < len(text) {
			words.next()
		}
		// That it is staged may show at its end, after words were counted.
		if words.staged {
			words = p.rescan(&s, text)
		} else {
			words = p.scan(&s, text)
		}
		for {
			word, runes, _ := words.next()
			if runes == 0 {
				break
			}
			if runes <= p.maxRunes {
				table.add(word)
			}
		}
		if s.large() {
			s = scratch{}
		}
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return table.sorted(), nil
}
