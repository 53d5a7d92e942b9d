package smtpd

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"strings"

	"anycastle/mailroles/spool"
)

const (
	// maxHops is the most Received fields of a message (RFC 5321 section 6.3).
	maxHops = 100
	// maxFieldText is how much of a field is looked at. One that hides what is asked for behind more is taken for the worst.
	maxFieldText = 4 << 10
)

// header is what the session needs to know of a message's header.
type header struct {
	hops  int       // Received fields
	named bool      // it has a Message-ID
	ours  []section // Authentication-Results fields that claim to be by us, in order
}

// section is a part of a message, in bytes from its start.
type section struct{ from, to int64 }

// field is the one that is being read.
type field struct {
	name string // in lower case
	from int64
	text []byte // what follows the colon, up to maxFieldText
	cut  bool   // there was more
}

// scanHeader reads a message up to its first empty line. host is our name.
func scanHeader(r io.Reader, host string) (header, error) {
	var h header
	var f field
	var at int64
	in, begins := bufio.NewReader(r), true
	for {
		line, err := in.ReadSlice('\n')
		if err != nil && err != io.EOF && !errors.Is(err, bufio.ErrBufferFull) {
			return header{}, err
		}
		folded := len(line) > 0 && (line[0] == ' ' || line[0] == '\t')
		if begins && !folded {
			h.add(f, at, host)
			name, _, _ := bytes.Cut(line, []byte(":"))
			f = field{name: strings.ToLower(string(bytes.TrimRight(name, " \t"))), from: at}
			if rest := line[min(len(name)+1, len(line)):]; len(bytes.TrimRight(line, "\r\n")) > 0 {
				f.more(rest)
			} else {
				return h, nil
			}
		} else {
			f.more(line)
		}
		at += int64(len(line))
		if err == io.EOF {
			h.add(f, at, host)
			return h, nil
		}
		begins = err == nil
	}
}

func (f *field) more(text []byte) {
	room := maxFieldText - len(f.text)
	f.cut = f.cut || len(text) > room
	f.text = append(f.text, text[:min(room, len(text))]...)
}

// add takes a whole field down, which ends before a position.
func (h *header) add(f field, end int64, host string) {
	switch f.name {
	case "received":
		h.hops++
	case "message-id":
		h.named = true
	case "authentication-results":
		if id, ok := serviceID(string(f.text)); !ok || f.cut && id == "" || strings.EqualFold(id, host) {
			h.ours = append(h.ours, section{f.from, end})
		}
	}
}

// serviceID reads the authserv-id at the start of an Authentication-Results field (RFC 8601 section 2.2), without a final
// dot. It is false for a field that has none.
func serviceID(text string) (string, bool) {
	text, ok := skipComments(text)
	if !ok || text == "" {
		return "", false
	}
	if text[0] != '"' {
		end := strings.IndexAny(text, " \t\r\n;(\"")
		if end < 0 {
			end = len(text)
		}
		return strings.TrimSuffix(text[:end], "."), end > 0
	}
	var id strings.Builder
	for i := 1; i < len(text); i++ {
		switch text[i] {
		case '"':
			return strings.TrimSuffix(id.String(), "."), id.Len() > 0
		case '\\':
			i++
			if i == len(text) {
				return "", false
			}
		}
		id.WriteByte(text[i])
	}
	return "", false
}

// skipComments skips white space and comments, which may be nested (RFC 5322 section 3.2.2). It is false for a comment
// without an end.
func skipComments(text string) (string, bool) {
	depth := 0
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case c == '(':
			depth++
		case c == ')' && depth > 0:
			depth--
		case c == '\\' && depth > 0:
			i++
		case depth == 0 && !strings.ContainsRune(" \t\r\n", rune(c)):
			return text[i:], true
		}
	}
	return "", depth == 0
}

// without copies a message but for some sections.
func without(body *spool.Spool, cut []section) (*spool.Spool, error) {
	var parts []io.Reader
	var at int64
	for _, c := range cut {
		parts = append(parts, body.Section(at, c.from-at))
		at = c.to
	}
	parts = append(parts, body.Section(at, body.Size()-at))
	return spool.Fill("", io.MultiReader(parts...))
}
