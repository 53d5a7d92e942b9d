package store

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"anycastle/mailroles/maildir"
)

// tell gives all of a state.
func tell(st *state) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d %q %+v\n", st.counter, st.subscribed, st.usage)
	for _, c := range st.sorted() {
		fmt.Fprintf(&b, "%s %s %d %d %q\n", c.guid, c.name, c.validity, c.next, c.keywords)
		for _, m := range c.messages {
			fmt.Fprintf(&b, "  %d %s %d %d %d %s %q\n", m.UID, m.base, m.Size, m.Wide, m.Date.Unix(), m.Flags, m.Keywords)
		}
	}
	for _, tx := range slices.Sorted(maps.Keys(st.recent.at)) {
		fmt.Fprintf(&b, "%s %+v\n", tx, st.recent.at[tx])
	}
	return b.String()
}

func someArrival(r *rand.Rand, uid, from uint32, n int) arrival {
	base := maildir.Base(fmt.Sprintf("%d.M1P1Q%dT%032x.host", 1700000000+n, uid, n), 3, 4)
	keywords := []string{fmt.Sprintf("k%d", r.IntN(20))}
	return arrival{UID: uid, From: from, Base: base, Size: 3, Wide: 4, Date: int64(n), Keywords: keywords}
}

// operations writes a story of its own for each seed: what a store would have logged.
func operations(seed uint64, n int) []logged {
	r := rand.New(rand.NewPCG(seed, 1))
	guid := func(i int) string { return fmt.Sprintf("%032x", i) }
	next := map[string]uint32{}
	st := newState()
	var ops []logged
	do := func(o *op) {
		o.Mailbox, o.At = user, int64(1700000000+len(ops))
		ops = append(ops, logged{uint64(len(ops)) + 1, o})
		st.apply(uint64(len(ops)), o)
	}
	folders := 0
	create := func() {
		folders++
		do(&op{Kind: opCreate, Folder: guid(folders), Name: fmt.Sprintf("F%d", folders), Validity: uint32(folders)})
		next[guid(folders)] = 1
	}
	some := func() *contents {
		list := st.sorted()
		return list[r.IntN(len(list))]
	}
	arrive := func(c *contents, from uint32) arrival {
		next[c.guid]++
		return someArrival(r, next[c.guid]-1, from, len(ops))
	}
	create()
	create()
	for len(ops) < n {
		c, to := some(), some()
		var uid uint32
		var base string
		if k := len(c.messages); k > 0 {
			m := c.messages[r.IntN(k)]
			uid, base = m.UID, m.base
		}
		switch k := r.IntN(20); {
		case k < 8:
			do(&op{Kind: opDeliver, Folder: c.guid, Arrivals: []arrival{arrive(c, 0)}})
		case k < 12 && uid > 0:
			flags := maildir.Flags(r.Uint32()).System()
			do(&op{Kind: opFlags, Folder: c.guid, Markings: []marking{{UIDs: []uint32{uid}, Flags: flags, Keywords: []string{"k1"}}}})
		case k < 14 && uid > 0:
			do(&op{Kind: opExpunge, Folder: c.guid, Gone: []maildir.UIDEntry{{UID: uid, Base: base}}})
		case k < 16 && uid > 0:
			gone := []maildir.UIDEntry{{UID: uid, Base: base}}
			do(&op{Kind: opMove, Folder: c.guid, To: to.guid, Arrivals: []arrival{arrive(to, uid)}, Gone: gone})
		case k < 17 && uid > 0:
			do(&op{Kind: opCopy, Folder: c.guid, To: to.guid, Arrivals: []arrival{arrive(to, uid)}})
		case k < 18 && len(st.folders) < 5:
			create()
		case k == 18 && len(st.folders) > 2:
			do(&op{Kind: opDelete, Folder: c.guid})
		case k == 19:
			do(&op{Kind: opRename, Renames: []renaming{{c.guid, fmt.Sprintf("R%d", len(ops))}}})
		case k == 17:
			do(&op{Kind: opSubscribe, Name: c.name, Off: r.IntN(2) == 0})
		}
	}
	return ops
}

