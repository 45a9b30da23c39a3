package text

// A template says which tokens stand around a text. The ids that Encode needs
// are drawn from Single; Pair is kept for those who read the file elsewhere.
type template struct {
	none           bool // no post-processor: nothing stands around a text
	Single, Pair   []templatePiece
	SpecialTokens  map[string]templateToken
	prefix, suffix []int32
}

// A templatePiece is a special token by name, or the text "A" or "B".
type templatePiece struct {
	special bool
	ID      string `json:"id"`
	TypeID  int    `json:"type_id"`
}

type templateToken struct {
	ID     string   `json:"id"`
	IDs    []int32  `json:"ids"`
	Tokens []string `json:"tokens"`
}

// bertTemplate is "[CLS] A [SEP]" and "[CLS] A [SEP] B [SEP]".
func bertTemplate(class string, classID int32, separator string, separatorID int32) template {
	special := func(name string, typeID int) templatePiece { return templatePiece{true, name, typeID} }
	a, b := templatePiece{false, "A", 0}, templatePiece{false, "B", 1}
	t := template{
		Single: []templatePiece{special(class, 0), a, special(separator, 0)},
		Pair:   []templatePiece{special(class, 0), a, special(separator, 0), b, special(separator, 1)},
		SpecialTokens: map[string]templateToken{
			class:     {class, []int32{classID}, []string{class}},
			separator: {separator, []int32{separatorID}, []string{separator}},
		},
	}
	t.resolve()
	return t
}

// resolve fills in the ids around the text. It reports the name of a special
// token that the template does not define.
func (t *template) resolve() (undefined string, ok bool) {
	t.prefix, t.suffix = nil, nil
	side := &t.prefix
	for _, piece := range t.Single {
		if !piece.special {
			side = &t.suffix
			continue
		}
		token, ok := t.SpecialTokens[piece.ID]
		if !ok {
			return piece.ID, false
		}
		*side = append(*side, token.IDs...)
	}
	return "", true
}

func (t *template) section() any {
	if t.none {
		return nil
	}
	pieces := func(list []templatePiece) []any {
		out := make([]any, len(list))
		for i, piece := range list {
			if piece.special {
				out[i] = map[string]templatePiece{"SpecialToken": piece}
			} else {
				out[i] = map[string]templatePiece{"Sequence": piece}
			}
		}
		return out
	}
	return struct {
		Type          string                   `json:"type"`
		Single        []any                    `json:"single"`
		Pair          []any                    `json:"pair"`
		SpecialTokens map[string]templateToken `json:"special_tokens"`
	}{"TemplateProcessing", pieces(t.Single), pieces(t.Pair), t.SpecialTokens}
}
