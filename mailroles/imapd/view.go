package imapd

import (
	"slices"
	"sort"

	"github.com/emersion/go-imap/v2"

	"anycastle/mailroles/store"
)

// view is a selected folder as the client knows it.
type view struct {
	folder     *store.Folder
	readOnly   bool
	generation uint64           // up to which the client has been told everything
	messages   []*store.Message // by sequence number, less one
	shared     bool             // messages is the store's, and must not be changed
	keywords   []string         // of the folder, as the client has been told
	recent     []span           // UIDs that this session was the first to hear of
	saved      imap.UIDSet      // result of the last search that saved its own (RFC 5182)
	untold     []uint32         // UIDs whose flags the client may not have heard of, after a move
}

// change is what a client must be told to come from one list of messages to another, in this order.
type change struct {
	expunge []uint32 // sequence numbers, each counted after the ones before it are gone
	added   int      // how many messages the new list has behind what is left of the old one
	flags   []int    // indexes into the new list of messages whose flags differ
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
	c.added = len(now) - i
	return append(next, now[i:]...), c
}

// patch does as diff does, in place, with what changed since some generation at which the list was up to date, or was
// but for messages that were gone.
func patch(known []*store.Message, d store.Delta, expunge bool) (next []*store.Message, c change) {
	next = known
	if expunge {
		var at []int
		for _, uid := range d.Gone {
			if i, ok := find(next, uid); ok {
				c.expunge = append(c.expunge, uint32(i-len(at))+1)
				at = append(at, i)
			}
		}
		next = without(next, at)
	}
	for _, m := range d.Put {
		i, ok := find(next, m.UID)
		switch {
		case !ok && i == len(next):
			next = append(next, m)
			c.added++
		case ok:
			if !next[i].Marks.Equal(m.Marks) {
				c.flags = append(c.flags, i)
			}
			next[i] = m
		}
	}
	return next, c
}

// without removes the messages at some indexes, which are in order.
func without(list []*store.Message, at []int) []*store.Message {
	if len(at) == 0 {
		return list
	}
	kept := list[:at[0]]
	for k, i := range at {
		end := len(list)
		if k+1 < len(at) {
			end = at[k+1]
		}
		kept = append(kept, list[i+1:end]...)
	}
	clear(list[len(kept):])
	return kept
}

// update brings the view up to date. Unless expunge is set, messages that are gone stay.
func (v *view) update(expunge bool) change {
	d, ok := v.folder.Since(v.generation)
	if ok && d.Generation == v.generation && len(v.untold) == 0 {
		return change{}
	}
	var c change
	if ok {
		v.own()
		v.messages, c = patch(v.messages, d, expunge)
	} else {
		snap := v.folder.Snapshot()
		d.Generation = snap.Generation
		v.messages, c = diff(v.messages, snap.Messages, expunge)
	}
	c.flags = v.withUntold(c.flags)
	// while expunged messages are kept back the view is not up to date
	if expunge {
		v.generation = d.Generation
	}
	if c.added > 0 {
		v.claim()
	}
	return c
}

// withUntold adds to the indexes of messages whose flags are to be told those of the messages that may have changed when the
// session moved.
func (v *view) withUntold(flags []int) []int {
	if len(v.untold) == 0 {
		return flags
	}
	for _, uid := range v.untold {
		if i, ok := find(v.messages, uid); ok && !isGone(v.messages[i]) {
			flags = append(flags, i)
		}
	}
	v.untold = nil
	slices.Sort(flags)
	return slices.Compact(flags)
}

// own makes the list of messages the view's own.
func (v *view) own() {
	if v.shared {
		v.messages, v.shared = slices.Clone(v.messages), false
	}
}

// claim makes messages recent that no session has heard of. EXAMINE leaves them to others (RFC 3501 section 6.3.2).
func (v *view) claim() {
	from, next := v.folder.Recent(!v.readOnly)
	if from >= next {
		return
	}
	if n := len(v.recent); n > 0 && v.recent[n-1].stop >= from-1 {
		v.recent[n-1].stop = next - 1
		return
	}
	v.recent = append(v.recent, span{from, next - 1})
}

func (v *view) isRecent(uid uint32) bool {
	i := sort.Search(len(v.recent), func(i int) bool { return v.recent[i].stop >= uid })
	return i < len(v.recent) && v.recent[i].start <= uid
}

// numRecent counts the messages that are recent.
func (v *view) numRecent() uint32 {
	n := 0
	for _, r := range v.recent {
		n += v.above(r.stop) - v.above(r.start-1)
	}
	return uint32(n)
}
