package group

import "github.com/hashicorp/raft"

// sound gives what the library shall see of a request of a leader, where it would take the request too literally.
//
// It must not commit more than the request is about, which the library does: the leader reads how far its log goes before
// it reads what is committed, and in between both may grow. What this member has after the entries of the request may be
// of a leader that lost.
//
// A request that begins at or before the marker is made one that begins after it. A leader begins to send where its own
// log ended when it admitted the member, and a member that was seeded since has nothing to compare there: for each
// refusal the leader would go back by one entry, down to the beginning of its log, and never forth. What is up to a marker
// is committed, and every leader that may still lead has it.
func sound(req *raft.AppendEntriesRequest, marker uint64) *raft.AppendEntriesRequest {
	r := *req
	end := req.PrevLogEntry
	if n := len(req.Entries); n > 0 {
		end = req.Entries[n-1].Index
	}
	r.LeaderCommitIndex = min(req.LeaderCommitIndex, end)
	if req.PrevLogEntry > marker {
		return &r
	}
	r.PrevLogEntry, r.PrevLogTerm = 0, 0 // nothing is compared
	for len(r.Entries) > 0 && r.Entries[0].Index <= marker {
		r.Entries = r.Entries[1:]
	}
	return &r
}
