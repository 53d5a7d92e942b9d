package lb

import (
	"errors"
	"fmt"
	"math"
	"net/netip"

	"anycastle/bpf"

	"github.com/cilium/ebpf"
)

// xdp is the dataplane of the XDP program.
type xdp struct{ lb *bpf.LB }

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
	return &xdp{lb: lb}, uplinks, nil
}

// Close leaves what is pinned in place.
func (x *xdp) Close() error { return x.lb.Close() }

// Read implements dataplane.
func (x *xdp) Read() (tables, error) {
	have := newTables()
	var address [16]byte
	var a bpf.Address
	addresses := x.lb.Addresses.Iterate()
	for addresses.Next(&address, &a) {
		have.vips[vipKey{addr: netip.AddrFrom16(address).Unmap()}] = vipEntry{}
	}
	var key bpf.VIPKey4
	var vip bpf.VIP
	vips := x.lb.VIPs4.Iterate()
	for vips.Next(&key, &vip) {
		k := vipKey{addr: bpf.NetAddr([4]uint32{key.Addr}, false), proto: key.Proto, port: bpf.Port(key.Port)}
		have.vips[k] = vipEntry{farm: vip.Farm, index: vip.Index}
	}
	var index uint32
	var real bpf.Real
	reals := x.lb.Reals.Iterate()
	for reals.Next(&index, &real) {
		if index != none && real.Addr != [4]uint32{} {
			have.reals[index] = readReal(real)
		}
	}
	if err := errors.Join(addresses.Err(), vips.Err(), reals.Err()); err != nil {
		return tables{}, fmt.Errorf("read pinned maps: %w", err)
	}
	for farm := range uint32(bpf.MaxFarms) {
		var id uint32
		err := x.lb.Farms.Lookup(farm, &id)
		switch {
		case err == nil:
			have.slots[farm] = nil
		case !errors.Is(err, ebpf.ErrKeyNotExist):
			return tables{}, fmt.Errorf("read pinned slot table %d: %w", farm, err)
		}
	}
	return have, nil
}

func readReal(r bpf.Real) realEntry {
	e := realEntry{addr: bpf.NetAddr(r.Addr, r.Flags&bpf.RealIPv6 != 0)}
	if r.Ifindex != 0 {
		e.hop = Hop{
			Source: bpf.NetAddr(r.Source, r.Flags&bpf.RealIPv6 != 0), Ifindex: int(r.Ifindex), MTU: int(r.Mtu),
			DstMAC: r.DstMac, SrcMAC: r.SrcMac, Veth: r.Flags&bpf.RealRedirect != 0,
		}
	}
	return e
}

// SetReal implements dataplane. The kernel copies the entry without a lock; a packet in that moment may be sent to a mix
// of the old and the new next hop and be lost, as one sent to the old next hop would be.
func (x *xdp) SetReal(index uint32, r realEntry) error {
	v := bpf.Real{Addr: bpf.Addr(r.addr)}
	if r.hop.Resolved() {
		v.Source = bpf.Addr(r.hop.Source)
		v.Ifindex = uint32(r.hop.Ifindex)
		v.Mtu = uint16(min(r.hop.MTU, math.MaxUint16))
		v.Sum = bpf.OuterSum(r.hop.Source, r.addr)
		v.DstMac = r.hop.DstMAC
		v.SrcMac = r.hop.SrcMAC
		if r.hop.Veth {
			v.Flags = bpf.RealRedirect
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

// SetVIP implements dataplane. A VIP with a new counter starts from 0, whoever had that counter before.
func (x *xdp) SetVIP(k vipKey, e vipEntry) error {
	if k.isAddress() {
		return x.lb.Addresses.Put(bpf.AddressKey(k.addr), bpf.Address{})
	}
	var old bpf.VIP
	if err := x.lb.VIPs4.Lookup(xdpKey(k), &old); err != nil || old.Index != e.index {
		cpus, err := ebpf.PossibleCPU()
		if err != nil {
			return err
		}
		if err := x.lb.Counts.Put(e.index, make([]bpf.Count, cpus)); err != nil {
			return fmt.Errorf("clear counter: %w", err)
		}
	}
	return x.lb.VIPs4.Put(xdpKey(k), bpf.VIP{Farm: e.farm, Index: e.index})
}

// ClearVIP implements dataplane.
func (x *xdp) ClearVIP(k vipKey) error {
	if k.isAddress() {
		return ignoreMissing(x.lb.Addresses.Delete(bpf.AddressKey(k.addr)))
	}
	return ignoreMissing(x.lb.VIPs4.Delete(xdpKey(k)))
}

func xdpKey(k vipKey) bpf.VIPKey4 {
	return bpf.VIPKey4{Addr: bpf.Addr4(k.addr), Port: bpf.Port(k.port), Proto: k.proto}
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
