package lb

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"anycastle/bpf"
)

// dataplane is where packets are forwarded: the XDP program's maps, or a fake in tests. Every method is idempotent.
type dataplane interface {
	Read() (tables, error) // what is installed; slot tables as nil
	SetReal(index uint32, r realEntry) error
	ClearReal(index uint32) error
	SetSlots(farm uint32, slots []slotPair) error // swapped in whole
	ClearSlots(farm uint32) error
	SetVIP(key vipKey, e vipEntry) error // key has one port
	ClearVIP(key vipKey) error
	SetAddress(addr netip.Addr, e addressEntry) error
	ClearAddress(addr netip.Addr) error
	ForgetFlows() error // that were stored in transitions
	// TakeOver has packets forwarded by what is installed, where the program of another version still forwards them by what
	// that had installed, and gives the names of these uplinks.
	TakeOver() ([]string, error)
	// ProbeFrom has marked packets (bpf.Mark) that leave by exactly these interfaces go to the reals that they name.
	ProbeFrom(ifindexes []int) error
	// Explain has the program say what it would do with a frame, and gives the frame as it would leave.
	Explain(frame []byte, ifindex int) (bpf.Trace, []byte, error)
	StoredFlow(f flow) (real uint16, err error) // the real that a flow is stored with, or none
	TrackedFlows(from *bpf.TrackedCursor) (flows []bpf.TrackedFlow, more bool, err error)
}

// step is one change of the data plane and of our knowledge of it.
type step struct {
	what   string
	apply  func(dataplane) error
	record func(tables)
}

// plan orders the changes from have to want. A real is written before a table that names it, a table before a VIP that
// leads to it, and what goes, goes the other way round: a packet in between finds either the old or the new, never a
// hole. A VIP of one port is written before the ranges of its address and goes after them, so that its packets are not
// offered to a wider one meanwhile. That stored flows are to be followed is said before the table that needs it, and taken
// back after the one that no longer does. Flows stored in earlier transitions are forgotten before the first table that
// would have them followed again: their connections have ended, and the same addresses and ports may be another's.
func plan(have, want tables) []step {
	var steps []step
	add := func(what string, apply func(dataplane) error, record func(tables)) {
		steps = append(steps, step{what, apply, record})
	}
	for _, i := range slices.Sorted(maps.Keys(want.reals)) {
		if r := want.reals[i]; have.reals[i] != r {
			add(fmt.Sprintf("write real %v", r.addr),
				func(dp dataplane) error { return dp.SetReal(i, r) }, func(t tables) { t.reals[i] = r })
		}
	}
	if !have.tracks() && want.tracks() {
		add("forget flows of earlier transitions", dataplane.ForgetFlows, func(tables) {})
	}
	have = have.clone()
	for _, key := range slices.SortedFunc(maps.Keys(want.vips), vipKey.compare) {
		if e, ok := have.vips[key]; ok && e.mustFollow(want.vips[key]) {
			e.followAll = true
			have.vips[key] = e
			add(fmt.Sprintf("follow all flows of vip %v port %v", key.addr, key.ports),
				func(dp dataplane) error { return dp.SetVIP(key, e) }, func(t tables) { t.vips[key] = e })
		}
	}
	for _, addr := range slices.SortedFunc(maps.Keys(want.addresses), netip.Addr.Compare) {
		if e, ok := have.addresses[addr].mustFollow(want.addresses[addr]); ok {
			have.addresses[addr] = e
			add(fmt.Sprintf("follow all flows of address %v", addr),
				func(dp dataplane) error { return dp.SetAddress(addr, e) }, func(t tables) { t.addresses[addr] = e })
		}
	}
	for _, i := range slices.Sorted(maps.Keys(want.slots)) {
		if slots := want.slots[i]; !sameSlots(have.slots[i], slots) {
			add(fmt.Sprintf("swap slot table %d", i),
				func(dp dataplane) error { return dp.SetSlots(i, slots) }, func(t tables) { t.slots[i] = slots })
		}
	}
	for _, key := range slices.SortedFunc(maps.Keys(want.vips), vipKey.compare) {
		e := want.vips[key]
		if old, ok := have.vips[key]; !ok || old != e {
			add(fmt.Sprintf("write vip %v port %v", key.addr, key.ports),
				func(dp dataplane) error { return dp.SetVIP(key, e) }, func(t tables) { t.vips[key] = e })
		}
	}
	for _, addr := range slices.SortedFunc(maps.Keys(want.addresses), netip.Addr.Compare) {
		e := want.addresses[addr]
		if old, ok := have.addresses[addr]; !ok || !old.equal(e) {
			add(fmt.Sprintf("write address %v", addr),
				func(dp dataplane) error { return dp.SetAddress(addr, e) }, func(t tables) { t.addresses[addr] = e })
		}
	}
	return append(steps, planRemovals(have, want)...)
}

func planRemovals(have, want tables) []step {
	var steps []step
	for _, addr := range slices.SortedFunc(maps.Keys(have.addresses), netip.Addr.Compare) {
		if _, ok := want.addresses[addr]; !ok {
			steps = append(steps, step{fmt.Sprintf("remove address %v", addr),
				func(dp dataplane) error { return dp.ClearAddress(addr) }, func(t tables) { delete(t.addresses, addr) }})
		}
	}
	for _, key := range slices.SortedFunc(maps.Keys(have.vips), vipKey.compare) {
		if _, ok := want.vips[key]; !ok {
			steps = append(steps, step{fmt.Sprintf("remove vip %v port %v", key.addr, key.ports),
				func(dp dataplane) error { return dp.ClearVIP(key) }, func(t tables) { delete(t.vips, key) }})
		}
	}
	for _, i := range slices.Sorted(maps.Keys(have.slots)) {
		if _, ok := want.slots[i]; !ok {
			steps = append(steps, step{fmt.Sprintf("remove slot table %d", i),
				func(dp dataplane) error { return dp.ClearSlots(i) }, func(t tables) { delete(t.slots, i) }})
		}
	}
	for _, i := range slices.Sorted(maps.Keys(have.reals)) {
		if _, ok := want.reals[i]; !ok {
			steps = append(steps, step{fmt.Sprintf("remove real %v", have.reals[i].addr),
				func(dp dataplane) error { return dp.ClearReal(i) }, func(t tables) { delete(t.reals, i) }})
		}
	}
	return steps
}

// sameSlots sees at once that a table is the one that is installed, which most are.
func sameSlots(a, b []slotPair) bool {
	return len(a) > 0 && len(b) > 0 && &a[0] == &b[0] || slices.Equal(a, b)
}

// reconcile brings dp from have to want and keeps have true at each step. After an error it can be called again.
func reconcile(dp dataplane, have, want tables) error {
	for _, s := range plan(have, want) {
		if err := s.apply(dp); err != nil {
			return fmt.Errorf("%s: %w", s.what, err)
		}
		s.record(have)
	}
	return nil
}
