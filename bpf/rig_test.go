package bpf

import (
	"errors"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/ringbuf"
)

// Sizes of a rig's maps. The kernel makes every entry of a map before the map is used, which takes ten times as long for
// those of the product as loading the program does.
const (
	rigFlows   = 256
	rigCounts  = 16
	rigFarms   = 64
	rigAddress = 16
	rigReals   = 16 // in use; the map has its full size
)

// rig is a balancer with small maps, and with the reals and VIPs of the cases.
type rig struct {
	*LB
	farms map[Slot]uint32 // whose slots are all the same
	held  *ringbuf.Reader
	clean bool // the maps are where every case begins, but for the counters
}

// loadSmall gives a balancer with small maps.
func loadSmall(dir string) (*LB, error) {
	spec, err := loadLb()
	if err != nil {
		return nil, err
	}
	for name, size := range map[string]uint32{
		lbMapFlows: rigFlows, lbMapFlowNames: rigFlows, lbMapFragments: rigFlows, lbMapCounts: rigCounts, lbMapFarms: rigFarms, lbMapAddresses: rigAddress,
	} {
		spec.Maps[name].MaxEntries = size
	}
	return loadLBSpec(spec, dir, hashKey)
}

func newRig(t testing.TB) *rig {
	t.Helper()
	lb, err := loadSmall(pinDir(t))
	put(t, err)
	t.Cleanup(func() { lb.Close() })
	r := &rig{LB: lb, farms: map[Slot]uint32{}}
	r.held, err = ringbuf.NewReader(lb.objs.Held)
	put(t, err)
	t.Cleanup(func() { r.held.Close() })
	r.reset(t)
	return r
}

// reset brings the maps to where every case begins: all slots hold ipip4.
func (r *rig) reset(t testing.TB) {
	t.Helper()
	for _, m := range []*ebpf.Map{r.VIPs4, r.VIPs6, r.Addresses, r.Fragments, r.objs.Uplinks} {
		clearMap(t, m)
	}
	put(t, r.ForgetFlows())
	entries := make([]Real, rigReals)
	for _, x := range targets {
		entries[x.index] = x.real()
	}
	_, err := r.Reals.BatchUpdate(numbers(rigReals), entries, nil)
	put(t, err)
	put(t, r.objs.Buckets.Put(uint32(0), make([]lbBucket, ebpf.MustPossibleCPU())))
	put(t, r.Addresses.Put(AddressKey(vipTCP.Addr()), Address{Flags: AddressInService}))
	put(t, r.Addresses.Put(AddressKey(vipTCP6.Addr()), Address{Flags: AddressInService}))
	r.setVIPs(t, steady(ipip4), func(*VIP) {})
	r.forget(t)
	r.clean = true
}

// setVIPs has all slots of the VIPs' farm as given, and changes each VIP.
func (r *rig) setVIPs(t testing.TB, slot Slot, change func(v *VIP)) {
	t.Helper()
	v := VIP{Farm: r.farm(t, slot), Index: vipIndex}
	change(&v)
	put(t, r.VIPs4.Put(VIPKey4{Addr: Addr4(vipTCP.Addr()), Port: Port(25), Proto: 6}, v))
	put(t, r.VIPs4.Put(VIPKey4{Addr: Addr4(vipUDP.Addr()), Port: Port(53), Proto: 17}, v))
	v = VIP{Farm: r.farm(t, slot), Index: vip6Index}
	change(&v)
	put(t, r.VIPs6.Put(VIPKey6{Addr: Addr(vipTCP6.Addr()), Port: Port(25), Proto: 6}, v))
	put(t, r.VIPs6.Put(VIPKey6{Addr: Addr(vipUDP6.Addr()), Port: Port(53), Proto: 17}, v))
}

// farm gives a farm all slots of which are as given. It is made once: to change one takes the kernel milliseconds, after
// which no program can be reading the table before.
func (r *rig) farm(t testing.TB, slot Slot) uint32 {
	t.Helper()
	farm, ok := r.farms[slot]
	if !ok {
		slots := make([]Slot, Slots)
		for i := range slots {
			slots[i] = slot
		}
		farm = uint32(len(r.farms)) + 1
		r.farms[slot] = farm
		setFarm(t, r.LB, farm, slots)
	}
	return farm
}

