package real

import (
	"log/slog"
	"maps"
	"net/netip"
	"testing"
	"time"

	"anycastle/bpf"
	"anycastle/internal/nexthop"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// fakeHops keeps what is installed, and counts the calls.
type fakeHops struct {
	hops  map[netip.Addr]bpf.Hop
	calls int
}

func (f *fakeHops) SetHop(to netip.Addr, h bpf.Hop) error {
	f.calls++
	f.hops[to] = h
	return nil
}

func (f *fakeHops) ClearHop(to netip.Addr) error {
	f.calls++
	delete(f.hops, to)
	return nil
}

func TestHopsFollowTheKernel(t *testing.T) {
	mx1, mx2 := netip.MustParseAddr("198.51.100.9"), netip.MustParseAddr("2001:db8::10")
	f := &fakeHops{hops: map[netip.Addr]bpf.Hop{}}
	k := hopKeeper{host: f, log: slog.New(slog.DiscardHandler), have: map[netip.Addr]bpf.Hop{}}
	good := nexthop.Hop{Ifindex: 2, DstMAC: [6]byte{1}, SrcMAC: [6]byte{2}}
	tagged := good
	tagged.Tags[0] = nexthop.Tag{Proto: 0x8100, TCI: 7}
	for _, tc := range []struct {
		name  string
		hops  map[netip.Addr]nexthop.Hop
		want  []netip.Addr
		calls int
	}{
		{"resolved", map[netip.Addr]nexthop.Hop{mx1: good, mx2: good}, []netip.Addr{mx1, mx2}, 2},
		{"the same again", map[netip.Addr]nexthop.Hop{mx1: good, mx2: good}, []netip.Addr{mx1, mx2}, 0},
		{"one is lost", map[netip.Addr]nexthop.Hop{mx1: good, mx2: {Why: "no route"}}, []netip.Addr{mx1}, 1},
		{"one is forgotten", map[netip.Addr]nexthop.Hop{mx2: {Why: "no route"}}, nil, 1},
		{"through a vlan", map[netip.Addr]nexthop.Hop{mx1: tagged}, nil, 0},
	} {
		f.calls = 0
		if err := k.install(tc.hops); err != nil {
			t.Fatal(err)
		}
		got := maps.Clone(f.hops)
		want := map[netip.Addr]bpf.Hop{}
		for _, a := range tc.want {
			want[a] = bpf.Hop{Ifindex: 2, DstMAC: [6]byte{1}, SrcMAC: [6]byte{2}}
		}
		if diff := cmp.Diff(want, got, cmpopts.EquateComparable(netip.Addr{})); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tc.name, diff)
		}
		if f.calls != tc.calls {
			t.Errorf("%s: %d calls, want %d", tc.name, f.calls, tc.calls)
		}
	}
}

func TestIdleHopsAreForgotten(t *testing.T) {
	now := time.Now()
	k := hopKeeper{asked: map[netip.Addr]time.Time{
		netip.MustParseAddr("198.51.100.9"):  now.Add(-hopIdle - time.Second),
		netip.MustParseAddr("198.51.100.10"): now.Add(-hopIdle / 2),
	}}
	k.forget(now)
	if addrs := k.addrs(); len(addrs) != 1 || addrs[0] != netip.MustParseAddr("198.51.100.10") {
		t.Errorf("kept %v", addrs)
	}
}
