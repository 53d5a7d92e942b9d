package maildir

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestFolderNames(t *testing.T) {
	for _, tc := range []struct{ name, dir string }{
		{"INBOX", ""},
		{"inbox", ""},
		{"Work.2024", ".Work.2024"},
		{"Work.", ".Work"},
		{"Tom & Jerry", ".Tom &- Jerry"},
		{"Entwürfe", ".Entw&APw-rfe"},
		{"台北.日本語", ".&U,BTFw-.&ZeVnLIqe-"},
		{"📬", ".&2D3c7A-"},
	} {
		dir, err := FolderDir(tc.name)
		if err != nil || dir != tc.dir {
			t.Errorf("FolderDir(%q) = %q, %v; want %q", tc.name, dir, err, tc.dir)
			continue
		}
		if dir == "" {
			continue
		}
		if name, ok := FolderName(dir); !ok || name != CleanFolder(tc.name) {
			t.Errorf("FolderName(%q) = %q, %v; want %q", dir, name, ok, tc.name)
		}
	}
	for _, name := range []string{"", ".", "a..b", ".a", "a/b", "../x", "a\x00b", "a*", "a%", "\xff", strings.Repeat("x", 300)} {
		if dir, err := FolderDir(name); !errors.Is(err, ErrFolderName) {
			t.Errorf("FolderDir(%q) = %q, %v; want ErrFolderName", name, dir, err)
		}
	}
}

func TestNames(t *testing.T) {
	unique := Stamp{At: time.Unix(1700000000, 5000), PID: 7, Seq: 9, Host: "a/b:c", Tx: strings.Repeat("0a", 16)}.Unique()
	base := Base(unique, 42, 43)
	if want := "1700000000.M5P7Q9T" + strings.Repeat("0a", 16) + ".a_b_c,S=42,W=43"; base != want {
		t.Errorf("base = %s, want %s", base, want)
	}
	if size, wide := Sizes(base); size != 42 || wide != 43 || Unique(base) != unique {
		t.Errorf("%s has sizes %d and %d, and is %s", base, size, wide, Unique(base))
	}
	if size, wide := Sizes("x,S=,W=-1,Q=3"); size != -1 || wide != -1 {
		t.Errorf("sizes of a name without: %d, %d", size, wide)
	}
	at, tx, ok := Delivered(base)
	if !ok || at.Unix() != 1700000000 || tx != strings.Repeat("0a", 16) {
		t.Errorf("Delivered = %v, %s, %v", at, tx, ok)
	}
	if _, _, ok := Delivered("1700000000.M5P7Q9.host,S=42"); ok {
		t.Error("a name without a transaction id has one")
	}
	for file, want := range map[string]Name{
		"x":         {Base: "x"},
		"x:2,":      {Base: "x"},
		"x:2,SaF":   {Base: "x", Flags: Flagged | Seen | ParseFlags("a")},
		"x:1,weird": {Base: "x", Flags: ParseFlags("weird")},
	} {
		if got, ok := ParseName(file); !ok || got != want {
			t.Errorf("ParseName(%q) = %+v, %v", file, got, ok)
		}
	}
	if got := (Name{Base: "x", Flags: ParseFlags("TaSD")}).String(); got != "x:2,DSTa" {
		t.Errorf("name = %s", got)
	}
	if _, ok := ParseName(".hidden"); ok {
		t.Error("a file that starts with a dot is a message")
	}
}

