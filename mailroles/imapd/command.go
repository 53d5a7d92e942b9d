package imapd

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"

	"anycastle/mailroles/link"
)

const (
	// maxCommand is the most bytes of a command, with its literals but without APPEND's message: room for the UIDs of
	// 50,000 messages.
	maxCommand = 512 << 10
	// maxLine is what the library may get of that; long sets are not in it.
	maxLine = 48 << 10
	// maxBefore is the longest line before login.
	maxBefore = 4 << 10
)

var (
	// errLiteral says that the client sends a literal that the server will not take. What follows cannot be told from
	// commands, so the session must end.
	errLiteral = errors.New("imapd: non-synchronising literal is too large")
	errLong    = errors.New("imapd: line is too long")
)

var (
	// the library passes over a space behind a literal's announcement, and zeros before its size
	literalForm = regexp.MustCompile(`(~?)\{([0-9]+)(\+?)\} ?$`)
	saveForm    = regexp.MustCompile(`(?i)^(UID )?SEARCH RETURN \( *SAVE *\) `)
)

// command is what a client asks for.
type command struct {
	tag, name string // name is in upper case, such as "UID FETCH"
	text      []byte // the whole as one line, without its end; literals have become quoted strings
}

// announced is a literal that a line announces at its end.
type announced struct {
	at   int // where the line ends without it
	size int64
	sync bool // the client waits for consent
}

// announcement finds it; nil when there is none. The size is -1 when it is no number that anything could have.
func announcement(line []byte) *announced {
	m := literalForm.FindSubmatchIndex(line)
	if m == nil {
		return nil
	}
	size, err := strconv.ParseInt(string(line[m[4]:m[5]]), 10, 64)
	if err != nil {
		size = -1
	}
	return &announced{at: m[3], size: size, sync: m[6] == m[7]}
}

// refusal is a tagged answer that the guard gives itself. The session goes on.
type refusal string

// Error implements error.
func (r refusal) Error() string { return string(r) }

// next finds out what the library gets next. It may be nothing yet.
func (g *guard) next() error {
	g.write.Lock()
	over := g.over
	g.write.Unlock()
	switch {
	case over:
		return io.EOF
	case g.idling:
		return g.untilDone()
	case g.upload != nil:
		return g.behindUpload()
	case g.attach != nil && g.who() != "":
		return g.replay()
	}
	if err := g.rest(); err != nil {
		return err
	}
	if g.who() == "" {
		return g.beforeLogin()
	}
	c, message, err := g.collect()
	if err == nil {
		err = g.hand(c, message)
	}
	if no, ok := errors.AsType[refusal](err); ok {
		if c.tag == "" {
			c.tag = "*"
		}
		g.say("%s %s", c.tag, no)
		return nil
	}
	return err
}

// untilDone waits for DONE, in any case of letters (RFC 9051 section 6.3.13).
func (g *guard) untilDone() error {
	if err := g.rest(); err != nil {
		return err
	}
	line, err := g.line(maxBefore)
	if err != nil && !errors.Is(err, errLong) {
		return err
	}
	if !strings.EqualFold(string(line), "DONE") {
		g.write.Lock()
		g.verdict = "BAD Expected DONE"
		g.write.Unlock()
	}
	g.idling, g.out = false, done
	return nil
}

// line reads a line, without its end. Of one that is longer than limit it gives the start, with errLong, or with
// errLiteral when a literal comes behind it unasked.
func (g *guard) line(limit int) ([]byte, error) {
	var line, tail []byte
	long := false
	for {
		part, err := g.br.ReadSlice('\n')
		if long = long || len(line)+len(part) > limit; !long {
			line = append(line, part...)
		} else if tail = append(tail, part...); len(tail) > maxBefore {
			tail = tail[len(tail)-maxBefore:]
		}
		if err == bufio.ErrBufferFull {
			continue
		}
		if err != nil {
			return nil, err
		}
		if !long {
			return lineText(line), nil
		}
		if bytes.HasSuffix(bytes.TrimRight(lineText(tail), " "), []byte("+}")) {
			return line, errLiteral
		}
		return line, errLong
	}
}

// parse finds tag and name.
func (c *command) parse() bool {
	tag, rest, _ := strings.Cut(string(c.text[:min(len(c.text), 300)]), " ")
	if !isAtom(tag) || strings.ContainsRune(tag, '+') {
		return false
	}
	c.tag = tag
	name, rest, _ := strings.Cut(rest, " ")
	c.name = strings.ToUpper(name)
	if c.name == "UID" {
		sub, _, _ := strings.Cut(rest, " ")
		name, c.name = sub, "UID "+strings.ToUpper(sub)
	}
	return isAtom(name)
}

// isAtom reports whether s can be a tag, or a command's name.
func isAtom(s string) bool {
	bad := func(r rune) bool { return r <= ' ' || r > '~' || strings.ContainsRune(`(){%*"\]`, r) }
	return s != "" && len(s) <= 100 && !strings.ContainsFunc(s, bad)
}

// unread is the answer when the library cannot read sets, dates or names of folders, which it takes for faults of its own.
// The session's answers are others.
func (c *command) unread() string {
	switch c.name {
	case "SELECT", "EXAMINE", "CREATE", "DELETE", "RENAME", "SUBSCRIBE", "UNSUBSCRIBE", "STATUS", "LIST", "LSUB":
		return "NO [CANNOT] No name for a folder" // it is no UTF-7 (RFC 3501 section 5.1.3)
	}
	return "BAD Syntax error"
}

