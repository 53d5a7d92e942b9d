package bpf

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/rlimit"
	"golang.org/x/sys/unix"
)

// LB is the balancer's program and its maps. Its methods must not be called concurrently; its maps may be used by
// several goroutines.
type LB struct {
	program
	VIPs4     *ebpf.Map // VIPKey4 to VIP
	VIPs6     *ebpf.Map // VIPKey6 to VIP
	Addresses *ebpf.Map // AddressKey to Address
	Farms     *ebpf.Map // farm index to a slot table
	Reals     *ebpf.Map // real index to Real
	Counts    *ebpf.Map // VIP index to Count per CPU
	Fragments *ebpf.Map // FragmentKey to Fragment

	flows      *ebpf.Map // that are tracked: see flows.go
	objs       lbObjects
	token      [8]byte    // metadata of a frame that is only to be explained
	explaining sync.Mutex // there is one place for what became of a packet
	capturing  sync.Mutex // there is one filter
}

// LoadLB loads the balancer with its maps pinned in dir, and takes over maps that are pinned there already. The hash
// key must be the same on every LB of a site.
func LoadLB(dir string, hashKey [16]byte) (*LB, error) {
	spec, err := loadLb()
	if err != nil {
		return nil, err
	}
	return loadLBSpec(spec, dir, hashKey)
}

func loadLBSpec(spec *ebpf.CollectionSpec, dir string, hashKey [16]byte) (*LB, error) {
	key := [2]uint64{binary.LittleEndian.Uint64(hashKey[:8]), binary.LittleEndian.Uint64(hashKey[8:])}
	if err := spec.Variables[lbVarHashKey].Set(key); err != nil {
		return nil, fmt.Errorf("set the hash key: %w", err)
	}
	for name, entries := range map[string]uint32{
		lbVarBucketMask: spec.Maps[lbMapFlows].MaxEntries, lbVarNameMask: spec.Maps[lbMapFlowNames].MaxEntries,
	} {
		if err := spec.Variables[name].Set(entries - 1); err != nil {
			return nil, fmt.Errorf("set the number of flows: %w", err)
		}
	}
	lb := &LB{}
	if _, err := rand.Read(lb.token[:]); err != nil {
		return nil, fmt.Errorf("make a token: %w", err)
	}
	if err := spec.Variables[lbVarExplainToken].Set(lb.token); err != nil {
		return nil, fmt.Errorf("set the token: %w", err)
	}
	at, err := load(spec, &lb.objs, dir)
	if err != nil {
		return nil, err
	}
	objs := &lb.objs
	lb.program = newProgram(objs.Lb, objs.lbMaps.Drops, objs, at)
	lb.VIPs4, lb.VIPs6, lb.Addresses = objs.Vips4, objs.Vips6, objs.Addresses
	lb.Farms, lb.Reals, lb.Counts = objs.Farms, objs.Reals, objs.Counts
	lb.Fragments, lb.flows = objs.Fragments, objs.Flows
	return lb, nil
}

// NewTable makes a slot table of Slots slots, which is not in use until it is put into Farms. The caller closes it.
func (lb *LB) NewTable(slots []Slot) (*ebpf.Map, error) {
	table, err := ebpf.NewMap(&ebpf.MapSpec{
		Name: "slots", Type: ebpf.Array, KeySize: 4, ValueSize: 4 * SlotsPerBlock, MaxEntries: Slots / SlotsPerBlock,
	})
	if err != nil {
		return nil, fmt.Errorf("make a slot table: %w", err)
	}
	keys := make([]uint32, Slots/SlotsPerBlock)
	blocks := make([]Block, len(keys))
	for i := range keys {
		keys[i] = uint32(i)
	}
	for i, s := range slots {
		blocks[i/SlotsPerBlock].Slot[i%SlotsPerBlock] = s
	}
	if _, err := table.BatchUpdate(keys, blocks, nil); err != nil {
		return nil, errors.Join(fmt.Errorf("fill a slot table: %w", err), table.Close())
	}
	return table, nil
}

// ReadTable gives what is in a table.
func ReadTable(table *ebpf.Map) ([]Slot, error) {
	keys := make([]uint32, Slots/SlotsPerBlock)
	blocks := make([]Block, len(keys))
	var cursor ebpf.MapBatchCursor
	for n := 0; n < len(keys); {
		got, err := table.BatchLookup(&cursor, keys[n:], blocks[n:], nil)
		n += got
		if err != nil && !(errors.Is(err, ebpf.ErrKeyNotExist) && n == len(keys)) {
			return nil, fmt.Errorf("read a slot table: %w", err)
		}
	}
	slots := make([]Slot, 0, Slots)
	for _, b := range blocks {
		slots = append(slots, b.Slot[:]...)
	}
	return slots, nil
}

