package bpf

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/rlimit"
	"golang.org/x/sys/unix"
)

// LB is the balancer's program and its maps. Its methods must not be called concurrently; its maps may be used by
// several goroutines.
type LB struct {
	program
	VIPs   *ebpf.Map // VIPKey to VIP
	Farms  *ebpf.Map // farm index to a slot table
	Reals  *ebpf.Map // real index to Real
	Counts *ebpf.Map // VIP index to Count per CPU
}

// RealHost is the decapsulating program of a real and its maps; for concurrent use see LB.
type RealHost struct {
	program
	own, vips    *ebpf.Map // Addr to an uint8 without meaning
	decapsulated *ebpf.Map
}

// LoadLB loads the balancer with its maps pinned in dir, and takes over maps that are pinned there already. The hash
// key must be the same on every LB of a site.
func LoadLB(dir string, hashKey [16]byte) (*LB, error) {
	spec, err := loadLb()
	if err != nil {
		return nil, err
	}
	key := [2]uint64{binary.LittleEndian.Uint64(hashKey[:8]), binary.LittleEndian.Uint64(hashKey[8:])}
	if err := spec.Variables[lbVarHashKey].Set(key); err != nil {
		return nil, fmt.Errorf("set the hash key: %w", err)
	}
	var objs lbObjects
	lock, err := load(spec, &objs, dir)
	if err != nil {
		return nil, err
	}
	return &LB{
		program: newProgram(objs.Lb, objs.lbMaps.Drops, dir, &objs, lock),
		VIPs:    objs.Vips, Farms: objs.Farms, Reals: objs.Reals, Counts: objs.Counts,
	}, nil
}

// NewTable makes a slot table, which is not in use until it is put into Farms. The caller closes it.
func (lb *LB) NewTable(slots []Slot) (*ebpf.Map, error) {
	spec, err := loadLb()
	if err != nil {
		return nil, err
	}
	inner := spec.Maps[lbMapFarms].InnerMap
	inner.Name = "slots"
	table, err := ebpf.NewMap(inner)
	if err != nil {
		return nil, fmt.Errorf("make a slot table: %w", err)
	}
	keys := make([]uint32, len(slots))
	for i := range keys {
		keys[i] = uint32(i)
	}
	if _, err := table.BatchUpdate(keys, slots, nil); err != nil {
		table.Close()
		return nil, fmt.Errorf("fill a slot table: %w", err)
	}
	return table, nil
}

// LoadReal loads the decapsulator with its maps pinned in dir, and takes over maps that are pinned there already.
func LoadReal(dir string) (*RealHost, error) {
	spec, err := loadReal()
	if err != nil {
		return nil, err
	}
	var objs realObjects
	lock, err := load(spec, &objs, dir)
	if err != nil {
		return nil, err
	}
	return &RealHost{
		program: newProgram(objs.Real, objs.realMaps.Drops, dir, &objs, lock),
		own:     objs.OwnAddresses, vips: objs.VipAddresses, decapsulated: objs.Decapsulated,
	}, nil
}

// SetAddresses makes own all that encapsulated packets may be addressed to, and vips all that may be inside.
func (r *RealHost) SetAddresses(own, vips []netip.Addr) error {
	if err := fillSet(r.own, own); err != nil {
		return fmt.Errorf("write own addresses: %w", err)
	}
	if err := fillSet(r.vips, vips); err != nil {
		return fmt.Errorf("write VIPs: %w", err)
	}
	return nil
}

