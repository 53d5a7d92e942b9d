package store

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"anycastle/mailroles/maildir"
)

// RestoreOrder says what is to be put back. Messages that are still in the mailbox are left alone.
type RestoreOrder struct {
	LUN     string `json:"lun"`
	Mailbox string `json:"mailbox"`
	Folder  string `json:"folder,omitempty"` // as it was called then; empty: all
	UID     uint32 `json:"uid,omitempty"`    // only that message of the folder
	ID      string `json:"id,omitempty"`     // only messages of that Message-ID
	Point
	AsNew    bool   `json:"as_new,omitempty"`   // with new UIDs, at the end of the folder
	Into     string `json:"into,omitempty"`     // with new UIDs, in that folder, whatever is elsewhere
	Undelete bool   `json:"undelete,omitempty"` // without \Deleted, which the restore point may have
	By       string `json:"by,omitempty"`       // who orders it, for the log
}

// check refuses what cannot be done, and spells folders as they are spelled.
func (o *RestoreOrder) check() error {
	if !plainName(o.Mailbox) {
		return errors.New("say which mailbox")
	}
	if o.UID > 0 && o.Folder == "" {
		return errors.New("a UID says nothing without its folder")
	}
	for _, name := range []*string{&o.Folder, &o.Into} {
		if *name == "" {
			continue
		}
		*name = maildir.CleanFolder(*name)
		if _, err := maildir.FolderDir(*name); err != nil {
			return err
		}
	}
	return o.Point.check()
}

// RestorePlan is what a restore would do.
type RestorePlan struct {
	Snapshot string           `json:"snapshot,omitempty"` // that it begins with
	Index    uint64           `json:"index"`              // last operation that counts
	Folders  []RestoreFolder  `json:"folders"`            // those that come back
	Messages []RestoreMessage `json:"messages"`
	Bytes    int64            `json:"bytes"`
	There    int              `json:"there"`   // messages that are where they were, and are left alone
	Moved    int              `json:"moved"`   // and those that are in another place of the mailbox
	Lacking  int              `json:"lacking"` // of Messages, those whose bodies other replicas must have
	Notes    []string         `json:"notes"`
}

// RestoreFolder is a folder that comes back.
type RestoreFolder struct {
	Name     string `json:"name"`
	Was      string `json:"was"`
	GUID     string `json:"guid,omitempty"`     // its own; empty: it gets a new one
	Validity uint32 `json:"validity,omitempty"` // its own
}

// RestoreMessage is a message that comes back.
type RestoreMessage struct {
	Folder   string        `json:"folder"`
	UID      uint32        `json:"uid,omitempty"` // 0: it gets a new one
	WasIn    string        `json:"was_in"`
	WasUID   uint32        `json:"was_uid"`
	Date     time.Time     `json:"date"`
	Size     int64         `json:"size"`
	Flags    maildir.Flags `json:"-"`
	Marks    string        `json:"marks"`
	Subject  string        `json:"subject"`
	Body     string        `json:"body"` // where that is: expunged, snapshot, mailbox, or other replica
	Checksum string        `json:"checksum,omitempty"`
}

// comeback is a folder that messages come back into.
type comeback struct {
	guid string // empty: that which has the name, or a new one of it
	name string
	make *op // that brings a deleted folder back; nil when it is there, or is to be made anew
	list []returning
}

// returning is a message that comes back.
type returning struct {
	*Message
	was  *contents
	keep bool // with its UID
}

// restoration is a restore as it is planned.
type restoration struct {
	order     RestoreOrder
	was       *past
	now       *captured
	comebacks []*comeback
	there     int
	moved     int
	notes     []string

	byGUID  map[string]*contents
	byName  map[string]*contents
	extra   map[likeness]int // messages of now that the restore point does not have
	deleted func(guid string) (deletedFolder, bool)
	wanted  func(*contents, *Message) bool // asked about messages that are gone
}

// likeness is by what a message is known that has moved: it keeps its body and its date.
type likeness struct {
	sum  string
	date int64
}

func likenessOf(m *Message) likeness { return likeness{m.Sum, m.Date.Unix()} }

// plan compares what was with what is, and decides what comes back. It changes nothing.
func (r *restoration) plan() error {
	r.look()
	var folders []*contents
	for _, c := range r.was.state.folders {
		if r.order.Folder == "" || r.order.Folder == c.name {
			folders = append(folders, c)
		}
	}
	if len(folders) == 0 && r.order.Folder != "" {
		return fmt.Errorf("%w: %s, at operation %d", ErrNoFolder, r.order.Folder, r.was.index)
	}
	slices.SortFunc(folders, func(a, b *contents) int { return strings.Compare(a.name, b.name) })
	for _, c := range folders {
		list := c.messages
		if r.order.UID > 0 {
			i, ok := c.find(r.order.UID)
			if !ok {
				return fmt.Errorf("%w: UID %d of %s, at operation %d", ErrNoMessage, r.order.UID, c.name, r.was.index)
			}
			list = list[i : i+1]
		}
		r.folder(c, list)
	}
	if r.order.ID == "" {
		return nil
	}
	r.there = 0 // none of those was looked at
	if r.found() == 0 && !r.stillThere(folders) {
		return fmt.Errorf("%w: none with Message-ID %s, at operation %d", ErrNoMessage, r.order.ID, r.was.index)
	}
	return nil
}

// stillThere looks for a message of the wanted Message-ID among those that are still there.
func (r *restoration) stillThere(folders []*contents) bool {
	for _, c := range folders {
		now := r.byGUID[c.guid]
		for _, m := range c.messages {
			if now != nil && now.has(m) && r.wanted(c, m) {
				r.there = 1
				return true
			}
		}
	}
	return false
}

