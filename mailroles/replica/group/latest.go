package group

import "github.com/hashicorp/raft"

// Latest gives the index and the term of the last entry of the log here. Of two logs the one whose last entry has the newer term
// has all that was committed, and if they are of the same term the longer one.
func (g *Group) Latest() (index, term uint64, err error) {
	index = g.journal.last.Load()
	if n := g.marker.note(); index <= n.Index {
		return n.Index, n.Term, nil
	}
	var l raft.Log
	if err := g.journal.entry(index, &l); err != nil {
		return index, 0, err
	}
	return index, l.Term, nil
}
