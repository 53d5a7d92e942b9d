package lb

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"math/bits"
	"net/netip"
	"slices"

	"anycastle/bpf"
	"anycastle/internal/flowhash"
	"anycastle/internal/nexthop"

	"github.com/cilium/ebpf"
)

// xdp is the dataplane of the XDP program.
type xdp struct {
	lb     *bpf.LB
	marked *bpf.Marked // sends probes on their way
	key    flowhash.Key
}

// openXDP loads the program, or takes over what an earlier process has pinned, and attaches it.
func openXDP(cfg *Config, pinDir string) (*xdp, []bpf.Uplink, error) {
	lb, err := bpf.LoadLB(pinDir, cfg.HashKey)
	if err != nil {
		return nil, nil, err
	}
	uplinks, err := lb.Attach(cfg.Uplinks)
	if err != nil {
		return nil, nil, errors.Join(err, lb.Close())
	}
	marked, err := lb.LoadMarked()
	if err != nil {
		return nil, nil, errors.Join(err, lb.Close())
	}
	return &xdp{lb, marked, flowhash.Key(cfg.HashKey)}, uplinks, nil
}

// Close leaves what is pinned in place.
func (x *xdp) Close() error { return errors.Join(x.marked.Close(), x.lb.Close()) }

// TakeOver implements dataplane.
func (x *xdp) TakeOver() ([]string, error) { return x.lb.TakeOver() }

// ProbeFrom implements dataplane.
func (x *xdp) ProbeFrom(ifindexes []int) error { return x.marked.Attach(ifindexes) }

// Read implements dataplane.
func (x *xdp) Read() (tables, error) {
	have := newTables()
	var address [16]byte
	var a bpf.Address
	addresses := x.lb.Addresses.Iterate()
	for addresses.Next(&address, &a) {
		addr := netip.AddrFrom16(address).Unmap()
		have.addresses[addr] = readAddress(addr, a)
	}
	var key4 bpf.VIPKey4
	var key6 bpf.VIPKey6
	var vip bpf.VIP
	vips4 := x.lb.VIPs4.Iterate()
	for vips4.Next(&key4, &vip) {
		k := vipKey{bpf.NetAddr([4]uint32{key4.Addr}, false), key4.Proto, OnePort(bpf.Port(key4.Port))}
		have.vips[k] = readVIP(vip)
	}
	vips6 := x.lb.VIPs6.Iterate()
	for vips6.Next(&key6, &vip) {
		k := vipKey{bpf.NetAddr(key6.Addr, true), key6.Proto, OnePort(bpf.Port(key6.Port))}
		have.vips[k] = readVIP(vip)
	}
	var index uint32
	var real bpf.Real
	reals := x.lb.Reals.Iterate()
	for reals.Next(&index, &real) {
		if index != none && real.Addr != [4]uint32{} {
			have.reals[index] = readReal(real)
		}
	}
	if err := errors.Join(addresses.Err(), vips4.Err(), vips6.Err(), reals.Err()); err != nil {
		return tables{}, fmt.Errorf("read pinned maps: %w", err)
	}
	farms, err := x.lb.InstalledFarms()
	if err != nil {
		return tables{}, fmt.Errorf("read pinned maps: %w", err)
	}
	for _, farm := range farms {
		have.slots[farm] = nil
	}
	return have, nil
}

func readReal(r bpf.Real) realEntry {
	e := realEntry{realKey: realKey{bpf.NetAddr(r.Addr, r.Flags&bpf.RealIPv6 != 0), r.Kind}}
	if r.Ifindex != 0 {
		e.hop = Hop{
			Source: bpf.NetAddr(r.Source, r.Flags&bpf.RealIPv6 != 0), Ifindex: int(r.Ifindex), MTU: int(r.Mtu),
			DstMAC: r.DstMac, SrcMAC: r.SrcMac, Veth: r.Flags&bpf.RealRedirect != 0,
		}
		for i := range min(int(r.Tags), len(r.Tag)) {
			e.hop.Tags[i] = nexthop.Tag{Proto: bpf.Port(r.Tag[i].Proto), TCI: bpf.Port(r.Tag[i].Tci)}
		}
	}
	return e
}

