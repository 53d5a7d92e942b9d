package bfd

import (
	"net/netip"
	"strings"
	"testing"
)

func TestSetIsChecked(t *testing.T) {
	a := Config{Peer: "a", Remote: netip.MustParseAddr("192.0.2.1")}
	s := New(Options{})
	if err := s.SetSessions([]Config{a, a}); err == nil || !strings.Contains(err.Error(), `"a" is given twice`) || !strings.Contains(err.Error(), "one session") {
		t.Errorf("a session twice: %v", err)
	}
	b := a
	b.Peer, b.Interface = "b", "eth1"
	if err := s.SetSessions([]Config{a, b}); err != nil {
		t.Errorf("two sessions: %v", err)
	}
}

// What nobody listens to does not pile up, and what is told is a chain.
func TestChangesThatNobodyHears(t *testing.T) {
	s := New(Options{})
	p := &peer{session: newTestWire().end[0]}
	for i := range 100 {
		from, to := Up, Down
		if i%2 == 0 {
			from, to = Down, Up
		}
		p.state = to
		s.note(p, &outcome{from: from, to: to})
	}
	if len(s.untold) != mostUntold {
		t.Fatalf("%d are kept, want %d", len(s.untold), mostUntold)
	}
	var told []Change
	s.changed = func(c Change) { told = append(told, c) }
	stopped := make(chan struct{})
	close(stopped)
	s.tell(stopped)
	for i, c := range told[1:] {
		if c.Old != told[i].New {
			t.Errorf("%v follows %v", c, told[i])
		}
	}
	if last := told[len(told)-1]; len(told) != mostUntold || last.New != Down || p.untold != 0 {
		t.Errorf("%d told, the last %+v", len(told), last)
	}
}

func TestPeerLost(t *testing.T) {
	for _, c := range []struct {
		name string
		Change
		want bool
	}{
		{"silence", Change{Old: Up, New: Down, Diag: DetectionExpired, RemoteState: Down}, true},
		{"the peer does not hear us", Change{Old: Up, New: Down, Diag: NeighborSignalled, RemoteState: Down}, true},
		{"order there", Change{Old: Up, New: Down, Diag: NeighborSignalled, RemoteState: AdminDown}, false},
		{"order here", Change{Old: Up, New: AdminDown, RemoteState: Up}, false},
		{"was not up", Change{Old: Init, New: Down, RemoteState: Down}, false},
		{"comes up", Change{Old: Init, New: Up, RemoteState: Init}, false},
	} {
		if got := c.PeerLost(); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}
