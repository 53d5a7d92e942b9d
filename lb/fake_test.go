package lb

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"

	"anycastle/bpf"
)

var errFake = errors.New("refused")

// journal is what a fake data plane and a fake announcer were told, in order.
type journal struct {
	mu      sync.Mutex
	entries []string
}

func (j *journal) add(format string, args ...any) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.entries = append(j.entries, fmt.Sprintf(format, args...))
}

// Write makes a log of it.
func (j *journal) Write(line []byte) (int, error) {
	j.add("%s", line)
	return len(line), nil
}

// take gives what was added since the last take.
func (j *journal) take() []string {
	j.mu.Lock()
	defer j.mu.Unlock()
	defer func() { j.entries = nil }()
	return j.entries
}

// fakePlane holds what it is told and checks that no VIP leads nowhere and no table names a real that is not there.
type fakePlane struct {
	journal
	tables
	failAt int // the n-th change from now fails; 0: none

	behind    bool // packets are forwarded by another version's tables
	probeFrom []int
	tracked   []bpf.TrackedFlow
	broken    []string
}

func newFakePlane() *fakePlane { return &fakePlane{tables: newTables()} }

func (f *fakePlane) change(what string, apply func()) error {
	if f.failAt > 0 {
		if f.failAt--; f.failAt == 0 {
			return errFake
		}
	}
	apply()
	f.add("%s", what)
	for _, slots := range f.slots {
		for _, slot := range slots[:256] { // some of every real
			for _, index := range []uint16{slot.primary, slot.secondary} {
				if _, ok := f.reals[uint32(index)]; index != none && !ok {
					f.broken = append(f.broken, fmt.Sprintf("after %s a table names real %d, which is not there", what, index))
				}
			}
		}
	}
	for key, e := range f.allVIPs() {
		if _, ok := f.slots[e.farm]; !ok {
			f.broken = append(f.broken, fmt.Sprintf("after %s VIP %v leads to farm %d, which has no table", what, key, e.farm))
		}
	}
	return nil
}

func (f *fakePlane) Read() (tables, error) {
	t := f.clone()
	for farm := range f.slots {
		t.slots[farm] = nil
	}
	return t, nil
}

func (f *fakePlane) SetReal(index uint32, r realEntry) error {
	return f.change(fmt.Sprintf("real %d = %v", index, r.addr), func() { f.reals[index] = r })
}

func (f *fakePlane) ClearReal(index uint32) error {
	return f.change(fmt.Sprintf("real %d gone", index), func() { delete(f.reals, index) })
}

func (f *fakePlane) SetSlots(farm uint32, slots []slotPair) error {
	primary, secondary := named(slots)
	what := fmt.Sprintf("table %d of %v", farm, primary)
	if !slices.Equal(primary, secondary) {
		what += fmt.Sprintf(" before %v", secondary)
	}
	return f.change(what, func() { f.slots[farm] = slots })
}

// named gives the reals on either side of a table.
func named(slots []slotPair) (primary, secondary []uint16) {
	for _, s := range slots {
		primary, secondary = append(primary, s.primary), append(secondary, s.secondary)
	}
	return slices.Compact(slices.Sorted(slices.Values(primary))), slices.Compact(slices.Sorted(slices.Values(secondary)))
}

func (f *fakePlane) ClearSlots(farm uint32) error {
	return f.change(fmt.Sprintf("table %d gone", farm), func() { delete(f.slots, farm) })
}

func (f *fakePlane) SetVIP(key vipKey, e vipEntry) error {
	what := fmt.Sprintf("vip %v:%v to %d", key.addr, key.ports, e.farm)
	if e.followAll {
		what += ", following"
	}
	return f.change(what, func() { f.vips[key] = e })
}

func (f *fakePlane) ClearVIP(key vipKey) error {
	return f.change(fmt.Sprintf("vip %v:%v gone", key.addr, key.ports), func() { delete(f.vips, key) })
}

func (f *fakePlane) SetAddress(addr netip.Addr, e addressEntry) error {
	what := fmt.Sprintf("address %v", addr)
	for _, r := range e.ranges {
		what += fmt.Sprintf(", %v to %d", r.key.ports, r.farm)
		if r.followAll {
			what += " following"
		}
	}
	if !e.inService {
		what += ", out of service"
	}
	return f.change(what, func() { f.addresses[addr] = e })
}

func (f *fakePlane) ClearAddress(addr netip.Addr) error {
	return f.change(fmt.Sprintf("address %v gone", addr), func() { delete(f.addresses, addr) })
}

func (f *fakePlane) ForgetFlows() error { return f.change("forget flows", func() {}) }

func (f *fakePlane) TakeOver() ([]string, error) {
	if !f.behind {
		return nil, nil
	}
	return []string{"eth1"}, f.change("take over", func() { f.behind = false })
}

func (f *fakePlane) ProbeFrom(ifindexes []int) error {
	f.probeFrom = ifindexes
	return nil
}

func (f *fakePlane) Explain([]byte, int) (bpf.Trace, []byte, error) { return bpf.Trace{}, nil, errFake }

func (f *fakePlane) StoredFlow(want flow) (uint16, error) {
	for _, t := range f.tracked {
		if (flow{t.Client, t.VIP, t.Proto}) == want {
			return t.Real, nil
		}
	}
	return none, nil
}

func (f *fakePlane) TrackedFlows(*bpf.TrackedCursor) ([]bpf.TrackedFlow, bool, error) {
	return f.tracked, false, nil
}

// fakeAnnouncer writes into the plane's journal, so that the order of both can be seen.
type fakeAnnouncer struct {
	plane  *fakePlane
	fail   bool          // the next Set fails
	busy   chan struct{} // Set waits until it is closed; nil: it does not
	refuse string        // why IPv6 prefixes cannot be announced

	mu     sync.Mutex
	fit    []netip.Prefix // what it announces
	unsure bool
	said   []Health
	times  int // that it was told
}

func (f *fakeAnnouncer) Standing(p netip.Prefix) (announced bool, why string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case p.Addr().Is6() && f.refuse != "":
		return false, f.refuse
	case slices.Contains(f.fit, p):
		return true, "enough reals in service"
	}
	return false, ""
}

// Set is written down only if it changes what is fit: the rest is no step of the order.
func (f *fakeAnnouncer) Set(_ context.Context, health []Health) error {
	prefixes, _ := fit(health)
	if f.busy != nil && !slices.Equal(prefixes, f.fit) { // no other goroutine changes fit
		<-f.busy
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.said = health
	f.times++
	if f.fail && !slices.Equal(prefixes, f.fit) {
		f.fail, f.unsure = false, true
		return errFake
	}
	if f.unsure || !slices.Equal(prefixes, f.fit) {
		f.plane.add("announce %v", prefixes)
	}
	f.fit, f.unsure = prefixes, false
	return nil
}