func (r *restoration) found() (n int) {
	for _, b := range r.comebacks {
		n += len(b.list)
	}
	return n + r.moved
}

// look learns what there is now.
func (r *restoration) look() {
	r.byGUID, r.byName, r.extra = map[string]*contents{}, map[string]*contents{}, map[likeness]int{}
	for _, c := range r.now.folders {
		r.byGUID[c.guid], r.byName[c.name] = c, c
		was := r.was.state.folders[c.guid]
		for _, m := range c.messages {
			if r.order.Into != "" && r.order.Into != c.name {
				continue
			}
			if r.order.Into == "" && was != nil && was.has(m) || m.Sum == "" {
				continue
			}
			r.extra[likenessOf(m)]++
		}
	}
}

// has tells whether a folder has a message, under its UID. What came back has another name than it had.
func (c *contents) has(m *Message) bool {
	i, ok := c.find(m.UID)
	if !ok {
		return false
	}
	is := c.messages[i]
	return is.base == m.base || is.Size == m.Size && is.Date.Equal(m.Date) && (is.Sum == m.Sum || m.Sum == "" || is.Sum == "")
}

// folder decides about the messages of one folder.
func (r *restoration) folder(c *contents, list []*Message) {
	now := r.byGUID[c.guid]
	to, keep := r.target(c)
	for _, m := range list {
		if r.order.Into == "" && now != nil && now.has(m) {
			r.there++
			continue
		}
		like := likenessOf(m)
		if m.Sum != "" && r.extra[like] > 0 {
			if r.order.ID != "" && !r.wanted(c, m) {
				continue
			}
			r.extra[like]--
			r.moved++
			continue
		}
		if r.order.ID != "" && !r.wanted(c, m) {
			continue
		}
		ret := returning{Message: m, was: c, keep: keep}
		if keep && now != nil {
			if _, taken := now.find(m.UID); taken {
				ret.keep = false
				r.note("UID %d of %s is another message's now", m.UID, now.name)
			}
		}
		to.list = append(to.list, ret)
	}
	whole := r.order.UID == 0 && r.order.ID == "" && r.order.Into == ""
	if len(to.list) > 0 || to.make != nil && whole {
		if !slices.Contains(r.comebacks, to) {
			r.comebacks = append(r.comebacks, to)
		}
		if to.make != nil {
			r.byName[to.name] = c // the name is taken
		}
	}
}

func (r *restoration) note(format string, args ...any) {
	r.notes = append(r.notes, fmt.Sprintf(format, args...))
}

// target finds the folder that the messages of one go to, and tells whether they keep their UIDs there.
func (r *restoration) target(c *contents) (to *comeback, keep bool) {
	if r.order.Into != "" {
		for _, b := range r.comebacks { // all go to the same
			return b, false
		}
		return &comeback{name: r.order.Into}, false
	}
	if now := r.byGUID[c.guid]; now != nil {
		if now.validity != c.validity && !r.order.AsNew {
			r.note("%s has another UIDVALIDITY than it had: its messages get new UIDs", now.name)
		}
		return &comeback{guid: now.guid, name: now.name}, now.validity == c.validity && !r.order.AsNew
	}
	if c.name == maildir.Inbox || r.order.AsNew {
		return &comeback{name: c.name}, false
	}
	d, ok := r.deleted(c.guid)
	if !ok || d.Validity != c.validity {
		r.note("%s was deleted, and nobody knows which UIDs it had given by then: its messages get new ones", c.name)
		return &comeback{name: c.name}, false
	}
	name := r.freeName(c.name)
	if name != c.name {
		r.note("%s was deleted, and there is another of its name: it comes back as %s", c.name, name)
	}
	return &comeback{guid: c.guid, name: name, make: &op{
		Kind: opCreate, Folder: c.guid, Name: name, Validity: c.validity, Next: max(c.next, d.Next),
	}}, true
}

// freeName gives a name that no folder has.
func (r *restoration) freeName(name string) string {
	try := name
	for n := 1; r.byName[try] != nil; n++ {
		try = fmt.Sprintf("%s restored", name)
		if n > 1 {
			try += fmt.Sprintf(" %d", n)
		}
	}
	return try
}

// marks gives what a message that comes back has of flags and keywords.
func (r *restoration) marks(m *Message) Marks {
	k := m.Marks
	if r.order.Undelete {
		k.Flags &^= maildir.Deleted
	}
	return k
}

// summary tells what is planned.
func (r *restoration) summary() RestorePlan {
	p := RestorePlan{
		Snapshot: r.was.snapshot.ID, Index: r.was.index, There: r.there, Moved: r.moved,
		Folders: []RestoreFolder{}, Messages: []RestoreMessage{}, Notes: append([]string{}, r.notes...),
	}
	for _, b := range r.comebacks {
		switch {
		case b.make != nil:
			p.Folders = append(p.Folders, RestoreFolder{Name: b.name, Was: r.was.state.folders[b.guid].name, GUID: b.guid, Validity: b.make.Validity})
		case b.guid == "" && r.byName[b.name] == nil:
			p.Folders = append(p.Folders, RestoreFolder{Name: b.name, Was: b.name})
		}
		for _, m := range b.list {
			k := r.marks(m.Message)
			msg := RestoreMessage{
				Folder: b.name, WasIn: m.was.name, WasUID: m.UID, Date: m.Date, Size: m.Size, Flags: k.Flags, Checksum: m.Sum,
				Marks: cmp.Or(strings.TrimSpace(k.Flags.String()+" "+strings.Join(k.Keywords, " ")), "-"),
			}
			if m.keep {
				msg.UID = m.UID
			}
			p.Messages = append(p.Messages, msg)
			p.Bytes += m.Size
		}
	}
	return p
}
