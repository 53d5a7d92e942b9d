package imapd

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"fmt"
	"io"
	"mime/quotedprintable"
	"slices"
	"strings"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapserver"
)

var errUnknownCTE = no(imap.ResponseCodeUnknownCTE, "Part cannot be decoded")

// content is a message's file with what has been found out about it.
type content struct {
	*io.SectionReader
	root *part // nil while it has not been taken apart
}

// again gives a message from its start.
func again(msg *io.SectionReader) *io.SectionReader { return io.NewSectionReader(msg, 0, msg.Size()) }

func sectionOf(b []byte) *io.SectionReader {
	return io.NewSectionReader(bytes.NewReader(b), 0, int64(len(b)))
}

// find gives a part by its numbers (RFC 9051 section 6.4.5.1); nil when there is none.
func (c *content) find(path []int) (*part, error) {
	if c.root == nil {
		var err error
		if c.root, err = takeApart(c.SectionReader); err != nil {
			return nil, err
		}
	}
	p, whole := c.root, true // p is a message, and not a part of one
	for _, n := range path {
		if !whole && p.message() {
			p, whole = p.parts[0], true
		}
		switch {
		case p.multipart():
			if n < 1 || n > len(p.parts) {
				return nil, nil
			}
			p, whole = p.parts[n-1], false
		case whole && n == 1:
			whole = false
		default:
			return nil, nil
		}
	}
	return p, nil
}

// section finds BODY[…]. It is cut from the bytes as they are; what there is not is empty.
func (c *content) section(item *imap.FetchItemBodySection) (*io.SectionReader, error) {
	start, body, end := int64(0), int64(0), c.Size()
	var err error
	switch {
	case len(item.Part) > 0:
		var p *part
		if p, err = c.find(item.Part); p == nil {
			return sectionOf(nil), err
		}
		if item.Specifier == imap.PartSpecifierHeader || item.Specifier == imap.PartSpecifierText {
			if !p.message() {
				return sectionOf(nil), nil
			}
			p = p.parts[0]
		}
		start, body, end = p.start, p.body, p.end
	case item.Specifier != imap.PartSpecifierNone:
		if body, err = headerSize(again(c.SectionReader)); err != nil {
			return nil, err
		}
	}
	switch item.Specifier {
	case imap.PartSpecifierHeader, imap.PartSpecifierMIME:
		end = body
	default:
		start = body
	}
	r := io.NewSectionReader(c, start, end-start)
	if len(item.HeaderFields)+len(item.HeaderFieldsNot) > 0 {
		head, err := io.ReadAll(r)
		if err != nil {
			return nil, fmt.Errorf("read header: %w", err)
		}
		but := len(item.HeaderFieldsNot) > 0
		r = sectionOf(pick(head, slices.Concat(item.HeaderFields, item.HeaderFieldsNot), but))
	}
	return partial(r, item.Partial), nil
}

// partial cuts out <start.count>; what lies behind the end is not there.
func partial(r *io.SectionReader, p *imap.SectionPartial) *io.SectionReader {
	if p == nil {
		return r
	}
	start := min(max(p.Offset, 0), r.Size())
	return io.NewSectionReader(r, start, min(max(p.Size, 0), r.Size()-start))
}

// headerSize gives the length of a header with the empty line that ends it.
func headerSize(r io.Reader) (int64, error) {
	br := bufio.NewReader(r)
	size := int64(0)
	start := true // at the start of a line
	for {
		line, err := br.ReadSlice('\n')
		size += int64(len(line))
		if start && len(lineText(line)) == 0 && err == nil {
			return size, nil
		}
		start = err != bufio.ErrBufferFull
		if err == io.EOF {
			return size, nil
		}
		if err != nil && err != bufio.ErrBufferFull {
			return 0, fmt.Errorf("find the header's end: %w", err)
		}
	}
}

// envelopeOf gives the ENVELOPE of a message.
func envelopeOf(msg *io.SectionReader, p *part) (*imap.Envelope, error) {
	head, err := readHead(msg, p)
	if err != nil {
		return nil, err
	}
	return imapserver.ExtractEnvelope(parseHeader(head).Header), nil
}

// envelope gives the message's own, for which only the header is read.
func (c *content) envelope() (*imap.Envelope, error) {
	size, err := headerSize(again(c.SectionReader))
	if err != nil {
		return nil, err
	}
	return envelopeOf(c.SectionReader, &part{body: size})
}

// structure gives the message's BODYSTRUCTURE.
func (c *content) structure() (imap.BodyStructure, error) {
	root, err := c.find(nil)
	if err != nil {
		return nil, err
	}
	return structureOf(c.SectionReader, root)
}

// binaries decodes what BINARY and BINARY.SIZE ask for, in this order (RFC 3516).
func (c *content) binaries(options *imap.FetchOptions) ([]*io.SectionReader, error) {
	var list []*io.SectionReader
	for _, item := range options.BinarySection {
		r, err := c.binary(item.Part)
		if err != nil {
			return nil, err
		}
		list = append(list, partial(r, item.Partial))
	}
	for _, item := range options.BinarySectionSize {
		r, err := c.binary(item.Part)
		if err != nil {
			return nil, err
		}
		list = append(list, r)
	}
	return list, nil
}

// binary takes a part's transfer encoding off, and leaves its charset. The message as a whole has none.
func (c *content) binary(path []int) (*io.SectionReader, error) {
	p, err := c.find(path)
	if p == nil {
		return sectionOf(nil), err
	}
	if len(path) == 0 {
		return again(c.SectionReader), nil
	}
	raw := io.NewSectionReader(c, p.body, p.end-p.body)
	head, err := readHead(c.SectionReader, p)
	if err != nil {
		return nil, err
	}
	h := parseHeader(head)
	var r io.Reader
	switch strings.ToLower(strings.TrimSpace(h.Get("Content-Transfer-Encoding"))) {
	case "", "7bit", "8bit", "binary":
		return raw, nil
	case "base64":
		r = base64.NewDecoder(base64.StdEncoding, unspaced{raw})
	case "quoted-printable":
		r = quotedprintable.NewReader(raw)
	default:
		return nil, errUnknownCTE
	}
	plain, err := io.ReadAll(r)
	if err != nil {
		return nil, errUnknownCTE
	}
	return sectionOf(plain), nil
}

// unspaced leaves spaces and tabs out, which base64 is to pass over (RFC 2045 section 6.8).
type unspaced struct{ io.Reader }

// Read implements io.Reader.
func (u unspaced) Read(p []byte) (int, error) {
	n, err := u.Reader.Read(p)
	kept := p[:0]
	for _, b := range p[:n] {
		if b != ' ' && b != '\t' {
			kept = append(kept, b)
		}
	}
	return len(kept), err
}
