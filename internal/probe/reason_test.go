package probe

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestPrintable(t *testing.T) {
	for in, want := range map[string]string{
		"plain":                      "plain",
		"":                           "",
		"a\tb\r\n\x1b[2J\x7f":        `a\tb\x0d\x0a\x1b[2J\x7f`,
		"\xff\xfe":                   `\xff\xfe`,
		"\ufffd":                     `\u{fffd}`,
		"é\u202e😀":                   `\u{e9}\u{202e}\u{1f600}`,
		strings.Repeat("x", 200):     strings.Repeat("x", 200),
		strings.Repeat("x", 201):     strings.Repeat("x", 197) + "...",
		strings.Repeat("\x00", 1000): strings.Repeat(`\x00`, 49) + `\...`,
	} {
		if got := printable(in); got != want {
			t.Errorf("%q becomes %q, want %q", in, got, want)
		}
	}
}

func TestCauseKeepsWhatItIs(t *testing.T) {
	err := failed(fmt.Errorf("banner: %w", cause(io.ErrUnexpectedEOF, 0)))
	if err.Error() != "banner: closed early" || !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("an early end becomes %q", err)
	}
	if err := failed(fmt.Errorf("\x00: %w", io.EOF)); !errors.Is(err, io.EOF) {
		t.Errorf("%v has lost its cause", err)
	}
}

func FuzzPrintable(f *testing.F) {
	f.Add("plain")
	f.Add("\xff\x00é\ufffd\u202e")
	f.Add(strings.Repeat("\u202e", 300))
	f.Fuzz(func(t *testing.T, s string) {
		got := printable(s)
		if len(got) > maxReason || strings.ContainsFunc(got, unprintable) || !utf8.ValidString(got) {
			t.Errorf("%q becomes %q", s, got)
		}
		if printable(got) != got {
			t.Errorf("%q is escaped twice", got)
		}
	})
}
