package imapd

import (
	"errors"
	"slices"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapserver"

	"anycastle/mailroles/maildir"
	"anycastle/mailroles/store"
)

// Append implements imapserver.Session. The library has an empty literal in the message's place.
func (s *session) Append(name string, _ imap.LiteralReader, options *imap.AppendOptions) (*imap.AppendData, error) {
	body := s.guard.take()
	f, err := s.box.Folder(name)
	if errors.Is(err, store.ErrNoFolder) {
		return nil, errTryCreate
	}
	if err != nil {
		return nil, s.reply(err)
	}
	marks := fromIMAP(options.Flags, nil)
	if len(marks.Keywords) > 0 {
		marks = fromIMAP(options.Flags, f.Snapshot().Keywords)
	}
	place, err := f.Append(store.Incoming{
		Body: body, Size: body.size, Flags: marks.Flags, Keywords: marks.Keywords, Date: options.Time,
	})
	if err != nil {
		return nil, s.reply(err)
	}
	return &imap.AppendData{UIDValidity: place.Validity, UID: imap.UID(place.UID)}, nil
}

// numbers gives the indexes of the messages that a client's set names.
func (s *session) numbers(set imap.NumSet) []int { return s.view.numbers(s.meant(set)) }

// meant gives the set that $ stands for.
func (s *session) meant(set imap.NumSet) imap.NumSet {
	switch {
	case !imap.IsSearchRes(set):
		return set
	case s.guard.long != nil:
		return s.guard.long
	}
	return s.view.saved
}

func (s *session) uids(set imap.NumSet) []uint32 {
	var uids []uint32
	for _, i := range s.numbers(set) {
		uids = append(uids, s.view.messages[i].UID)
	}
	return uids
}

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
	known := s.uids(set)
	return s.reply(s.view.folder.Expunge(func(uid uint32) bool {
		_, ok := slices.BinarySearch(known, uid)
		return ok
	}))
}

// Copy implements imapserver.Session.
func (s *session) Copy(set imap.NumSet, dest string) (*imap.CopyData, error) {
	return s.copied(s.view.folder.Copy(s.uids(set), dest))
}

// Move implements imapserver.SessionMove.
func (s *session) Move(w *imapserver.MoveWriter, set imap.NumSet, dest string) error {
	if s.view.readOnly {
		return errReadOnly
	}
	data, err := s.copied(s.view.folder.Move(s.uids(set), dest))
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
	indexes := s.numbers(set)
	given := fromIMAP(flags.Flags, s.view.keywords)
	if len(given.Keywords) > 0 && flags.Op != imap.StoreFlagsDel {
		given = fromIMAP(flags.Flags, s.view.folder.Snapshot().Keywords) // others may have made some
	}
	change := func(m store.Marks) store.Marks { return changed(flags.Op, m, given) }
	if err := s.setFlags(indexes, change, flags.Silent); err != nil || flags.Silent {
		return err
	}
	for _, i := range indexes {
		m := s.view.messages[i]
		rw := w.CreateMessage(uint32(i) + 1)
		rw.WriteUID(imap.UID(m.UID))
		rw.WriteFlags(s.flags(m))
		if err := rw.Close(); err != nil {
			return err
		}
	}
	return nil
}

// setFlags changes flags and notes in the view what this client now knows. Without an answer it knows only of its own
// changes, and the poll that follows tells it of those of others.
func (s *session) setFlags(indexes []int, change func(store.Marks) store.Marks, silent bool) error {
	var uids []uint32
	for _, i := range indexes {
		uids = append(uids, s.view.messages[i].UID)
	}
	if err := s.view.folder.SetFlags(uids, change); err != nil {
		return s.reply(err)
	}
	for _, i := range indexes {
		old := s.view.messages[i]
		m, ok := s.view.folder.Message(old.UID)
		if !ok || silent && !sameMarks(m.Marks, change(old.Marks)) {
			continue
		}
		s.view.own()
		s.view.messages[i] = m
	}
	s.tellKeywords(indexes)
	return nil
}

// see marks messages as seen that a FETCH reads, and reports whether any was not. Those that cannot be marked, as on a full
// disk, can be read all the same.
func (s *session) see(indexes []int) bool {
	unseen := slices.DeleteFunc(slices.Clone(indexes), func(i int) bool { return s.view.messages[i].Flags&maildir.Seen != 0 })
	if len(unseen) == 0 {
		return false
	}
	seen := store.Marks{Flags: maildir.Seen}
	err := s.setFlags(unseen, func(m store.Marks) store.Marks { return changed(imap.StoreFlagsAdd, m, seen) }, false)
	return err == nil
}
