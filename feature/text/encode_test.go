package text

import (
	"slices"
	"testing"
)

func TestEncodeReference(t *testing.T) {
	tok := miniLM(t)
	rows := referenceRows(t)
	if len(rows) != 40 {
		t.Errorf("%d reference rows, want 40", len(rows))
	}
	for _, row := range rows {
		ids, info := tok.Encode(nil, row.Text, 512)
		if !slices.Equal(ids, row.IDs) {
			t.Errorf("%.80q: ids %v, want %v", row.Text, ids, row.IDs)
		}
		if info.Tokens != row.Tokens || info.Truncated != (row.Tokens > len(row.IDs)) {
			t.Errorf("%.80q: %+v, want %d tokens", row.Text, info, row.Tokens)
		}
	}
}