func readVIP(v bpf.VIP) vipEntry {
	e := vipEntry{farm: v.Farm, index: v.Index, secondChance: v.Flags&bpf.VIPSecondChance != 0,
		followAll: v.Flags&bpf.VIPFollowAll != 0}
	if v.Flags&bpf.VIPHashSource != 0 {
		for _, word := range v.Mask {
			e.sourceBits += uint8(bits.OnesCount32(word))
		}
	}
	return e
}

func writeVIP(addr netip.Addr, e vipEntry) bpf.VIP {
	v := bpf.VIP{Farm: e.farm, Index: e.index}
	if e.secondChance {
		v.Flags |= bpf.VIPSecondChance
	}
	if e.followAll {
		v.Flags |= bpf.VIPFollowAll
	}
	if e.sourceBits > 0 {
		v.Flags |= bpf.VIPHashSource
		ones := netip.AddrFrom4([4]byte{255, 255, 255, 255})
		if addr.Is6() {
			ones = netip.AddrFrom16([16]byte(bytes.Repeat([]byte{255}, 16)))
		}
		mask, _ := ones.Prefix(int(e.sourceBits)) // no more than the address has
		v.Mask = bpf.Addr(mask.Addr())
	}
	return v
}

func readAddress(addr netip.Addr, a bpf.Address) addressEntry {
	e := addressEntry{inService: a.Flags&bpf.AddressInService != 0}
	for _, r := range a.Range[:min(a.Ranges, bpf.MaxRanges)] {
		e.ranges = append(e.ranges, rangeEntry{vipKey{addr, r.Proto, Ports{r.Low, r.High}}, readVIP(r.Vip)})
	}
	return e
}

// SetReal implements dataplane. The kernel copies the entry without a lock; a packet in that moment may be sent to a mix
// of the old and the new next hop and be lost, as one sent to the old next hop would be.
func (x *xdp) SetReal(index uint32, r realEntry) error {
	v := bpf.Real{Addr: bpf.Addr(r.addr), Kind: r.kind}
	if r.addr.Is6() {
		v.Flags = bpf.RealIPv6
	}
	if r.hop.Resolved() {
		v.Source = bpf.Addr(r.hop.Source)
		v.Ifindex = uint32(r.hop.Ifindex)
		v.Mtu = uint16(min(r.hop.MTU, math.MaxUint16))
		v.Sum = bpf.OuterSum(r.hop.Source, r.addr)
		v.DstMac = r.hop.DstMAC
		v.SrcMac = r.hop.SrcMAC
		if r.hop.Veth {
			v.Flags |= bpf.RealRedirect
		}
		for i, tag := range r.hop.Tags {
			if tag != (nexthop.Tag{}) {
				v.Tag[i].Proto, v.Tag[i].Tci = bpf.Port(tag.Proto), bpf.Port(tag.TCI)
				v.Tags = uint8(i + 1)
			}
		}
	}
	return x.lb.Reals.Put(index, v)
}

// ClearReal implements dataplane.
func (x *xdp) ClearReal(index uint32) error { return x.lb.Reals.Put(index, bpf.Real{}) }

// SetSlots implements dataplane.
func (x *xdp) SetSlots(farm uint32, slots []slotPair) error {
	pairs := make([]bpf.Slot, len(slots))
	for i, s := range slots {
		pairs[i] = bpf.Slot{Primary: s.primary, Secondary: s.secondary}
	}
	table, err := x.lb.NewTable(pairs)
	if err != nil {
		return err
	}
	// the outer map keeps the table from here on
	return errors.Join(x.lb.Farms.Put(farm, table), table.Close())
}

// ClearSlots implements dataplane.
func (x *xdp) ClearSlots(farm uint32) error { return ignoreMissing(x.lb.Farms.Delete(farm)) }

// SetVIP implements dataplane.
func (x *xdp) SetVIP(k vipKey, e vipEntry) error {
	if err := x.startCounter(k, e.index); err != nil {
		return err
	}
	m, key := x.vipMap(k)
	return m.Put(key, writeVIP(k.addr, e))
}

// ClearVIP implements dataplane.
func (x *xdp) ClearVIP(k vipKey) error {
	m, key := x.vipMap(k)
	return ignoreMissing(m.Delete(key))
}

