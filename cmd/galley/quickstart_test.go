package main

import (
	"context"
	"errors"
	"strings"
	"testing"

	"galley"
)

// Who interrupts the quickstart is told so, and how to go on; not what broke
// because of it.
func TestQuickstartInterrupted(t *testing.T) {
	s := &story{app: &app{home: "/srv/try"}}
	ctx, interrupt := context.WithCancel(t.Context())
	broke := errors.New("it broke")
	if err := s.failed(ctx, "quickstart step ask", broke); !errors.Is(err, broke) || strings.Contains(err.Error(), "interrupted") {
		t.Error(err)
	}
	interrupt()
	err := s.failed(ctx, "quickstart step ask", context.Canceled)
	if galley.CodeOf(err) != galley.Canceled || err.Error() != "quickstart step ask: was interrupted — galley quickstart begins anew, in a new folder; galley up --home /srv/try goes on with what was under way" {
		t.Error(err)
	}
}
