package bpf

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// linkPrefix begins the name of a pinned link; the interface's index follows, since its name may hold a dot, which
// bpffs does not take.
const linkPrefix = "link_"

// Mode says where in the kernel a program runs.
type Mode string

// The modes of XDP.
const (
	Native  Mode = "native"  // in the driver
	Generic Mode = "generic" // after the kernel has made a socket buffer: works everywhere, and is slow
)

// Uplink is an interface with the program on it.
type Uplink struct {
	Name string `json:"name"`
	Mode Mode   `json:"mode"`
	Why  string `json:"why,omitempty"` // why it is not in native mode
}

// Log tells of the program on the uplink, and warns of generic mode.
func (u Uplink) Log(log *slog.Logger) {
	if u.Mode == Generic {
		log.Warn("program attached in generic mode, which is slow", "uplink", u.Name, "mode", u.Mode, "cause", u.Why)
		return
	}
	log.Info("program attached", "uplink", u.Name, "mode", u.Mode)
}

// program is what both programs have in common.
type program struct {
	pins
	prog  *ebpf.Program
	drops *ebpf.Map
	links map[int]link.Link // by interface index
	falls map[int]string    // why a link is in generic mode, by interface index
	objs  io.Closer
	// behind are interfaces where the program of another layout forwards packets until TakeOver, by index
	behind map[int]string
}

func newProgram(prog *ebpf.Program, drops *ebpf.Map, objs io.Closer, at pins) program {
	return program{pins: at, prog: prog, drops: drops, links: map[int]link.Link{}, falls: map[int]string{}, objs: objs,
		behind: map[int]string{}}
}

// Attach puts the program on exactly the named interfaces: it takes over pinned links without losing a packet, and
// takes the program off interfaces that are no longer named. Where the driver cannot run XDP it falls back to generic
// mode, which the result shows. Where a program with maps of another layout is, that one forwards packets until TakeOver:
// by the maps of ours there is nothing to forward yet.
func (p *program) Attach(names []string) ([]Uplink, error) {
	uplinks := make([]Uplink, 0, len(names))
	wanted := map[int]bool{}
	for _, name := range names {
		iface, err := netlink.LinkByName(name)
		if _, ok := errors.AsType[netlink.LinkNotFoundError](err); ok {
			return nil, fmt.Errorf("attach XDP to %s: no such interface here; `ip link` lists those there are", name)
		}
		if err != nil {
			return nil, fmt.Errorf("find %s: %w", name, err)
		}
		if err := p.attachOne(iface.Attrs()); err != nil {
			return nil, err
		}
		wanted[iface.Attrs().Index] = true
		mode, err := p.attachedMode(name)
		if err != nil {
			return nil, err
		}
		u := Uplink{Name: name, Mode: mode}
		if mode == Generic {
			u.Why = cmp.Or(p.falls[iface.Attrs().Index], "an earlier process has attached it so")
		}
		uplinks = append(uplinks, u)
	}
	if err := p.detachOthers(wanted); err != nil || len(p.behind) > 0 {
		return uplinks, err
	}
	return uplinks, p.finish()
}

// TakeOver puts the program in the place of those of another layout, without losing a packet, and gives the names of their
// interfaces. The caller has filled the maps. Without such programs it does nothing.
func (p *program) TakeOver() ([]string, error) {
	var names []string
	for _, index := range slices.Sorted(maps.Keys(p.behind)) {
		name := p.behind[index]
		err := p.links[index].Update(p.prog)
		if err != nil && !errors.Is(err, unix.ENOLINK) { // the interface is gone
			return names, fmt.Errorf("take over XDP on %s: %w", name, err)
		}
		delete(p.behind, index)
		if err == nil {
			names = append(names, name)
		}
	}
	if !p.late {
		return nil, nil
	}
	return names, p.finish()
}

// finish removes what no program needs once ours is everywhere.
func (p *program) finish() error {
	p.late = false
	return removeOtherLayouts(p.dir)
}

func (p *program) attachOne(iface *netlink.LinkAttrs) error {
	if p.links[iface.Index] != nil {
		return nil
	}
	path := p.linkPath(iface.Index)
	l, err := p.takeOver(path, iface)
	if err != nil {
		return fmt.Errorf("take over XDP on %s: %w", iface.Name, err)
	}
	if l == nil {
		if l, err = p.attachNew(iface); err != nil {
			return err
		}
		if err := l.Pin(path); err != nil {
			return errors.Join(fmt.Errorf("pin XDP link of %s: %w", iface.Name, err), l.Close())
		}
	}
	p.links[iface.Index] = l
	return nil
}

