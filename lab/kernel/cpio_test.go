package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// unpacked reads an archive by the kernel's description of the format.
func unpacked(t *testing.T, archive []byte) []string {
	t.Helper()
	var entries []string
	for at := 0; ; {
		header := archive[at : at+110]
		if string(header[:6]) != "070701" || at%4 != 0 {
			t.Fatalf("no entry at %d: %q", at, header)
		}
		field := func(i int) int {
			n, err := strconv.ParseUint(string(header[6+8*i:14+8*i]), 16, 32)
			if err != nil {
				t.Fatal(err)
			}
			return int(n)
		}
		at += len(header)
		name := string(archive[at : at+field(11)-1])
		if archive[at+len(name)] != 0 {
			t.Fatalf("the name %q has no end", name)
		}
		at = (at + field(11) + 3) &^ 3
		content := string(archive[at : at+field(6)])
		at = (at + field(6) + 3) &^ 3
		if name == "TRAILER!!!" {
			if at != len(archive) {
				t.Errorf("%d bytes follow the trailer", len(archive)-at)
			}
			return entries
		}
		entries = append(entries, strings.TrimRight(strconv.FormatInt(int64(field(1)), 8)+" "+name+" "+
			strconv.Itoa(field(9))+":"+strconv.Itoa(field(10))+" "+content, " "))
	}
}

func TestArchive(t *testing.T) {
	dir := t.TempDir()
	for name, content := range map[string]string{"a.txt": "four", "sub/b.txt": "fifth"} {
		if err := os.MkdirAll(filepath.Join(dir, filepath.Dir(name)), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var out bytes.Buffer
	a := newArchive(&out)
	a.file("/init", 0o755, []byte("x"))
	a.char("/dev/console", 5, 1)
	a.copyTree("/src/bpf", dir)
	a.file("/dev/empty", 0o644, nil)
	if err := a.close(); err != nil {
		t.Fatal(err)
	}
	want := []string{
		"100755 init 0:0 x",
		"40755 dev 0:0",
		"20600 dev/console 5:1",
		"40755 src 0:0",
		"40755 src/bpf 0:0",
		"100644 src/bpf/a.txt 0:0 four",
		"40755 src/bpf/sub 0:0",
		"100644 src/bpf/sub/b.txt 0:0 fifth",
		"100644 dev/empty 0:0",
	}
	if diff := cmp.Diff(want, unpacked(t, out.Bytes())); diff != "" {
		t.Errorf("archive (-want +got):\n%s", diff)
	}
}

func TestArchiveOfAMissingFile(t *testing.T) {
	var out bytes.Buffer
	a := newArchive(&out)
	a.copyFile("/init", 0o755, filepath.Join(t.TempDir(), "none"))
	a.file("/other", 0o644, nil)
	if err := a.close(); !os.IsNotExist(err) {
		t.Errorf("error %v, want that of the missing file", err)
	}
}
