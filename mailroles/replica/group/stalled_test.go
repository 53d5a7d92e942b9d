package group

import (
	"testing"
	"time"
)

// TestStalled tells a member that gets on from one that does not.
func TestStalled(t *testing.T) {
	type look struct {
		after         time.Duration
		matched, last uint64
		answers, want bool
	}
	for _, test := range []struct {
		name  string
		looks []look
	}{
		{"it has all", []look{{0, 10, 10, true, false}, {time.Minute, 10, 10, true, false}}},
		{"it has what there was", []look{{0, 9, 10, true, false}, {time.Minute, 10, 20, true, false}, {time.Second, 10, 20, true, false}}},
		{"it is slow", []look{{0, 1, 10, true, false}, {time.Minute, 2, 10, true, false}, {time.Minute, 3, 10, true, false}}},
		{"it does not answer", []look{{0, 1, 10, true, false}, {time.Minute, 1, 10, false, false}, {time.Second, 1, 10, true, false}}},
		{"it gets nothing", []look{
			{0, 1, 10, true, false}, {time.Second, 1, 10, true, false}, {time.Minute, 1, 10, true, true},
			{time.Second, 1, 10, true, false}, {time.Minute, 1, 10, true, true},
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			now := instant(time.Hour)
			var s stalled
			for i, l := range test.looks {
				now = now.add(l.after)
				if got := s.look(now, l.matched, l.last, l.answers, 10*time.Second); got != l.want {
					t.Errorf("look %d: %v", i, got)
				}
			}
		})
	}
}

// TestRestart has the connections to a member closed, and a member without vote begin anew, while operations are appended.
func TestRestart(t *testing.T) {
	t.Parallel()
	c := running(t, three, nil)
	stop := c.load(time.Millisecond)
	defer stop()
	l := c.leader()
	if err := l.group().Admit(t.Context(), "w1"); err != nil {
		t.Fatal(err)
	}
	for times := 1; times <= 3; times++ {
		before := l.group().Status().Last
		for _, m := range l.group().raft.Load().GetConfiguration().Configuration().Servers {
			if string(m.ID) != l.name {
				l.group().restart(t.Context(), m, times)
			}
		}
		for _, name := range []string{"w1", "wit"} {
			eventually(t, 10*time.Second, name+" gets on", func() bool { return l.group().Matched(name) > before })
		}
	}
	if err := l.group().Promote(t.Context(), "w1"); err != nil {
		t.Fatal(err)
	}
	stop()
	c.agree()
}
