package chaos

import (
	"fmt"
	"maps"
	"slices"
)

// Verdict is what the checker has to say. Everything but Acknowledged and Messages must be 0.
type Verdict struct {
	Acknowledged int `json:"acknowledged"` // operations
	Messages     int `json:"messages"`     // that are there in the end
	Lost         int `json:"lost"`         // acknowledged and not there, damaged, or an acknowledged flag change or expunge undone
	Doubled      int `json:"doubled"`      // there more often than a client's own retries explain
	UIDReused    int `json:"uid_reused"`   // UIDs that two bodies were seen with
	Renumbered   int `json:"renumbered"`   // messages under another UID than the acknowledged one
	Strange      int `json:"strange"`      // messages that nobody sent there
	Differing    int `json:"differing"`    // messages and folders that are not the same at two replicas

	Findings []string `json:"-"` // a line for each
}

// Good says whether nothing was found.
func (v *Verdict) Good() bool {
	return v.Lost+v.Doubled+v.UIDReused+v.Renumbered+v.Strange+v.Differing == 0
}

func (v *Verdict) find(count *int, format string, args ...any) {
	*count++
	v.Findings = append(v.Findings, fmt.Sprintf(format, args...))
}

// Check holds the replicas of each LUN against the history and against each other: the first with the history, the others with
// the first. Together they must have all mailboxes that the history speaks of, and no operation may be under way.
func (h *History) Check(luns ...[]Tree) *Verdict {
	v := &Verdict{Acknowledged: h.Ended(Acknowledged)}
	found := map[key][]Stored{}
	for _, replicas := range luns {
		for n, t := range replicas {
			for _, m := range t.messages() {
				if m.Damaged != "" {
					v.find(&v.Lost, "damaged at %s: %s %s: %s", t.Name, m.where(), m.ID, m.Damaged)
				}
				if m.ID != "" {
					h.Saw(m.Mailbox, m.Folder, m.Place, m.ID)
				}
				if n == 0 {
					k := key{m.Mailbox, m.ID}
					found[k] = append(found[k], m)
				}
			}
			if n > 0 {
				compare(v, replicas[0], t)
			}
		}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for reused := range h.reused {
		v.find(&v.UIDReused, "UID reused: %s", reused)
	}
	for k, list := range found {
		v.Messages += len(list)
		if h.messages[k] == nil {
			v.find(&v.Strange, "nobody sent %q to %s: %s", k.id, k.mailbox, list[0].where())
		}
	}
	for k, m := range h.messages {
		m.check(v, k, found[k])
	}
	slices.Sort(v.Findings)
	return v
}

// check holds what is there of a message against what may be the case.
func (m *message) check(v *Verdict, k key, found []Stored) {
	have := make(scene, 0, len(found))
	for _, f := range found {
		have = append(have, Instance{f.Folder, f.Flags})
	}
	slices.SortFunc(have, Instance.compare)
	best := distance(have, m.may[0])
	for _, w := range m.may[1:] {
		if d := distance(have, w); d.size() < best.size() {
			best = d
		}
	}
	for _, i := range best.missing {
		v.find(&v.Lost, "lost: %s %s is not in %s", k.mailbox, k.id, i.Folder)
	}
	for _, i := range best.extra {
		if m.gone[i.Folder] {
			v.find(&v.Lost, "undone: %s %s was removed from %s and is there", k.mailbox, k.id, i.Folder)
		} else {
			v.find(&v.Doubled, "doubled: %s %s is in %s once more than was asked for", k.mailbox, k.id, i.Folder)
		}
	}
	for _, c := range best.changed {
		v.find(&v.Lost, "undone: flags of %s %s in %s are %q and not %q", k.mailbox, k.id, c[0].Folder, c[0].Flags, c[1].Flags)
	}
	m.checkUIDs(v, k, found)
}

// checkUIDs looks whether a message that is once in a folder has the UID there that was acknowledged.
func (m *message) checkUIDs(v *Verdict, k key, found []Stored) {
	by := map[string][]Stored{}
	for _, f := range found {
		by[f.Folder] = append(by[f.Folder], f)
	}
	for folder, at := range m.uid {
		if list := by[folder]; len(list) == 1 && list[0].Place != at {
			v.find(&v.Renumbered, "renumbered: %s in %s has %+v and not %+v", k.id, list[0].where(), list[0].Place, at)
		}
	}
}

// apart is what parts two scenes.
type apart struct {
	missing, extra []Instance
	changed        [][2]Instance // the same folder, other flags: have, want
}

func (a apart) size() int { return len(a.missing) + len(a.extra) + len(a.changed) }

// distance compares what is there with a scene that may be.
func distance(have, want scene) (a apart) {
	have, want = slices.Clone(have), slices.Clone(want)
	pair := func(same func(x, y Instance) bool, paired func(x, y Instance)) {
		have = slices.DeleteFunc(have, func(x Instance) bool {
			i := slices.IndexFunc(want, func(y Instance) bool { return same(x, y) })
			if i < 0 {
				return false
			}
			paired(x, want[i])
			want = slices.Delete(want, i, i+1)
			return true
		})
	}
	pair(func(x, y Instance) bool { return x == y }, func(Instance, Instance) {})
	pair(func(x, y Instance) bool { return x.Folder == y.Folder }, func(x, y Instance) {
		a.changed = append(a.changed, [2]Instance{x, y})
	})
	a.missing, a.extra = want, have
	return a
}

// compare finds what is not the same at two replicas, message by message.
func compare(v *Verdict, a, b Tree) {
	for _, name := range union(a.Folders, b.Folders) {
		x, y := a.Folders[name], b.Folders[name]
		if x.Validity != y.Validity || x.Next != y.Next {
			v.find(&v.Differing, "differs: %s has UIDVALIDITY %d and UIDNEXT %d at %s, %d and %d at %s",
				name, x.Validity, x.Next, a.Name, y.Validity, y.Next, b.Name)
		}
		mine, theirs := x.byUID(), y.byUID()
		for _, uid := range union(mine, theirs) {
			if p, q := mine[uid], theirs[uid]; p != q {
				v.find(&v.Differing, "differs: %s UID %d is %s at %s and %s at %s", name, uid, p, a.Name, q, b.Name)
			}
		}
	}
}

// union gives the keys of two maps, sorted.
func union[K interface {
	FolderName | uint32
	comparable
}, V any](a, b map[K]V) []K {
	all := map[K]bool{}
	for k := range a {
		all[k] = true
	}
	for k := range b {
		all[k] = true
	}
	return slices.SortedFunc(maps.Keys(all), func(x, y K) int {
		return slices.Compare([]byte(fmt.Sprint(x)), []byte(fmt.Sprint(y)))
	})
}
