package imapd

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/emersion/go-imap/v2"
	"github.com/google/go-cmp/cmp"

	"anycastle/mailroles/maildir"
	"anycastle/mailroles/store"
)

func messagesOf(uids ...uint32) []*store.Message {
	var list []*store.Message
	for _, uid := range uids {
		list = append(list, &store.Message{UID: uid})
	}
	return list
}

func TestSetsNameMessages(t *testing.T) {
	v := &view{messages: messagesOf(2, 3, 5, 9)}
	uids := func(ranges ...imap.UIDRange) imap.UIDSet { return ranges }
	seqs := func(ranges ...imap.SeqRange) imap.SeqSet { return ranges }
	for _, tc := range []struct {
		set  imap.NumSet
		want []int
	}{
		{seqs(imap.SeqRange{Start: 1, Stop: 2}, imap.SeqRange{Start: 4, Stop: 9}), []int{0, 1, 3}},
		{seqs(imap.SeqRange{Start: 0, Stop: 0}), []int{3}},
		{seqs(imap.SeqRange{Start: 7, Stop: 0}), []int{3}},
		{seqs(imap.SeqRange{Start: 1, Stop: 4}, imap.SeqRange{Start: 7, Stop: 0}), []int{0, 1, 2, 3}},
		{uids(imap.UIDRange{Start: 1, Stop: 3}, imap.UIDRange{Start: 4, Stop: 5}), []int{0, 1, 2}},
		{uids(imap.UIDRange{Start: 8, Stop: 8}, imap.UIDRange{Start: 10, Stop: 0}), []int{3}},
		{uids(imap.UIDRange{Start: 3, Stop: 0}), []int{1, 2, 3}},
		{uids(imap.UIDRange{Start: 1, Stop: 1<<32 - 1}), []int{0, 1, 2, 3}},
		{imap.UIDSet(nil), nil},
		{imap.SeqSet(nil), nil},
	} {
		if diff := cmp.Diff(tc.want, v.numbers(tc.set)); diff != "" {
			t.Errorf("%v: %s", tc.set, diff)
		}
	}
	if got := (&view{}).numbers(imap.UIDSet{{Start: 1, Stop: 0}}); len(got) != 0 {
		t.Errorf("1:* in an empty folder is %v", got)
	}
}

func TestParseSet(t *testing.T) {
	for text, want := range map[string]string{
		"1": "1", "3,1,2": "1:3", "9:7,*:5,1": "1,5:*", "*": "*", "5,*:*,4294967295": "5,4294967295,*", "1:*,3": "1:*",
		"": "", "0": "", "1,": "", "1:": "", "a": "", "4294967296": "", "1:2:3": "", "-1": "", "+1": "",
	} {
		got := ""
		if list, ok := parseSet([]byte(text)); ok {
			got = uidSet(list).String()
		}
		if got != want {
			t.Errorf("%s is %s, want %s", text, got, want)
		}
	}
}

// A view that follows the folder's changes is the same as one that is compared with the folder.
func TestPatchIsDiff(t *testing.T) {
	s := newSite(t, nil)
	f, err := s.box.Folder("INBOX")
	if err != nil {
		t.Fatal(err)
	}
	rnd := rand.New(rand.NewPCG(1, 2))
	one := &view{folder: f}
	var two []*store.Message
	for step := range 300 {
		for range rnd.IntN(3) {
			s.put(hello)
		}
		for _, m := range f.Snapshot().Messages {
			if rnd.IntN(4) > 0 {
				continue
			}
			flags := []maildir.Flags{0, maildir.Seen, maildir.Flagged, maildir.Deleted}[rnd.IntN(4)]
			if err := f.SetFlags([]uint32{m.UID}, func(store.Marks) store.Marks { return store.Marks{Flags: flags} }); err != nil {
				t.Fatal(err)
			}
		}
		if err := f.Expunge(func(uint32) bool { return rnd.IntN(2) == 0 }); err != nil {
			t.Fatal(err)
		}
		expunge := rnd.IntN(2) == 0
		got := one.update(expunge)
		var want change
		two, want = diff(two, f.Snapshot().Messages, expunge)
		if fmt.Sprint(got) != fmt.Sprint(want) || !slices.Equal(one.messages, two) {
			t.Fatalf("step %d: change is %+v, want %+v", step, got, want)
		}
	}
	if len(two) < 5 {
		t.Errorf("the folder holds %d messages at the end", len(two))
	}
}

func deleteAll(store.Marks) store.Marks { return store.Marks{Flags: maildir.Deleted} }
