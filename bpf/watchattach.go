package bpf

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

const (
	// watchPriority is our place among the filters of an interface. Every filter goes on with the next one, so that any
	// place would do; two programs must not have the same.
	watchPriority = 0xac01
	watchHandle   = 1
)

// What a record of Watch says of an interface.
const (
	onOwnQdisc   = 1 // we have made the qdisc that our filters are on
	onOtherQdisc = 2 // it was there before
)

// direction is one of the two programs and its place.
type direction struct {
	prog   *ebpf.Program
	name   string
	parent uint32
}

func (w *Watch) directions() []direction {
	return []direction{
		{w.objs.Leaving, "anycastle_leaving", netlink.HANDLE_MIN_EGRESS},
		{w.objs.Arriving, "anycastle_arriving", netlink.HANDLE_MIN_INGRESS},
	}
}

// Attach puts the programs on exactly the named interfaces, in the place of those of an earlier process.
func (w *Watch) Attach(names []string) error {
	wanted := map[uint32]bool{}
	for _, name := range names {
		link, err := netlink.LinkByName(name)
		if _, ok := errors.AsType[netlink.LinkNotFoundError](err); ok {
			return fmt.Errorf("watch %s: no such interface here; `ip link` lists those there are", name)
		}
		if err != nil {
			return fmt.Errorf("find %s: %w", name, err)
		}
		if err := w.attachOne(link); err != nil {
			return err
		}
		wanted[uint32(link.Attrs().Index)] = true
	}
	if err := w.detach(func(index uint32) bool { return !wanted[index] }); err != nil {
		return err
	}
	return removeOtherLayouts(w.dir)
}

func (w *Watch) attachOne(link netlink.Link) error {
	name := link.Attrs().Name
	if err := w.makeQdisc(link); err != nil {
		return fmt.Errorf("watch %s: %w", name, err)
	}
	for _, d := range w.directions() {
		err := netlink.FilterReplace(&netlink.BpfFilter{
			FilterAttrs: netlink.FilterAttrs{LinkIndex: link.Attrs().Index, Parent: d.parent, Handle: watchHandle,
				Priority: watchPriority, Protocol: unix.ETH_P_ALL},
			Fd: d.prog.FD(), Name: d.name, DirectAction: true,
		})
		if err != nil {
			return fmt.Errorf("attach a TC program to %s (run as root, or with CAP_NET_ADMIN): %w", name, err)
		}
	}
	return nil
}

// makeQdisc sees to it that there is a qdisc which takes filters in both directions. That we make it is written down
// first: a process that is killed in between leaves a record too many, which harms nobody.
func (w *Watch) makeQdisc(link netlink.Link) error {
	index := uint32(link.Attrs().Index)
	var before uint8
	known := w.objs.Attached.Lookup(index, &before) == nil
	kind, err := ingressQdisc(link)
	if err != nil {
		return err
	}
	switch {
	case kind == "clsact" && known:
		return nil
	case kind == "clsact":
		return w.record(index, onOtherQdisc)
	case kind != "":
		return fmt.Errorf("it has a qdisc %q, which takes no filters for packets that leave; `tc qdisc del dev %s %s` removes it,"+
			" and clsact can be put in its place", kind, link.Attrs().Name, kind)
	}
	if err := w.record(index, onOwnQdisc); err != nil {
		return err
	}
	if err := netlink.QdiscAdd(clsact(link.Attrs().Index)); err != nil {
		return fmt.Errorf("add a clsact qdisc (run as root, or with CAP_NET_ADMIN): %w", err)
	}
	return nil
}

func clsact(index int) netlink.Qdisc {
	return &netlink.Clsact{QdiscAttrs: netlink.QdiscAttrs{
		LinkIndex: index, Handle: netlink.MakeHandle(0xffff, 0), Parent: netlink.HANDLE_CLSACT,
	}}
}

// ingressQdisc gives the kind of the one qdisc for filters that an interface can have, ingress or clsact, or nothing.
func ingressQdisc(link netlink.Link) (string, error) {
	list, err := netlink.QdiscList(link)
	if err != nil {
		return "", fmt.Errorf("list qdiscs: %w", err)
	}
	for _, q := range list {
		if q.Attrs().Parent == netlink.HANDLE_CLSACT {
			return q.Type(), nil
		}
	}
	return "", nil
}

