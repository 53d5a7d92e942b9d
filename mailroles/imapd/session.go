package imapd

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapserver"
	"github.com/emersion/go-sasl"

	"anycastle/mailroles/directory"
	"anycastle/mailroles/maildir"
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

// answers are those to errors of the store that a client can understand.
var answers = []struct {
	err    error
	answer *imap.Error
}{
	{store.ErrNoFolder, errNoFolder},
	{store.ErrExists, no(imap.ResponseCodeAlreadyExists, "Folder exists")},
	{store.ErrInbox, no(imap.ResponseCodeCannot, "INBOX cannot be deleted")},
	{maildir.ErrFolderName, no(imap.ResponseCodeCannot, "No name for a folder")},
	{store.ErrQuota, no(imap.ResponseCodeOverQuota, "Mailbox has no room")},
	{store.ErrKeywords, no(imap.ResponseCodeLimit, fmt.Sprintf("A folder has at most %d keywords", maildir.MaxKeywords))},
	{maildir.ErrKeywordName, no(imap.ResponseCodeCannot, "No name for a keyword")},
}

// reply makes an answer of a store's error. Others are logged, and the client only learns that it may try again.
func (s *session) reply(err error) error {
	if err == nil {
		return nil
	}
	if ready, ok := errors.AsType[*imap.Error](err); ok {
		return ready
	}
	for _, a := range answers {
		if errors.Is(err, a.err) {
			return a.answer
		}
	}
	if passing := s.passing(err); passing != nil {
		s.server.opt.Log.Warn("replica cannot do it", "user", s.guard.who(), "err", err)
		return passing
	}
	s.server.opt.Log.Error("mailbox operation", "user", s.guard.who(), "err", err)
	return no(imap.ResponseCodeUnavailable, "Could not be done, try again later")
}

// rev2 reports whether the client has asked for IMAP4rev2, which has no \Recent.
func (s *session) rev2() bool { return s.conn.EnabledCaps().Has(imap.CapIMAP4rev2) }

// Close implements imapserver.Session.
func (s *session) Close() error {
	s.server.leave(s.guard)
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
	return sasl.NewExternalServer(s.open), nil
}

// open gives the session its mailbox.
func (s *session) open(user string) error {
	opt := &s.server.opt
	if s.server.held() {
		return errMoving
	}
	m, err := opt.Directory.Mailbox(s.server.ctx, user)
	if errors.Is(err, directory.ErrUnknown) || err == nil && m.LUN != opt.LUN {
		opt.Tally.Reject("unknown-mailbox")
		return imapserver.ErrAuthFailed
	}
	if err != nil {
		return s.reply(err)
	}
	if s.box, err = opt.Mail.Mailbox(m.Address); err != nil {
		return s.reply(err)
	}
	s.box.SetLimit(store.Limit{Bytes: m.Quota.Bytes, Messages: m.Quota.Messages})
	s.guard.welcome(m.Address, s.server.caps)
	if s.server.held() { // since it was looked for
		s.server.hold(s.guard)
	}
	opt.Tally.Done()
	return nil
}

// AppendLimit implements imapserver.SessionAppendLimit.
func (s *session) AppendLimit() uint32 { return s.server.appendLimit() }

// Namespace implements imapserver.SessionNamespace.
func (s *session) Namespace() (*imap.NamespaceData, error) {
	return &imap.NamespaceData{Personal: []imap.NamespaceDescriptor{{Delim: maildir.Delim}}}, nil
}

// Select implements imapserver.Session.
func (s *session) Select(name string, options *imap.SelectOptions) (*imap.SelectData, error) {
	if from := s.guard.attach; from != nil {
		s.guard.failed = s.restore(from.Folder)
		return &imap.SelectData{}, s.guard.failed
	}
	f, err := s.box.Folder(name)
	if err != nil {
		return nil, s.reply(err)
	}
	snap := f.Snapshot()
	s.view = &view{
		folder: f, readOnly: options.ReadOnly, generation: snap.Generation,
		messages: snap.Messages, shared: true, keywords: snap.Keywords,
	}
	s.view.claim()
	data := &imap.SelectData{
		Flags:       folderFlags(snap.Keywords),
		NumMessages: uint32(len(snap.Messages)),
		NumRecent:   s.view.numRecent(),
		UIDNext:     imap.UID(snap.Next),
		UIDValidity: snap.Validity,
	}
	if !options.ReadOnly {
		data.PermanentFlags = permanentFlags(snap.Keywords)
	}
	unseen := slices.IndexFunc(snap.Messages, func(m *store.Message) bool { return m.Flags&maildir.Seen == 0 })
	data.FirstUnseenSeqNum = uint32(unseen + 1)
	if s.rev2() { // RFC 9051 section 6.3.2
		data.List = &imap.ListData{Mailbox: name, Delim: maildir.Delim}
	}
	return data, nil
}

