package milter

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"strings"

	"anycastle/mailroles/smtpd"
	"anycastle/mailroles/spool"
)

// Bounds of what a milter may change about one message.
const (
	maxChanges    = 1000
	maxChangeSize = 1 << 20 // bytes of all changes but the new body
	maxHold       = 200     // bytes of a reason to keep a message apart
)

// changes are what a milter has asked for at the end of a message.
type changes struct {
	fields []fieldEdit
	rcpts  []rcptEdit
	from   *string // nil for no change
	hold   string
	text   *spool.Spool // new body below the header; nil for no change

	message *message // what they are changes of
}

type rcptEdit struct {
	add     bool
	address string
}

// outcome reads what a milter says at the end of a message: changes, and last its verdict. As a Reader it gives the
// new body, which ends with the verdict.
type outcome struct {
	*wire
	name    string // of the milter
	room    int64  // bytes that the new body may have yet
	changes changes
	newBody bool
	verdict answer
	left    int64 // bytes of the packet of the body that have not been read
	count   int
	size    int64
	done    bool
}

// readOutcome reads up to the verdict. A new body is the caller's to close.
func (w *wire) readOutcome(name string, maxBody int64) (answer, *changes, error) {
	if err := w.ask(); err != nil {
		return answer{}, nil, err
	}
	o := &outcome{wire: w, name: name, room: maxBody}
	text, err := spool.Fill("", &lines{r: bufio.NewReader(o)})
	if _, disk := errors.AsType[*fs.PathError](err); disk {
		err = fmt.Errorf("%w: %w", errOurs, err)
	}
	if err != nil {
		return answer{}, nil, err
	}
	if o.newBody {
		o.changes.text = text
		return o.verdict, &o.changes, nil
	}
	return o.verdict, &o.changes, text.Close()
}

// Read implements io.Reader.
func (o *outcome) Read(p []byte) (int, error) {
	for o.left == 0 {
		if o.done {
			return 0, io.EOF
		}
		if err := o.packet(); err != nil {
			return 0, err
		}
	}
	n, err := o.r.Read(p[:min(int64(len(p)), o.left)])
	o.left -= int64(n)
	if err != nil {
		err = fmt.Errorf("read: %w", err)
	}
	return n, err
}

// packet takes the next packet, up to the data of a body.
func (o *outcome) packet() error {
	code, n, err := o.next()
	if err != nil {
		return err
	}
	if code == ansNewBody {
		if n > o.room {
			return fmt.Errorf("%w: new body is larger than a message may be", errGarbage)
		}
		o.room -= n
		o.left, o.newBody = n, true
		return nil
	}
	data, err := o.read(n)
	if err != nil {
		return err
	}
	if code == ansProgress {
		return nil
	}
	o.count, o.size = o.count+1, o.size+n
	if o.count > maxChanges || o.size > maxChangeSize {
		return fmt.Errorf("%w: more than %d changes or %d bytes of them", errGarbage, maxChanges, maxChangeSize)
	}
	known, err := o.change(code, data)
	if known || err != nil {
		return err
	}
	o.done = true
	o.verdict, err = parseAnswer(code, data)
	if err == nil && o.verdict.code == ansSkip {
		err = fmt.Errorf("%w: skips a body that has ended", errGarbage)
	}
	return err
}

// change notes a change; known is false when the packet is none.
func (o *outcome) change(code byte, data []byte) (known bool, err error) {
	first, more := cut0(data)
	switch code {
	case ansAddField, ansInsertField, ansChangeField:
		return true, o.changeField(code, data)
	case ansAddRcpt, ansDeleteRcpt:
		address, err := parseAddress(first)
		if err == nil && address == "" {
			err = fmt.Errorf("%w: recipient without an address", errGarbage)
		}
		o.changes.rcpts = append(o.changes.rcpts, rcptEdit{add: code == ansAddRcpt, address: address})
		return true, err
	case ansChangeFrom:
		address, err := parseAddress(first)
		if err == nil && len(more) > 0 {
			err = fmt.Errorf("milter changes the sender with parameters, which is not offered")
		}
		o.changes.from = &address
		return true, err
	case ansQuarantine:
		o.changes.hold = cleanHold(o.name, first)
		return true, nil
	}
	return false, nil
}

