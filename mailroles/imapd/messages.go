package imapd

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapserver"
	"github.com/emersion/go-message/textproto"

	"anycastle/mailroles/maildir"
	"anycastle/mailroles/store"
)

// Expunge implements imapserver.Session, for EXPUNGE and for CLOSE.
func (s *session) Expunge(w *imapserver.ExpungeWriter, uids *imap.UIDSet) error {
	if s.view.readOnly {
		// CLOSE, which has an empty writer, leaves the messages and succeeds (RFC 3501 section 6.4.2)
		if *w == (imapserver.ExpungeWriter{}) {
			return nil
		}
		return errReadOnly
	}
	// messages that this client does not know of yet are not meant
	var set imap.NumSet = imap.UIDSet{{Start: 1, Stop: 0}}
	if uids != nil {
		set = *uids
	}
	known := s.view.uids(set)
	return s.reply(s.view.folder.Expunge(func(uid uint32) bool {
		_, ok := slices.BinarySearch(known, uid)
		return ok
	}))
}

// Copy implements imapserver.Session.
func (s *session) Copy(set imap.NumSet, dest string) (*imap.CopyData, error) {
	return s.copied(s.view.folder.Copy(s.view.uids(set), dest))
}

// Move implements imapserver.SessionMove.
func (s *session) Move(w *imapserver.MoveWriter, set imap.NumSet, dest string) error {
	if s.view.readOnly {
		return errReadOnly
	}
	data, err := s.copied(s.view.folder.Move(s.view.uids(set), dest))
	if err != nil || data == nil {
		return err
	}
	return w.WriteCopyData(data) // the EXPUNGE responses come with the poll that follows
}

func (s *session) copied(validity uint32, pairs []store.Pair, err error) (*imap.CopyData, error) {
	if errors.Is(err, store.ErrNoFolder) {
		return nil, errTryCreate
	}
	if err != nil || len(pairs) == 0 {
		return nil, s.reply(err)
	}
	data := &imap.CopyData{UIDValidity: validity}
	for _, p := range pairs {
		data.SourceUIDs.AddNum(imap.UID(p.From))
		data.DestUIDs.AddNum(imap.UID(p.To))
	}
	return data, nil
}

// Store implements imapserver.Session.
func (s *session) Store(w *imapserver.FetchWriter, set imap.NumSet, flags *imap.StoreFlags, _ *imap.StoreOptions) error {
	if s.view.readOnly {
		return errReadOnly
	}
	indexes := s.view.numbers(set)
	given, system := fromIMAP(flags.Flags), fromIMAP(systemFlags())
	err := s.setFlags(indexes, func(m store.Marks) store.Marks {
		switch flags.Op {
		case imap.StoreFlagsAdd:
			m.Flags |= given
		case imap.StoreFlagsDel:
			m.Flags &^= given
		default:
			m.Flags = m.Flags&^system | given // letters that IMAP does not show here are not touched
		}
		return m
	})
	if err != nil || flags.Silent {
		return err
	}
	for _, i := range indexes {
		rw := w.CreateMessage(uint32(i) + 1)
		rw.WriteUID(imap.UID(s.view.messages[i].UID))
		rw.WriteFlags(toIMAP(s.view.messages[i].Flags))
		if err := rw.Close(); err != nil {
			return err
		}
	}
	return nil
}

// setFlags changes flags and notes in the view what this client now knows.
func (s *session) setFlags(indexes []int, change func(store.Marks) store.Marks) error {
	var uids []uint32
	for _, i := range indexes {
		uids = append(uids, s.view.messages[i].UID)
	}
	if err := s.view.folder.SetFlags(uids, change); err != nil {
		return s.reply(err)
	}
	now := s.view.folder.Snapshot().Messages
	s.view.messages = slices.Clone(s.view.messages)
	for _, i := range indexes {
		uid := s.view.messages[i].UID
		if n := slices.IndexFunc(now, func(m *store.Message) bool { return m.UID == uid }); n >= 0 {
			s.view.messages[i] = now[n]
		}
	}
	return nil
}

// Fetch implements imapserver.Session.
func (s *session) Fetch(w *imapserver.FetchWriter, set imap.NumSet, options *imap.FetchOptions) error {
	indexes := s.view.numbers(set)
	showFlags := options.Flags
	if marksSeen(options) && !s.view.readOnly {
		unseen := slices.DeleteFunc(slices.Clone(indexes), func(i int) bool { return s.view.messages[i].Flags&maildir.Seen != 0 })
		if len(unseen) > 0 {
			seen := func(m store.Marks) store.Marks {
				m.Flags |= maildir.Seen
				return m
			}
			if err := s.setFlags(unseen, seen); err == nil { // else, as on a full disk, they can be read all the same
				showFlags = true
			}
		}
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

func (s *session) fetchOne(w *imapserver.FetchWriter, i int, options *imap.FetchOptions, showFlags bool) (err error) {
	m := s.view.messages[i]
	var file *os.File
	if options.Envelope || options.BodyStructure != nil || len(options.BodySection)+len(options.BinarySection)+len(options.BinarySectionSize) > 0 {
		file, err = s.view.folder.Open(m.UID)
		if errors.Is(err, store.ErrNoMessage) {
			return nil // expunged by another session; this client is told at the next poll
		}
		if err != nil {
			return s.reply(err)
		}
		defer file.Close()
	}
	rw := w.CreateMessage(uint32(i) + 1)
	defer func() { err = errors.Join(err, rw.Close()) }()
	rw.WriteUID(imap.UID(m.UID))
	if showFlags {
		rw.WriteFlags(toIMAP(m.Flags))
	}
	if options.InternalDate {
		rw.WriteInternalDate(m.Date)
	}
	if options.RFC822Size {
		rw.WriteRFC822Size(m.Size)
	}
	if file == nil {
		return nil
	}
	if err := writeContent(rw, io.NewSectionReader(file, 0, m.Size), options); err != nil {
		// the client counts on a literal's announced size: what was begun cannot be taken back
		return errors.Join(err, s.guard.Conn.Close())
	}
	return nil
}

// writeContent writes what is taken from a message's bytes.
func writeContent(rw *imapserver.FetchResponseWriter, msg *io.SectionReader, options *imap.FetchOptions) error {
	fresh := func() io.Reader { return io.NewSectionReader(msg, 0, msg.Size()) }
	if options.Envelope {
		// an unreadable header gives an empty envelope, so that the rest of the message can be had
		header, _ := textproto.ReadHeader(bufio.NewReader(fresh()))
		rw.WriteEnvelope(imapserver.ExtractEnvelope(header))
	}
	if options.BodyStructure != nil {
		rw.WriteBodyStructure(imapserver.ExtractBodyStructure(fresh()))
	}
	for _, item := range options.BodySection {
		section, err := bodySection(msg, item)
		if err != nil {
			return err
		}
		if err := writeLiteral(rw.WriteBodySection(item, section.Size()), section); err != nil {
			return err
		}
	}
	for _, item := range options.BinarySection {
		part := imapserver.ExtractBinarySection(fresh(), item)
		if err := writeLiteral(rw.WriteBinarySection(item, int64(len(part))), sectionOf(part)); err != nil {
			return err
		}
	}
	for _, item := range options.BinarySectionSize {
		rw.WriteBinarySectionSize(item, imapserver.ExtractBinarySectionSize(fresh(), item))
	}
	return nil
}

func writeLiteral(w io.WriteCloser, section *io.SectionReader) error {
	_, err := io.Copy(w, section)
	if err := errors.Join(err, w.Close()); err != nil {
		return fmt.Errorf("write section: %w", err)
	}
	return nil
}
