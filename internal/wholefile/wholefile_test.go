package wholefile

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

func TestPut(t *testing.T) {
	for name, put := range map[string]func(string, []byte) error{"put": Put, "put durably": PutDurably} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "file")
			for _, text := range []string{"first", "second, longer", "3"} {
				if err := put(path, []byte(text)); err != nil {
					t.Fatal(err)
				}
				got, err := os.ReadFile(path)
				if err != nil || string(got) != text {
					t.Errorf("the file has %q, %v; want %q", got, err, text)
				}
			}
			if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
				t.Errorf("the file is open to others: %v, %v", info.Mode(), err)
			}
			if _, err := os.Stat(path + ".new"); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("the new file is left: %v", err)
			}
			if err := os.Mkdir(path+".new", 0o700); err != nil { // where nothing can be written
				t.Fatal(err)
			}
			if err := put(path, []byte("fourth")); err == nil {
				t.Error("what cannot be written is written")
			}
			if got, err := os.ReadFile(path); err != nil || string(got) != "3" {
				t.Errorf("after a failure the file has %q, %v", got, err)
			}
			if err := put(filepath.Join(path, "below"), nil); err == nil {
				t.Error("a file is made below a file")
			}
		})
	}
}
