package galley_test

import (
	"testing"

	"galley"
)

func TestClip(t *testing.T) {
	for _, test := range []struct {
		in   string
		most int
		want string
	}{
		{"", 4, ""},
		{"news", 4, "news"},
		{"newsroom", 4, "news…"},
		{"新闻编辑部", 6, "新闻…"},
		{"新闻编辑部", 7, "新闻…"}, // not a third of a character
	} {
		if got := galley.Clip(test.in, test.most); got != test.want {
			t.Errorf("Clip(%q, %d) = %q, want %q", test.in, test.most, got, test.want)
		}
	}
}
