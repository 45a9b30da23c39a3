package galley_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"testing"

	"galley"
)

func TestErrorSaysSubjectMessageAndRemedy(t *testing.T) {
	err := galley.Errorf(galley.NotFound, "news@3", "there is no such version: %w", fs.ErrNotExist).WithRemedy("list them with %s", "galley models list")
	if got, want := err.Error(), "news@3: there is no such version: file does not exist — list them with galley models list"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if !errors.Is(err, fs.ErrNotExist) {
		t.Error("the cause is lost")
	}
}

func TestCodeOf(t *testing.T) {
	coded := galley.Errorf(galley.Aborted, "prod", "moved")
	for _, test := range []struct {
		err  error
		want galley.Code
	}{
		{nil, ""},
		{coded, galley.Aborted},
		{fmt.Errorf("promote: %w", coded), galley.Aborted},
		{context.Canceled, galley.Canceled},
		{fmt.Errorf("ask: %w", context.DeadlineExceeded), galley.DeadlineExceeded},
		{errors.New("odd"), galley.Unknown},
	} {
		if got := galley.CodeOf(test.err); got != test.want {
			t.Errorf("CodeOf(%v) = %q, want %q", test.err, got, test.want)
		}
	}
	if galley.AsError(nil) != nil {
		t.Error("nil became an error")
	}
	if e := galley.AsError(context.Canceled); e.Code != galley.Canceled || !errors.Is(e, context.Canceled) {
		t.Errorf("AsError of a cancellation is %v, %s", e, e.Code)
	}
}
