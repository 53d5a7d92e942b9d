package transfer

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"strings"
	"testing"
	"time"

	"anycastle/gss/zone"
)

func TestKeep(t *testing.T) {
	dir := t.TempDir()
	text := "$TTL 60\n@ SOA ns h 7 3600 600 86400 5\n@ NS ns\nns A 192.0.2.53\n" +
		"t TXT \"a\\000\\\"b\" \"\"\nu TYPE65400 \\# 3 010203\n\\000\\.x AAAA 2001:db8::1\n@ HTTPS 1 . alpn=h2\nm MX 0 Ns\n"
	z, err := zone.Parse("example.org.", "zone", strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	at := time.Date(2026, 11, 29, 8, 0, 0, 0, time.UTC)
	if err := save(dir, z, at, os.Rename); err != nil {
		t.Fatal(err)
	}
	got, refreshed, err := load(dir, "example.org.")
	if err != nil || !refreshed.Equal(at) {
		t.Fatalf("it was refreshed at %v: %v", refreshed, err)
	}
	sameZone(t, got, z)
	if err := touch(dir, "example.org.", at.Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	if _, refreshed, err = load(dir, "example.org."); err != nil || !refreshed.Equal(at.Add(time.Hour)) {
		t.Errorf("it was refreshed at %v: %v", refreshed, err)
	}
	left, err := os.ReadDir(dir)
	if err != nil || len(left) != 1 {
		t.Errorf("the folder has %v, %v", left, err)
	}
	if err := forget(dir, "example.org."); err != nil {
		t.Error(err)
	}
	if err := forget(dir, "example.org."); err != nil {
		t.Error(err)
	}
	if _, _, err := load(dir, "example.org."); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("without a file it gives %v", err)
	}
	if err := save("/proc/nowhere", z, at, os.Rename); err == nil {
		t.Error("a zone is kept in a folder that cannot be made")
	}
}

// A zone's name is no path: reverse zones of less than a /24 have a slash in it (RFC 2317).
func TestKeepZoneWithSlash(t *testing.T) {
	const origin = "0/25.2.0.192.in-addr.arpa."
	z, err := zone.Parse(origin, "zone", strings.NewReader("$TTL 60\n@ SOA ns.example.org. h.example.org. 7 3600 600 86400 5\n@ NS ns.example.org.\n"))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := save(dir, z, time.Now(), os.Rename); err != nil {
		t.Fatal(err)
	}
	got, _, err := load(dir, origin)
	if err != nil {
		t.Fatal(err)
	}
	sameZone(t, got, z)
}

// A file that lacks its end is no zone, nor is one with more.
func TestCutFile(t *testing.T) {
	z := version(t, 1, "a 192.0.2.1", "b 192.0.2.2")
	var b bytes.Buffer
	if err := write(&b, z); err != nil {
		t.Fatal(err)
	}
	for n := range b.Len() + 2 {
		got, err := read(bytes.NewReader(append(b.Bytes(), 0)[:n]), "example.org.")
		if (err == nil) != (n == b.Len()) || (err == nil) != (got != nil) {
			t.Fatalf("%d of %d bytes give %v, %v", n, b.Len(), got, err)
		}
	}
}

func FuzzFile(f *testing.F) {
	var b bytes.Buffer
	if err := write(&b, version(f, 1, "a 192.0.2.1")); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes())
	f.Add([]byte(magic + "\x00\x00\x00\x01\x00"))
	f.Fuzz(func(t *testing.T, data []byte) {
		z, err := read(bytes.NewReader(data), "example.org.")
		if err != nil {
			return
		}
		var b bytes.Buffer
		if err := write(&b, z); err != nil {
			t.Fatal(err)
		}
		again, err := read(&b, "example.org.")
		if err != nil {
			t.Fatal(err)
		}
		sameZone(t, again, z)
	})
}
