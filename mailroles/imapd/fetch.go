package imapd

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapserver"

	"anycastle/mailroles/store"
)

// Fetch implements imapserver.Session.
func (s *session) Fetch(w *imapserver.FetchWriter, set imap.NumSet, options *imap.FetchOptions) error {
	indexes := s.numbers(set)
	showFlags := options.Flags
	if marksSeen(options) && !s.view.readOnly {
		showFlags = s.see(indexes) || showFlags
	}
	for _, i := range indexes {
		if err := s.fetchOne(w, i, options, showFlags); err != nil {
			return err
		}
	}
	return nil
}

func marksSeen(options *imap.FetchOptions) bool {
	return slices.ContainsFunc(options.BodySection, func(b *imap.FetchItemBodySection) bool { return !b.Peek }) ||
		slices.ContainsFunc(options.BinarySection, func(b *imap.FetchItemBinarySection) bool { return !b.Peek })
}

// needsContent reports whether the message's file must be read.
func needsContent(o *imap.FetchOptions) bool {
	return o.Envelope || o.BodyStructure != nil || len(o.BodySection)+len(o.BinarySection)+len(o.BinarySectionSize) > 0
}

func (s *session) fetchOne(w *imapserver.FetchWriter, i int, options *imap.FetchOptions, showFlags bool) (err error) {
	m := s.view.messages[i]
	if isGone(m) {
		return nil // as below
	}
	var msg *content
	var made derived
	if needsContent(options) {
		var file *os.File
		file, err = s.view.folder.Open(m.UID)
		if errors.Is(err, store.ErrNoMessage) {
			return nil // expunged by another session; this client is told at the next poll
		}
		if err != nil {
			return s.reply(err)
		}
		defer file.Close()
		msg = &content{SectionReader: io.NewSectionReader(file, 0, m.Size)}
		// what fails is answered, before the message's own response is begun
		if made, err = msg.derive(options); err != nil {
			return s.reply(err)
		}
	}
	rw := w.CreateMessage(uint32(i) + 1)
	defer func() { err = errors.Join(err, rw.Close()) }()
	rw.WriteUID(imap.UID(m.UID))
	if showFlags {
		rw.WriteFlags(s.flags(m))
	}
	if options.InternalDate {
		rw.WriteInternalDate(m.Date)
	}
	if options.RFC822Size {
		rw.WriteRFC822Size(m.Size)
	}
	if msg == nil {
		return nil
	}
	if err = made.write(rw, options); err != nil {
		// the client counts on a literal's announced size: what was begun cannot be taken back
		return errors.Join(err, s.guard.Conn.Close())
	}
	return nil
}

// derived is what FETCH shows of a message's content.
type derived struct {
	envelope  *imap.Envelope
	structure imap.BodyStructure
	sections  []*io.SectionReader
	binaries  []*io.SectionReader
}

func (c *content) derive(options *imap.FetchOptions) (d derived, err error) {
	if options.Envelope {
		if d.envelope, err = c.envelope(); err != nil {
			return d, err
		}
	}
	if options.BodyStructure != nil {
		if d.structure, err = c.structure(); err != nil {
			return d, err
		}
	}
	for _, item := range options.BodySection {
		section, err := c.section(item)
		if err != nil {
			return d, err
		}
		d.sections = append(d.sections, section)
	}
	d.binaries, err = c.binaries(options)
	return d, err
}

func (d *derived) write(rw *imapserver.FetchResponseWriter, options *imap.FetchOptions) error {
	if options.Envelope {
		rw.WriteEnvelope(d.envelope)
	}
	if options.BodyStructure != nil {
		rw.WriteBodyStructure(d.structure)
	}
	for i, item := range options.BodySection {
		if err := writeLiteral(rw.WriteBodySection(item, d.sections[i].Size()), d.sections[i]); err != nil {
			return err
		}
	}
	for i, item := range options.BinarySection {
		if err := writeLiteral(rw.WriteBinarySection(item, d.binaries[i].Size()), d.binaries[i]); err != nil {
			return err
		}
	}
	for i, item := range options.BinarySectionSize {
		rw.WriteBinarySectionSize(item, uint32(d.binaries[len(options.BinarySection)+i].Size()))
	}
	return nil
}

func writeLiteral(w io.WriteCloser, section *io.SectionReader) error {
	// a section that fits is written at once, without a buffer of io.Copy's size
	buf := make([]byte, max(1, min(section.Size(), 32<<10)))
	_, err := io.CopyBuffer(w, section, buf)
	if err := errors.Join(err, w.Close()); err != nil {
		return fmt.Errorf("write section: %w", err)
	}
	return nil
}
