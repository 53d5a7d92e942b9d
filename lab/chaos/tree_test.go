package chaos

import (
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// planted is a tree of one mailbox with one message in INBOX, as a store leaves it.
func planted(t *testing.T, change func(files map[string]string)) Tree {
	t.Helper()
	text := Seal("<1@chaos.example>", "x@example.net", ann, "hello\r\n")
	sum := sha256.Sum256(text)
	base := fmt.Sprintf("1.M1P1Q1.host,S=%d,W=%d", len(text), len(text))
	files := map[string]string{
		"dovecot-uidlist":  "3 V7 N2 G00\n1 :" + base + "\n",
		"dovecot-keywords": "0 $Done\n",
		"anycastle-index":  fmt.Sprintf("anycastle-index 2\n41\n%d %d 1 41 %x %s\n01234567\n", len(text), len(text), sum, base),
		"message":          string(text),
	}
	change(files)
	root := t.TempDir()
	at := filepath.Join(root, ann)
	for _, dir := range []string{"new", "cur", "tmp"} {
		if err := os.MkdirAll(filepath.Join(at, dir), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for name, text := range files {
		if name == "message" {
			name = "cur/" + base + ":2,Sa"
		}
		if err := os.WriteFile(filepath.Join(at, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	tree, err := ReadTree("east", root)
	if err != nil {
		t.Fatal(err)
	}
	return tree
}

func TestReadTree(t *testing.T) {
	for _, tc := range []struct {
		name    string
		change  func(files map[string]string)
		damaged string // what it says of the message; empty: it is whole
	}{
		{"whole", func(map[string]string) {}, ""},
		{"received by others before", func(f map[string]string) {
			f["message"] = "Received: from x\r\n\tby y\r\n" + f["message"]
			f["anycastle-index"] = ""
		}, ""},
		{"bit flipped in the body", func(f map[string]string) { f["message"] = strings.Replace(f["message"], "hello", "hellp", 1) }, "body's SHA-256"},
		{"bit flipped in the head", func(f map[string]string) { f["message"] = strings.Replace(f["message"], "Subject", "Subjecu", 1) }, "file's SHA-256"},
		{"truncated", func(f map[string]string) { f["message"] = f["message"][:40] }, "no body"},
		{"file gone", func(f map[string]string) { delete(f, "message") }, "no file"},
		{"not in the list", func(f map[string]string) { f["dovecot-uidlist"] = "3 V7 N2 G00\n" }, "no list knows"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			list := planted(t, tc.change).messages()
			if len(list) != 1 {
				t.Fatalf("%d messages, want 1: %v", len(list), list)
			}
			got := list[0]
			if tc.damaged == "" != (got.Damaged == "") || !strings.Contains(got.Damaged, tc.damaged) {
				t.Errorf("damaged: %q, want %q", got.Damaged, tc.damaged)
			}
			if tc.damaged == "" && (got.ID != "<1@chaos.example>" || got.Flags != `$Done \Seen` || got.Place != Place{7, 1}) {
				t.Errorf("got %+v", got)
			}
			if tc.name == "whole" && got.Modseq != 41 {
				t.Errorf("MODSEQ %d, want 41", got.Modseq)
			}
		})
	}
}

func FuzzLists(f *testing.F) {
	f.Add([]byte("3 V7 N2 G00\n1 :a,S=1\n"))
	f.Add([]byte("anycastle-index 2\n41\n1 1 1 41 00 a,S=1\n01234567\n"))
	f.Add([]byte("0 $Done\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		if l, err := parseUIDList(text); err == nil {
			for i, e := range l.entries {
				if e.uid >= l.next || i > 0 && e.uid <= l.entries[i-1].uid {
					t.Errorf("UID %d of a list that gives %d next", e.uid, l.next)
				}
			}
		}
		parseIndex(text)
		parseKeywords(text)
		_, _ = Open(text) // must not panic
	})
}