// TestOperationsAgain does the operations from any index on once more, on a state that has all of them: it is the same
// then. So is one that has been through the records of the log.
func TestOperationsAgain(t *testing.T) {
	for seed := range uint64(20) {
		ops := operations(seed, 120)
		st := newState()
		replay(st, ops)
		want := tell(st)
		if len(st.odd) > 0 {
			t.Fatalf("seed %d: %v", seed, st.odd)
		}
		for from := range ops {
			if replay(st, ops[from:]); tell(st) != want || len(st.odd) > 0 {
				t.Fatalf("seed %d, from operation %d on once more: %v\n%s", seed, from+1, st.odd, cmp.Diff(want, tell(st)))
			}
		}
		read := newState()
		for _, l := range ops {
			record, err := l.op.encode()
			if err != nil {
				t.Fatal(err)
			}
			o, err := decodeOp(record)
			if err != nil {
				t.Fatal(err)
			}
			read.apply(l.index, o)
		}
		if diff := cmp.Diff(want, tell(read)); diff != "" {
			t.Fatalf("seed %d, by the records: %s", seed, diff)
		}
	}
}

func TestRecordsThatAreNoOperations(t *testing.T) {
	guid := strings.Repeat("0a", 16)
	for _, o := range []op{
		{},
		{Kind: "steal", Mailbox: user, Folder: guid},
		{Kind: opDelete, Mailbox: "../x", Folder: guid},
		{Kind: opDelete, Mailbox: ".oplog", Folder: guid},
		{Kind: opDelete, Mailbox: user, Folder: "../../x"},
		{Kind: opDelete, Mailbox: user},
		{Kind: opMove, Mailbox: user, Folder: guid},
		{Kind: opCreate, Mailbox: user, Folder: guid, Name: "a/b", Validity: 1},
		{Kind: opCreate, Mailbox: user, Folder: guid, Name: "Work"},
		{Kind: opRename, Mailbox: user, Renames: []renaming{{guid, "INBOX"}}},
		{Kind: opSubscribe, Mailbox: user, Name: "a..b"},
		{Kind: opDeliver, Mailbox: user, Folder: guid, Arrivals: []arrival{{UID: 1, Base: "../x"}}},
		{Kind: opDeliver, Mailbox: user, Folder: guid, Arrivals: []arrival{{UID: 1, Base: "x:2,S"}}},
		{Kind: opDeliver, Mailbox: user, Folder: guid, Arrivals: []arrival{{Base: "x"}}},
		{Kind: opDeliver, Mailbox: user, Folder: guid, Arrivals: []arrival{{UID: 1, Base: "x", Keywords: []string{"a b"}}}},
		{Kind: opFlags, Mailbox: user, Folder: guid, Markings: []marking{{UIDs: []uint32{1}, Keywords: []string{""}}}},
	} {
		record, err := json.Marshal(o)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := decodeOp(record); err == nil {
			t.Errorf("%s is an operation", record)
		}
	}
	if _, err := decodeOp([]byte("{")); err == nil {
		t.Error("half a record is an operation")
	}
}

func FuzzOperation(f *testing.F) {
	for _, l := range operations(1, 60) {
		record, err := l.op.encode()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(record)
	}
	f.Fuzz(func(t *testing.T, record []byte) {
		o, err := decodeOp(record)
		if err != nil {
			return
		}
		st := newState()
		ops := append(operations(1, 30), logged{31, o}, logged{32, o})
		dead := replay(st, ops)
		uses := Usage{}
		for _, c := range st.folders {
			last := uint32(0)
			for _, m := range c.messages {
				if m.UID <= last || m.UID >= c.next {
					t.Fatalf("UID %d after %d, next %d", m.UID, last, c.next)
				}
				last = m.UID
				uses.add(m.Size, 1)
			}
			if len(c.keywords) > maildir.MaxKeywords {
				t.Fatalf("%d keywords", len(c.keywords))
			}
		}
		if uses != st.usage {
			t.Fatalf("usage is %+v, counted %+v", st.usage, uses)
		}
		makePlan(user, st, &tree{incoming: map[string]bool{}}, dead)
	})
}
