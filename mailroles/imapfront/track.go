package imapfront

import (
	"bytes"
	"strconv"

	"anycastle/mailroles/link"
)

const (
	// headRoom is enough of a line's start to tell the longest of the replies that are told apart, "* PREAUTH".
	headRoom = 9
	// tailRoom is enough of a line's end for the longest announcement of a literal, "{18446744073709551615+}" with its CRLF.
	// It also is enough for an IDLE whose tag is not very long.
	tailRoom = 48
)

// lines follows where the lines and literals of one direction end. It keeps a little of the present line, not the line.
type lines struct {
	head    [headRoom]byte
	tail    [tailRoom]byte
	heads   uint8  // bytes in head
	tails   uint8  // bytes in tail
	spaces  uint8  // in the line, up to 2
	more    bool   // the line goes on behind a literal
	literal uint64 // bytes of a literal that are still to come
}

// boundary says whether a new line, and no part of an old one, comes next.
func (l *lines) boundary() bool { return l.heads == 0 && l.literal == 0 && !l.more }

// next steps over a literal, or to the end of the line or of b, and says how far it came and whether the line has ended.
// Then done, or literal and more, have to be set before the next call.
func (l *lines) next(b []byte) (n int, ended bool) {
	if l.literal > 0 {
		n = int(min(l.literal, uint64(len(b))))
		l.literal -= uint64(n)
		return n, false
	}
	n = len(b)
	if i := bytes.IndexByte(b, '\n'); i >= 0 {
		n, ended = i+1, true
	}
	b = b[:n]
	l.heads += uint8(copy(l.head[l.heads:], b))
	l.spaces = uint8(min(int(l.spaces)+bytes.Count(b, []byte{' '}), 2))
	b = b[max(0, len(b)-tailRoom):]
	if drop := int(l.tails) + len(b) - tailRoom; drop > 0 {
		copy(l.tail[:], l.tail[drop:l.tails])
		l.tails -= uint8(drop)
	}
	l.tails += uint8(copy(l.tail[l.tails:], b))
	return n, ended
}

// done makes ready for the next line, or for what comes behind a literal of the same one.
func (l *lines) done(more bool) {
	*l = lines{more: more, literal: l.literal}
}

// end is the end of the line without its line break.
func (l *lines) end() []byte {
	return bytes.TrimRight(l.tail[:l.tails], "\r\n")
}

// announced reads the announcement of a literal at the line's end, such as {12}, ~{12} or {12+}.
func (l *lines) announced() (size uint64, nonSync, ok bool) {
	end := l.end()
	open := bytes.LastIndexByte(end, '{')
	if open < 0 || end[len(end)-1] != '}' {
		return 0, false, false
	}
	digits, nonSync := bytes.CutSuffix(end[open+1:len(end)-1], []byte("+"))
	size, err := strconv.ParseUint(string(digits), 10, 64)
	return size, nonSync, err == nil
}

// talk follows a session behind its login, as far as tells when it can be ended without harm: between two lines of the
// store, and best when no command is without its answer.
type talk struct {
	up, down lines
	waiting  bool   // the client has announced a literal of size wants, and sends it once the store agrees
	wants    uint64 // bytes
	open     int    // commands without their tagged answer
	idling   bool   // one of them is IDLE
	idled    bool   // the store has said that it idles
	idle     string // tag of that IDLE; empty when it is not known
	bye      bool   // the store has said BYE
	moves    bool   // the store may ask for the session to be taken away
	held     bool   // it has
	part     uint8  // bytes of the line that asks for it, held back
}

// busy says whether a command is at work.
func (t *talk) busy() bool {
	return t.open > 1 || t.open == 1 && !t.idling
}

// sent takes in what the client has sent.
func (t *talk) sent(b []byte) {
	for len(b) > 0 {
		b = b[t.step(b):]
	}
}

// finish takes in what belongs to a command that the client has begun, and says how much that is.
func (t *talk) finish(b []byte) (n int) {
	for n < len(b) && !t.up.boundary() {
		n += t.step(b[n:])
	}
	return n
}

func (t *talk) step(b []byte) int {
	n, ended := t.up.next(b)
	if ended {
		t.sentLine()
	}
	return n
}

func (t *talk) sentLine() {
	l := &t.up
	size, nonSync, literal := l.announced()
	switch {
	case l.more: // the command has been counted
	case l.spaces == 0 && bytes.EqualFold(l.end(), []byte("DONE")):
		t.idling = false
	default:
		t.open++
		if l.spaces == 1 && hasSuffixFold(l.end(), " IDLE") {
			t.idling, t.idled, t.idle = true, false, ""
			if tag := l.end()[:len(l.end())-len(" IDLE")]; int(l.tails) < tailRoom {
				t.idle = string(tag)
			}
		}
	}
	t.waiting = literal && !nonSync
	t.wants = size
	if literal && nonSync {
		l.literal = size
	}
	l.done(literal)
}

// heard takes in what the store has said, and gives what the client is to hear of it, in place: all but the line by which the
// store asks for the session to be taken away.
func (t *talk) heard(b []byte) []byte {
	if t.part > 0 {
		b = append([]byte(link.HoldLine[:t.part]), b...)
		t.part = 0
	}
	told := b[:0]
	for len(b) > 0 {
		if t.moves && t.down.boundary() {
			n := common(b, link.HoldLine)
			if n == len(link.HoldLine) {
				t.held, b = true, b[n:]
				continue
			}
			if n == len(b) {
				t.part = uint8(n)
				break
			}
		}
		n, ended := t.down.next(b)
		told, b = append(told, b[:n]...), b[n:]
		if ended {
			t.heardLine()
		}
	}
	return told
}

// common says how many bytes are the same at the start of both.
func common(b []byte, text string) int {
	n := 0
	for n < len(b) && n < len(text) && b[n] == text[n] {
		n++
	}
	return n
}

func (t *talk) heardLine() {
	l := &t.down
	head := l.head[:l.heads]
	more := false
	switch {
	case l.more, head[0] == '*' && !isStatus(head):
		l.literal, _, more = l.announced()
	case hasPrefixFold(head, "* BAD "): // the answer to a line that is no command
		t.open = max(0, t.open-1)
	case head[0] == '*':
		t.bye = t.bye || isBye(head)
	case head[0] == '+':
		if t.waiting {
			t.waiting, t.up.literal = false, t.wants
		} else {
			t.idled = t.idling
		}
	default: // a tagged answer
		t.open = max(0, t.open-1)
		t.idling = t.idling && t.open > 0 // no command may follow IDLE, so its answer is the last
		if t.waiting && t.open == 0 {     // the literal's own command is the last: it is refused, and not sent
			t.waiting = false
			t.up.done(false)
		}
	}
	l.done(more)
}

// isStatus says whether a line has text for people at its end, in which braces are no literal (RFC 9051 section 7.1).
func isStatus(head []byte) bool {
	for _, word := range []string{"* OK ", "* NO ", "* BAD ", "* PREAUTH"} {
		if hasPrefixFold(head, word) {
			return true
		}
	}
	return isBye(head)
}

func isBye(head []byte) bool { return hasPrefixFold(head, "* BYE") }

func hasPrefixFold(b []byte, prefix string) bool {
	return len(b) >= len(prefix) && bytes.EqualFold(b[:len(prefix)], []byte(prefix))
}

func hasSuffixFold(b []byte, suffix string) bool {
	return len(b) >= len(suffix) && bytes.EqualFold(b[len(b)-len(suffix):], []byte(suffix))
}
