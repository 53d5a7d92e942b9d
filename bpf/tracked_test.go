package bpf

import (
	"cmp"
	"net/netip"
	"slices"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// readTracked reads all stored flows.
func readTracked(t *testing.T, lb *LB) []TrackedFlow {
	t.Helper()
	var from TrackedCursor
	var all []TrackedFlow
	for more := true; more; {
		var some []TrackedFlow
		var err error
		some, more, err = lb.TrackedFlows(&from)
		put(t, err)
		all = append(all, some...)
	}
	slices.SortFunc(all, func(a, b TrackedFlow) int {
		return cmp.Or(a.Client.Compare(b.Client), a.VIP.Compare(b.VIP), cmp.Compare(a.Proto, b.Proto))
	})
	return all
}

// TestTrackedFlows has the program store flows of both families, and reads them back.
func TestTrackedFlows(t *testing.T) {
	r := newRig(t)
	if got := readTracked(t, r.LB); len(got) != 0 {
		t.Errorf("stored in the steady state: %v", got)
	}
	r.setVIPs(t, Slot{Primary: gue4.index, Secondary: ipip4.index}, func(*VIP) {})
	for _, frame := range []made{with(tcp, opening), with(tcp6, opening), tcp, udp} {
		if _, _, err := r.prog.Test(frame().Bytes(t)); err != nil {
			t.Fatal(err)
		}
	}
	real := uint16(gue4.index)
	want := []TrackedFlow{{client, vipTCP, 6, real}, {client6, vipTCP6, 6, real}}
	if diff := gocmp.Diff(want, readTracked(t, r.LB), cmpopts.EquateComparable(netip.AddrPort{})); diff != "" {
		t.Errorf("stored (-want +got):\n%s", diff)
	}
}

// TestManyTrackedFlows reads more than one batch.
func TestManyTrackedFlows(t *testing.T) {
	spec, err := loadLb()
	put(t, err)
	spec.Maps[lbMapFlows].MaxEntries = 4 * trackedBatch // an LRU map forgets before it is full
	lb, err := loadLBSpec(spec, pinDir(t), hashKey)
	put(t, err)
	defer lb.Close()
	const n = 2*trackedBatch + 17
	keys, reals := make([]Flow, n), make([]uint32, n)
	for i := range keys {
		keys[i] = Flow{Src: Addr(netip.AddrFrom4([4]byte{192, 0, 2, byte(i >> 16)})), Dst: Addr(vipTCP.Addr()),
			SrcPort: Port(uint16(i)), DstPort: Port(25), Proto: 6, Family: 4}
		reals[i] = uint32(i%100 + 1)
	}
	_, err = lb.Flows.BatchUpdate(keys, reals, nil)
	put(t, err)
	got := readTracked(t, lb)
	if len(got) != n {
		t.Fatalf("%d flows, want %d", len(got), n)
	}
	for i, f := range got {
		if f.Client.Port() != uint16(i) || f.Real != uint16(i%100+1) || f.VIP != vipTCP {
			t.Fatalf("flow %d is %+v", i, f)
		}
	}
}
