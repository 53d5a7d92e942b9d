package chaos

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

const ann = "ann@example.org"

// stored is a message of a tree of the tests.
func stored(folder string, uid uint32, id, flags string) Stored {
	return Stored{FolderName: FolderName{ann, folder}, Place: Place{7, uid}, ID: id, Flags: flags, Modseq: uint64(uid), Sum: "sum of " + id}
}

func treeOf(name string, list ...Stored) Tree {
	t := Tree{Name: name, Folders: map[FolderName]Folder{}}
	for _, m := range list {
		f := t.Folders[m.FolderName]
		f.Validity, f.Next = m.Validity, max(f.Next, m.UID+1)
		f.Messages = append(f.Messages, m)
		t.Folders[m.FolderName] = f
	}
	return t
}

// step is an operation of a test's history, and its end.
type step struct {
	op  Op
	out Outcome
	at  Place
}

func TestVerdict(t *testing.T) {
	deliver := func(out Outcome) step { return step{Op{Kind: Deliver, Folder: "INBOX", ID: "<1>"}, out, Place{}} }
	upload := step{Op{Kind: Append, Folder: "INBOX", ID: "<1>", Flags: `\Seen`}, Acknowledged, Place{7, 1}}
	flags := func(out Outcome) step {
		return step{Op{Kind: Flags, Folder: "INBOX", ID: "<1>", Flags: `\Flagged`}, out, Place{7, 1}}
	}
	expunge := func(out Outcome) step { return step{Op{Kind: Expunge, Folder: "INBOX", ID: "<1>"}, out, Place{}} }
	move := func(out Outcome) step {
		return step{Op{Kind: Move, Folder: "INBOX", To: "Old", ID: "<1>"}, out, Place{7, 1}}
	}
	duplicate := func(out Outcome) step {
		return step{Op{Kind: Copy, Folder: "INBOX", To: "Old", ID: "<1>"}, out, Place{7, 1}}
	}
	inbox, old := stored("INBOX", 1, "<1>", ""), stored("Old", 1, "<1>", "")
	seen, flagged := stored("INBOX", 1, "<1>", `\Seen`), stored("INBOX", 1, "<1>", `\Flagged`)
	for _, tc := range []struct {
		name string
		did  []step
		have []Stored
		want Verdict
	}{
		{"all is well", []step{deliver(Acknowledged)}, []Stored{inbox}, Verdict{Acknowledged: 1, Messages: 1}},
		{"acknowledged and lost", []step{deliver(Acknowledged)}, nil, Verdict{Acknowledged: 1, Lost: 1}},
		{"unknown and not there", []step{deliver(Unknown)}, nil, Verdict{}},
		{"unknown and there", []step{deliver(Unknown)}, []Stored{inbox}, Verdict{Messages: 1}},
		{"refused and not there", []step{deliver(Refused)}, nil, Verdict{}},
		{"refused and there", []step{deliver(Refused)}, []Stored{inbox}, Verdict{Messages: 1, Doubled: 1}},
		{"doubled", []step{deliver(Acknowledged)}, []Stored{inbox, stored("INBOX", 2, "<1>", "")}, Verdict{Acknowledged: 1, Messages: 2, Doubled: 1}},
		{"retried and there twice", []step{deliver(Unknown), deliver(Acknowledged)}, []Stored{inbox, stored("INBOX", 2, "<1>", "")}, Verdict{Acknowledged: 1, Messages: 2}},
		{"retried and there thrice", []step{deliver(Unknown), deliver(Acknowledged)}, []Stored{inbox, stored("INBOX", 2, "<1>", ""), stored("INBOX", 3, "<1>", "")}, Verdict{Acknowledged: 1, Messages: 3, Doubled: 1}},
		{"retried, acknowledged and lost", []step{deliver(Unknown), deliver(Acknowledged)}, nil, Verdict{Acknowledged: 1, Lost: 1}},
		{"flags kept", []step{upload, flags(Acknowledged)}, []Stored{flagged}, Verdict{Acknowledged: 2, Messages: 1}},
		{"flags undone", []step{upload, flags(Acknowledged)}, []Stored{seen}, Verdict{Acknowledged: 2, Messages: 1, Lost: 1}},
		{"flags unknown and not there", []step{upload, flags(Unknown)}, []Stored{seen}, Verdict{Acknowledged: 1, Messages: 1}},
		{"flags unknown and neither", []step{upload, flags(Unknown)}, []Stored{inbox}, Verdict{Acknowledged: 1, Messages: 1, Lost: 1}},
		{"flags refused and there", []step{upload, flags(Refused)}, []Stored{flagged}, Verdict{Acknowledged: 1, Messages: 1, Lost: 1}},
		{"expunged", []step{upload, expunge(Acknowledged)}, nil, Verdict{Acknowledged: 2}},
		{"expunge undone", []step{upload, expunge(Acknowledged)}, []Stored{seen}, Verdict{Acknowledged: 2, Messages: 1, Lost: 1}},
		{"expunge unknown", []step{upload, expunge(Unknown)}, []Stored{seen}, Verdict{Acknowledged: 1, Messages: 1}},
		{"moved", []step{deliver(Acknowledged), move(Acknowledged)}, []Stored{old}, Verdict{Acknowledged: 2, Messages: 1}},
		{"move undone", []step{deliver(Acknowledged), move(Acknowledged)}, []Stored{inbox}, Verdict{Acknowledged: 2, Messages: 1, Lost: 2}},
		{"moved and lost", []step{deliver(Acknowledged), move(Acknowledged)}, nil, Verdict{Acknowledged: 2, Lost: 1}},
		{"move unknown, in both", []step{deliver(Acknowledged), move(Unknown)}, []Stored{inbox, old}, Verdict{Acknowledged: 1, Messages: 2, Doubled: 1}},
		{"copied", []step{deliver(Acknowledged), duplicate(Acknowledged)}, []Stored{inbox, old}, Verdict{Acknowledged: 2, Messages: 2}},
		{"copy lost", []step{deliver(Acknowledged), duplicate(Acknowledged)}, []Stored{inbox}, Verdict{Acknowledged: 2, Messages: 1, Lost: 1}},
		{"submitted and lost", []step{{Op{Kind: Submit, Folder: "INBOX", ID: "<1>"}, Acknowledged, Place{}}}, nil, Verdict{Acknowledged: 1, Lost: 1}},
		{"UID of another body", []step{upload, expunge(Acknowledged), {Op{Kind: Append, Folder: "INBOX", ID: "<2>"}, Acknowledged, Place{7, 1}}}, []Stored{stored("INBOX", 1, "<2>", "")}, Verdict{Acknowledged: 3, Messages: 1, UIDReused: 1}},
		{"UID changed", []step{upload}, []Stored{stored("INBOX", 2, "<1>", `\Seen`)}, Verdict{Acknowledged: 1, Messages: 1, Renumbered: 1}},
		{"sent by nobody", nil, []Stored{inbox}, Verdict{Messages: 1, Strange: 1}},
		{"damaged", []step{deliver(Acknowledged)}, []Stored{{FolderName: inbox.FolderName, Place: inbox.Place, ID: "<1>", Damaged: "rotten"}}, Verdict{Acknowledged: 1, Messages: 1, Lost: 1}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h := NewHistory(nil)
			for _, s := range tc.did {
				s.op.Mailbox = ann
				h.Begin(s.op)(s.out, s.at, "")
			}
			got := h.Check([]Tree{treeOf("east", tc.have...)})
			found := got.Findings
			got.Findings = nil
			if diff := cmp.Diff(&tc.want, got); diff != "" {
				t.Errorf("verdict (-want +got):\n%s\nfindings: %q", diff, found)
			}
			if sum := got.Lost + got.Doubled + got.UIDReused + got.Renumbered + got.Strange; sum != len(found) || got.Good() != (sum == 0) {
				t.Errorf("%d findings for %+v", len(found), got)
			}
		})
	}
}

