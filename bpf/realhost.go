package bpf

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/ringbuf"
)

// RealHost is the decapsulating program of a real and its maps; for concurrent use see LB.
type RealHost struct {
	program
	objs realObjects
}

// Hop is the way to another real: where frames towards it leave, and between which MAC addresses.
type Hop struct {
	Ifindex        int
	DstMAC, SrcMAC [6]byte
}

// LoadReal loads the decapsulator with its maps pinned in dir, and takes over maps that are pinned there already.
func LoadReal(dir string) (*RealHost, error) {
	spec, err := loadReal()
	if err != nil {
		return nil, err
	}
	return loadRealSpec(spec, dir)
}

func loadRealSpec(spec *ebpf.CollectionSpec, dir string) (*RealHost, error) {
	r := &RealHost{}
	at, err := load(spec, &r.objs, dir)
	if err != nil {
		return nil, err
	}
	r.program = newProgram(r.objs.Real, r.objs.realMaps.Drops, &r.objs, at)
	return r, nil
}

// SetAddresses makes own all that encapsulated packets may be addressed to, and vips all that may be inside.
func (r *RealHost) SetAddresses(own, vips []netip.Addr) error {
	if err := fillSet(r.objs.OwnAddresses, own); err != nil {
		return fmt.Errorf("write own addresses: %w", err)
	}
	if err := fillSet(r.objs.VipAddresses, vips); err != nil {
		return fmt.Errorf("write VIPs: %w", err)
	}
	return nil
}

// fillSet adds before it removes, so that an address that stays is never missing.
func fillSet(m *ebpf.Map, addrs []netip.Addr) error {
	wanted := map[[16]byte]bool{}
	for _, a := range addrs {
		wanted[AddressKey(a)] = true
		if err := m.Put(AddressKey(a), uint8(1)); err != nil {
			return err
		}
	}
	var stale [][16]byte
	var key [16]byte
	var value uint8
	entries := m.Iterate()
	for entries.Next(&key, &value) {
		if !wanted[key] {
			stale = append(stale, key)
		}
	}
	for _, key := range stale {
		if err := m.Delete(key); err != nil {
			return err
		}
	}
	return entries.Err()
}

// SetUplinkFlags says how packets that are passed on leave by an interface: RealRedirect, or 0.
func (r *RealHost) SetUplinkFlags(ifindex int, flags uint32) error {
	if err := r.objs.RealUplinks.Put(uint32(ifindex), flags); err != nil {
		return fmt.Errorf("write uplink %d: %w", ifindex, err)
	}
	return nil
}

// SetHop says how to reach another real that packets are passed on to.
func (r *RealHost) SetHop(to netip.Addr, h Hop) error {
	v := realHop{Ifindex: uint32(h.Ifindex), DstMac: h.DstMAC, SrcMac: h.SrcMAC}
	if err := r.objs.Hops.Put(AddressKey(to), v); err != nil {
		return fmt.Errorf("write the way to %v: %w", to, err)
	}
	return nil
}

// ClearHop has packets for another real leave the way that they came.
func (r *RealHost) ClearHop(to netip.Addr) error {
	if err := r.objs.Hops.Delete(AddressKey(to)); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
		return fmt.Errorf("remove the way to %v: %w", to, err)
	}
	return nil
}

// ClearHops removes every way to another real.
func (r *RealHost) ClearHops() error {
	var stale [][16]byte
	var key [16]byte
	var value realHop
	entries := r.objs.Hops.Iterate()
	for entries.Next(&key, &value) {
		stale = append(stale, key)
	}
	if err := entries.Err(); err != nil {
		return fmt.Errorf("list ways to other reals: %w", err)
	}
	for _, key := range stale {
		if err := r.ClearHop(netip.AddrFrom16(key).Unmap()); err != nil {
			return err
		}
	}
	return nil
}

// Wanted reports the addresses of reals that packets are passed on to and that SetHop was not called for, as often as
// such packets come, until ctx is done.
func (r *RealHost) Wanted(ctx context.Context, report func(netip.Addr)) error {
	return readRing(ctx, r.objs.Wanted, func(record []byte) {
		if len(record) == 16 {
			report(netip.AddrFrom16([16]byte(record)).Unmap())
		}
	})
}

// readRing hands every record of a ring buffer to handle until ctx is done.
func readRing(ctx context.Context, ring *ebpf.Map, handle func(record []byte)) error {
	reader, err := ringbuf.NewReader(ring)
	if err != nil {
		return fmt.Errorf("open a ring buffer: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { reader.Close() })
	defer func() {
		if stop() {
			reader.Close()
		}
	}()
	for {
		record, err := reader.Read()
		switch {
		case errors.Is(err, ringbuf.ErrClosed):
			return nil
		case err != nil:
			return fmt.Errorf("read a ring buffer: %w", err)
		}
		handle(record.RawSample)
	}
}

// Decapsulated sums what was handed to the kernel without its outer header.
func (r *RealHost) Decapsulated() (Count, error) { return r.taken(takenHere) }

// PassedOn sums what was sent on to another real, which had the flow before.
func (r *RealHost) PassedOn() (Count, error) { return r.taken(takenOn) }

// Indexes into the map of what was taken, as in headers/decap.h.
const (
	takenHere = 0
	takenOn   = 1
)

func (r *RealHost) taken(which uint32) (Count, error) {
	return SumCount(r.objs.Taken, which)
}
