package directory

import (
	"strings"
	"testing"
	"unicode/utf8"
)

func TestNormalize(t *testing.T) {
	for address, want := range map[string]string{
		"Alice@Example.ORG":                 "alice@example.org",
		"o'brien+x=y{z}@a-b.example":        "o'brien+x=y{z}@a-b.example",
		"user@localhost":                    "user@localhost",
		"x@B\u00fccher.example":             "x@xn--bcher-kva.example",
		"x@BU\u0308CHER.example":            "x@xn--bcher-kva.example",
		"x@xn--bcher-kva.EXAMPLE":           "x@xn--bcher-kva.example",
		"x@\u4f8b\u5b50\u3002example":       "x@xn--fsqu00a.example", // the ideographic full stop is a dot
		"J\u00d6RG@example.org":             "j\u00f6rg@example.org",
		"jo\u0308rg@example.org":            "j\u00f6rg@example.org",
		"\u7528\u6237@example.org":          "\u7528\u6237@example.org",
		strings.Repeat("a", 64) + "@b":      strings.Repeat("a", 64) + "@b",
		strings.Repeat("a", 65) + "@b":      "",
		strings.Repeat("\u00f6", 33) + "@b": "",
		"x@" + strings.Repeat("a", 64):      "",
		"":                                  "",
		"alice":                             "",
		"@example.org":                      "",
		"alice@":                            "",
		"a@b@example.org":                   "",
		".alice@example.org":                "",
		"../x@example.org":                  "",
		"a/b@example.org":                   "",
		"a\\b@example.org":                  "",
		"a b@example.org":                   "",
		"a\x00b@example.org":                "",
		"\"a\"@example.org":                 "",
		"a@[192.0.2.1]":                     "",
		"a@example..org":                    "",
		"a@-example.org":                    "",
		"a@example.org.":                    "",
		"a@ex_ample.org":                    "",
		"a@xn--\u00fc.example":              "",
		"a@xn--a-0.example":                 "",
		"\u0308a@example.org":               "", // begins with a mark
		"a\u202eb@example.org":              "", // turns the text around
		"a\u200db@example.org":              "", // is not seen
		"a\u2215b@example.org":              "", // looks like a slash
		"\xff@example.org":                  "",
	} {
		got, ok := Normalize(address)
		if got != want || ok != (want != "") {
			t.Errorf("Normalize(%q) = %q, %v; want %q", address, got, ok, want)
		}
	}
}

func FuzzNormalize(f *testing.F) {
	for _, s := range []string{"Alice+x@Example.org", "J\u00d6RG@b\u00fccher.example", "\u0130@example.org", "a\u0345\u0308@x", "x@xn--bcher-kva.example", "x@\u1e9e.example"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, address string) {
		normal, ok := Normalize(address)
		if !ok {
			if normal != "" {
				t.Fatalf("no address is %q", normal)
			}
			return
		}
		if again, ok := Normalize(normal); !ok || again != normal {
			t.Fatalf("%q becomes %q, and that %q, %v", address, normal, again, ok)
		}
		if normal[0] == '.' || strings.ContainsAny(normal, "/\x00 \r\n\t") || len(normal) > maxAddress || !utf8.ValidString(normal) || strings.Count(normal, "@") != 1 {
			t.Fatalf("%q becomes %q, which no directory may be called", address, normal)
		}
		if base, ok := untagged(normal); ok {
			if again, ok := Normalize(base); !ok || again != base {
				t.Fatalf("%q is a subaddress of %q, which is none", normal, base)
			}
		}
	})
}
