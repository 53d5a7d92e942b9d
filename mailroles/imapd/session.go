package imapd

import (
	"errors"
	"slices"
	"strings"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapserver"
	"github.com/emersion/go-sasl"

	"anycastle/mailroles/directory"
	"anycastle/mailroles/maildir"
	"anycastle/mailroles/spool"
	"anycastle/mailroles/store"
)

// session is one user's session, spliced through by a front end. The library calls it from one goroutine at a time.
type session struct {
	server *Server
	conn   *imapserver.Conn
	guard  *guard
	box    *store.Mailbox // set by Authenticate
	view   *view          // nil while no folder is selected
}

var (
	errReadOnly  = no("READ-ONLY", "Folder was opened with EXAMINE")
	errNoFolder  = no(imap.ResponseCodeNonExistent, "No such folder")
	errTryCreate = no(imap.ResponseCodeTryCreate, "No such folder")
)

func no(code imap.ResponseCode, text string) *imap.Error {
	return &imap.Error{Type: imap.StatusResponseTypeNo, Code: code, Text: text}
}

func equalFold(a, b imap.Flag) bool { return strings.EqualFold(string(a), string(b)) }

// reply makes an answer of a store's error. Others are logged, and the client only learns that it may try again.
func (s *session) reply(err error) error {
	var ready *imap.Error
	switch {
	case err == nil:
		return nil
	case errors.As(err, &ready):
		return ready
	case errors.Is(err, store.ErrNoFolder):
		return errNoFolder
	case errors.Is(err, store.ErrExists):
		return no(imap.ResponseCodeAlreadyExists, "Folder exists")
	case errors.Is(err, store.ErrInbox):
		return no(imap.ResponseCodeCannot, "INBOX cannot be deleted")
	case errors.Is(err, maildir.ErrFolderName):
		return no(imap.ResponseCodeCannot, "No name for a folder")
	}
	s.server.opt.Log.Error("mailbox operation", "err", err)
	return no(imap.ResponseCodeUnavailable, "Could not be done, try again later")
}

// Close implements imapserver.Session.
func (s *session) Close() error {
	s.server.open.Done()
	return nil
}

// Login implements imapserver.Session. The store knows no passwords.
func (s *session) Login(_, _ string) error { return imapserver.ErrAuthFailed }

// AuthenticateMechanisms implements imapserver.SessionSASL.
func (s *session) AuthenticateMechanisms() []string { return []string{sasl.External} }

// Authenticate implements imapserver.SessionSASL.
func (s *session) Authenticate(mech string) (sasl.Server, error) {
	if mech != sasl.External {
		return nil, no("", "SASL mechanism not supported")
	}
	return sasl.NewExternalServer(func(user string) error {
		m, err := s.server.opt.Directory.Mailbox(s.server.ctx, user)
		if errors.Is(err, directory.ErrUnknown) || err == nil && m.LUN != s.server.opt.LUN {
			s.server.opt.Tally.Reject("unknown-mailbox")
			return imapserver.ErrAuthFailed
		}
		if err != nil {
			return s.reply(err)
		}
		box, err := s.server.opt.Mail.Mailbox(m.Address)
		if err != nil {
			return s.reply(err)
		}
		s.box = box
		s.server.opt.Tally.Done()
		return nil
	}), nil
}

// AppendLimit implements imapserver.SessionAppendLimit.
func (s *session) AppendLimit() uint32 { return uint32(s.server.opt.MaxSize) }

// Namespace implements imapserver.SessionNamespace.
func (s *session) Namespace() (*imap.NamespaceData, error) {
	return &imap.NamespaceData{Personal: []imap.NamespaceDescriptor{{Delim: maildir.Delim}}}, nil
}

// Select implements imapserver.Session.
func (s *session) Select(name string, options *imap.SelectOptions) (*imap.SelectData, error) {
	f, err := s.box.Folder(name)
	if err != nil {
		return nil, s.reply(err)
	}
	snap := f.Snapshot()
	s.view = &view{folder: f, readOnly: options.ReadOnly, generation: snap.Generation, messages: snap.Messages}
	data := &imap.SelectData{
		Flags:       systemFlags(),
		NumMessages: uint32(len(snap.Messages)),
		UIDNext:     imap.UID(snap.Next),
		UIDValidity: snap.Validity,
	}
	if !options.ReadOnly {
		data.PermanentFlags = systemFlags()
	}
	unseen := slices.IndexFunc(snap.Messages, func(m *store.Message) bool { return m.Flags&maildir.Seen == 0 })
	data.FirstUnseenSeqNum = uint32(unseen + 1)
	return data, nil
}

// Unselect implements imapserver.Session.
func (s *session) Unselect() error {
	s.view = nil
	return nil
}

// Append implements imapserver.Session.
func (s *session) Append(name string, r imap.LiteralReader, options *imap.AppendOptions) (*imap.AppendData, error) {
	f, err := s.box.Folder(name)
	if errors.Is(err, store.ErrNoFolder) {
		return nil, errTryCreate
	}
	if err != nil {
		return nil, s.reply(err)
	}
	body, err := spool.Fill("", r)
	if err != nil {
		return nil, s.reply(err)
	}
	defer body.Close()
	// to the library a body that the connection's end cuts off looks like a whole one, and it would store a message with
	// bytes behind it, and not answer
	if ok, err := s.guard.lineEnds(); err != nil || !ok {
		return nil, errors.Join(err, s.conn.Bye("APPEND takes one message and nothing behind it"))
	}
	place, err := f.Append(store.Incoming{Body: body.Reader(), Size: r.Size(), Flags: fromIMAP(options.Flags), Date: options.Time})
	if err != nil {
		return nil, s.reply(err)
	}
	return &imap.AppendData{UIDValidity: place.Validity, UID: imap.UID(place.UID)}, nil
}

// Poll implements imapserver.Session.
func (s *session) Poll(w *imapserver.UpdateWriter, allowExpunge bool) error {
	if s.view == nil {
		return nil
	}
	snap := s.view.folder.Snapshot()
	if snap.Generation == s.view.generation {
		return nil
	}
	next, c := diff(s.view.messages, snap.Messages, allowExpunge)
	s.view.messages = next
	// while expunged messages are kept back the view is not up to date
	if allowExpunge {
		s.view.generation = snap.Generation
	}
	for _, n := range c.expunge {
		if err := w.WriteExpunge(n); err != nil {
			return err
		}
	}
	if c.exists {
		if err := w.WriteNumMessages(uint32(len(next))); err != nil {
			return err
		}
	}
	for _, i := range c.flags {
		if err := w.WriteMessageFlags(uint32(i)+1, imap.UID(next[i].UID), toIMAP(next[i].Flags)); err != nil {
			return err
		}
	}
	return nil
}

// Idle implements imapserver.Session.
func (s *session) Idle(w *imapserver.UpdateWriter, stop <-chan struct{}) error {
	if s.view == nil {
		<-stop
		return nil
	}
	for {
		if err := s.Poll(w, true); err != nil {
			return err
		}
		select {
		case <-s.view.folder.Changed(s.view.generation):
		case <-stop:
			return nil
		}
	}
}
