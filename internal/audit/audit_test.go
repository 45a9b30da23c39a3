package audit

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"galley"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 123456789, time.UTC)

// chain makes a log of entries.
func chain(entries []Entry) []Entry {
	out := make([]Entry, len(entries))
	previous := Start
	for i, e := range entries {
		e.Number = int64(i + 1)
		out[i] = e.Chained(previous)
		previous = out[i].Digest
	}
	return out
}

func headOf(log []Entry) Head {
	if len(log) == 0 {
		return Head{Digest: Start}
	}
	last := log[len(log)-1]
	return Head{last.Number, last.Digest}
}

func verify(log []Entry, kept ...Head) error {
	v := NewVerifier(kept...)
	for _, e := range log {
		if err := v.Add(e); err != nil {
			return err
		}
	}
	return v.Finish()
}

// The digests were computed with another program, from the bytes that the
// package comment says.
func TestKnownDigests(t *testing.T) {
	log := chain([]Entry{
		{At: noon, Actor: "editor", Action: "alias.promote", Subject: "news-topic:prod", Detail: "news-topic@3", Address: "127.0.0.1:40000", Token: "t-1"},
		{At: time.Unix(0, -1).UTC(), Actor: "galley", Action: "job.submit", Subject: "新闻"},
	})
	for i, want := range []galley.Digest{
		"sha256:d1928c73a77abf7bf676b278cff004188660d6b191a563955d3369d3805b9c37",
		"sha256:1fe274d8c4abfcf756be2942fa602d6d1084d5ecf5b9cc020e7c442a5b8cab80",
	} {
		if log[i].Digest != want {
			t.Errorf("entry %d: %s, want %s", i+1, log[i].Digest, want)
		}
	}
}

// RFC 8032, section 7.1, test 1: the key and signature that heads rest on are
// the standard's.
func TestKnownSignature(t *testing.T) {
	seed := "\x9d\x61\xb1\x9d\xef\xfd\x5a\x60\xba\x84\x4a\xf4\x92\xec\x2c\xc4\x44\x49\xc5\x69\x7b\x32\x69\x19\x70\x3b\xac\x03\x1c\xae\x7f\x60"
	key := ed25519.NewKeyFromSeed([]byte(seed))
	if got := fmt.Sprintf("%x", key.Public()); got != "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a" {
		t.Errorf("public key %s", got)
	}
	if got := fmt.Sprintf("%x", ed25519.Sign(key, nil)); got != "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b" {
		t.Errorf("signature %s", got)
	}
}