// fillSet adds before it removes, so that an address that stays is never missing.
func fillSet(m *ebpf.Map, addrs []netip.Addr) error {
	wanted := map[uint32]bool{}
	for _, a := range addrs {
		wanted[Addr(a)] = true
		if err := m.Put(Addr(a), uint8(1)); err != nil {
			return err
		}
	}
	var stale []uint32
	var key uint32
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

// Decapsulated sums what was handed to the kernel without its outer header.
func (r *RealHost) Decapsulated() (Count, error) { return SumCount(r.decapsulated, 0) }

// SumCount sums one entry of a per-CPU map of Count.
func SumCount(m *ebpf.Map, index uint32) (Count, error) {
	var perCPU []Count
	var sum Count
	if err := m.Lookup(index, &perCPU); err != nil {
		return sum, fmt.Errorf("read counter %d: %w", index, err)
	}
	for _, c := range perCPU {
		sum.Packets += c.Packets
		sum.Bytes += c.Bytes
	}
	return sum, nil
}

// load gives the lock on dir, which the caller closes after everything else.
func load(spec *ebpf.CollectionSpec, objs any, dir string) (io.Closer, error) {
	if err := checkKernel(); err != nil {
		return nil, err
	}
	lock, err := prepare(dir)
	if err != nil {
		return nil, err
	}
	if err := loadObjects(spec, objs, dir); err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	return lock, nil
}

func loadObjects(spec *ebpf.CollectionSpec, objs any, dir string) error {
	if err := rlimit.RemoveMemlock(); err != nil {
		return fmt.Errorf("lift the limit on locked memory (run as root, or raise it with `ulimit -l unlimited`): %w", err)
	}
	opts := ebpf.CollectionOptions{Maps: ebpf.MapOptions{PinPath: dir}}
	err := spec.LoadAndAssign(objs, &opts)
	if verifier, ok := errors.AsType[*ebpf.VerifierError](err); ok {
		return fmt.Errorf("the kernel refuses the program: %+v", verifier)
	}
	switch {
	case errors.Is(err, ebpf.ErrMapIncompatible):
		return fmt.Errorf("pinned maps in %s are of another version; remove that directory and start again: %w", dir, err)
	case errors.Is(err, unix.EPERM):
		return fmt.Errorf("load the program (run as root, or with CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON): %w", err)
	case err != nil:
		return fmt.Errorf("load the program: %w", err)
	}
	return nil
}

// prepare makes dir, which must be in a bpf file system: nowhere else can maps and links be pinned. It locks dir, since
// two processes that write the same maps would undo each other's work; the lock ends with the process.
func prepare(dir string) (io.Closer, error) {
	existing := dir
	var st unix.Statfs_t
	err := unix.Statfs(existing, &st)
	for errors.Is(err, fs.ErrNotExist) && existing != filepath.Dir(existing) {
		existing = filepath.Dir(existing)
		err = unix.Statfs(existing, &st)
	}
	if err != nil {
		return nil, fmt.Errorf("look at pin directory %s: %w", existing, err)
	}
	if st.Type != unix.BPF_FS_MAGIC {
		return nil, fmt.Errorf("pin directory %s is not in a bpf file system; mount one with `mount -t bpf bpf /sys/fs/bpf`", dir)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make pin directory (run as root): %w", err)
	}
	lock, err := os.Open(dir)
	if err != nil {
		return nil, fmt.Errorf("open pin directory (run as root): %w", err)
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		if errors.Is(err, unix.EWOULDBLOCK) {
			err = errors.New("another process has it; stop that one, or give each its own")
		}
		return nil, errors.Join(fmt.Errorf("lock pin directory %s: %w", dir, err), lock.Close())
	}
	return lock, nil
}

// Unload removes what is pinned in dir, and dir: the program leaves its interfaces at once. A directory that does not
// exist is no error.
func Unload(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read pin directory: %w", err)
	}
	// links go first, so that no packet meets a program that is losing its maps
	slices.SortStableFunc(entries, func(a, b fs.DirEntry) int { return linksFirst(a.Name()) - linksFirst(b.Name()) })
	var errs []error
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		if strings.HasPrefix(e.Name(), linkPrefix) {
			errs = append(errs, detach(path))
		} else {
			errs = append(errs, os.Remove(path))
		}
	}
	if errors.Join(errs...) == nil {
		errs = append(errs, os.Remove(dir))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("unpin %s: %w", dir, err)
	}
	return nil
}

func linksFirst(name string) int {
	if strings.HasPrefix(name, linkPrefix) {
		return 0
	}
	return 1
}