// forget sets every counter to 0 and empties the ring of held frames.
func (r *rig) forget(t testing.TB) {
	t.Helper()
	cpus := ebpf.MustPossibleCPU()
	reset(t, r.drops, make([]uint64, int(lbReasonREASON_MAX)*cpus))
	reset(t, r.objs.Replies, make([]uint64, int(lbReplyREPLY_MAX)*cpus))
	reset(t, r.objs.CaptureLost, make([]uint64, cpus))
	reset(t, r.Counts, make([]Count, rigCounts*cpus))
	r.takeHeld(t)
}

// reset writes every entry of an array for each CPU.
func reset[T any](t testing.TB, m *ebpf.Map, perCPU []T) {
	t.Helper()
	_, err := m.BatchUpdate(numbers(int(m.MaxEntries())), perCPU, nil)
	put(t, err)
}

func numbers(n int) []uint32 {
	all := make([]uint32, n)
	for i := range all {
		all[i] = uint32(i)
	}
	return all
}

// takeHeld gives the records in the ring of fragments that came early.
func (r *rig) takeHeld(t testing.TB) []Captured {
	t.Helper()
	return drain(t, r.held)
}

// drain gives what is in a ring.
func drain(t testing.TB, ring *ringbuf.Reader) []Captured {
	t.Helper()
	if ring.AvailableBytes() == 0 {
		return nil
	}
	var all []Captured
	put(t, ring.Flush())
	for {
		record, err := ring.Read()
		if errors.Is(err, ringbuf.ErrFlushed) {
			return all
		}
		put(t, err)
		c, err := parseRecord(record.RawSample)
		put(t, err)
		all = append(all, c)
	}
}

// moved is every counter that is not 0, and what is in the maps that the program writes.
type moved struct {
	Drops     map[string]uint64
	VIPs      map[uint32]Count
	Replies   Replies
	Flows     map[FlowID]uint16
	Fragments map[FragmentKey]Fragment // without the time
	Lost      uint64
}

func (r *rig) moved(t testing.TB) moved {
	t.Helper()
	m := moved{Drops: r.dropped(t), VIPs: r.counts(t)}
	var err error
	m.Replies, err = r.Replies()
	put(t, err)
	m.Lost, err = r.CaptureLost()
	put(t, err)
	m.Flows, err = r.StoredFlows()
	put(t, err)
	m.Fragments = dump[FragmentKey, Fragment](t, r.Fragments)
	for key, f := range m.Fragments {
		f.At = 0
		m.Fragments[key] = f
	}
	return m
}

func (r *rig) counts(t testing.TB) map[uint32]Count {
	t.Helper()
	counts := map[uint32]Count{}
	for index, perCPU := range readCPUs[Count](t, r.Counts) {
		var sum Count
		for _, c := range perCPU {
			sum.Packets += c.Packets
			sum.Bytes += c.Bytes
		}
		if sum != (Count{}) {
			counts[index] = sum
		}
	}
	return counts
}

// dropped gives the drops by reason. Drops would ask for each reason by itself.
func (p *program) dropped(t testing.TB) map[string]uint64 {
	t.Helper()
	drops := map[string]uint64{}
	for reason, perCPU := range readCPUs[uint64](t, p.drops) {
		for _, n := range perCPU {
			if n != 0 {
				drops[ReasonName(reason)] += n
			}
		}
	}
	return drops
}

// readCPUs gives every entry of an array for each CPU.
func readCPUs[T any](t testing.TB, m *ebpf.Map) map[uint32][]T {
	t.Helper()
	cpus, size := ebpf.MustPossibleCPU(), int(m.MaxEntries())
	indexes, perCPU := make([]uint32, size), make([]T, size*cpus)
	var cursor ebpf.MapBatchCursor
	n, err := m.BatchLookup(&cursor, indexes, perCPU, nil)
	if err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) || n != size {
		t.Fatalf("%d of %d entries read: %v", n, size, err)
	}
	all := map[uint32][]T{}
	for i, index := range indexes {
		all[index] = perCPU[i*cpus : (i+1)*cpus]
	}
	return all
}

func dump[K comparable, V any](t testing.TB, m *ebpf.Map) map[K]V {
	t.Helper()
	all := map[K]V{}
	var key K
	var value V
	entries := m.Iterate()
	for entries.Next(&key, &value) {
		all[key] = value
	}
	put(t, entries.Err())
	return all
}
