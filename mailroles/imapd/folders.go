package imapd

import (
	"slices"
	"strings"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapserver"

	"anycastle/mailroles/maildir"
)

// Create implements imapserver.Session.
func (s *session) Create(name string, _ *imap.CreateOptions) error {
	return s.reply(s.box.Create(name))
}

// Delete implements imapserver.Session.
func (s *session) Delete(name string) error { return s.reply(s.box.Delete(name)) }

// Rename implements imapserver.Session.
func (s *session) Rename(from, to string, _ *imap.RenameOptions) error {
	return s.reply(s.box.Rename(from, to))
}

// Subscribe implements imapserver.Session.
func (s *session) Subscribe(name string) error { return s.reply(s.box.Subscribe(name, true)) }

// Unsubscribe implements imapserver.Session.
func (s *session) Unsubscribe(name string) error { return s.reply(s.box.Subscribe(name, false)) }

// List implements imapserver.Session, for LIST and LSUB.
func (s *session) List(w *imapserver.ListWriter, ref string, patterns []string, options *imap.ListOptions) error {
	if len(patterns) == 0 { // asks for the delimiter only
		return w.WriteList(&imap.ListData{Attrs: []imap.MailboxAttr{imap.MailboxAttrNoSelect}, Delim: maildir.Delim})
	}
	folders, err := s.box.Folders()
	if err != nil {
		return s.reply(err)
	}
	subscribed, err := s.box.Subscriptions()
	if err != nil {
		return s.reply(err)
	}
	names := folders
	if options.SelectSubscribed {
		names = subscribed
	}
	for _, name := range names {
		if !slices.ContainsFunc(patterns, func(p string) bool { return matches(name, ref, p) }) {
			continue
		}
		data := &imap.ListData{Mailbox: name, Delim: maildir.Delim, Attrs: attributes(name, folders)}
		if slices.Contains(subscribed, name) && (options.SelectSubscribed || options.ReturnSubscribed) {
			data.Attrs = append(data.Attrs, imap.MailboxAttrSubscribed)
		}
		if err := w.WriteList(data); err != nil {
			return err
		}
	}
	return nil
}

func attributes(name string, folders []string) []imap.MailboxAttr {
	if !slices.Contains(folders, name) {
		return []imap.MailboxAttr{imap.MailboxAttrNonExistent}
	}
	for _, f := range folders {
		if strings.HasPrefix(f, name+string(maildir.Delim)) {
			return []imap.MailboxAttr{imap.MailboxAttrHasChildren}
		}
	}
	return []imap.MailboxAttr{imap.MailboxAttrHasNoChildren}
}

// matches compares a folder with a LIST pattern; INBOX matches in any case.
func matches(name, ref, pattern string) bool {
	if name == maildir.Inbox && strings.EqualFold(ref+pattern, maildir.Inbox) {
		return true
	}
	return imapserver.MatchList(name, maildir.Delim, ref, pattern)
}

// Status implements imapserver.Session.
func (s *session) Status(name string, options *imap.StatusOptions) (*imap.StatusData, error) {
	f, err := s.box.Folder(name)
	if err != nil {
		return nil, s.reply(err)
	}
	snap := f.Snapshot()
	unclaimed, _ := f.Recent(false)
	var unseen, deleted, recent uint32
	var size, deletedSize int64
	for _, m := range snap.Messages {
		size += m.Size
		if m.Flags&maildir.Seen == 0 {
			unseen++
		}
		if m.Flags&maildir.Deleted != 0 {
			deleted++
			deletedSize += m.Size
		}
		if m.UID >= unclaimed {
			recent++
		}
	}
	count, limit := uint32(len(snap.Messages)), s.AppendLimit()
	return &imap.StatusData{
		Mailbox:        name,
		NumMessages:    &count,
		NumRecent:      &recent,
		UIDNext:        imap.UID(snap.Next),
		UIDValidity:    snap.Validity,
		NumUnseen:      &unseen,
		NumDeleted:     &deleted,
		Size:           &size,
		AppendLimit:    &limit,
		DeletedStorage: &deletedSize,
	}, nil
}