func (w *Watch) record(index uint32, how uint8) error {
	if err := w.objs.Attached.Put(index, how); err != nil {
		return fmt.Errorf("write down where the programs are: %w", err)
	}
	return nil
}

func readRecords(m *ebpf.Map) (map[uint32]uint8, error) {
	records := map[uint32]uint8{}
	var index uint32
	var how uint8
	entries := m.Iterate()
	for entries.Next(&index, &how) {
		records[index] = how
	}
	if err := entries.Err(); err != nil {
		return nil, fmt.Errorf("read where the programs are: %w", err)
	}
	return records, nil
}

// Missing gives the interfaces of those named that lack a program, since somebody else has removed it or the interface
// was made anew. Attach puts it there again.
func (w *Watch) Missing(names []string) ([]string, error) {
	var missing []string
	for _, name := range names {
		link, err := netlink.LinkByName(name)
		if _, ok := errors.AsType[netlink.LinkNotFoundError](err); ok {
			missing = append(missing, name)
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("find %s: %w", name, err)
		}
		for _, d := range w.directions() {
			ours, _, err := filters(link, d.parent)
			if err != nil {
				return nil, err
			}
			if !ours {
				missing = append(missing, name)
				break
			}
		}
	}
	return missing, nil
}

// filters says whether our filter is in a place, and whether others are.
func filters(link netlink.Link, parent uint32) (ours, others bool, err error) {
	list, err := netlink.FilterList(link, parent)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENODEV) { // no qdisc, no interface
		return false, false, nil
	}
	if err != nil {
		return false, false, fmt.Errorf("list filters of %s: %w", link.Attrs().Name, err)
	}
	for _, f := range list {
		if f.Attrs().Priority == watchPriority {
			ours = true
		} else {
			others = true
		}
	}
	return ours, others, nil
}

// Detach takes the programs off every interface, and the qdiscs that were made for them away, unless somebody else has
// put a filter there meanwhile.
func (w *Watch) Detach() error { return w.detach(func(uint32) bool { return true }) }

// UnloadWatch takes away what an earlier process has left: programs, qdiscs and pins. A directory that does not exist is no
// error.
func UnloadWatch(dir string) error {
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	w, err := LoadWatch(dir)
	if err != nil {
		return err
	}
	if err := errors.Join(w.Detach(), w.Close()); err != nil {
		return err
	}
	return Unload(dir)
}

func (w *Watch) detach(from func(index uint32) bool) error {
	records, err := readRecords(w.objs.Attached)
	if err != nil {
		return err
	}
	var errs []error
	for index, how := range records {
		if !from(index) {
			continue
		}
		err := w.detachOne(int(index), how)
		if err == nil {
			err = w.objs.Attached.Delete(index)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func (w *Watch) detachOne(index int, how uint8) error {
	link, err := netlink.LinkByIndex(index)
	if _, ok := errors.AsType[netlink.LinkNotFoundError](err); ok {
		return nil // its filters went with it
	}
	if err != nil {
		return fmt.Errorf("find interface %d: %w", index, err)
	}
	name := link.Attrs().Name
	shared := false
	for _, d := range w.directions() {
		ours, others, err := filters(link, d.parent)
		if err != nil {
			return err
		}
		shared = shared || others
		if !ours {
			continue
		}
		err = netlink.FilterDel(&netlink.BpfFilter{FilterAttrs: netlink.FilterAttrs{
			LinkIndex: index, Parent: d.parent, Handle: watchHandle, Priority: watchPriority, Protocol: unix.ETH_P_ALL,
		}})
		if err != nil && !errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("take a TC program off %s: %w", name, err)
		}
	}
	if how != onOwnQdisc || shared {
		return nil
	}
	if kind, err := ingressQdisc(link); err != nil || kind != "clsact" {
		return err
	}
	if err := netlink.QdiscDel(clsact(index)); err != nil && !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.EINVAL) {
		return fmt.Errorf("remove the clsact qdisc of %s: %w", name, err)
	}
	return nil
}