func TestVerifyNamesTheFirstFault(t *testing.T) {
	var entries []Entry
	for i := range 6 {
		entries = append(entries, Entry{At: noon.Add(time.Duration(i)), Actor: "editor", Action: "job.submit", Subject: fmt.Sprint("job-", i)})
	}
	log := chain(entries)
	head := headOf(log)
	rewritten := chain(append(slices.Clone(entries[:2]), entries[3:]...)) // without the third, and whole in itself
	for name, tt := range map[string]struct {
		log     []Entry
		subject string
		says    string
	}{
		"altered":    {edited(log, 2, func(e *Entry) { e.Actor = "somebody" }), "audit entry 3", "was altered"},
		"dropped":    {slices.Delete(slices.Clone(log), 2, 3), "audit entry 3", "is missing"},
		"reordered":  {slices.Concat(log[:2], []Entry{log[3], log[2]}, log[4:]), "audit entry 3", "is missing"},
		"inserted":   {slices.Insert(slices.Clone(log), 2, log[1]), "audit entry 3", "out of its place"},
		"cut off":    {log[:4], "audit entry 5", "is cut off"},
		"empty":      {nil, "audit entry 1", "is cut off"},
		"rechained":  {rewritten, "audit entry 6", "is cut off"},
		"made again": {chain(slices.Concat(rewritten, entries[:1])), "audit entry 6", "the head " + head.Digest.Short()},
	} {
		err := verify(tt.log, head)
		var e *galley.Error
		if !errors.As(err, &e) || e.Code != galley.DataLoss || e.Subject != tt.subject || !strings.Contains(e.Message, tt.says) || e.Remedy == "" {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := verify(log, head, head); err != nil {
		t.Error(err)
	}
	if err := verify(log, Head{0, Start}, Head{3, log[2].Digest}); err != nil { // it has grown since
		t.Error(err)
	}
	if err := verify(nil); err != nil {
		t.Error(err)
	}
}

func edited(log []Entry, i int, change func(*Entry)) []Entry {
	log = slices.Clone(log)
	change(&log[i])
	return log
}

// text is what a field of an entry may be.
func text() *rapid.Generator[string] {
	return rapid.OneOf(rapid.StringN(0, 20, 40), rapid.SampledFrom([]string{"", "a", "b", "ab"}))
}

func entry() *rapid.Generator[Entry] {
	return rapid.Custom(func(t *rapid.T) Entry {
		return Entry{
			At:    time.Unix(0, rapid.Int64().Draw(t, "at")).UTC(),
			Actor: galley.Actor(text().Draw(t, "actor")), Action: text().Draw(t, "action"), Subject: text().Draw(t, "subject"),
			Detail: text().Draw(t, "detail"), Address: text().Draw(t, "address"), Token: text().Draw(t, "token"),
		}
	})
}

// Whatever one change is made to a log, with or without the digests after it
// made to fit, a head kept elsewhere shows it.
func TestEveryMutationIsFound(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		entries := rapid.SliceOfN(entry(), 1, 8).Draw(t, "entries")
		log := chain(entries)
		head := headOf(log)
		if err := verify(log, head); err != nil {
			t.Fatal(err)
		}
		bad := slices.Clone(log)
		i := rapid.IntRange(0, len(log)-1).Draw(t, "at")
		switch rapid.SampledFrom([]string{"alter", "drop", "swap", "insert", "cut", "digest", "move text"}).Draw(t, "mutation") {
		case "alter":
			bad[i] = entry().Filter(func(e Entry) bool { return !same(e.Bounded(), log[i]) }).Draw(t, "entry")
			bad[i].Number, bad[i].Digest = log[i].Number, log[i].Digest
		case "drop":
			bad = slices.Delete(bad, i, i+1)
		case "swap":
			j := rapid.IntRange(0, len(log)-1).Draw(t, "with")
			if same(log[i], log[j]) {
				t.Skip("the same")
			}
			bad[i], bad[j] = bad[j], bad[i]
		case "insert":
			bad = slices.Insert(bad, i, entry().Draw(t, "entry"))
		case "cut":
			bad = bad[:i]
		case "digest":
			bad[i].Digest = galley.DigestBytes([]byte("another"))
		case "move text":
			if bad[i].Action == "" {
				t.Skip("nothing to move")
			}
			bad[i].Subject, bad[i].Action = bad[i].Action+bad[i].Subject, ""
			if same(bad[i], log[i]) {
				t.Skip("the same")
			}
		}
		if verify(bad, head) == nil {
			t.Fatal("not found")
		}
		if rechained := chain(bad); verify(rechained, head) == nil && !sameContent(rechained, log) {
			t.Fatal("not found after the digests were made to fit")
		}
	})
}

func same(a, b Entry) bool {
	a.Number, a.Digest, b.Number, b.Digest = 0, "", 0, ""
	return a == b
}

func sameContent(a, b []Entry) bool { return slices.EqualFunc(a, b, same) }

func TestBounded(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		e := Entry{Detail: string(rapid.SliceOfN(rapid.Byte(), 0, 50).Draw(t, "bytes"))}
		if rapid.Bool().Draw(t, "long") {
			e.Detail = strings.Repeat(e.Detail+"\xffx", MaxText/2)
		}
		b := e.Bounded()
		if len(b.Detail) > MaxText || strings.ToValidUTF8(b.Detail, "") != b.Detail || strings.Contains(b.Detail, "\x00") || b.Bounded() != b {
			t.Fatalf("%q", b.Detail)
		}
	})
	plain := Entry{Actor: "editor", Subject: "新闻", Detail: strings.Repeat("x", MaxText)}
	if plain.Bounded() != plain {
		t.Error("a good entry was changed")
	}
}
