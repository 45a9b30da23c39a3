package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode/utf16"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	federationpb "galley/api/federation/v1"
)

// A secret is what must not leave a partner, with each form that it could leave
// in.
type secret struct {
	name  string
	forms map[string][]byte // by what they are
}

// secretText is a text of a partner's: a row, a file's name, the id of a row.
func secretText(text string) secret {
	forms := map[string][]byte{
		"UTF-8": []byte(text), "lower case": []byte(strings.ToLower(text)), "upper case": []byte(strings.ToUpper(text)),
		"a literal of JSON": []byte(strings.Trim(strconv.QuoteToASCII(text), `"`)),
	}
	units := utf16.Encode([]rune(text))
	var little, big []byte
	for _, u := range units {
		little, big = binary.LittleEndian.AppendUint16(little, u), binary.BigEndian.AppendUint16(big, u)
	}
	forms["UTF-16, little-endian"], forms["UTF-16, big-endian"] = little, big
	sum := sha256.Sum256([]byte(text))
	forms["SHA-256"] = sum[:]
	for name, data := range map[string][]byte{"": []byte(text), " of its SHA-256": sum[:]} {
		maps.Copy(forms, encodedForms(name, data))
	}
	return secret{text, forms}
}

// encodedForms are bytes as text that holds bytes.
func encodedForms(of string, data []byte) map[string][]byte {
	digits := hex.EncodeToString(data)
	forms := map[string][]byte{"hex" + of: []byte(digits), "HEX" + of: []byte(strings.ToUpper(digits))}
	// In base64 the same bytes look different by what is before them.
	for before := range 3 {
		padded := append(make([]byte, before), data...)
		for name, encoding := range map[string]*base64.Encoding{"base64": base64.RawStdEncoding, "base64url": base64.RawURLEncoding} {
			from, whole := (before*8+5)/6, len(padded)*8/6
			forms[fmt.Sprintf("%s%s, %d bytes in", name, of, before)] = []byte(encoding.EncodeToString(padded))[from:whole]
		}
	}
	return forms
}

// secretTokens is a row as a model sees it.
func secretTokens(name string, ids []int32) secret {
	forms := map[string][]byte{}
	var texts []string
	for _, id := range ids {
		n := uint32(id)
		for form, add := range map[string]func([]byte) []byte{
			"int32":             func(b []byte) []byte { return binary.LittleEndian.AppendUint32(b, n) },
			"int32, big-endian": func(b []byte) []byte { return binary.BigEndian.AppendUint32(b, n) },
			"int64":             func(b []byte) []byte { return binary.LittleEndian.AppendUint64(b, uint64(n)) },
			"int64, big-endian": func(b []byte) []byte { return binary.BigEndian.AppendUint64(b, uint64(n)) },
			"uint16":            func(b []byte) []byte { return binary.LittleEndian.AppendUint16(b, uint16(n)) },
			"varint":            func(b []byte) []byte { return protowire.AppendVarint(b, uint64(n)) },
			"zigzag varint":     func(b []byte) []byte { return protowire.AppendVarint(b, protowire.EncodeZigZag(int64(n))) },
			"float32":           func(b []byte) []byte { return binary.LittleEndian.AppendUint32(b, math.Float32bits(float32(n))) },
			"float64":           func(b []byte) []byte { return binary.LittleEndian.AppendUint64(b, math.Float64bits(float64(n))) },
		} {
			forms["token ids as "+form] = add(forms["token ids as "+form])
		}
		texts = append(texts, strconv.Itoa(int(id)))
	}
	for _, between := range []string{",", ", ", " "} {
		forms[fmt.Sprintf("token ids as text with %q between", between)] = []byte(strings.Join(texts, between))
	}
	return secret{"the tokens of " + name, forms}
}

// leaks says which of secrets are in data, and how.
func leaks(data []byte, secrets []secret) (found []string) {
	for _, s := range secrets {
		for _, form := range slices.Sorted(maps.Keys(s.forms)) {
			if bytes.Contains(data, s.forms[form]) {
				found = append(found, fmt.Sprintf("%q, as %s", s.name, form))
			}
		}
	}
	return found
}

// unmistakable fails for forms that a message could have by chance.
func unmistakable(t *testing.T, secrets []secret) {
	t.Helper()
	for _, s := range secrets {
		for form, data := range s.forms {
			if len(data) < 8 || len(bytes.Trim(data, string(data[:1]))) == 0 {
				t.Fatalf("%q as %s is %q, which says nothing", s.name, form, data)
			}
		}
	}
}

// Each form of a secret is found wherever a message has room for it: in a text,
// in bytes, in a field that nobody knows, and across two pieces of an update.
func TestLeaksAreFound(t *testing.T) {
	secrets := []secret{secretText("Quillwort zéphyrine 珊瑚礁: Row 7?>"), secretTokens("a row", []int32{2, 700, 31, 4, 9000, 12, 3})}
	unmistakable(t, secrets)
	for i, s := range secrets {
		for form, data := range s.forms {
			unknown := &federationpb.HelloRequest{Agent: "an agent"}
			unknown.ProtoReflect().SetUnknown(protowire.AppendBytes(protowire.AppendTag(nil, 127, protowire.BytesType), data))
			half := len(data) / 2
			for place, messages := range map[string][]proto.Message{
				"bytes":        {&federationpb.JoinRequest{Agreement: data}},
				"nobody knows": {unknown},
				"two pieces":   {uploaded(append([]byte("weights"), data[:half]...)), uploaded(append(data[half:len(data):len(data)], "weights"...))},
				"a text":       {&federationpb.DeclineRequest{Why: strings.ToValidUTF8(string(data), "")}},
			} {
				if place == "a text" && !strings.Contains(strings.ToValidUTF8(string(data), ""), string(data)) {
					continue // no text can have it
				}
				var side overheardSide
				for _, m := range messages {
					side.message(m)
				}
				found := leaks(side.text(), secrets)
				if len(found) == 0 || !strings.Contains(strings.Join(found, "; "), fmt.Sprintf("%q, as %s", s.name, form)) {
					t.Errorf("secret %d as %s in %s is not found: %q", i, form, place, found)
				}
			}
		}
	}
	var side overheardSide
	side.message(&federationpb.HelloRequest{Agent: "galley-partner"})
	side.message(uploaded(make([]byte, 1000)))
	if found := leaks(side.text(), secrets); len(found) > 0 {
		t.Errorf("found in what has none: %q", found)
	}
}

func uploaded(data []byte) *federationpb.UploadRequest {
	return &federationpb.UploadRequest{Part: &federationpb.UploadRequest_Data{Data: data}}
}
