package bpf

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"path/filepath"

	"github.com/cilium/ebpf"
)

// Watch are the two TC programs on a real's uplinks that count what becomes of new connections, and their maps. Its
// methods must not be called concurrently, except Tallies and Add.
type Watch struct {
	objs watchObjects
	dir  string
	lock io.Closer
}

// Endpoint is a port of a VIP, the address never IPv4 in the IPv6 form. Port 0 stands for all ports that are not counted
// by themselves.
type Endpoint struct {
	VIP      netip.AddrPort
	Protocol uint8
}

// Compare sorts endpoints.
func (e Endpoint) Compare(o Endpoint) int {
	return cmp.Or(e.VIP.Compare(o.VIP), cmp.Compare(e.Protocol, o.Protocol))
}

// Tally is what became of connections to an endpoint: Syns asked for one, SynAcks were the answers, Refused were refused
// (RST to a SYN, ICMP port unreachable), Resets are all other RST that were sent.
type Tally struct{ Syns, SynAcks, Refused, Resets uint64 }

// LoadWatch loads the programs with their maps pinned in dir, and takes over maps that are pinned there already: their
// counts go on.
func LoadWatch(dir string) (*Watch, error) {
	spec, err := loadWatch()
	if err != nil {
		return nil, err
	}
	w := &Watch{dir: dir}
	at, err := load(spec, &w.objs, dir)
	if err != nil {
		return nil, err
	}
	w.lock = at.lock
	if err := w.adoptRecords(); err != nil {
		return nil, errors.Join(err, w.Close())
	}
	return w, nil
}

// adoptRecords takes over from maps of another shape where the programs are. Their counts begin anew.
func (w *Watch) adoptRecords() error {
	paths, err := filepath.Glob(filepath.Join(w.dir, "maps-*", watchMapAttached))
	if err != nil {
		return err
	}
	for _, path := range paths {
		if filepath.Base(filepath.Dir(path)) == layout {
			continue
		}
		old, err := ebpf.LoadPinnedMap(path, nil)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return fmt.Errorf("open a map of another version: %w", err)
		}
		records, err := readRecords(old)
		err = errors.Join(err, old.Close())
		for index, how := range records {
			err = errors.Join(err, w.record(index, how))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

var watchedProtocols = []uint8{6, 17}

// SetVIPs makes vips all that is watched. The counts of others are dropped.
func (w *Watch) SetVIPs(vips []netip.Addr) error {
	wanted := map[netip.Addr]bool{}
	for _, v := range vips {
		wanted[v] = true
		for _, proto := range watchedProtocols {
			if err := w.Add(Endpoint{netip.AddrPortFrom(v, 0), proto}); err != nil {
				return err
			}
		}
	}
	if err := fillSet(w.objs.Watched, vips); err != nil {
		return fmt.Errorf("write the VIPs to watch: %w", err)
	}
	tallies, err := w.Tallies()
	if err != nil {
		return err
	}
	for e := range tallies {
		if wanted[e.VIP.Addr()] {
			continue
		}
		if err := w.objs.Endpoints.Delete(e.key()); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return fmt.Errorf("drop the counts of %v: %w", e.VIP, err)
		}
	}
	return nil
}

// Add counts an endpoint by itself from now on, if it is not already. One that answers a SYN is added by the program.
func (w *Watch) Add(e Endpoint) error {
	cpus, err := ebpf.PossibleCPU()
	if err != nil {
		return fmt.Errorf("count CPUs: %w", err)
	}
	err = w.objs.Endpoints.Update(e.key(), make([]watchTally, cpus), ebpf.UpdateNoExist)
	if err != nil && !errors.Is(err, ebpf.ErrKeyExist) {
		return fmt.Errorf("count %v by itself: %w", e.VIP, err)
	}
	return nil
}

func (e Endpoint) key() watchEndpoint {
	key := watchEndpoint{Port: Port(e.VIP.Port()), Proto: e.Protocol}
	b := AddressKey(e.VIP.Addr())
	for i := range key.Vip {
		key.Vip[i] = binary.NativeEndian.Uint32(b[4*i:])
	}
	return key
}

func endpointOf(key watchEndpoint) Endpoint {
	vip := NetAddr(key.Vip, true).Unmap()
	return Endpoint{netip.AddrPortFrom(vip, Port(key.Port)), key.Proto}
}

// Tallies reads all counts.
func (w *Watch) Tallies() (map[Endpoint]Tally, error) {
	cpus, err := ebpf.PossibleCPU()
	if err != nil {
		return nil, fmt.Errorf("count CPUs: %w", err)
	}
	const chunk = 64
	keys, perCPU := make([]watchEndpoint, chunk), make([]watchTally, chunk*cpus)
	tallies := map[Endpoint]Tally{}
	var cursor ebpf.MapBatchCursor
	for {
		n, err := w.objs.Endpoints.BatchLookup(&cursor, keys, perCPU, nil)
		for i, key := range keys[:n] {
			var t Tally
			for _, c := range perCPU[i*cpus : (i+1)*cpus] {
				t.Syns += c.Syns
				t.SynAcks += c.SynAcks
				t.Refused += c.Refused
				t.Resets += c.Resets
			}
			tallies[endpointOf(key)] = t
		}
		if errors.Is(err, ebpf.ErrKeyNotExist) {
			return tallies, nil
		}
		if err != nil {
			return nil, fmt.Errorf("read counts: %w", err)
		}
	}
}

// Close releases what this process holds. The programs go on counting until Detach.
func (w *Watch) Close() error { return errors.Join(w.objs.Close(), w.lock.Close()) }
