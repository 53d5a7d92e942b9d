package imapfront

import (
	"bytes"
	"strings"
	"testing"

	"anycastle/mailroles/link"
)

// said is one side's words, in a session that is followed.
type said struct {
	who  byte // 'c' the client, 's' the store
	text string
}

func TestTalk(t *testing.T) {
	c, s := func(text string) said { return said{'c', text} }, func(text string) said { return said{'s', text} }
	for name, tt := range map[string]struct {
		words      []said
		busy, part bool // in the end a command is without its answer; the store is in the middle of a line
	}{
		"nothing":                    {},
		"a command":                  {words: []said{c("a NOOP\r\n")}, busy: true},
		"its answer":                 {words: []said{c("a NOOP\r\n"), s("* 3 EXISTS\r\na OK done\r\n")}},
		"half a line":                {words: []said{c("a NOOP\r\n"), s("* 3 EXI")}, busy: true, part: true},
		"two of three answers":       {words: []said{c("a NOOP\r\nb NOOP\r\nc NOOP\r\n"), s("a OK\r\nb NO x\r\n")}, busy: true},
		"idle":                       {words: []said{c("a idle\r\n"), s("+ idling\r\n* 3 EXISTS\r\n")}},
		"idle in half a line":        {words: []said{c("a IDLE\r\n"), s("+ idling\r\n* ")}, part: true},
		"idle behind another":        {words: []said{c("a SELECT x\r\nb IDLE\r\n"), s("* 1 EXISTS\r\na OK\r\n+ idling\r\n")}},
		"idle, not begun":            {words: []said{c("a SELECT x\r\nb IDLE\r\n"), s("* 1 EXISTS\r\n")}, busy: true},
		"idle, refused":              {words: []said{c("a IDLE\r\n"), s("a NO\r\n"), c("b NOOP\r\n")}, busy: true},
		"done, not answered":         {words: []said{c("a IDLE\r\n"), s("+ idling\r\n"), c("DONE\r\n")}, busy: true},
		"idle with another":          {words: []said{c("a IDLE\r\n"), s("+ idling\r\n"), c("b NOOP\r\n")}, busy: true},
		"done":                       {words: []said{c("a IDLE\r\n"), s("+ idling\r\n"), c("DONE\r\nb NOOP\r\n"), s("a OK\r\n")}, busy: true},
		"a word IDLE":                {words: []said{c("a SEARCH SUBJECT IDLE\r\n")}, busy: true},
		"in a literal":               {words: []said{c("a FETCH 1 BODY[]\r\n"), s("* 1 FETCH (BODY[] {10}\r\n\r\na OK\r\n")}, busy: true, part: true},
		"at a literal's end":         {words: []said{c("a FETCH 1 BODY[]\r\n"), s("* 1 FETCH (BODY[] ~{5}\r\na OK\n")}, busy: true, part: true},
		"behind a literal":           {words: []said{c("a FETCH 1 BODY[]\r\n"), s("* 1 FETCH (BODY[] {5}\r\na OK\n)\r\n")}, busy: true},
		"two literals":               {words: []said{c("a FETCH 1 X\r\n"), s("* 1 FETCH (A {1}\r\nx B {1}\r\nx)\r\na OK\r\n")}},
		"an empty literal":           {words: []said{c("a FETCH 1 X\r\n"), s("* 1 FETCH (A {0}\r\n)\r\na OK\r\n")}},
		"braces for people":          {words: []said{c("a NOOP\r\n"), s("* ok see {7}\r\n* BAD x {7}\r\na NO no such folder {9}\r\n")}},
		"braces of no literal":       {words: []said{c("a LIST \"\" {x}\r\n"), s("* LIST () \"{3}\"\r\n* X {}\r\n* X {-1}\r\na OK\r\n")}},
		"an append without a wait":   {words: []said{c("a APPEND x {8+}\r\nb NOOP\r\n\r\n")}, busy: true},
		"its answer too":             {words: []said{c("a APPEND x {8+}\r\nb NOOP\r\n\r\n"), s("a OK\r\n")}},
		"an append with a wait":      {words: []said{c("a APPEND x {8}\r\n"), s("+ go on\r\n"), c("b NOOP\r\n\r\n"), s("a OK\r\n")}},
		"an append that is refused":  {words: []said{c("a APPEND x {8}\r\n"), s("a NO\r\n"), c("b NOOP\r\n")}, busy: true},
		"an append behind another":   {words: []said{c("a NOOP\r\nb APPEND x {8}\r\n"), s("a OK\r\n+ go on\r\n"), c("b NOOP\r\n\r\n"), s("b OK\r\n")}},
		"and then another":           {words: []said{c("a APPEND x {8}\r\n"), s("a NO\r\n"), c("b NOOP\r\n"), s("b OK\r\n")}},
		"more answers than commands": {words: []said{s("a OK\r\nb OK\r\n"), c("c NOOP\r\n")}, busy: true},
	} {
		for _, size := range []int{1, 2, 7, 1 << 10} {
			var got talk
			for _, w := range tt.words {
				for text := w.text; text != ""; {
					part := text[:min(size, len(text))]
					text = text[len(part):]
					if w.who == 'c' {
						got.sent([]byte(part))
					} else {
						got.heard([]byte(part))
					}
				}
			}
			if got.busy() != tt.busy || got.down.boundary() == tt.part {
				t.Errorf("%s, by %d bytes: busy %v, in a line %v", name, size, got.busy(), !got.down.boundary())
			}
		}
	}
}

