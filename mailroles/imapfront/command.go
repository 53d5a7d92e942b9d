package imapfront

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// Bounds of what a client may send in one command.
const (
	maxLine    = 8192     // bytes of a line; RFC 7162 section 4 asks for this much
	maxLiteral = 4096     // bytes of a literal
	maxArgs    = 64       // arguments of a command; ID has the most, 30 pairs (RFC 2971 section 3.3)
	maxCommand = 20 << 10 // bytes of a command, with its literals
)

// Errors after which a session cannot go on, because what follows cannot be told from commands.
var (
	errLineTooLong = errors.New("imapfront: line too long")
	errLiteralSize = errors.New("imapfront: literal too large, or one too many")
)

// errSyntax is a command that was read to its end and makes no sense.
var errSyntax = errors.New("imapfront: bad command syntax")

// command is one command before login.
type command struct {
	tag  string
	name string   // in upper case
	args []string // atoms, strings and parentheses, in order
}

// reader reads commands. Literals are asked for through ask.
type reader struct {
	br  *bufio.Reader
	ask func() error // sends a continuation request
}

func newReader(r io.Reader, ask func() error) *reader {
	return &reader{br: bufio.NewReaderSize(r, maxLine), ask: ask}
}

// line reads one line without its CRLF; a LF alone is taken for one.
func (r *reader) line() (string, error) {
	b, err := r.br.ReadSlice('\n')
	if errors.Is(err, bufio.ErrBufferFull) {
		return "", errLineTooLong
	}
	if err != nil {
		return "", err
	}
	return strings.TrimSuffix(string(b[:len(b)-1]), "\r"), nil
}

// command reads one command with its literals. After errSyntax the next command can be read, and tag is set if there
// was one.
func (r *reader) command() (command, error) {
	line, err := r.line()
	if err != nil {
		return command{}, err
	}
	var c command
	c.tag, line, _ = strings.Cut(line, " ")
	if !isTag(c.tag) {
		return command{}, errSyntax
	}
	name, rest, more := strings.Cut(line, " ")
	c.name = strings.ToUpper(name)
	if !isTag(c.name) {
		return c, errSyntax
	}
	for room := int64(maxCommand); more; {
		room -= int64(len(rest))
		var size int64
		var nonSync bool
		size, nonSync, rest = cutLiteral(rest)
		if err := c.addArgs(rest); err != nil || size < 0 {
			return c, err
		}
		if room -= size; room < 0 || len(c.args) >= maxArgs {
			return c, errLiteralSize
		}
		text, err := r.literal(size, nonSync)
		if err != nil {
			return c, err
		}
		c.args = append(c.args, text)
		if rest, err = r.line(); err != nil {
			return c, err
		}
	}
	return c, nil
}

// literal reads the bytes of a literal.
func (r *reader) literal(size int64, nonSync bool) (string, error) {
	if size > maxLiteral {
		return "", errLiteralSize
	}
	if !nonSync {
		if err := r.ask(); err != nil {
			return "", err
		}
	}
	b := make([]byte, size)
	if _, err := io.ReadFull(r.br, b); err != nil {
		return "", fmt.Errorf("read literal: %w", err)
	}
	return string(b), nil
}

// cutLiteral takes a literal's announcement "{12}" or "{12+}" off the end of a line; size is -1 when there is none.
func cutLiteral(line string) (size int64, nonSync bool, rest string) {
	open := strings.LastIndexByte(line, '{')
	if open < 0 || !strings.HasSuffix(line, "}") || open > 0 && line[open-1] != ' ' && line[open-1] != '(' {
		return -1, false, line
	}
	digits, nonSync := strings.CutSuffix(line[open+1:len(line)-1], "+")
	n, err := strconv.ParseUint(digits, 10, 63)
	if errors.Is(err, strconv.ErrRange) {
		n, err = 1<<62, nil
	}
	if err != nil {
		return -1, false, line
	}
	return int64(n), nonSync, line[:open]
}

// addArgs splits a line, or what stands between literals, into arguments.
func (c *command) addArgs(line string) error {
	for {
		line = strings.TrimLeft(line, " ")
		if line == "" {
			return nil
		}
		if len(c.args) >= maxArgs {
			return errSyntax
		}
		var arg string
		var ok bool
		switch line[0] {
		case '"':
			arg, line, ok = cutQuoted(line)
		case '(', ')':
			arg, line, ok = line[:1], line[1:], true
		default:
			arg, line, ok = cutAtom(line)
		}
		if !ok {
			return errSyntax
		}
		c.args = append(c.args, arg)
	}
}

// cutQuoted reads a quoted string (RFC 3501 section 9).
func cutQuoted(line string) (text, rest string, ok bool) {
	var b strings.Builder
	for i := 1; i < len(line); i++ {
		switch ch := line[i]; ch {
		case '"':
			rest = line[i+1:]
			return b.String(), rest, rest == "" || rest[0] == ' ' || rest[0] == ')'
		case '\\':
			if i++; i == len(line) || line[i] != '"' && line[i] != '\\' {
				return "", "", false
			}
			b.WriteByte(line[i])
		case 0, '\r':
			return "", "", false
		default:
			b.WriteByte(ch)
		}
	}
	return "", "", false
}

func cutAtom(line string) (atom, rest string, ok bool) {
	end := strings.IndexAny(line, " ()")
	if end < 0 {
		end = len(line)
	}
	atom = line[:end]
	return atom, line[end:], !strings.ContainsFunc(atom, func(r rune) bool { return r < ' ' || r == 0x7f || r == '"' || r == '{' })
}

func isTag(s string) bool {
	return s != "" && len(s) <= 64 && !strings.ContainsFunc(s, func(r rune) bool {
		return r <= ' ' || r >= 0x7f || strings.ContainsRune(`(){%*"\+`, r)
	})
}
