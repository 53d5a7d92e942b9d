package imapd

import (
	"slices"

	"github.com/emersion/go-imap/v2"

	"anycastle/mailroles/maildir"
	"anycastle/mailroles/store"
)

// view is a selected folder as the client knows it.
type view struct {
	folder     *store.Folder
	readOnly   bool
	generation uint64
	messages   []*store.Message // by sequence number, less one
}

// change is what a client must be told to come from one list of messages to another, in this order.
type change struct {
	flags   []int    // indexes into the new list of messages whose flags differ
	expunge []uint32 // sequence numbers, each counted after the ones before it are gone
	exists  bool     // the new list is longer than what is left of the old one
}

// diff compares what the client knows with what there is. Unless expunge is set, messages that are gone stay in the
// list. Both lists are in the order of UIDs, and a UID is never used again.
func diff(known, now []*store.Message, expunge bool) (next []*store.Message, c change) {
	i := 0
	for _, old := range known {
		for i < len(now) && now[i].UID < old.UID {
			i++ // cannot be: a message that came later has a higher UID
		}
		switch {
		case i < len(now) && now[i].UID == old.UID:
			if !now[i].Marks.Equal(old.Marks) {
				c.flags = append(c.flags, len(next))
			}
			next = append(next, now[i])
			i++
		case expunge:
			c.expunge = append(c.expunge, uint32(len(next))+1)
		default:
			next = append(next, old)
		}
	}
	c.exists = i < len(now)
	return append(next, now[i:]...), c
}

// numbers gives the indexes of the messages that a client's set names. SEARCHRES is not offered.
func (v *view) numbers(set imap.NumSet) []int {
	var indexes []int
	switch set := set.(type) {
	case imap.SeqSet:
		set = slices.Clone(set)
		for i := range set {
			settle(&set[i].Start, &set[i].Stop, uint32(len(v.messages)))
		}
		for i := range v.messages {
			if set.Contains(uint32(i) + 1) {
				indexes = append(indexes, i)
			}
		}
	case imap.UIDSet:
		last := imap.UID(0)
		if n := len(v.messages); n > 0 {
			last = imap.UID(v.messages[n-1].UID)
		}
		set = slices.Clone(set)
		for i := range set {
			settle(&set[i].Start, &set[i].Stop, last)
		}
		for i, m := range v.messages {
			if set.Contains(imap.UID(m.UID)) {
				indexes = append(indexes, i)
			}
		}
	}
	return indexes
}

// settle gives "*" its value, the highest number in use (RFC 3501 section 9, seq-range).
func settle[N imap.UID | uint32](start, stop *N, last N) {
	dynamic := *start == 0 || *stop == 0
	if *start == 0 {
		*start = last
	}
	if *stop == 0 {
		*stop = last
	}
	if dynamic && *start > *stop {
		*start, *stop = *stop, *start
	}
}

func (v *view) uids(set imap.NumSet) []uint32 {
	var uids []uint32
	for _, i := range v.numbers(set) {
		uids = append(uids, v.messages[i].UID)
	}
	return uids
}

// flagTable pairs IMAP's system flags with Maildir's letters.
var flagTable = []struct {
	flag   imap.Flag
	letter maildir.Flags
}{
	{imap.FlagAnswered, maildir.Answered},
	{imap.FlagFlagged, maildir.Flagged},
	{imap.FlagDeleted, maildir.Deleted},
	{imap.FlagSeen, maildir.Seen},
	{imap.FlagDraft, maildir.Draft},
}

func systemFlags() []imap.Flag {
	var list []imap.Flag
	for _, e := range flagTable {
		list = append(list, e.flag)
	}
	return list
}

func toIMAP(f maildir.Flags) []imap.Flag {
	list := []imap.Flag{}
	for _, e := range flagTable {
		if f&e.letter != 0 {
			list = append(list, e.flag)
		}
	}
	return list
}

// fromIMAP passes over flags that are not permanent here, as PERMANENTFLAGS has told the client.
func fromIMAP(list []imap.Flag) maildir.Flags {
	var f maildir.Flags
	for _, flag := range list {
		for _, e := range flagTable {
			if equalFold(flag, e.flag) {
				f |= e.letter
			}
		}
	}
	return f
}