func (o *outcome) changeField(code byte, data []byte) error {
	e := fieldEdit{kind: code}
	if code != ansAddField {
		if len(data) < 4 {
			return fmt.Errorf("%w: change of a field without an index", errGarbage)
		}
		e.index = int(min(binary.BigEndian.Uint32(data), math.MaxInt32))
		data = data[4:]
	}
	name, rest := cut0(data)
	value, _ := cut0(rest)
	if !isFieldName(name) {
		return fmt.Errorf("%w: field of the name %q", errGarbage, name)
	}
	e.gone = code == ansChangeField && value == ""
	e.field = makeField(name, value, !o.wants(leadingSpace))
	o.changes.fields = append(o.changes.fields, e)
	return nil
}

// makeField writes a field. Each line of the value but the first begins with a blank, so that none can be taken for
// another field or the header's end. spaced says that the value brings its leading space.
func makeField(name, value string, spaced bool) field {
	b := append([]byte(name), ':')
	if !spaced {
		b = append(b, ' ')
	}
	value = strings.ReplaceAll(value, "\r\n", "\n")
	for i, line := range strings.Split(strings.ReplaceAll(value, "\r", "\n"), "\n") {
		if i > 0 {
			if strings.Trim(line, " \t") == "" {
				continue
			}
			b = append(b, "\r\n"...)
			if line[0] != ' ' && line[0] != '\t' {
				b = append(b, '\t')
			}
		}
		b = append(b, line...)
	}
	return append(b, "\r\n"...)
}

// parseAddress reads an address with or without its angle brackets; none means the sender of a bounce.
func parseAddress(s string) (string, error) {
	if in, ok := strings.CutPrefix(s, "<"); ok {
		s = strings.TrimSuffix(in, ">")
	}
	if len(s) > 512 || strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' || r == '<' || r == '>' }) {
		return "", fmt.Errorf("%w: address %q", errGarbage, s)
	}
	return s, nil
}

// cleanHold makes a reason of one line.
func cleanHold(name, reason string) string {
	reason = strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return ' '
		}
		return r
	}, reason)
	if reason = strings.Join(strings.Fields(reason), " "); reason != "" {
		name += ": " + reason
	}
	return name[:min(len(name), maxHold)]
}

// lines ends each line of a new body in CRLF, also the last: a milter may use LF, and mail may not.
type lines struct {
	r    *bufio.Reader
	lf   bool // a CR was given, its LF comes next
	cr   bool // the last byte read was CR
	open bool // the last line has no end yet
}

// Read implements io.Reader.
func (l *lines) Read(p []byte) (int, error) {
	for n := range p {
		if l.lf {
			p[n], l.lf = '\n', false
			continue
		}
		c, err := l.r.ReadByte()
		if err == nil && c == '\n' && l.cr { // given with its CR
			c, err = l.r.ReadByte()
		}
		l.cr = false
		switch {
		case err == io.EOF && l.open:
			c = '\n'
		case err != nil:
			return n, err
		}
		if l.open = c != '\r' && c != '\n'; !l.open {
			l.lf, l.cr, c = true, c == '\r', '\r'
		}
		p[n] = c
	}
	return len(p), nil
}

// asPath writes an address as a command has it.
func asPath(address string) string { return "<" + address + ">" }

// mailArgs are what a milter sees of MAIL.
func mailArgs(env *smtpd.Envelope) []string {
	args := []string{asPath(env.From)}
	if env.Options.Size > 0 {
		args = append(args, fmt.Sprintf("SIZE=%d", env.Options.Size))
	}
	if env.Options.Body != "" {
		args = append(args, "BODY="+string(env.Options.Body))
	}
	if env.Options.UTF8 {
		args = append(args, "SMTPUTF8")
	}
	return args
}
