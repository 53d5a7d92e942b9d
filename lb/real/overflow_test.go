package real

import (
	"net/netip"
	"testing"

	"anycastle/bpf"
	"anycastle/lb/real/sockets"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// listens gives listeners that have dropped so much, by cookie. The one with cookie 9 is of another port, and full.
func listens(proto uint8, drops map[uint64]uint32) []sockets.Listener {
	var list []sockets.Listener
	for cookie, n := range drops {
		l := sockets.Listener{Protocol: proto, Local: netip.AddrPortFrom(vip1, 25), Cookie: cookie, Drops: n, Backlog: 8}
		if cookie == 9 {
			l.Local, l.Queue = netip.AddrPortFrom(vip1, 143), 9
		}
		list = append(list, l)
	}
	return list
}

// TestOverflowsAddUp follows listeners that come, go and wrap, and drop what is no overflow.
func TestOverflowsAddUp(t *testing.T) {
	var o overflows
	for i, step := range []struct {
		drops       map[uint64]uint32
		all         uint64 // overflows of the machine
		want, want9 uint64
	}{
		{map[uint64]uint32{1: 100}, 1000, 0, 0}, // before we looked
		{map[uint64]uint32{1: 103}, 1003, 3, 0},
		{map[uint64]uint32{1: 103, 2: 4}, 1007, 7, 0}, // a new one has dropped since it was opened
		{map[uint64]uint32{2: 5}, 1008, 8, 0},
		{nil, 1008, 8, 0},
		{map[uint64]uint32{3: 0xffffffff}, 1008 + 0xffffffff, 8 + 0xffffffff, 0},
		{map[uint64]uint32{3: 1}, 1010 + 0xffffffff, 10 + 0xffffffff, 0},
		{map[uint64]uint32{3: 21}, 1010 + 0xffffffff, 10 + 0xffffffff, 0}, // resets that nobody waits for
		{map[uint64]uint32{3: 31, 9: 5}, 1015 + 0xffffffff, 10 + 0xffffffff, 5},
		{map[uint64]uint32{3: 31, 9: 5}, 1018 + 0xffffffff, 10 + 0xffffffff, 5}, // counted here, and not there yet
		{map[uint64]uint32{3: 31, 9: 8}, 1018 + 0xffffffff, 10 + 0xffffffff, 8},
		{map[uint64]uint32{3: 31, 9: 8}, 1020 + 0xffffffff, 10 + 0xffffffff, 8}, // of a listener that has gone
		{map[uint64]uint32{3: 31, 9: 8}, 1020 + 0xffffffff, 10 + 0xffffffff, 8},
		{map[uint64]uint32{3: 33, 9: 8}, 1020 + 0xffffffff, 10 + 0xffffffff, 8},
	} {
		o.add([]netip.Addr{vip1, vip6}, listens(unix.IPPROTO_TCP, step.drops), step.all)
		got, got9 := o.ports[endpoint(vip1, 25)], o.ports[endpoint(vip1, 143)]
		if got != step.want || got9 != step.want9 {
			t.Errorf("step %d: %d and %d overflows, want %d and %d", i, got, got9, step.want, step.want9)
		}
	}
}

// TestDatagramsAreCountedApart: the machine's count is of connections.
func TestDatagramsAreCountedApart(t *testing.T) {
	var o overflows
	for _, n := range []uint32{7, 9, 14} {
		o.add([]netip.Addr{vip1}, listens(unix.IPPROTO_UDP, map[uint64]uint32{1: n}), 0)
	}
	want := map[bpf.Endpoint]uint64{{VIP: netip.AddrPortFrom(vip1, 25), Protocol: unix.IPPROTO_UDP}: 7}
	if diff := cmp.Diff(want, o.ports, equateAddrs); diff != "" {
		t.Errorf("drops (-want +got):\n%s", diff)
	}
}
