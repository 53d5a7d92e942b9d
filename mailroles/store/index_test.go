package store

import (
	"anycastle/mailroles/maildir"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestIndex opens a folder without its index, and with a damaged one: the result is the same, at the price of a look at
// each file.
func TestIndex(t *testing.T) {
	root := tempRoot(t)
	s := openAt(t, root, nil)
	m := box(t, s)
	for i := range 20 {
		in := incoming(fmt.Sprintf("line %d\n\n", i))
		in.Date = standstill().AddDate(0, 0, i)
		if _, err := folder(t, m, "INBOX").Append(in); err != nil {
			t.Fatal(err)
		}
	}
	want := dump(t, m)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(root, user, indexFile)
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	damage := map[string][]byte{"whole": text, "gone": nil, "empty": {}, "short": text[:len(text)/2]}
	for at := 0; at < len(text); at += 97 {
		flipped := append([]byte{}, text...)
		flipped[at] ^= 1
		damage[fmt.Sprintf("byte %d", at)] = flipped
	}
	for name, text := range damage {
		if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
		if name != "gone" {
			write(t, filepath.Join(root, user), indexFile, string(text))
		}
		s := openAt(t, root, nil)
		tree, err := s.readTree(user)
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := s.begin(tree); err != nil {
			t.Fatal(err)
		}
		if looked := tree.looked; (looked == 0) != (name == "whole") || looked != 0 && looked != 20 {
			t.Errorf("%s: looked at %d files", name, looked)
		}
		if diff := cmp.Diff(want, dump(t, box(t, s))); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		again, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		sameIndex(t, name, damage["whole"], again)
	}
}

// sameIndex fails unless an index has been found out again.
func sameIndex(t *testing.T, name string, whole, again []byte) {
	t.Helper()
	was, _, _ := parseIndex(whole)
	now, _, _ := parseIndex(again)
	for base, i := range was {
		if name != "whole" { // sums and MODSEQs stand nowhere else
			i.sum, i.modseq = "", 0
		}
		if now[base] != i || len(now) != len(was) {
			t.Errorf("%s: the index has %+v for %+v", name, now[base], i)
		}
	}
}

func FuzzIndex(f *testing.F) {
	f.Add([]byte(indexHead))
	f.Add([]byte("anycastle-index 1\n3 4 1700000000 1.M2P3Q4.host,S=3,W=4\nfeffaaa7\n"))
	f.Add(indexBytes(7, listSums{1, 2}, []*Message{{Size: 3, Wide: 4, Date: standstill(), base: "1.M2P3Q4.host,S=3,W=4"}, {base: "a b"}}, nil))
	f.Fuzz(func(t *testing.T, text []byte) {
		index, changed, lists := parseIndex(text)
		for base, i := range index {
			m := &Message{Size: i.size, Wide: i.wide, Date: i.date, Modseq: i.modseq, Sum: i.sum, base: base}
			away := map[*Message]maildir.Flags{}
			if i.away {
				away[m] = i.flags
			}
			var of listSums
			if lists != nil {
				of = *lists
			}
			again, same, sums := parseIndex(indexBytes(changed, of, []*Message{m}, away))
			if len(again) != 1 || again[base] != i || same != changed || sums == nil || *sums != of {
				t.Fatalf("%q %+v became %+v", base, i, again)
			}
		}
	})
}
