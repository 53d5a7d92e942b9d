package zone

import (
	"bufio"
	"errors"
	"io"
)

// maxEntry is the length in bytes of the longest entry. A record of 65,535 bytes in hexadecimal has about half of it.
const maxEntry = 1 << 18

// scanner cuts a zone file into entries: a record or directive, which parentheses may spread over lines (RFC 1035 section
// 5.1). The syntax parser stops at its first error; entry by entry it can go on after one.
type scanner struct {
	r    *bufio.Reader
	line uint32 // read last, from 1
	text []byte
	err  error // of reading, io.EOF at the end
}

func newScanner(r io.Reader) *scanner { return &scanner{r: bufio.NewReader(r)} }

// next gives the next entry without its comments, valid until the next call, and the line it begins on. A wrong is what
// keeps an entry from being one; the scanner goes on with the line after. ok is false at the end, or if reading failed.
func (s *scanner) next() (text []byte, line uint32, wrong string, ok bool) {
	for s.err == nil {
		s.text = s.text[:0]
		text, line, wrong := s.entry()
		if wrong != "" || len(text) > 0 {
			return text, line, wrong, true
		}
	}
	return nil, s.line, "", false
}

// entry reads one entry, which may be empty.
func (s *scanner) entry() (text []byte, line uint32, wrong string) {
	line = s.line + 1
	for depth, blank := 0, true; ; {
		raw := s.readLine()
		if len(raw) == 0 {
			switch {
			case depth > 0:
				return nil, line, "a parenthesis is opened here and never closed; add )"
			case blank:
				return nil, line, ""
			}
			return s.text, line, ""
		}
		var wrong string
		if depth, blank, wrong = s.take(raw, depth, blank); wrong != "" {
			return nil, s.line, wrong
		}
		if len(s.text) > maxEntry {
			return nil, line, "the record that begins here is longer than any can be; look for a parenthesis that is not closed"
		}
		if depth == 0 {
			if blank {
				return nil, line, ""
			}
			return s.text, line, ""
		}
	}
}

// take adds a line to the entry, but for its comment. blank says whether the entry has nothing but space so far.
func (s *scanner) take(raw []byte, depth int, blank bool) (int, bool, string) {
	quoted := false
	for i := 0; i < len(raw); i++ {
		c := raw[i]
		switch {
		case c == '\\':
			s.text = append(s.text, c)
			if i++; i < len(raw) && raw[i] != '\n' {
				s.text = append(s.text, raw[i])
			}
			blank = false
			continue
		case c == '"':
			quoted = !quoted
		case quoted || c == '\n':
		case c == ';':
			s.text = append(s.text, '\n')
			return depth, blank, ""
		case c == '(':
			depth++
		case c == ')':
			if depth--; depth < 0 {
				return 0, false, "a parenthesis is closed that was not opened; remove ) or write \\) for the character"
			}
		}
		if quoted && c == '\n' {
			break
		}
		blank = blank && (c == ' ' || c == '\t' || c == '\r' || c == '\n')
		s.text = append(s.text, c)
	}
	if quoted {
		return 0, false, `a quote is not closed on its line; add " at its end, and begin a new quote on the next line`
	}
	return depth, blank, ""
}

// readLine gives the next line with its end, at least of its first maxEntry bytes; nothing at the end.
func (s *scanner) readLine() []byte {
	var long []byte
	for {
		part, err := s.r.ReadSlice('\n')
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			s.err = err
		}
		if len(long) <= maxEntry && (long != nil || errors.Is(err, bufio.ErrBufferFull)) {
			long = append(long, part...)
		}
		if errors.Is(err, bufio.ErrBufferFull) {
			continue
		}
		if long != nil {
			part = long
		}
		if len(part) > 0 {
			s.line++
		}
		return part
	}
}
