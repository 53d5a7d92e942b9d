package lb

import (
	"log/slog"
	"strings"
	"testing"

	"anycastle/internal/mesh"
)

// TestStoreLeavesAloneWhatItDoesNotUnderstand keeps a newer version's entries in the map, and says so once.
func TestStoreLeavesAloneWhatItDoesNotUnderstand(t *testing.T) {
	data := mesh.NewMap("lb1", nil)
	strange := []string{"orders/smtp/mx1", "order/smtp", "state/lb2/smtp/198.51.100.9", "state/lb1/smtp/198.51.100.9", "state/lb2/smtp/198.51.100.256"}
	for _, key := range strange {
		check(t, data.Set(key, []byte(`{"kind":"drain"}`)))
	}
	good := goodOrder()
	text, err := good.Encode()
	check(t, err)
	check(t, data.Set(good.Key(), text))
	var log journal
	s := newStore(data, "lb1", func() map[string]bool { return map[string]bool{"lb2": true} }, slog.New(slog.NewTextHandler(&log, nil)))
	if own := s.load(); len(own) > 0 {
		t.Errorf("own states %v", own)
	}
	for range 2 {
		orders, peers, _ := s.view()
		if len(orders) != 1 || orders[realID{"smtp", "mx1"}] != good || len(peers) > 0 {
			t.Errorf("orders %v, peers %v", orders, peers)
		}
	}
	lines := log.take()
	if len(lines) != len(strange) || !strings.Contains(lines[0], "not understood") {
		t.Errorf("log %q", lines)
	}
	check(t, s.keep(map[string]farmState{}))
	for _, key := range strange {
		if _, ok := data.Get(key); !ok {
			t.Errorf("%s is gone", key)
		}
	}
}

// TestStoreWritesWhatChanges tells others of a state once, and takes it back when the real is gone.
func TestStoreWritesWhatChanges(t *testing.T) {
	data := mesh.NewMap("lb1", nil)
	s := newStore(data, "lb1", func() map[string]bool { return nil }, slog.New(slog.DiscardHandler))
	changed, stop := data.Watch()
	defer stop()
	told := func() bool {
		select {
		case <-changed:
			return true
		default:
			return false
		}
	}
	states := map[string]farmState{"smtp": {realAddr("a"): goodRecord()}}
	check(t, s.keep(states))
	key := stateKey("lb1", "smtp", realAddr("a"))
	if _, ok := data.Get(key); !ok || !told() {
		t.Error("the state is not kept")
	}
	if _, _, changed := s.view(); changed {
		t.Error("what it has written itself is new to it")
	}
	check(t, s.keep(states))
	if told() {
		t.Error("a state that is as before is told again")
	}
	check(t, s.keep(map[string]farmState{"smtp": {}}))
	if _, ok := data.Get(key); ok {
		t.Error("the state of a real that is gone is kept")
	}
	bad := goodRecord()
	bad.Name = ""
	err := s.keep(map[string]farmState{"smtp": {realAddr("a"): bad, realAddr("b"): bad}})
	if err == nil || !strings.Contains(err.Error(), "and 1 more") {
		t.Errorf("error %v, want one that says that there are two", err)
	}
}
