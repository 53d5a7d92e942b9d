package store

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	"anycastle/mailroles/maildir"
)

// contents is what a folder holds.
type contents struct {
	guid, name     string
	validity, next uint32
	keywords       []string   // by letter; an empty string is a free letter
	messages       []*Message // by UID
	changed        uint64     // index of the last operation that changed it
	shared         bool       // messages are in the hands of others: do not change them in place
}

// state is what a mailbox holds. Operations turn one state into the next, and depend on nothing else.
type state struct {
	changed    uint64               // index of the last operation
	counter    uint32               // highest UIDVALIDITY that was ever given
	folders    map[string]*contents // by GUID
	subscribed []string
	recent     recents
	usage      Usage
	odd        []oddity
}

// oddity is what an operation asked for and could not be.
type oddity struct{ folder, text string }

// outcome is what an operation did to messages.
type outcome struct {
	folder, to *contents
	put        []*Message // new, or in place of was; in to when that is set, else in folder
	was        []*Message // parallel to put: what each was before, or nil
	gone       []*Message // no longer in folder
}

func newState() *state {
	return &state{folders: map[string]*contents{}, recent: recents{at: map[string]recent{}}}
}

// apply does an operation. The state may be ahead of it, when what the operation did, or part of it, has been read from
// the disk: doing all operations again from some index on leads to the same state.
func (st *state) apply(index uint64, o *op) outcome {
	out := outcome{folder: st.folders[o.Folder], to: st.folders[o.To]}
	st.changed = index
	target := out.folder
	if o.To != "" {
		target = out.to
	}
	switch o.Kind {
	case opCreate:
		st.create(o)
		out.folder = st.folders[o.Folder]
	case opRename:
		for _, r := range o.Renames {
			if c := st.folders[r.Folder]; c != nil {
				c.name = r.Name
			}
		}
	case opDelete:
		if c := out.folder; c != nil {
			out.gone = c.messages
			st.left(c.messages)
			delete(st.folders, c.guid)
		}
		// the folder was gone from the disk already: no wonder that it was not found
		st.odd = slices.DeleteFunc(st.odd, func(x oddity) bool { return x.folder == o.Folder })
	case opSubscribe:
		st.subscribed = slices.DeleteFunc(slices.Clone(st.subscribed), func(n string) bool { return n == o.Name })
		if !o.Off {
			st.subscribed = append(st.subscribed, o.Name)
		}
	default:
		if target == nil {
			text := fmt.Sprintf("operation %d: %s in a folder that there is not", index, o.Kind)
			st.odd = append(st.odd, oddity{cmp.Or(o.To, o.Folder), text})
			if at, tx, ok := o.delivery(); ok {
				st.recent.add(tx, at)
				st.recent.lose(tx)
			}
		} else {
			st.arrive(index, target, o, &out)
		}
		if out.folder != nil {
			st.mark(index, out.folder, o, &out)
			st.leave(out.folder, o, &out)
		}
	}
	for _, c := range []*contents{out.folder, out.to} {
		if c != nil {
			c.changed = index
		}
	}
	return out
}

func (st *state) create(o *op) {
	st.counter = max(st.counter, o.Validity)
	if c := st.folders[o.Folder]; c != nil {
		c.name, c.next = o.Name, max(c.next, o.Next)
		return
	}
	st.folders[o.Folder] = &contents{guid: o.Folder, name: o.Name, validity: o.Validity, next: max(o.Next, 1)}
}

func (st *state) arrive(index uint64, c *contents, o *op, out *outcome) {
	for _, a := range o.Arrivals {
		c.know(a.Keywords)
		m := &Message{
			UID: a.UID, Size: a.Size, Wide: a.Wide, Date: time.Unix(a.Date, 0), base: a.Base, Modseq: index, Sum: a.Sum,
			Marks: c.tidy(Marks{Flags: a.Flags, Keywords: a.Keywords}),
		}
		c.next = max(c.next, a.UID+1)
		if at, tx, ok := maildir.Delivered(a.Base); ok && o.Kind == opDeliver {
			st.recent.add(tx, at.Unix())
			st.recent.tell(tx, a.Sum)
		}
		i, there := c.find(a.UID)
		if !there {
			if i < len(c.messages) {
				c.own()
			}
			c.messages = slices.Insert(c.messages, i, m)
			st.usage.Bytes += m.Size
			st.usage.Messages++
			out.put, out.was = append(out.put, m), append(out.was, nil)
			continue
		}
		old := c.messages[i]
		if old.base != m.base {
			st.odd = append(st.odd, oddity{c.guid, fmt.Sprintf("UID %d of %s is given to %s and to %s", m.UID, c.name, old.base, m.base)})
			continue
		}
		st.usage.Bytes += m.Size - old.Size
		c.replace(i, m, out)
	}
}

func (st *state) mark(index uint64, c *contents, o *op, out *outcome) {
	for _, k := range o.Markings {
		c.know(k.Keywords)
		marks := c.tidy(Marks{Flags: k.Flags, Keywords: k.Keywords})
		for _, uid := range k.UIDs {
			if i, ok := c.find(uid); ok {
				m := *c.messages[i]
				m.Marks, m.Modseq = marks, index
				c.replace(i, &m, out)
			}
		}
	}
}

func (st *state) leave(c *contents, o *op, out *outcome) {
	if len(o.Gone) == 0 {
		return
	}
	going := map[uint32]bool{}
	for _, e := range o.Gone {
		if _, ok := c.find(e.UID); ok {
			going[e.UID] = true
		}
	}
	if len(going) == 0 {
		return
	}
	c.own()
	c.messages = slices.DeleteFunc(c.messages, func(m *Message) bool {
		if going[m.UID] {
			out.gone = append(out.gone, m)
		}
		return going[m.UID]
	})
	st.left(out.gone)
}

// left counts messages out.
func (st *state) left(list []*Message) {
	for _, m := range list {
		st.usage.Bytes -= m.Size
		st.usage.Messages--
		if _, tx, ok := maildir.Delivered(m.base); ok {
			st.recent.lose(tx)
		}
	}
}

// sorted gives the folders in the order of their GUIDs.
func (st *state) sorted() []*contents {
	var list []*contents
	for _, guid := range slices.Sorted(maps.Keys(st.folders)) {
		list = append(list, st.folders[guid])
	}
	return list
}

func (c *contents) find(uid uint32) (int, bool) {
	n := len(c.messages)
	if n == 0 || c.messages[n-1].UID < uid { // most come at the end
		return n, false
	}
	return slices.BinarySearchFunc(c.messages, uid, func(m *Message, uid uint32) int { return int(int64(m.UID) - int64(uid)) })
}

// own makes the list of messages ours alone, so that it can be changed in place. Appending to it does not need that.
func (c *contents) own() {
	if c.shared {
		c.messages = slices.Clone(c.messages)
		c.shared = false
	}
}

func (c *contents) replace(i int, m *Message, out *outcome) {
	c.own()
	old := c.messages[i]
	m.file = old.file
	c.messages[i] = m
	out.put, out.was = append(out.put, m), append(out.was, old)
}