func (x *xdp) vipMap(k vipKey) (m *ebpf.Map, key any) {
	if k.addr.Is4() {
		return x.lb.VIPs4, bpf.VIPKey4{Addr: bpf.Addr4(k.addr), Port: bpf.Port(k.ports.Low), Proto: k.proto}
	}
	return x.lb.VIPs6, bpf.VIPKey6{Addr: bpf.Addr(k.addr), Port: bpf.Port(k.ports.Low), Proto: k.proto}
}

// startCounter clears the counter of a VIP that does not have it yet: it starts from 0, whoever had that counter before.
func (x *xdp) startCounter(k vipKey, index uint32) error {
	if k.ports.single() {
		m, key := x.vipMap(k)
		var old bpf.VIP
		if err := m.Lookup(key, &old); err == nil && old.Index == index {
			return nil
		}
	} else {
		var a bpf.Address
		if err := x.lb.Addresses.Lookup(bpf.AddressKey(k.addr), &a); err == nil {
			for _, r := range readAddress(k.addr, a).ranges {
				if r.key == k && r.index == index {
					return nil
				}
			}
		}
	}
	cpus, err := ebpf.PossibleCPU()
	if err != nil {
		return err
	}
	if err := x.lb.Counts.Put(index, make([]bpf.Count, cpus)); err != nil {
		return fmt.Errorf("clear counter: %w", err)
	}
	return nil
}

// SetAddress implements dataplane.
func (x *xdp) SetAddress(addr netip.Addr, e addressEntry) error {
	var a bpf.Address
	if e.inService {
		a.Flags = bpf.AddressInService
	}
	for i, r := range e.ranges {
		if err := x.startCounter(r.key, r.index); err != nil {
			return err
		}
		a.Range[i].Low, a.Range[i].High, a.Range[i].Proto = r.key.ports.Low, r.key.ports.High, r.key.proto
		a.Range[i].Vip = writeVIP(addr, r.vipEntry)
	}
	a.Ranges = uint32(len(e.ranges))
	return x.lb.Addresses.Put(bpf.AddressKey(addr), a)
}

// ForgetFlows implements dataplane.
func (x *xdp) ForgetFlows() error { return x.lb.ForgetFlows() }

// Explain implements dataplane.
func (x *xdp) Explain(frame []byte, ifindex int) (bpf.Trace, []byte, error) {
	return x.lb.Explain(frame, ifindex)
}

// StoredFlow implements dataplane.
func (x *xdp) StoredFlow(f flow) (uint16, error) {
	real, err := x.lb.StoredFlow(f.hash(x.key))
	if err != nil {
		return none, fmt.Errorf("look for the flow in the store: %w", err)
	}
	return real, nil
}

// TrackedFlows implements dataplane.
func (x *xdp) TrackedFlows(from *bpf.TrackedCursor) ([]bpf.TrackedFlow, bool, error) {
	flows, more, err := x.lb.TrackedFlows(from)
	flows = slices.DeleteFunc(flows, func(t bpf.TrackedFlow) bool {
		return t.ID != x.lb.FlowID(flow{t.Client, t.VIP, t.Proto}.hash(x.key))
	})
	return flows, more, err
}

// ClearAddress implements dataplane.
func (x *xdp) ClearAddress(addr netip.Addr) error {
	return ignoreMissing(x.lb.Addresses.Delete(bpf.AddressKey(addr)))
}

func ignoreMissing(err error) error {
	if errors.Is(err, ebpf.ErrKeyNotExist) {
		return nil
	}
	return err
}

// Forwarded gives what was sent to reals for a VIP.
func (x *xdp) Forwarded(e vipEntry) (packets, bytes uint64, err error) {
	c, err := bpf.SumCount(x.lb.Counts, e.index)
	return c.Packets, c.Bytes, err
}

// Drops gives the dropped packets by reason.
func (x *xdp) Drops() (map[string]uint64, error) { return x.lb.Drops() }

// Replies gives what the program answered itself.
func (x *xdp) Replies() (bpf.Replies, error) { return x.lb.Replies() }

// Displaced gives how many stored flows had to make room for others.
func (x *xdp) Displaced() (uint64, error) { return x.lb.Displaced() }
