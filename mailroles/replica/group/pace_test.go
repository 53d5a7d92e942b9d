package group

import (
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

// TestPace has a leader that is well beat by itself, and have its own timers back when it is not, or leads no more.
func TestPace(t *testing.T) {
	t.Parallel()
	c := running(t, five, nil)
	l := c.leader()
	times := l.group().o.Times
	slow := func(m *node) bool {
		return m.group().raft.Load().ReloadableConfig().HeartbeatTimeout > times.Heartbeat
	}
	eventually(t, 10*time.Second, "the leader beats", func() bool { return slow(l) })
	for _, name := range []string{"e2", "w1", "w2"} {
		if m := c.nodes[name]; m != l && slow(m) {
			t.Errorf("%s does not lead, and has the timers of a leader", name)
		}
	}

	other := "w2"
	if l.name == other {
		other = "w1"
	}
	c.kill(other)
	eventually(t, 10*time.Second, "a member is away", func() bool { return !slow(l) })
	c.start(other)
	eventually(t, 10*time.Second, "all are back", func() bool { return slow(l) })

	to := "e2"
	if l.name == to {
		to = "e1"
	}
	eventually(t, 10*time.Second, to+" answers", func() bool { return l.group().mayLead(l.group().raft.Load(), to) == nil })
	if err := l.group().Transfer(t.Context(), to); err != nil {
		t.Fatal(err)
	}
	eventually(t, 10*time.Second, "it leads no more", func() bool { return !slow(l) })
	eventually(t, 10*time.Second, "the next one beats", func() bool { return slow(c.leader()) })
}

// TestPaceOfTimes has a leader beat by itself only where its timers can be longer than that and well within the lease.
func TestPaceOfTimes(t *testing.T) {
	usual := raft.ReloadableConfig{HeartbeatTimeout: 600 * time.Millisecond, ElectionTimeout: 600 * time.Millisecond}
	for _, test := range []struct {
		lease time.Duration
		beat  time.Duration
	}{{400 * time.Millisecond, 150 * time.Millisecond}, {480 * time.Millisecond, 150 * time.Millisecond}, {300 * time.Millisecond, 0}} {
		p := newPacer(usual, Times{Heartbeat: 600 * time.Millisecond, Lease: test.lease})
		if p.beat != test.beat {
			t.Errorf("lease of %v: beat of %v, want %v", test.lease, p.beat, test.beat)
		}
		if shortest := p.slow.HeartbeatTimeout / 10; p.beat > 0 && shortest <= p.beat {
			t.Errorf("lease of %v: a timer of %v, and a beat of %v", test.lease, shortest, p.beat)
		}
	}
}