func TestParseUIDList(t *testing.T) {
	const head = "3 V5 N9 G00112233445566778899aabbccddeeff\n"
	want := UIDList{Validity: 5, Next: 9, GUID: "00112233445566778899aabbccddeeff", Entries: []UIDEntry{{3, "a"}, {7, "b,S=2"}}}
	for _, tc := range []struct {
		name, text string
		next       uint32
		torn       bool
	}{
		{"plain", head + "3 :a\n7 :b,S=2\n", 9, false},
		{"Dovecot's", head + "3 W12 S9 :a:2,S\n7 :b,S=2\n", 9, false},
		{"torn", head + "3 :a\n7 :b,S=2\n8 :to", 10, true},
	} {
		got, torn, err := ParseUIDList([]byte(tc.text))
		want.Next = tc.next
		if diff := cmp.Diff(want, got); err != nil || torn != tc.torn || diff != "" {
			t.Errorf("%s: torn %v, %v: %s", tc.name, torn, err, diff)
		}
	}
	if got, _, err := ParseUIDList([]byte(head + "30 :appended\n")); err != nil || got.Next != 31 {
		t.Errorf("appended line: next = %d, %v; want 31", got.Next, err)
	}
	for _, text := range []string{"", "\n", "1 V5 N9\n", "3 N9\n", "3 V5\n", "3 Vx N9\n", head + "x\n", head + "0 :a\n", head + "4 :a\n4 :b\n",
		head + "4 :a\n3 :b\n", head + "\n", head + "4 :\n", head + "4294967295 :a\n", head + "4294967296 :a\n"} {
		if got, _, err := ParseUIDList([]byte(text)); !errors.Is(err, ErrUIDList) {
			t.Errorf("ParseUIDList(%q) = %+v, %v; want ErrUIDList", text, got, err)
		}
	}
}

func FuzzUIDList(f *testing.F) {
	f.Add([]byte("3 V5 N9 G0011\n3 :a\n7 W1 :b,S=2:2,S\n"))
	f.Add([]byte("3 V5 N9 G0011\n3 :a\n7 :b"))
	f.Fuzz(func(t *testing.T, text []byte) {
		l, _, err := ParseUIDList(text)
		if err != nil {
			return
		}
		again, torn, err := ParseUIDList(l.Bytes())
		if err != nil || torn {
			t.Fatalf("list does not survive being written: %v, torn %v\n%q", err, torn, l.Bytes())
		}
		if len(again.Entries) != len(l.Entries) || again.Next != l.Next || again.Validity != l.Validity {
			t.Fatalf("%+v became %+v", l, again)
		}
		if n := len(l.Entries); n > 0 && l.Next <= l.Entries[n-1].UID {
			t.Fatalf("UID %d would be given again", l.Next)
		}
	})
}

func FuzzMessageName(f *testing.F) {
	f.Add("1700000000.M5P7Q9T00112233445566778899aabbccddeeff.host,S=42:2,FS")
	f.Add("x:2,")
	f.Fuzz(func(t *testing.T, file string) {
		n, ok := ParseName(file)
		if !ok {
			return
		}
		Delivered(n.Base)
		if size, wide := Sizes(n.Base); size < -1 || wide < -1 {
			t.Fatalf("%q has sizes %d and %d", n.Base, size, wide)
		}
		if Readable(n.Base) {
			l := UIDList{Validity: 1, Next: 2, Entries: []UIDEntry{{1, n.Base}}}
			if again, _, err := ParseUIDList(l.Bytes()); err != nil || again.Entries[0] != l.Entries[0] {
				t.Fatalf("%q became %+v, %v", n.Base, again.Entries, err)
			}
		}
		if again, ok := ParseName(n.String()); n.Base != "" && (!ok || again != n) {
			t.Fatalf("%+v became %+v, %v", n, again, ok)
		}
	})
}

func FuzzFolderName(f *testing.F) {
	f.Add("Entwürfe.&-")
	f.Add("&U,BTFw-")
	f.Fuzz(func(t *testing.T, name string) {
		if dir, err := FolderDir(name); err == nil && dir != "" {
			if strings.ContainsAny(dir, "/\x00") || dir == "." || dir == ".." {
				t.Fatalf("%q leaves its mailbox as %q", name, dir)
			}
			if back, ok := FolderName(dir); !ok || back != CleanFolder(name) {
				t.Fatalf("%q became %q and then %q, %v", name, dir, back, ok)
			}
		}
		if back, ok := FolderName("." + name); ok {
			if dir, err := FolderDir(back); err != nil || dir != "."+name {
				t.Fatalf("directory %q is folder %q, which is directory %q", "."+name, back, dir)
			}
		}
	})
}

func TestUIDListBytes(t *testing.T) {
	l := UIDList{Validity: 1, Next: 3, GUID: "ab", Entries: []UIDEntry{{2, "x"}}}
	if want := []byte("3 V1 N3 Gab\n2 :x\n"); !bytes.Equal(l.Bytes(), want) {
		t.Errorf("list = %q, want %q", l.Bytes(), want)
	}
}
