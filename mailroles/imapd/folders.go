package imapd

import (
	"maps"
	"slices"
	"sort"
	"strings"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapserver"

	"anycastle/mailroles/maildir"
)

// Create implements imapserver.Session. Uses of folders are told by their names alone (RFC 6154 section 3).
func (s *session) Create(name string, options *imap.CreateOptions) error {
	for _, use := range options.SpecialUse {
		if !slices.ContainsFunc(uses[use], func(n string) bool { return strings.EqualFold(n, name) }) {
			return no("USEATTR", "Folder cannot have that use")
		}
	}
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

// uses are the usual names of folders that have a use, the first that exists counting.
var uses = map[imap.MailboxAttr][]string{
	imap.MailboxAttrArchive: {"Archive", "Archives"},
	imap.MailboxAttrDrafts:  {"Drafts"},
	imap.MailboxAttrJunk:    {"Junk", "Spam", "Junk E-mail", "Bulk Mail"},
	imap.MailboxAttrSent:    {"Sent", "Sent Items", "Sent Messages", "Sent Mail"},
	imap.MailboxAttrTrash:   {"Trash", "Deleted Items", "Deleted Messages"},
}

// node is a name in the tree of folders, which need not be a folder.
type node struct {
	name       string
	exists     bool
	subscribed bool
	use        imap.MailboxAttr // empty for none
}

// nodes gives all folders and subscriptions by name, and the levels above them.
func (s *session) nodes() (map[string]*node, error) {
	folders, err := s.box.Folders()
	if err != nil {
		return nil, err
	}
	subscribed, err := s.box.Subscriptions()
	if err != nil {
		return nil, err
	}
	all := map[string]*node{}
	get := func(name string) *node {
		for i, r := range name {
			if r == maildir.Delim && all[name[:i]] == nil {
				all[name[:i]] = &node{name: name[:i]}
			}
		}
		if all[name] == nil {
			all[name] = &node{name: name}
		}
		return all[name]
	}
	for _, name := range folders {
		get(name).exists = true
	}
	for _, name := range subscribed {
		get(name).subscribed = true
	}
	for use, names := range uses {
		for _, name := range names {
			i := slices.IndexFunc(folders, func(f string) bool { return strings.EqualFold(f, name) })
			if i >= 0 {
				all[folders[i]].use = use
				break
			}
		}
	}
	return all, nil
}

// listing is one LIST or LSUB.
type listing struct {
	*imap.ListOptions
	lsub  bool
	plain bool // LIST as in IMAP4rev1
	match func(name string) bool
	nodes []*node // in order of names
}

// List implements imapserver.Session, for LIST and LSUB.
func (s *session) List(w *imapserver.ListWriter, ref string, patterns []string, options *imap.ListOptions) error {
	if len(patterns) == 0 { // asks for the delimiter only
		return w.WriteList(&imap.ListData{Attrs: []imap.MailboxAttr{imap.MailboxAttrNoSelect}, Delim: maildir.Delim})
	}
	nodes, err := s.nodes()
	if err != nil {
		return s.reply(err)
	}
	l := &listing{ListOptions: options, lsub: s.guard.command.name == "LSUB"}
	l.plain = !l.lsub && *options == imap.ListOptions{} && len(patterns) == 1 && !s.rev2()
	l.match = func(name string) bool {
		return slices.ContainsFunc(patterns, func(p string) bool { return matches(name, ref, p) })
	}
	for _, name := range slices.Sorted(maps.Keys(nodes)) {
		l.nodes = append(l.nodes, nodes[name])
	}
	return s.list(w, l)
}

func (s *session) list(w *imapserver.ListWriter, l *listing) error {
	inbox := func(n *node) bool { return n.name == maildir.Inbox }
	first := slices.IndexFunc(l.nodes, inbox)
	for _, n := range slices.Concat(l.nodes[first:first+1], slices.DeleteFunc(slices.Clone(l.nodes), inbox)) {
		data := l.data(n)
		if data == nil {
			continue
		}
		if l.ReturnStatus != nil && n.exists {
			status, err := s.Status(n.name, l.ReturnStatus)
			if err != nil {
				continue // deleted meanwhile
			}
			data.Status = status
		}
		if err := w.WriteList(data); err != nil {
			return err
		}
	}
	return nil
}

// data gives what is told of a name; nil when nothing is.
func (l *listing) data(n *node) *imap.ListData {
	if !l.match(n.name) {
		return nil
	}
	// levels above what was asked for are told of unless that is told of itself (RFC 5258 section 3.5)
	above := l.below(n, func(n *node) bool { return l.selects(n) && !l.match(n.name) })
	data := &imap.ListData{Mailbox: n.name, Delim: maildir.Delim}
	if !l.selects(n) {
		shown := l.lsub || l.plain || !l.SelectSubscribed && !l.SelectSpecialUse || l.SelectRecursiveMatch
		hidden := l.below(n, func(n *node) bool { return l.selects(n) && l.match(n.name) }) && !l.SelectRecursiveMatch
		if !above || !shown || hidden {
			return nil
		}
	}
	if l.SelectRecursiveMatch && above {
		data.ChildInfo = &imap.ListDataChildInfo{Subscribed: true}
	}
	data.Attrs = l.attributes(n)
	return data
}

// selects reports whether a name is asked for, whatever the patterns.
func (l *listing) selects(n *node) bool {
	if l.SelectSpecialUse && n.use == "" {
		return false
	}
	if l.SelectSubscribed {
		return n.subscribed
	}
	return n.exists
}

// below reports whether a name below another is so.
func (l *listing) below(n *node, is func(*node) bool) bool {
	prefix := n.name + string(maildir.Delim)
	i := sort.Search(len(l.nodes), func(i int) bool { return l.nodes[i].name >= prefix })
	for ; i < len(l.nodes) && strings.HasPrefix(l.nodes[i].name, prefix); i++ {
		if is(l.nodes[i]) {
			return true
		}
	}
	return false
}

func (l *listing) attributes(n *node) []imap.MailboxAttr {
	var list []imap.MailboxAttr
	switch {
	case l.lsub && !n.subscribed, l.plain && !n.exists:
		list = append(list, imap.MailboxAttrNoSelect)
	case !n.exists && !l.lsub:
		list = append(list, imap.MailboxAttrNonExistent)
	}
	if l.lsub {
		return list
	}
	children := imap.MailboxAttrHasNoChildren
	if l.below(n, func(n *node) bool { return n.exists }) {
		children = imap.MailboxAttrHasChildren
	}
	list = append(list, children)
	if n.subscribed && (l.SelectSubscribed || l.ReturnSubscribed) {
		list = append(list, imap.MailboxAttrSubscribed)
	}
	if n.use != "" {
		list = append(list, n.use)
	}
	return list
}

// matches compares a folder with a LIST pattern; INBOX matches in any case.
func matches(name, ref, pattern string) bool {
	if name == maildir.Inbox && strings.EqualFold(ref+pattern, maildir.Inbox) {
		return true
	}
	return imapserver.MatchList(name, maildir.Delim, ref, pattern)
}

// Status implements imapserver.Session.
func (s *session) Status(name string, _ *imap.StatusOptions) (*imap.StatusData, error) {
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
