package imapd

import (
	"bufio"
	"bytes"
	"io"
	"strings"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-message"
	"github.com/emersion/go-message/textproto"
)

// lineText cuts off a line's end.
func lineText(line []byte) []byte {
	return bytes.TrimSuffix(bytes.TrimSuffix(line, []byte("\n")), []byte("\r"))
}

// fields splits a header into its fields, each with the lines that it is folded over. Lines that are none are left out.
func fields(head []byte) [][]byte {
	var list [][]byte
	start := -1 // of the field
	for at := 0; at <= len(head); {
		line := head[at:]
		if n := bytes.IndexByte(line, '\n'); n >= 0 {
			line = line[:n+1]
		}
		end := len(lineText(line)) == 0
		if !end && (line[0] == ' ' || line[0] == '\t') {
			at += len(line)
			continue
		}
		if start >= 0 {
			list = append(list, head[start:at])
		}
		if end {
			return list
		}
		if start = -1; fieldName(line) != "" {
			start = at
		}
		at += len(line)
	}
	return list
}

// fieldName gives the name of a field in lower case; empty when a line begins none.
func fieldName(line []byte) string {
	name, _, ok := bytes.Cut(line, []byte(":"))
	name = bytes.TrimRight(name, " \t")
	bad := func(r rune) bool { return r <= ' ' || r > '~' }
	if !ok || len(name) > 1000 || bytes.ContainsFunc(name, bad) {
		return ""
	}
	return strings.ToLower(string(name))
}

// parseHeader reads what can be read of a header.
func parseHeader(head []byte) message.Header {
	text := append(bytes.Join(fields(head), nil), "\r\n"...)
	// every line is a field's; one that the library takes for none leaves an empty header
	header, _ := textproto.ReadHeader(bufio.NewReader(bytes.NewReader(text)))
	return message.Header{Header: header}
}

// mediaOf gives a part's media type, in lower case; fallback when the header does not say.
func mediaOf(h message.Header, fallback string) (string, map[string]string) {
	if !h.Has("Content-Type") {
		return fallback, nil
	}
	media, params, err := h.ContentType()
	kind, sub, ok := strings.Cut(strings.ToLower(media), "/")
	if err != nil || !ok || kind == "" || sub == "" {
		return "text/plain", nil
	}
	return kind + "/" + sub, params
}

// readHead reads a part's header, up to maxHeader of it.
func readHead(msg *io.SectionReader, p *part) ([]byte, error) {
	return io.ReadAll(io.NewSectionReader(msg, p.start, min(p.body-p.start, maxHeader)))
}

// pick gives a header with only some of its fields, or with all but them, and the line that ends it.
func pick(head []byte, names []string, but bool) []byte {
	wanted := map[string]bool{}
	for _, name := range names {
		wanted[strings.ToLower(name)] = true
	}
	var text []byte
	for _, f := range fields(head) {
		if wanted[fieldName(f)] != but {
			text = append(text, f...)
		}
	}
	return append(text, "\r\n"...)
}

// structureOf gives a part's BODYSTRUCTURE.
func structureOf(msg *io.SectionReader, p *part) (imap.BodyStructure, error) {
	head, err := readHead(msg, p)
	if err != nil {
		return nil, err
	}
	h := parseHeader(head)
	kind, sub, _ := strings.Cut(p.media, "/")
	disposition, language, location := extension(h)
	if p.multipart() {
		s := &imap.BodyStructureMultiPart{Subtype: sub, Extended: &imap.BodyStructureMultiPartExt{
			Params: p.params, Disposition: disposition, Language: language, Location: location,
		}}
		for _, q := range p.parts {
			child, err := structureOf(msg, q)
			if err != nil {
				return nil, err
			}
			s.Children = append(s.Children, child)
		}
		if len(s.Children) == 0 { // which the grammar does not have
			s.Children = append(s.Children, &imap.BodyStructureSinglePart{
				Type: "text", Subtype: "plain", Text: &imap.BodyStructureText{}, Extended: &imap.BodyStructureSinglePartExt{},
			})
		}
		return s, nil
	}
	s := &imap.BodyStructureSinglePart{
		Type: kind, Subtype: sub, Params: p.params, ID: h.Get("Content-Id"), Description: h.Get("Content-Description"),
		Encoding: h.Get("Content-Transfer-Encoding"), Size: uint32(p.end - p.body),
		Extended: &imap.BodyStructureSinglePartExt{Disposition: disposition, Language: language, Location: location},
	}
	switch {
	case p.message():
		err = embedded(msg, p, s)
	case kind == "text":
		s.Text = &imap.BodyStructureText{NumLines: p.lines}
	case p.media == "message/rfc822" || p.media == "message/global": // too deep to have been taken apart
		s.Type, s.Subtype = "application", "octet-stream"
	}
	return s, err
}

// embedded describes the message in a message/rfc822.
func embedded(msg *io.SectionReader, p *part, s *imap.BodyStructureSinglePart) error {
	envelope, err := envelopeOf(msg, p.parts[0])
	if err != nil {
		return err
	}
	inner, err := structureOf(msg, p.parts[0])
	s.MessageRFC822 = &imap.BodyStructureMessageRFC822{Envelope: envelope, BodyStructure: inner, NumLines: p.lines}
	return err
}

func extension(h message.Header) (d *imap.BodyStructureDisposition, language []string, location string) {
	// one that cannot be read is none
	if value, params, _ := h.ContentDisposition(); value != "" {
		d = &imap.BodyStructureDisposition{Value: value, Params: params}
	}
	for word := range strings.SplitSeq(h.Get("Content-Language"), ",") {
		if word = strings.TrimSpace(word); word != "" {
			language = append(language, word)
		}
	}
	return d, language, h.Get("Content-Location")
}
