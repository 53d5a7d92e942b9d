package imapd

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"strings"
)

// Bounds of what is taken apart. What lies deeper, or behind that many, stays in the part that it is in; a longer header is
// cut. Without bounds one message could take all memory there is.
const (
	maxDepth  = 100
	maxParts  = 10_000
	maxHeader = 1 << 20 // in bytes
)

// part is a message, or a part of one, by offsets into the file.
type part struct {
	start, body, end int64 // of its header, and of its body
	lines            int64 // line feeds in the body
	media            string
	params           map[string]string
	parts            []*part // of a multipart, or the message in a message/rfc822
}

func (p *part) multipart() bool { return strings.HasPrefix(p.media, "multipart/") }

// message reports whether the part is one that holds a message.
func (p *part) message() bool { return !p.multipart() && len(p.parts) > 0 }

// each calls do for the part and all that are in it.
func (p *part) each(do func(*part)) {
	do(p)
	for _, q := range p.parts {
		q.each(do)
	}
}

// scanner takes a message apart in one pass.
type scanner struct {
	br         *bufio.Reader
	boundaries []string // of the multiparts around, with "--", outermost first
	parts      int

	pos    int64 // start of the next line
	feeds  int64 // line feeds before it
	ending int64 // bytes of the line end before it

	// of the line that was read last: where what is before it ends, if it is a boundary
	edge, edgeFeeds int64
	mark            mark
}

// mark is what a line means to the parts around it.
type mark struct {
	at     int  // index of the boundary that it is, or one of the following
	closes bool // the boundary is the last of its multipart
}

const (
	atEnd  = -1 // the message's end
	inPart = -2 // a line of the part
)

// takeApart finds the parts of a message.
func takeApart(msg *io.SectionReader) (*part, error) {
	s := &scanner{br: bufio.NewReaderSize(again(msg), 32<<10)}
	p, err := s.part(0, "text/plain")
	if err != nil {
		return nil, fmt.Errorf("take message apart: %w", err)
	}
	return p, nil
}

// line reads a line. It gives as much of it as fits the buffer.
func (s *scanner) line() ([]byte, error) {
	s.edge, s.edgeFeeds = s.pos-s.ending, s.feeds
	if s.ending > 0 {
		s.edgeFeeds--
	}
	text, err := s.br.ReadSlice('\n')
	if len(text) == 0 && err == io.EOF {
		s.edge, s.edgeFeeds, s.mark = s.pos, s.feeds, mark{at: atEnd}
		return nil, nil
	}
	s.mark = s.meaning(text)
	s.pos += int64(len(text))
	last := text
	for err == bufio.ErrBufferFull {
		text = bytes.Clone(text)
		last, err = s.br.ReadSlice('\n')
		s.pos += int64(len(last))
	}
	if err != nil && err != io.EOF {
		return nil, err
	}
	s.ending = int64(len(last) - len(lineText(last)))
	if bytes.HasSuffix(last, []byte("\n")) {
		s.feeds++
	} else {
		s.ending = 0
	}
	return text, nil
}

// meaning finds the innermost boundary that a line is (RFC 2046 section 5.1.1).
func (s *scanner) meaning(line []byte) mark {
	if !bytes.HasPrefix(line, []byte("--")) {
		return mark{at: inPart}
	}
	line = bytes.TrimRight(line, " \t\r\n")
	for i := len(s.boundaries) - 1; i >= 0; i-- {
		if rest, ok := bytes.CutPrefix(line, []byte(s.boundaries[i])); ok && (len(rest) == 0 || string(rest) == "--") {
			return mark{at: i, closes: len(rest) > 0}
		}
	}
	return mark{at: inPart}
}

// part reads a part up to the mark that ends it. media is what it is when its header does not say.
func (s *scanner) part(depth int, media string) (*part, error) {
	s.parts++
	p := &part{start: s.pos, body: s.pos}
	var head []byte
	for blank := false; !blank; {
		text, err := s.line()
		if err != nil {
			return nil, err
		}
		if s.mark.at != inPart {
			break
		}
		if len(head)+len(text) <= maxHeader {
			head = append(append(head, lineText(text)...), "\r\n"...)
		}
		blank = len(lineText(text)) == 0
		p.body = s.pos
	}
	p.media, p.params = mediaOf(parseHeader(head), media)
	feeds := s.feeds
	if s.mark.at == inPart {
		if err := s.content(p, depth); err != nil {
			return nil, err
		}
	} else {
		p.body = max(p.start, s.edge)
	}
	p.end = max(p.body, s.edge)
	p.lines = max(s.edgeFeeds-feeds, 0)
	return p, nil
}

// content reads a part's body.
func (s *scanner) content(p *part, depth int) error {
	boundary := "--" + p.params["boundary"]
	switch {
	case depth >= maxDepth || s.parts >= maxParts:
	case p.multipart() && len(boundary) > 2:
		return s.multipart(p, depth, boundary)
	case p.media == "message/rfc822" || p.media == "message/global":
		q, err := s.part(depth+1, "text/plain")
		p.parts = []*part{q}
		return err
	}
	return s.skip()
}

// skip reads up to the next mark.
func (s *scanner) skip() error {
	for {
		if _, err := s.line(); err != nil || s.mark.at != inPart {
			return err
		}
	}
}

func (s *scanner) multipart(p *part, depth int, boundary string) error {
	own := len(s.boundaries)
	s.boundaries = append(s.boundaries, boundary)
	media := "text/plain"
	if p.media == "multipart/digest" {
		media = "message/rfc822"
	}
	err := s.skip() // the preamble
	for err == nil && s.mark == (mark{at: own}) && s.parts < maxParts {
		var q *part
		q, err = s.part(depth+1, media)
		p.parts = append(p.parts, q)
	}
	s.boundaries = s.boundaries[:own]
	if err == nil && s.mark.at >= own { // the epilogue, or what is more than maxParts
		err = s.skip()
	}
	return err
}
