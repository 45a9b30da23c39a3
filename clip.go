package galley

import "strings"

// Clip shortens text from outside before it enters a message, to its first
// most bytes and no broken character at the end.
func Clip(s string, most int) string {
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}
