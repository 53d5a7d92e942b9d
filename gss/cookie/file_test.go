package cookie

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParse(t *testing.T) {
	a, b := secret(t, secretOld), secret(t, secretNew)
	for _, tc := range []struct {
		name, text string
		want       []Secret
		err        string // part of the error, "" for none
	}{
		{"one", secretOld + "\n", []Secret{a}, ""},
		{"no line end", secretOld, []Secret{a}, ""},
		{"two, in order", secretNew + "\n" + secretOld + "\n", []Secret{b, a}, ""},
		{"comments and space", "# current\n\n  " + strings.ToUpper(secretNew) + "  # since June\r\n\t" + secretOld + "\n", []Secret{b, a}, ""},
		{"empty", "", nil, "f:1: no secret in it"},
		{"comments only", "# none\n# yet\n", nil, "f:2: no secret in it"},
		{"short", secretOld + "\n" + secretNew[1:] + "\n", nil, "f:2: 31 characters, want 32 hex digits"},
		{"long", "\n" + secretOld + "0\n", nil, "f:2: 33 characters, want 32 hex digits"},
		{"no digit", strings.Replace(secretOld, "d", "x", 1) + "\n", nil, "f:1: a character that is no hex digit"},
		{"twice", secretOld + "\n\n" + strings.ToUpper(secretOld), nil, "f:3: the same secret as before"},
		{"zeros", strings.Repeat("0", 32), nil, "f:1: all zeros"},
		{"five", secretA + "\n" + secretOld + "\n" + secretNew + "\n" + strings.Repeat("1", 32) + "\n" + strings.Repeat("2", 32), nil,
			"f:5: more than 4 secrets"},
		{"huge", strings.Repeat("#", maxFile+1), nil, "f is larger than 65536 bytes"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := Parse("f", []byte(tc.text))
			if tc.err == "" && err != nil || tc.err != "" && (!errors.Is(err, ErrSecrets) || !strings.Contains(err.Error(), tc.err)) {
				t.Fatalf("error %v, want %q", err, tc.err)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("secrets (-want +got):\n%s", diff)
			}
			if err != nil && (strings.Contains(err.Error(), secretOld[4:20]) || strings.Contains(err.Error(), secretNew[4:20])) {
				t.Errorf("the error tells a secret: %v", err)
			}
		})
	}
}

func TestLoad(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "cookies")
	if err := os.WriteFile(path, []byte(secretOld), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		mode fs.FileMode
		ok   bool
	}{{0o600, true}, {0o400, true}, {0o640, true}, {0o644, false}, {0o660, false}, {0o602, false}, {0o601, false}} {
		if err := os.Chmod(path, tc.mode); err != nil {
			t.Fatal(err)
		}
		_, err := Load(path)
		if tc.ok && err != nil || !tc.ok && (!errors.Is(err, ErrSecrets) || !strings.HasPrefix(err.Error(), "unusable cookie secrets: "+path+" has mode") || !strings.Contains(err.Error(), "chmod 0600")) {
			t.Errorf("mode %#o: %v", tc.mode, err)
		}
	}
	if _, err := Load(dir); !errors.Is(err, ErrSecrets) {
		t.Errorf("a folder: %v", err)
	}
	if _, err := Load(filepath.Join(dir, "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(secretOld + "\n# x\n" + secretNew))
	f.Add([]byte("\n\r\n#"))
	f.Fuzz(func(t *testing.T, text []byte) {
		got, err := Parse("f", text)
		if err == nil && (len(got) == 0 || len(got) > MaxSecrets) || err != nil && got != nil {
			t.Fatalf("%d secrets, %v", len(got), err)
		}
	})
}
