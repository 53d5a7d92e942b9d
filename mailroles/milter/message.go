package milter

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/emersion/go-smtp"

	"anycastle/mailroles/smtpd"
	"anycastle/mailroles/spool"
)

const (
	maxHead   = 1 << 20 // bytes of all fields
	maxFields = 10000
	maxValue  = 65000 // bytes of one field that a milter is shown; libmilter takes no packet over 65,535
)

// errLargeHead refuses a message whose fields would fill the memory.
var errLargeHead = &smtp.SMTPError{Code: 552, EnhancedCode: smtp.EnhancedCode{5, 3, 4}, Message: "Message header is too large"}

// message is a message taken apart: the fields of the envelope's head and of the body's header, and the rest. The fields
// end at an empty line, or at one that cannot be of a field.
type message struct {
	env    *smtpd.Envelope
	fields []field
	rest   int64 // where the fields end, in bytes of head and body
	text   int64 // where what follows the empty line begins; the same when there is none
	fold   bool  // the rest would be taken for a part of the last field
}

// field is a header field as it stands in the message, with its CRLFs.
type field []byte

// name is what stands before the colon.
func (f field) name() string {
	name, _, _ := bytes.Cut(f, []byte(":"))
	return strings.TrimRight(string(name), " \t")
}

// value is what stands after the colon. Lines end in LF as milters know it, the last one without.
func (f field) value() string {
	_, value, _ := bytes.Cut(f, []byte(":"))
	return strings.ReplaceAll(strings.TrimSuffix(string(value), "\r\n"), "\r\n", "\n")
}

// read gives head and body from a byte on.
func (m *message) read(from int64) (io.Reader, error) {
	r := io.MultiReader(strings.NewReader(m.env.Head), m.env.Body.Reader())
	_, err := io.CopyN(io.Discard, r, from)
	return r, err
}

// parse takes the message of an envelope apart.
func parse(env *smtpd.Envelope) (*message, error) {
	m := &message{env: env}
	all, err := m.read(0)
	if err != nil {
		return nil, err
	}
	r := bufio.NewReader(io.LimitReader(all, maxHead+1))
	for {
		line, err := r.ReadBytes('\n')
		if err != nil && err != io.EOF {
			return nil, fmt.Errorf("read message: %w", err)
		}
		last := len(m.fields) - 1
		fold := len(line) > 0 && (line[0] == ' ' || line[0] == '\t')
		switch {
		case fold && last >= 0:
			m.fields[last] = append(m.fields[last], line...)
		case isField(line):
			m.fields = append(m.fields, field(line))
		default:
			m.text = m.rest
			if string(line) == "\r\n" {
				m.text += 2
			}
			m.fold = fold
			return m, nil
		}
		m.rest += int64(len(line))
		if m.rest > maxHead || len(m.fields) > maxFields {
			return nil, errLargeHead
		}
	}
}

// isField says whether a field begins with the line (RFC 5322 section 2.2; blanks before the colon are section 4.5).
func isField(line []byte) bool {
	name, _, ok := bytes.Cut(line, []byte(":"))
	name = bytes.TrimRight(name, " \t")
	return ok && isFieldName(string(name))
}

func isFieldName(name string) bool {
	return name != "" && !strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r > '~' || r == ':' })
}

// fieldEdit adds, inserts or changes a field.
type fieldEdit struct {
	kind  byte // ansAddField, ansInsertField or ansChangeField
	index int  // insert: 0 and 1 are the top; change: which of those with the name, from 1
	field field
	gone  bool // change: the field is deleted
}

// edit changes the fields. A field that is to be changed and is not there is added, one that is to be deleted is not
// missed; this is what Sendmail does.
func (m *message) edit(e fieldEdit) {
	switch e.kind {
	case ansAddField:
		m.fields = append(m.fields, e.field)
	case ansInsertField:
		// Sendmail counts its own Received, which is not here yet, as 0
		at := min(max(e.index-1, 0), len(m.fields))
		m.fields = append(m.fields[:at:at], append([]field{e.field}, m.fields[at:]...)...)
	case ansChangeField:
		at := m.find(e.field.name(), max(e.index, 1))
		switch {
		case at < 0 && !e.gone:
			m.fields = append(m.fields, e.field)
		case at >= 0 && e.gone:
			m.fields = append(m.fields[:at:at], m.fields[at+1:]...)
		case at >= 0:
			m.fields[at] = e.field
		}
	}
}

// find gives where the nth field of a name is, -1 for nowhere.
func (m *message) find(name string, nth int) int {
	for i, f := range m.fields {
		if strings.EqualFold(f.name(), name) {
			if nth--; nth == 0 {
				return i
			}
		}
	}
	return -1
}

// write makes the body that the envelope gets: the fields as they are now, and the rest as it was, or text instead of
// what followed the empty line.
func (m *message) write(text *spool.Spool) (*spool.Spool, error) {
	var head bytes.Buffer
	for _, f := range m.fields {
		head.Write(f)
	}
	if text != nil {
		head.WriteString("\r\n")
		return spool.Fill("", io.MultiReader(&head, text.Reader()))
	}
	if m.fold && len(m.fields) > 0 {
		head.WriteString("\r\n")
	}
	rest, err := m.read(m.rest)
	if err != nil {
		return nil, err
	}
	return spool.Fill("", io.MultiReader(&head, rest))
}

// apply changes the envelope as a milter has asked for. After an error the message is not whole. It closes the new text.
func (m *message) apply(c *changes) error {
	var err error
	if len(c.fields) > 0 || c.text != nil {
		for _, e := range c.fields {
			m.edit(e)
		}
		var body *spool.Spool
		if body, err = m.write(c.text); err == nil {
			err = m.env.Body.Close()
			m.env.Head, m.env.Body = "", body
		}
	}
	if c.text != nil {
		err = errors.Join(err, c.text.Close())
	}
	if err != nil {
		return err
	}
	if c.from != nil {
		m.env.From = *c.from
	}
	if c.hold != "" && m.env.Hold == "" {
		m.env.Hold = c.hold
	}
	for _, r := range c.rcpts {
		changeRecipients(m.env, r)
	}
	return nil
}

func changeRecipients(env *smtpd.Envelope, r rcptEdit) {
	var to []smtpd.Recipient
	there := false
	for _, have := range env.To {
		same := have.Address == r.address
		there = there || same
		if r.add || !same {
			to = append(to, have)
		}
	}
	if r.add && !there {
		to = append(to, smtpd.Recipient{Address: r.address})
	}
	env.To = to
}
