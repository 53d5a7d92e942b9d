package watch

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

func TestParseEvent(t *testing.T) {
	const when = "time=2026-11-29T20:32:17.783Z "
	for _, tc := range []struct {
		name, line, role, level, text string
	}{
		{"plain", when + "level=INFO msg=started role=lb pid=17", "lb", "INFO", "started pid=17"},
		{"quoted", when + `level=WARN msg="a member is \"lost\"" role=lb err="one two"`, "lb", "WARN", `a member is "lost" err=one two`},
		{"empty value", when + `level=INFO msg=moved old="" new=up`, "", "INFO", "moved new=up"},
		{"debug", when + "level=DEBUG msg=x", "", "", ""},
		{"no time", "level=INFO msg=x", "", "", ""},
		{"no message", when + "level=INFO", "", "", ""},
		{"another program", "unbound[12:0] info: start of service", "", "", ""},
		{"open quote", when + `level=INFO msg="x`, "", "", ""},
		{"empty", "", "", "", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			e, ok := parseEvent(tc.line)
			if ok != (tc.level != "") {
				t.Fatalf("taken: %v", ok)
			}
			if ok && (e.Role != tc.role || e.Level != tc.level || e.Text != tc.text || e.At.Format(time.RFC3339Nano) != "2026-11-29T20:32:17.783Z") {
				t.Errorf("got %+v", e)
			}
		})
	}
}

func FuzzParseEvent(f *testing.F) {
	f.Add(`time=2026-11-29T20:32:17.783Z level=INFO msg="a \"b\"" role=lb x=1`)
	f.Add(`time= level== msg="`)
	f.Fuzz(func(t *testing.T, line string) {
		e, ok := parseEvent(line)
		if ok && (e.Level == "" || e.At.IsZero()) {
			t.Errorf("%q became %+v", line, e)
		}
		if text := clean(e.Text); strings.ContainsAny(text, "\x1b\n\r") || !utf8.ValidString(text) {
			t.Errorf("%q is not clean", text)
		}
	})
}

func TestTailReadsWhatIsAdded(t *testing.T) {
	path := filepath.Join(t.TempDir(), "node.log")
	log := &tail{path: path}
	if got := log.read(); got != nil {
		t.Errorf("of no file: %v", got)
	}
	write := func(text string, flag int) {
		t.Helper()
		f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|flag, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if _, err := f.WriteString(text); err != nil {
			t.Fatal(err)
		}
	}
	for _, step := range []struct {
		text string
		flag int
		want []string
	}{
		{"one\ntw", os.O_APPEND, []string{"one"}},
		{"o\nthree\n", os.O_APPEND, []string{"two", "three"}},
		{"", os.O_APPEND, nil},
		{"anew\n", os.O_TRUNC, []string{"anew"}},
		{strings.Repeat("x", maxTail) + "\nlast\n", os.O_APPEND, []string{"last"}},
	} {
		write(step.text, step.flag)
		if got := log.read(); !slices.Equal(got, step.want) {
			t.Errorf("after %.20q: %q, want %q", step.text, got, step.want)
		}
	}
}