// arguments gives what stands behind the name.
func (c *command) arguments() []byte {
	return c.text[min(len(c.tag)+len(c.name)+2, len(c.text)):]
}

// collect reads a command, with its literals. Of APPEND it leaves the message, of which it gives the announcement. A
// refusal means that the command has been read, or that the client will not send the rest.
func (g *guard) collect() (c command, message *announced, err error) {
	for {
		line, err := g.line(maxCommand - len(c.text))
		first := c.text == nil
		c.text = append(c.text, line...)
		if first && !c.parse() && err == nil {
			err = refusal("BAD Not a command")
		}
		if errors.Is(err, errLong) {
			return c, nil, refusal("BAD Command is too long")
		}
		lit := announcement(line)
		if _, ok := errors.AsType[refusal](err); ok && lit != nil && !lit.sync {
			return c, nil, errLiteral
		}
		if err != nil {
			return c, nil, err
		}
		if why := badLine(line); why != "" {
			if lit != nil && !lit.sync {
				return c, nil, errLiteral
			}
			return c, nil, refusal("BAD " + why)
		}
		if lit == nil {
			return c, nil, nil
		}
		c.text = c.text[:len(c.text)-len(line)+lit.at]
		if c.name == "APPEND" && len(bytes.TrimRight(c.arguments(), "~")) > 0 {
			return c, lit, nil
		}
		if err := g.inline(&c, lit); err != nil {
			return c, nil, err
		}
	}
}

// badLine says why the library must not see a line: it would not find its end.
func badLine(line []byte) string {
	quoted := false
	for i := 0; i < len(line); i++ {
		switch line[i] {
		case 0, '\r':
			return "NUL or CR within a line"
		case '\\':
			if quoted {
				i++
			}
		case '"':
			quoted = !quoted
		}
	}
	if quoted {
		return "Quoted string has no end"
	}
	return ""
}

// inline reads a literal and puts it into the command's text as a quoted string.
func (g *guard) inline(c *command, lit *announced) error {
	if lit.size < 0 || lit.size > int64(maxCommand-len(c.text)) {
		if !lit.sync {
			return errLiteral
		}
		return refusal("NO [TOOBIG] Literal is too large")
	}
	if lit.sync {
		g.say("+ Go on")
	}
	body := make([]byte, lit.size)
	if _, err := io.ReadFull(g.br, body); err != nil {
		return err
	}
	c.text = append(c.text, '"')
	for _, b := range body {
		switch b {
		case 0, '\r', '\n':
			c.text = append(c.text, `"`...)
			if err := g.skipLine(); err != nil {
				return err
			}
			return refusal("NO [CANNOT] Line ends cannot stand in an argument")
		case '"', '\\':
			c.text = append(c.text, '\\')
		}
		c.text = append(c.text, b)
	}
	c.text = append(c.text, '"')
	return nil
}

// skipLine reads what is left of a command that is refused.
func (g *guard) skipLine() error {
	line, err := g.line(maxCommand)
	if err != nil && !errors.Is(err, errLong) {
		return err
	}
	return g.skip(announcement(line))
}

// skip reads a literal that comes unasked, and what stands behind it, be it more of them.
func (g *guard) skip(lit *announced) error {
	for lit != nil && !lit.sync {
		if lit.size < 0 || lit.size > g.maxAppend {
			return errLiteral
		}
		if _, err := io.CopyN(io.Discard, g.br, lit.size); err != nil {
			return err
		}
		line, err := g.line(maxCommand)
		if err != nil && !errors.Is(err, errLong) {
			return err
		}
		lit = announcement(line)
	}
	return nil
}

// begin notes which command the library has.
func (g *guard) begin(c command) {
	g.write.Lock()
	defer g.write.Unlock()
	g.command, g.answered, g.verdict, g.mute, g.partial = c, false, "", false, false
}

// hand gives a command to the library, or answers it.
func (g *guard) hand(c command, lit *announced) error {
	g.long = nil
	g.save = saveForm.Match(c.text[len(c.tag)+1:])
	switch {
	case lit != nil:
		return g.handAppend(c, lit)
	case c.name == "ID":
		g.say("* ID (\"name\" \"anycastle\")\r\n%s OK ID completed", c.tag)
		return nil
	case c.name == link.DetachCommand:
		return g.give(c)
	case len(c.text) > maxLine:
		if err := g.shorten(&c); err != nil {
			return err
		}
	}
	g.begin(c)
	g.idling = c.name == "IDLE" && len(c.arguments()) == 0
	g.out = append(c.text, "\r\n"...)
	return nil
}

// handAppend shows the library an APPEND whose message is empty. The session takes the message itself.
func (g *guard) handAppend(c command, lit *announced) error {
	if lit.size < 0 || lit.size > g.maxAppend {
		if !lit.sync {
			return errLiteral
		}
		return refusal(fmt.Sprintf("NO [TOOBIG] Messages are limited to %d bytes", g.maxAppend))
	}
	if len(c.text) > maxLine {
		if !lit.sync {
			return errLiteral
		}
		return refusal("BAD Command is too long")
	}
	g.begin(c)
	g.upload = &upload{guard: g, size: lit.size, left: lit.size, wait: lit.sync}
	if bytes.HasSuffix(c.text, []byte("(~")) { // UTF8 (~{…}), RFC 6855 section 4
		g.upload.end = ")"
	}
	g.out = append(c.text, "{0+}\r\n"...)
	return nil
}
