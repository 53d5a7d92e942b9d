package imapd

import (
	"errors"
	"slices"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapserver"

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
