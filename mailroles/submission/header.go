package submission

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/mail"
	"slices"
	"strings"
)

// maxHeader is the longest header section in bytes. What is longer no client has written for a reader.
const maxHeader = 256 << 10

// header is a message's header section (RFC 5322 section 2.2).
type header struct {
	fields []field
	size   int64 // bytes that were read for it, with the empty line at its end if there is one
}

// field is one field as it stands in the message.
type field struct {
	name string // without spaces around it; compared without regard to case
	text string // all of it, with the CRLF at its end
}

var (
	errNoField   = errors.New("a line is no field")
	errTooLong   = fmt.Errorf("it has more than %d bytes", maxHeader)
	errNoAddress = errors.New("no address")
)

// readHeader reads up to the empty line, or to the end of a message that has none. A line that neither is a field nor goes on
// with one is an error, since others would take it for the header's end.
func readHeader(r io.Reader) (*header, error) {
	h := &header{}
	br := bufio.NewReader(io.LimitReader(r, maxHeader+1))
	for {
		line, err := br.ReadString('\n')
		h.size += int64(len(line))
		if h.size > maxHeader {
			return nil, errTooLong
		}
		if err != nil && err != io.EOF {
			return nil, fmt.Errorf("read header: %w", err)
		}
		if line == "\r\n" || line == "" {
			return h, nil
		}
		if err == io.EOF { // a message of fields alone, without its last CRLF
			line += "\r\n"
		}
		if line[0] == ' ' || line[0] == '\t' {
			if len(h.fields) == 0 {
				return nil, errNoField
			}
			h.fields[len(h.fields)-1].text += line
			continue
		}
		name, _, ok := strings.Cut(line, ":")
		name = strings.TrimRight(name, " \t")
		if !ok || name == "" || strings.ContainsFunc(name, func(c rune) bool { return c <= ' ' || c > '~' }) {
			return nil, errNoField
		}
		h.fields = append(h.fields, field{name: name, text: line})
	}
}

// all gives the fields of a name.
func (h *header) all(name string) []field {
	var list []field
	for _, f := range h.fields {
		if strings.EqualFold(f.name, name) {
			list = append(list, f)
		}
	}
	return list
}

// remove takes out the fields of some names.
func (h *header) remove(names ...string) {
	h.fields = slices.DeleteFunc(h.fields, func(f field) bool {
		return slices.ContainsFunc(names, func(n string) bool { return strings.EqualFold(f.name, n) })
	})
}

// addMissing puts a field on top unless there is one of its name.
func (h *header) addMissing(name, value string) {
	if len(h.all(name)) == 0 {
		h.fields = slices.Insert(h.fields, 0, field{name, name + ": " + value + "\r\n"})
	}
}

// String gives the section without the empty line.
func (h *header) String() string {
	var b strings.Builder
	for _, f := range h.fields {
		b.WriteString(f.text)
	}
	return b.String()
}

// addresses gives the addresses in a field, such as From. There is at least one.
func (f field) addresses() ([]string, error) {
	_, value, _ := strings.Cut(strings.ReplaceAll(f.text, "\r\n", ""), ":")
	// names in any charset will do, and in none: they are not looked at
	value = strings.ToValidUTF8(value, "?")
	words := &mime.WordDecoder{CharsetReader: func(_ string, in io.Reader) (io.Reader, error) { return in, nil }}
	list, err := (&mail.AddressParser{WordDecoder: words}).ParseList(value)
	if err != nil {
		return nil, err
	}
	var addresses []string
	for _, a := range list {
		addresses = append(addresses, a.Address)
	}
	if len(addresses) == 0 {
		return nil, errNoAddress
	}
	return addresses, nil
}
