package text

import (
	"slices"
	"testing"
)

func BenchmarkEncode(b *testing.B) {
	tok := miniLM(b)
	for _, set := range []string{"ag_news", "thucnews"} {
		texts := append(sharedTexts(b, set, "train"), sharedTexts(b, set, "test")...)
		size := 0
		for _, text := range texts {
			size += len(text)
		}
		b.Run(set, func(b *testing.B) {
			var dst []int32
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				for _, text := range texts {
					dst, _ = tok.Encode(dst[:0], text, 0)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(len(texts)), "ns/text")
		})
	}
}

func BenchmarkTrain(b *testing.B) {
	corpus := slices.Concat(sharedTexts(b, "ag_news", "train"), sharedTexts(b, "thucnews", "train"))
	for _, model := range []Model{WordPiece, Character} {
		b.Run(string(model), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := Train(b.Context(), slices.Values(corpus), TrainOptions{Model: model, Lowercase: true}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkLoad(b *testing.B) {
	path := sharedFile(b, "models", "all-minilm-l6-v2", "tokenizer.json")
	b.ReportAllocs()
	for b.Loop() {
		loadFile(b, path)
	}
}