func TestSitesThatDiffer(t *testing.T) {
	changed := func(change func(*Stored)) Stored {
		m := stored("INBOX", 1, "<1>", "")
		change(&m)
		return m
	}
	same := treeOf("east", stored("INBOX", 1, "<1>", ""), stored("INBOX", 2, "<2>", ""))
	for _, tc := range []struct {
		name  string
		other Stored
		want  int
	}{
		{"nothing", changed(func(*Stored) {}), 0},
		{"UID", changed(func(m *Stored) { m.UID = 3 }), 3}, // one here, one there, and UIDNEXT
		{"Message-ID", changed(func(m *Stored) { m.ID = "<3>" }), 1},
		{"flags", changed(func(m *Stored) { m.Flags = `\Seen` }), 1},
		{"MODSEQ", changed(func(m *Stored) { m.Modseq = 9 }), 1},
		{"SHA-256", changed(func(m *Stored) { m.Sum = "another" }), 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h := NewHistory(nil)
			for _, id := range []string{"<1>", "<2>"} {
				h.Begin(Op{Kind: Deliver, Mailbox: ann, Folder: "INBOX", ID: id})(Acknowledged, Place{}, "")
			}
			got := h.Check([]Tree{same, treeOf("west", tc.other, stored("INBOX", 2, "<2>", ""))})
			if got.Differing != tc.want {
				t.Errorf("%d differences, want %d: %q", got.Differing, tc.want, got.Findings)
			}
		})
	}
}

func TestSettled(t *testing.T) {
	h := NewHistory(nil)
	op := Op{Kind: Append, Mailbox: ann, Folder: "INBOX", ID: "<1>", Flags: `\Seen`}
	is := func(want bool) {
		t.Helper()
		if _, got := h.Settled(ann, "INBOX", "<1>"); got != want {
			t.Errorf("settled: %v, want %v", got, want)
		}
	}
	is(false)
	end := h.Begin(op)
	is(false) // under way
	end(Acknowledged, Place{7, 1}, "")
	is(true)
	end = h.Begin(Op{Kind: Flags, Mailbox: ann, Folder: "INBOX", ID: "<1>"})
	is(false)
	end(Unknown, Place{}, "")
	is(false) // and never again
	if n := h.Ended(Acknowledged); n != 1 {
		t.Errorf("%d operations are acknowledged, want 1", n)
	}
}
