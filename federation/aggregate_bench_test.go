package federation

import (
	"bytes"
	"io"
	"testing"
)

// One round's work at the coordinator but for the network: ten updates of
// 250 kB are inspected, judged and aggregated.
func BenchmarkRound(b *testing.B) {
	l := Layout{{"w", []int64{62_500}}}
	base, from := encode(b, l, random(l, 0)...)
	updates := make([][]byte, 10)
	files := shelf{}
	for i := range updates {
		data, digest := encode(b, l, random(l, uint64(i+1))...)
		updates[i], files[digest] = data, data
	}
	b.SetBytes(int64(len(base)) * 10)
	for b.Loop() {
		parts := make([]Part, len(updates))
		for i, data := range updates {
			found, err := Inspect(bytes.NewReader(data), l)
			if err != nil {
				b.Fatal(err)
			}
			h := Sign(Header{Protocol: Protocol, Partner: "a", Base: from, Update: found.Digest, Rows: 1}, keyOf("a"))
			if !h.Verify(memberOf("a").Key) {
				b.Fatal("not verified")
			}
			parts[i] = Part{string(rune('a' + i)), found.Digest, 0.1, 1}
		}
		if _, err := Aggregate(io.Discard, l, bytes.NewReader(base), parts, files.open); err != nil {
			b.Fatal(err)
		}
	}
}
