package wholefile

import (
	"errors"
	"path/filepath"
	"testing"
)

func TestHold(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state")
	for range 2 { // closed, it can be held again
		held, err := Hold(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := Put(path, []byte("new")); err != nil { // which it does not hinder
			t.Error(err)
		}
		if _, err := Hold(path); !errors.Is(err, ErrHeld) {
			t.Errorf("held a second time: %v, want ErrHeld", err)
		}
		other, err := Hold(path + "2")
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(other.Close(), held.Close()); err != nil {
			t.Error(err)
		}
	}
	if _, err := Hold(filepath.Join(path, "state")); err == nil || errors.Is(err, ErrHeld) {
		t.Errorf("below a file: %v", err)
	}
}