// SetUplinkFlags says how the program's own answers leave by an interface: RealRedirect, or 0.
func (lb *LB) SetUplinkFlags(ifindex int, flags uint32) error {
	if err := lb.objs.Uplinks.Put(uint32(ifindex), flags); err != nil {
		return fmt.Errorf("write uplink %d: %w", ifindex, err)
	}
	return nil
}

// Replies counts what the program answered itself.
type Replies struct {
	Echo   uint64 `json:"echo"`
	TooBig uint64 `json:"too_big"`
}

// Replies sums what the program answered itself.
func (lb *LB) Replies() (Replies, error) {
	echo, err := sumCPUs(lb.objs.Replies, uint32(lbReplyREPLY_ECHO))
	if err != nil {
		return Replies{}, err
	}
	tooBig, err := sumCPUs(lb.objs.Replies, uint32(lbReplyREPLY_TOO_BIG))
	return Replies{Echo: echo, TooBig: tooBig}, err
}

// Displaced gives how many tracked flows had to make room for others: their packets go where packets of flows go that are
// older than the transition.
func (lb *LB) Displaced() (uint64, error) { return sumCPUs(lb.objs.Displaced, 0) }

// sumCPUs sums one entry of a per-CPU map of numbers.
func sumCPUs(m *ebpf.Map, index uint32) (uint64, error) {
	var perCPU []uint64
	if err := m.Lookup(index, &perCPU); err != nil {
		return 0, fmt.Errorf("read counter %d: %w", index, err)
	}
	sum := uint64(0)
	for _, n := range perCPU {
		sum += n
	}
	return sum, nil
}

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

// pins is where the maps and links of a program are pinned.
type pins struct {
	dir  string
	lock io.Closer // of dir, to be closed after everything else
	// late: the maps are new, so a program that is attached has others, and ours would know no VIP yet
	late bool
}

func load(spec *ebpf.CollectionSpec, objs any, dir string) (pins, error) {
	if err := checkKernel(); err != nil {
		return pins{}, err
	}
	lock, err := prepare(dir)
	if err != nil {
		return pins{}, err
	}
	at := pins{dir: dir, lock: lock}
	maps := filepath.Join(dir, layout)
	if err = os.Mkdir(maps, 0o700); err == nil {
		at.late = true
	} else if errors.Is(err, fs.ErrExist) {
		// an earlier start may have ended before its program was in place
		var others []string
		others, err = otherLayouts(dir)
		at.late = len(others) > 0
	}
	if err == nil {
		err = loadObjects(spec, objs, maps)
	} else {
		err = pinError("make a directory for pinned maps", err)
	}
	if err != nil {
		return pins{}, errors.Join(err, lock.Close())
	}
	return at, nil
}

// layout names the folder of the pinned maps in a pin directory. It changes whenever the shape of a pinned map does: then
// a new binary fills maps of its own while the program of the old one forwards packets by those that it has, until TakeOver
// puts the new program in its place.
const layout = "maps-4"

// before2 are the maps of the first layout, which had no folder.
var before2 = []string{"vips", "farms", "reals", "counts", "drops", "own_addresses", "vip_addresses", "decapsulated"}

// otherLayouts gives what is pinned in dir of maps that are not of our layout: folders, and maps of the first one.
func otherLayouts(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("read pin directory: %w", err)
	}
	var others []string
	for _, e := range entries {
		if name := e.Name(); name != layout && strings.HasPrefix(name, "maps-") || slices.Contains(before2, name) {
			others = append(others, filepath.Join(dir, name))
		}
	}
	return others, nil
}

// removeOtherLayouts unpins the maps that no attached program uses any more.
func removeOtherLayouts(dir string) error {
	others, err := otherLayouts(dir)
	errs := []error{err}
	for _, path := range others {
		errs = append(errs, os.RemoveAll(path))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("unpin the maps of another version: %w", err)
	}
	return nil
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
		return nil, pinError("make pin directory", err)
	}
	lock, err := os.Open(dir)
	if err != nil {
		return nil, pinError("open pin directory", err)
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		if errors.Is(err, unix.EWOULDBLOCK) {
			err = errors.New("another process has it; stop that one, or run this one where another bpf file system is mounted")
		}
		return nil, errors.Join(fmt.Errorf("lock pin directory %s: %w", dir, err), lock.Close())
	}
	return lock, nil
}

// pinError says what to do about a bpf file system that nothing can be made in.
func pinError(what string, err error) error {
	switch {
	case errors.Is(err, unix.EROFS):
		return fmt.Errorf("%s: %w; make it writable with `mount -o remount,rw %s`", what, err, FSPath)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%s: %w; run as root, or make %s/anycastle and give it to the user that runs this", what, err, FSPath)
	}
	return fmt.Errorf("%s: %w", what, err)
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
			errs = append(errs, os.RemoveAll(path))
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
