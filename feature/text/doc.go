// Package text turns text into the token ids that a model reads. Training and
// serving run the same code.
//
// A [Tokenizer] is learnt from a corpus with [Train] or read with [Load] from
// the tokenizer.json of Hugging Face tokenizers, which also reads what
// [Tokenizer.WriteTo] writes and gives the same ids for the same text:
//
//	text --normalizer--> folded text --pre-tokenizer--> words --model--> ids --template--> [CLS] ids [SEP]
//
// The models are WordPiece, and characters, which is WordPiece over words of
// one code point. The normalizers are BertNormalizer and the four Unicode
// normal forms; NFKC before BertNormalizer folds fullwidth forms.
//
// There are two implementations of the way from text to words. Nearly all text
// takes the fast one: a table says what each code point becomes, whatever
// stands beside it. Text in which neighbours interact (combining marks that
// reorder or compose) goes through the normalizer stage by stage; tests hold
// that the two agree.
//
// Bytes that are not UTF-8 are read as U+FFFD each, which BertNormalizer's
// clean_text removes, and are reported in [Info].
package text
