package runner

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// A builder killed before it wrote any state leaves a folder that no lab is in.
func TestSweep(t *testing.T) {
	l := up(t, Options{Topology: three})
	root := filepath.Dir(l.StateDir)
	if err := Sweep(l.Name, root); err != nil || !l.inits["a"].alive() {
		t.Errorf("sweeping a lab that is up: %v", err)
	}
	left := filepath.Join(root, "half")
	if err := os.Mkdir(left, 0o700); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := Sweep("half", root); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := os.Stat(left); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the folder is left: %v", err)
	}
	if _, err := os.Stat(l.StateDir); err != nil {
		t.Error(err)
	}
}
