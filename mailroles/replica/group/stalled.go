package group

import (
	"context"
	"time"

	"github.com/hashicorp/raft"
)

// stallRPCs is for how many exchanges' time a member may answer without getting on.
const stallRPCs = 6

// stalled finds a member that answers heartbeats and gets nothing of the log.
type stalled struct {
	matched uint64 // at the beginning of the time
	wanted  uint64 // what the log had then
	since   instant
	times   int // that it was found
}

// look is told how far the member is and how far the log, and whether the member answers.
func (s *stalled) look(now instant, matched, last uint64, answers bool, patience time.Duration) bool {
	if s.since == 0 || !answers || matched > s.matched || matched >= s.wanted {
		*s = stalled{matched: matched, wanted: last, since: now}
		return false
	}
	if now.since(s.since) < patience {
		return false
	}
	s.since = now
	s.times++
	return true
}

// watchOthers has members that are stalled get new connections, and if that does not help a new beginning, where it
// costs no vote. Nothing that is known leads to that: it is for what is not known.
func (g *Group) watchOthers(alive context.Context) {
	tick := time.NewTicker(2 * g.o.Times.RPC)
	defer tick.Stop()
	seen := map[string]*stalled{}
	for {
		select {
		case <-tick.C:
		case <-alive.Done():
			return
		}
		r, term, err := g.leading()
		if err != nil {
			clear(seen)
			continue
		}
		for _, m := range r.GetConfiguration().Configuration().Servers {
			name := string(m.ID)
			if name == g.o.Self {
				continue
			}
			if seen[name] == nil {
				seen[name] = &stalled{}
			}
			answers := g.peers.recent([]string{name}, term, 2*g.o.Times.Heartbeat) > 0
			matched, last := g.peers.matched(name, term), g.journal.last.Load()
			if seen[name].look(bootTime(), matched, last, answers, stallRPCs*g.o.Times.RPC) {
				g.restart(alive, m, seen[name].times)
			}
		}
	}
}

// restart has what is sent to a member begin anew.
func (g *Group) restart(alive context.Context, m raft.Server, times int) {
	name := string(m.ID)
	g.log.Warn("member answers and gets nothing of the log, it gets new connections", "peer", name, "times", times)
	g.outbox.stream.cut(name)
	if times < 2 || m.Suffrage == raft.Voter {
		return
	}
	ctx, cancel := context.WithTimeout(alive, 2*g.o.Times.RPC)
	defer cancel()
	if err := g.Admit(ctx, name); err != nil {
		g.log.Warn("member cannot be admitted anew", "peer", name, "err", err)
	}
}
