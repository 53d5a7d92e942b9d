package main

import (
	"slices"
	"strings"
	"testing"
	"time"

	"anycastle/mailroles"
	"anycastle/mailroles/replica"
)

func TestReplicaRows(t *testing.T) {
	now := time.Now()
	s := &replica.Status{
		Self: "east-store1", State: replica.Active, Why: "elected in term 7", Since: now.Add(-time.Minute), Active: "east-store1",
		ActiveFor: now.Add(-time.Minute), Serving: true, Term: 7, Era: 1, First: 3, Last: 90, Committed: 90, Applied: 90, Chain: "ab",
		TwoSite: replica.TwoSiteStatus{Policy: replica.Expose, State: replica.Exposed, Since: now, Operations: 12},
		Members: []replica.MemberStatus{
			{Name: "east-store1", Site: "east", Self: true, Voter: true, In: true, Matched: 90, Fit: true, Active: true},
			{Name: "west-store1", Site: "west", Voter: true, In: true, Applied: 80, Lag: 10, Missing: 3, Heard: now.Add(-5 * time.Second), Why: "nothing is heard of it"},
			{Name: "west-standby", Site: "west", In: true, Fit: true},
			{Name: "witness", Site: "third", Witness: true, Fit: true},
		},
		CatchUp: replica.CatchUpStatus{Missing: 3, Got: 4, Octets: 500, Since: now.Add(-time.Second), ETA: time.Second},
		Scrub:   replica.ScrubStatus{Begun: now, Ended: now, With: "west-store1", Mailboxes: 2, Checked: 9, Rotten: 2, Repaired: 1, Differing: []string{"a@example.org"}},
		Moves:   []replica.Move{{At: now, From: "west-store1", To: "east-store1", Why: "test", By: "root", Err: "no"}},
	}
	rows := lunRows(mailroles.LUNState{Name: "lun-east", Path: "/srv", Replica: s})
	var text []string
	for _, r := range rows {
		text = append(text, strings.Join(r[1:], ": "))
	}
	for _, want := range []string{
		"active: east-store1, for 1m0s, term 7",
		"two sites: exposed since " + now.Format(time.DateTime) + ", 12 operations",
		"operations: 90 applied, 90 committed, log from 3 to 90, era 1",
		"replica east-store1: east, active, votes, has 90, lag 0, this one",
		"replica west-store1: west, votes, applied 80, lag 10, 3 bodies missing, heard 5s ago, unfit: nothing is heard of it",
		"replica west-standby: west, follows, no vote yet, not heard here",
		"replica witness: third, witness, not in the group, not heard here",
		"catch-up: 3 bodies wanted, 4 got with 500 bytes in 1s, 1s left",
		"scrub: ended 0s ago: 2 mailboxes compared to west-store1, 9 bodies, 2 rotten, 1 of them repaired, 1 mailboxes differ",
		"differing: a@example.org",
		"move: 0s ago from west-store1 to east-store1: test, by root, which failed: no",
	} {
		if !slices.Contains(text, want) {
			t.Errorf("no row %q in\n%s", want, strings.Join(text, "\n"))
		}
	}
	said := strings.Join(s.Explain(), "\n")
	for _, want := range []string{"east-store1 is active: it was elected in term 7", "exposed since", "west-store1 at west cannot be active now: nothing is heard of it", "west-standby at west cannot be active now: it has no vote yet."} {
		if !strings.Contains(said, want) {
			t.Errorf("it does not say %q in\n%s", want, said)
		}
	}
	s.TwoSite.Since, s.Moves = time.Time{}, []replica.Move{{At: now, To: "east-store1", Why: "promoted"}}
	said = strings.Join(s.Explain(), "\n")
	for _, want := range []string{"It was moved from none to east-store1", "nothing is heard of the other site: what comes will be exposed."} {
		if !strings.Contains(said, want) {
			t.Errorf("before anything is exposed it does not say %q in\n%s", want, said)
		}
	}
	s.Active, s.Serving = "", false
	if said := strings.Join(s.Explain(), "\n"); !strings.Contains(said, "No replica is active") || !strings.Contains(said, "1 of 2 votes are heard here, 2 are needed.") {
		t.Errorf("without a leader it says\n%s", said)
	}
}
