package bpf

import (
	"cmp"
	"net/netip"
	"slices"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/gopacket/gopacket/layers"
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
	want := []TrackedFlow{{client, vipTCP, 6, real, flowID(tcp())}, {client6, vipTCP6, 6, real, flowID(tcp6())}}
	if diff := gocmp.Diff(want, readTracked(t, r.LB), cmpopts.EquateComparable(netip.AddrPort{})); diff != "" {
		t.Errorf("stored (-want +got):\n%s", diff)
	}
}

// TestManyTrackedFlows reads more than one batch.
func TestManyTrackedFlows(t *testing.T) {
	lb := newLB(t)
	setTable(t, lb, slotsOf(moving(ipip4, ipip6)))
	put(t, lb.Reals.Put(uint32(ipip4.index), ipip4.real()))
	const n = 2000
	for i := range n {
		f := tcp()
		opening(f)
		f.L4.(*layers.TCP).SrcPort = layers.TCPPort(i + 1)
		_, _, err := lb.prog.Test(f.Bytes(t))
		put(t, err)
	}
	got := readTracked(t, lb)
	if len(got) != n {
		t.Fatalf("%d flows, want %d", len(got), n)
	}
	for i, f := range got {
		if f.Client.Port() != uint16(i+1) || f.Real != ipip4.index || f.VIP != vipTCP {
			t.Fatalf("flow %d is %+v", i, f)
		}
	}
}

func slotsOf(s Slot) []Slot {
	slots := make([]Slot, Slots)
	for i := range slots {
		slots[i] = s
	}
	return slots
}
