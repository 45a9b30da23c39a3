package dataset

import (
	"strings"
	"testing"
)

func TestParseColumns(t *testing.T) {
	for in, want := range map[string]string{
		"":                                       "",
		"text=title":                             "text=title",
		"label= topic , text=title + standfirst": "text=title+standfirst,label=topic",
		"text=文本,language=lang":                  "text=文本,language=lang",
	} {
		c, err := ParseColumns(in)
		if err != nil || c.String() != want {
			t.Errorf("%q: %q %v", in, c, err)
		}
	}
	for in, want := range map[string]string{
		"title":                              "is not field=column",
		"body=title":                         `"body" is not a field — the fields are text, label and language`,
		"text=a,text=b":                      "text is mapped twice — join several columns with +",
		"text=a+":                            "names no column",
		"label=topic":                        "no column is mapped to text",
		"text=" + strings.Repeat("a", 1<<17): "longer than 64 KiB",
	} {
		if _, err := ParseColumns(in); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.40q: %v; want %q", in, err, want)
		}
	}
}

func TestLanguageOf(t *testing.T) {
	for text, want := range map[string]string{"Hello": "en", "": "en", "苹果 launches": "zh", "こんにちは": "en", "𠀀": "zh"} {
		if got := LanguageOf(text); got != want {
			t.Errorf("%q: %s", text, got)
		}
	}
}
