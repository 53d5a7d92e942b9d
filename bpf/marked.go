package bpf

import (
	"errors"
	"fmt"
	"path/filepath"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// probeMark begins the mark of what is to leave for one real: the real's index is its lower half.
const probeMark = 0x0ac00000

// Mark gives the SO_MARK of a socket whose packets are to leave for a real as the packets of its clients do. It works on
// interfaces that Marked is attached to.
func Mark(real uint32) uint32 { return probeMark | real }

// filterName marks the filters of ours; a queueing discipline may have others.
const filterName = "anycastle_probe"

// filterPriority is out of the way of those who put their filters first.
const filterPriority = 0xac0

// Marked is the program that sends marked packets to the real that they name. Its methods must not be called
// concurrently. It is not pinned: without the process that probes there is nothing to send.
type Marked struct {
	objs     probeObjects
	attached map[int]bool // by interface index
}

// LoadMarked loads the program beside a balancer that is loaded: it reads the reals of that one.
func (lb *LB) LoadMarked() (*Marked, error) {
	spec, err := loadProbe()
	if err != nil {
		return nil, err
	}
	m := &Marked{attached: map[int]bool{}}
	if err := loadObjects(spec, &m.objs, filepath.Join(lb.dir, layout)); err != nil {
		return nil, err
	}
	return m, nil
}

// Attach puts the program on the way out of exactly these interfaces.
func (m *Marked) Attach(ifindexes []int) error {
	wanted := map[int]bool{}
	for _, index := range ifindexes {
		wanted[index] = true
		if m.attached[index] {
			continue
		}
		if err := m.attach(index); err != nil {
			return err
		}
		m.attached[index] = true
	}
	for index := range m.attached {
		if !wanted[index] {
			delete(m.attached, index)
			if err := removeFilter(index); err != nil {
				return err
			}
		}
	}
	return nil
}

func (m *Marked) attach(index int) error {
	if err := addClsact(index); err != nil {
		return err
	}
	err := netlink.FilterReplace(&netlink.BpfFilter{
		FilterAttrs: netlink.FilterAttrs{
			LinkIndex: index, Parent: netlink.HANDLE_MIN_EGRESS, Handle: 1, Priority: filterPriority, Protocol: unix.ETH_P_ALL,
		},
		Fd: m.objs.Probe.FD(), Name: filterName, DirectAction: true,
	})
	if err != nil {
		return fmt.Errorf("attach to the way out of interface %d (run as root, or with CAP_NET_ADMIN): %w", index, err)
	}
	return nil
}

// addClsact gives an interface the discipline that filters hang on. One that is there is right.
func addClsact(index int) error {
	err := netlink.QdiscAdd(&netlink.Clsact{
		QdiscAttrs: netlink.QdiscAttrs{LinkIndex: index, Handle: netlink.MakeHandle(0xffff, 0), Parent: netlink.HANDLE_CLSACT},
	})
	if err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("add the clsact discipline to interface %d (run as root, or with CAP_NET_ADMIN): %w", index, err)
	}
	return nil
}

// removeFilter also takes an interface that is gone for one without the filter. The discipline stays: others may use it,
// and without filters it does nothing.
func removeFilter(index int) error {
	link, err := netlink.LinkByIndex(index)
	if _, ok := errors.AsType[netlink.LinkNotFoundError](err); ok {
		return nil
	}
	if err != nil {
		return fmt.Errorf("find interface %d: %w", index, err)
	}
	filters, err := netlink.FilterList(link, netlink.HANDLE_MIN_EGRESS)
	if err != nil {
		return fmt.Errorf("list filters of %s: %w", link.Attrs().Name, err)
	}
	for _, f := range filters {
		if b, ok := f.(*netlink.BpfFilter); ok && b.Name == filterName {
			if err := netlink.FilterDel(b); err != nil {
				return fmt.Errorf("remove the filter of %s: %w", link.Attrs().Name, err)
			}
		}
	}
	return nil
}

// Close takes the program off every interface.
func (m *Marked) Close() error {
	err := m.Attach(nil)
	return errors.Join(err, m.objs.Close())
}

// UnloadMarked takes what an earlier process has left off every interface of this namespace.
func UnloadMarked() error {
	links, err := netlink.LinkList()
	if err != nil {
		return fmt.Errorf("list interfaces: %w", err)
	}
	var errs []error
	for _, l := range links {
		errs = append(errs, removeFilter(l.Attrs().Index))
	}
	return errors.Join(errs...)
}