// takeOver replaces the program of a pinned link, or leaves that to TakeOver. It gives no link when there is none that is
// still attached.
func (p *program) takeOver(path string, iface *netlink.LinkAttrs) (link.Link, error) {
	l, err := link.LoadPinnedLink(path, nil)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	info, err := l.Info()
	if err == nil && info.XDP() != nil && int(info.XDP().Ifindex) == iface.Index {
		if p.late {
			p.behind[iface.Index] = iface.Name
			return l, nil
		}
		if err = l.Update(p.prog); err == nil {
			return l, nil
		}
	}
	// its interface is gone, and another has got the index
	return nil, errors.Join(os.Remove(path), l.Close())
}

func (p *program) attachNew(iface *netlink.LinkAttrs) (link.Link, error) {
	opts := link.XDPOptions{Program: p.prog, Interface: iface.Index, Flags: link.XDPDriverMode}
	l, native := link.AttachXDP(opts)
	switch {
	case native == nil:
		return l, nil
	case errors.Is(native, unix.EBUSY):
		return nil, fmt.Errorf("attach XDP to %s: another program is there; stop what has put it there, or remove it with `ip link set dev %s xdp off`: %w",
			iface.Name, iface.Name, native)
	case errors.Is(native, unix.EPERM):
		return nil, fmt.Errorf("attach XDP to %s (run as root, or with CAP_NET_ADMIN): %w", iface.Name, native)
	}
	opts.Flags = link.XDPGenericMode
	l, err := link.AttachXDP(opts)
	if err != nil {
		return nil, fmt.Errorf("attach XDP to %s, native and then generic: %w", iface.Name, fmt.Errorf("%w; %w", native, err))
	}
	p.falls[iface.Index] = fmt.Sprintf("its driver does not take the program: %v", native)
	return l, nil
}

// attachedMode asks the kernel, since a link that was taken over does not say. A link that another namespace has pinned
// may carry the same index and leave our interface without the program.
func (p *program) attachedMode(name string) (Mode, error) {
	iface, err := netlink.LinkByName(name)
	if err != nil {
		return "", fmt.Errorf("look at %s: %w", name, err)
	}
	info, err := p.links[iface.Attrs().Index].Info()
	if err != nil {
		return "", fmt.Errorf("look at the XDP link of %s: %w", name, err)
	}
	xdp := iface.Attrs().Xdp
	switch {
	case xdp == nil || xdp.ProgId != uint32(info.Program):
		return "", fmt.Errorf("attach XDP to %s: the pins in %s are another network namespace's; give each its own", name, p.dir)
	case xdp.AttachMode == nl.XDP_ATTACHED_SKB:
		return Generic, nil
	}
	return Native, nil
}

// detachOthers takes the program off interfaces that are not wanted, an earlier process's among them.
func (p *program) detachOthers(wanted map[int]bool) error {
	keep := map[string]bool{}
	for index := range wanted {
		keep[filepath.Base(p.linkPath(index))] = true
	}
	for index, l := range p.links {
		if wanted[index] {
			continue
		}
		delete(p.links, index)
		delete(p.behind, index)
		if err := l.Close(); err != nil {
			return fmt.Errorf("close XDP link: %w", err)
		}
	}
	entries, err := os.ReadDir(p.dir)
	if err != nil {
		return fmt.Errorf("read pin directory: %w", err)
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), linkPrefix) && !keep[e.Name()] {
			if err := detach(filepath.Join(p.dir, e.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}

// detach takes the program off an interface at once; the kernel would do it some time after the pin is gone.
func detach(path string) error {
	l, err := link.LoadPinnedLink(path, nil)
	if err != nil {
		return fmt.Errorf("open pinned XDP link: %w", err)
	}
	if err := errors.Join(l.Detach(), l.Unpin(), l.Close()); err != nil {
		return fmt.Errorf("detach XDP: %w", err)
	}
	return nil
}

func (p *program) linkPath(index int) string {
	return filepath.Join(p.dir, fmt.Sprintf("%s%d", linkPrefix, index))
}

// Drops sums the dropped packets by reason. Reasons that never occurred are in it with 0.
func (p *program) Drops() (map[string]uint64, error) {
	drops := make(map[string]uint64, len(reasonNames))
	for i, name := range reasonNames {
		if lbReason(i) == lbReasonREASON_NONE {
			continue
		}
		var perCPU []uint64
		if err := p.drops.Lookup(uint32(i), &perCPU); err != nil {
			return nil, fmt.Errorf("read drop counter %s: %w", name, err)
		}
		for _, n := range perCPU {
			drops[name] += n
		}
	}
	return drops, nil
}

// Close releases what this process holds. What is pinned stays: packets flow on.
func (p *program) Close() error {
	errs := []error{p.objs.Close()}
	for _, l := range p.links {
		errs = append(errs, l.Close())
	}
	clear(p.links)
	return errors.Join(append(errs, p.lock.Close())...)
}