// Unselect implements imapserver.Session.
func (s *session) Unselect() error {
	s.view = nil
	return nil
}

// Poll implements imapserver.Session.
func (s *session) Poll(w *imapserver.UpdateWriter, allowExpunge bool) error {
	if s.view == nil {
		return nil
	}
	c := s.view.update(allowExpunge)
	for _, n := range c.expunge {
		if err := w.WriteExpunge(n); err != nil {
			return err
		}
	}
	if c.added > 0 {
		if err := w.WriteNumMessages(uint32(len(s.view.messages))); err != nil {
			return err
		}
		if err := w.WriteNumRecent(s.view.numRecent()); err != nil {
			return err
		}
	}
	news := c.flags
	for i := len(s.view.messages) - c.added; i < len(s.view.messages); i++ {
		news = append(news, i)
	}
	s.tellKeywords(news)
	for _, i := range c.flags {
		m := s.view.messages[i]
		if err := w.WriteMessageFlags(uint32(i)+1, imap.UID(m.UID), s.flags(m)); err != nil {
			return err
		}
	}
	return nil
}

// flags gives a message's flags for the client.
func (s *session) flags(m *store.Message) []imap.Flag {
	list := toIMAP(m.Marks)
	if s.view.isRecent(m.UID) && !s.rev2() {
		list = append(list, recentFlag)
	}
	return list
}

// tellKeywords tells the client of keywords that are new to it, before it sees them with some messages.
func (s *session) tellKeywords(indexes []int) {
	for _, i := range indexes {
		for _, k := range s.view.messages[i].Keywords {
			if slices.Contains(s.view.keywords, k) {
				continue
			}
			s.view.keywords = s.view.folder.Snapshot().Keywords
			s.guard.say("* FLAGS %s", flagList(folderFlags(s.view.keywords)))
			if !s.view.readOnly {
				s.guard.say("* OK [PERMANENTFLAGS %s] Flags have changed", flagList(permanentFlags(s.view.keywords)))
			}
			return
		}
	}
}

// Idle implements imapserver.Session. Whatever hinders it ends the session, as the library would only hear of it when the
// client is done.
func (s *session) Idle(w *imapserver.UpdateWriter, stop <-chan struct{}) error {
	tick := time.NewTicker(s.server.keepAlive)
	defer tick.Stop()
	for {
		var changed <-chan struct{}
		err := s.Poll(w, true)
		if s.view != nil {
			changed = s.view.folder.Changed(s.view.generation)
		}
		if err == nil {
			err = s.guard.flush()
		}
		if err != nil {
			s.guard.end("Nothing more can be told")
			return err
		}
		select {
		case <-changed:
		case <-tick.C:
			s.guard.say("* OK Still here")
		case <-stop:
			return nil
		}
	}
}

// capabilities are those after login. The library keeps a list of its own, which lacks what the guard does, and has what
// the guard has made wider.
func capabilities(appendLimit uint32) string {
	return strings.Join([]string{
		"IMAP4rev1", "IMAP4rev2", "LITERAL+", "SASL-IR", "ID", "ENABLE", "IDLE", "NAMESPACE", "UIDPLUS", "MOVE", "UNSELECT",
		"CHILDREN", "SPECIAL-USE", "LIST-EXTENDED", "LIST-STATUS", "STATUS=SIZE", "ESEARCH", "SEARCHRES", "BINARY",
		fmt.Sprintf("APPENDLIMIT=%d", appendLimit),
	}, " ")
}