func TestTalkHearsBye(t *testing.T) {
	for text, want := range map[string]bool{
		"* BYE\r\n": true, "* bye so long\r\n": true, "* BYTE\r\n": false, "* OK BYE\r\n": false, "* 1 FETCH (X {7}\r\n* BYE\r\n)\r\n": false,
	} {
		var got talk
		got.heard([]byte(text))
		if got.bye != want {
			t.Errorf("%q: bye %v", text, got.bye)
		}
	}
}

// FuzzTalk has a session come in pieces of every kind: where it is cut does not matter.
func FuzzTalk(f *testing.F) {
	f.Add([]byte("a NOOP\r\n"), []byte("* 1 FETCH (BODY[] {4}\r\nabcd)\r\na OK\r\n"), byte(3))
	f.Add([]byte("a APPEND x {3+}\r\nabc\r\nb IDLE\r\nDONE\r\n"), []byte("+ x\r\n* BYE {3}\r\n"), byte(1))
	f.Add([]byte("a IDLE\r\n"), []byte("+ x\r\n"+link.HoldLine+"* OK\r\na OK\r\n"+link.HoldLine[:9]), byte(5))
	f.Add([]byte("a X {18446744073709551615+}\r\n{99999999999999999999}\r\n"), []byte("* X {18446744073709551616}\r\n"), byte(9))
	f.Fuzz(func(t *testing.T, client, store []byte, size byte) {
		whole, pieces := talk{moves: true}, talk{moves: true}
		whole.sent(client)
		told := string(whole.heard(bytes.Clone(store)))
		cut := func(text []byte, take func([]byte)) {
			for n := max(1, int(size)); len(text) > 0; text = text[min(n, len(text)):] {
				take(text[:min(n, len(text))])
			}
		}
		cut(client, pieces.sent)
		again := ""
		cut(bytes.Clone(store), func(b []byte) { again += string(pieces.heard(b)) })
		if told != again || len(told) > len(store) {
			t.Fatalf("of %q is heard %q, in pieces %q", store, told, again)
		}
		if whole != pieces {
			t.Fatalf("whole %+v\nin pieces %+v", whole, pieces)
		}
		if whole.open < 0 || whole.open > strings.Count(string(client), "\n") {
			t.Fatalf("%d commands are open", whole.open)
		}
	})
}
