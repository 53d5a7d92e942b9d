package group

import (
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// pacer has a leader send its heartbeats to all members at once. The library has a timer for each member, of a random time up to
// a fifth of what a member waits for: in a process that is idle each of them costs more than what is sent. While all is
// well they are made so long that they do not run out, and the library is told every quarter of what a member waits for to
// send to all. They do run out when its main loop waits for the disk, and are not longer than the lease allows.
type pacer struct {
	mu    sync.Mutex
	usual raft.ReloadableConfig // of a member that does not lead, and of a leader that has something to do but beating
	slow  raft.ReloadableConfig
	beat  time.Duration // 0: there is no slow
}

// beats is the part of the heartbeat's time after which a leader sends one, at the latest.
const beats = 4

func newPacer(usual raft.ReloadableConfig, t Times) *pacer {
	p := &pacer{usual: usual, beat: t.Heartbeat / beats}
	p.slow = p.usual
	// The library's timers are of a tenth to two tenths: the shortest is to be longer than a beat, the longest well within
	// the lease.
	p.slow.HeartbeatTimeout = t.Heartbeat * 13 / 5
	p.slow.ElectionTimeout = max(p.usual.ElectionTimeout, p.slow.HeartbeatTimeout) // which a leader has no need of
	if p.slow.HeartbeatTimeout/5 > t.Lease*4/5 {
		p.beat = 0
	}
	return p
}

// set chooses, and tells how long until the next beat; 0: there is none. due: the beat is to be given now. well is asked
// with the choice locked.
func (p *pacer) set(r *raft.Raft, well func() bool, due bool) (next time.Duration, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	is, want := r.ReloadableConfig(), p.usual
	if p.beat > 0 && well() {
		want, next = p.slow, p.beat
	}
	if due && next > 0 { // a time that is made shorter has the library send at once
		longer := want
		longer.HeartbeatTimeout++
		longer.ElectionTimeout++
		if err := r.ReloadConfig(longer); err != nil {
			return 0, err
		}
		is = longer
	}
	if is != want {
		err = r.ReloadConfig(want)
	}
	return next, err
}

// pace has the library's timers be those of what this member does now.
func (g *Group) pace(due bool) (next time.Duration) {
	next, err := g.pacer.set(g.raft.Load(), func() bool {
		term, open, _ := g.epoch.is()
		return open && g.leads(term) && g.peers.allUp()
	}, due)
	if err != nil {
		g.log.Error("times of the group not set", "err", err)
	}
	return next
}
