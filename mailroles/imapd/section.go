package imapd

import (
	"bufio"
	"bytes"
	"fmt"
	"io"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapserver"
)

// bodySection finds BODY[…] in a message. The whole message, its header and its text are cut from the bytes as they
// are; only sections within go through the library's parser, which gives nothing for a header that it cannot read.
func bodySection(msg *io.SectionReader, item *imap.FetchItemBodySection) (*io.SectionReader, error) {
	if len(item.Part) > 0 || len(item.HeaderFields)+len(item.HeaderFieldsNot) > 0 {
		return sectionOf(imapserver.ExtractBodySection(io.NewSectionReader(msg, 0, msg.Size()), item)), nil
	}
	start, end := int64(0), msg.Size()
	if item.Specifier != imap.PartSpecifierNone {
		head, err := headerSize(io.NewSectionReader(msg, 0, msg.Size()))
		if err != nil {
			return nil, err
		}
		if item.Specifier == imap.PartSpecifierText {
			start = head
		} else {
			end = head
		}
	}
	if p := item.Partial; p != nil {
		start = min(start+max(p.Offset, 0), end)
		end = min(start+max(p.Size, 0), end)
	}
	return io.NewSectionReader(msg, start, end-start), nil
}

// headerSize gives the length of a header with the empty line that ends it.
func headerSize(r io.Reader) (int64, error) {
	br := bufio.NewReader(r)
	size := int64(0)
	start := true // at the start of a line
	for {
		line, err := br.ReadSlice('\n')
		size += int64(len(line))
		if start && len(bytes.TrimRight(line, "\r\n")) == 0 && err == nil {
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

func sectionOf(b []byte) *io.SectionReader {
	return io.NewSectionReader(bytes.NewReader(b), 0, int64(len(b)))
}
