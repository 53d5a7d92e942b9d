package bpf

import (
	"os"
	"strings"
	"testing"

	"anycastle/internal/netnstest"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// watchIn does something with the watch in a namespace, as a process of its own would.
func watchIn(t *testing.T, ns *netnstest.NS, dir string, do func(w *Watch) error) (err error) {
	t.Helper()
	ns.Do(func() error {
		w, e := LoadWatch(dir)
		if e != nil {
			return e
		}
		err = do(w)
		return w.Close()
	})
	return err
}

func attach(names ...string) func(*Watch) error {
	return func(w *Watch) error { return w.Attach(names) }
}

// watching says what is there for filters on an interface: the kind of qdisc, and the names of the programs.
func watching(t *testing.T, ns *netnstest.NS, name string) []string {
	t.Helper()
	link, err := ns.Link.LinkByName(name)
	put(t, err)
	qdiscs, err := ns.Link.QdiscList(link)
	put(t, err)
	found := []string{}
	for _, q := range qdiscs {
		if q.Attrs().Parent == netlink.HANDLE_CLSACT {
			found = append(found, q.Type())
		}
	}
	if len(found) == 0 {
		return found
	}
	for _, parent := range []uint32{netlink.HANDLE_MIN_EGRESS, netlink.HANDLE_MIN_INGRESS} {
		filters, err := ns.Link.FilterList(link, parent)
		put(t, err)
		for _, f := range filters {
			if b, ok := f.(*netlink.BpfFilter); ok {
				found = append(found, b.Name)
			} else {
				found = append(found, f.Type())
			}
		}
	}
	return found
}

var both = []string{"clsact", "anycastle_leaving", "anycastle_arriving"}

func expectWatching(t *testing.T, ns *netnstest.NS, when, name string, want ...string) {
	t.Helper()
	if want == nil {
		want = []string{}
	}
	if diff := cmp.Diff(want, watching(t, ns, name)); diff != "" {
		t.Errorf("on %s %s (-want +got):\n%s", name, when, diff)
	}
}

func TestWatchAttachRestartDetach(t *testing.T) {
	dir := pinDir(t)
	ns, peer := netnstest.New(t), netnstest.New(t)
	netnstest.Veth(t, ns, "eth1", noPrefix, peer, "eth0", noPrefix)
	netnstest.Veth(t, ns, "eth2", noPrefix, peer, "eth3", noPrefix)
	for range 2 { // the second time as after a kill
		put(t, watchIn(t, ns, dir, attach("eth1", "eth2")))
		expectWatching(t, ns, "after a start", "eth1", both...)
		expectWatching(t, ns, "after a start", "eth2", both...)
	}
	put(t, watchIn(t, ns, dir, attach("eth1")))
	expectWatching(t, ns, "that is still named", "eth1", both...)
	expectWatching(t, ns, "that is named no more", "eth2")
	for range 2 {
		put(t, watchIn(t, ns, dir, (*Watch).Detach))
		expectWatching(t, ns, "after the end", "eth1")
	}
	put(t, watchIn(t, ns, dir, attach("eth1")))
	for range 2 { // the second time there is nothing to remove
		ns.Do(func() error { return UnloadWatch(dir) })
		expectWatching(t, ns, "after UnloadWatch", "eth1")
	}
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("pin directory after UnloadWatch: %v", err)
	}
}

// TestWatchBesideOthers puts a filter of somebody else's on the qdisc: before we come, and after we have made it.
func TestWatchBesideOthers(t *testing.T) {
	ns, peer := netnstest.New(t), netnstest.New(t)
	netnstest.Veth(t, ns, "eth1", noPrefix, peer, "eth0", noPrefix)
	netnstest.Veth(t, ns, "eth2", noPrefix, peer, "eth3", noPrefix)
	other, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.SchedCLS, License: "GPL",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, -1), asm.Return()}})
	put(t, err)
	defer other.Close()
	addFilter := func(name string) {
		t.Helper()
		link, err := ns.Link.LinkByName(name)
		put(t, err)
		put(t, ns.Link.FilterAdd(&netlink.BpfFilter{
			FilterAttrs: netlink.FilterAttrs{LinkIndex: link.Attrs().Index, Parent: netlink.HANDLE_MIN_EGRESS, Priority: 7, Protocol: unix.ETH_P_ALL},
			Fd:          other.FD(), Name: "other", DirectAction: true,
		}))
	}
	eth1, err := ns.Link.LinkByName("eth1")
	put(t, err)
	put(t, ns.Link.QdiscAdd(clsact(eth1.Attrs().Index)))
	dir := pinDir(t)
	put(t, watchIn(t, ns, dir, attach("eth1", "eth2")))
	addFilter("eth2")
	expectWatching(t, ns, "beside another", "eth2", "clsact", "other", "anycastle_leaving", "anycastle_arriving")
	put(t, watchIn(t, ns, dir, (*Watch).Detach))
	expectWatching(t, ns, "whose qdisc was there", "eth1", "clsact")
	expectWatching(t, ns, "that another uses", "eth2", "clsact", "other")
}

func TestWatchBesideIngressQdisc(t *testing.T) {
	ns, peer := netnstest.New(t), netnstest.New(t)
	netnstest.Veth(t, ns, "eth1", noPrefix, peer, "eth0", noPrefix)
	link, err := ns.Link.LinkByName("eth1")
	put(t, err)
	put(t, ns.Link.QdiscAdd(&netlink.Ingress{QdiscAttrs: netlink.QdiscAttrs{LinkIndex: link.Attrs().Index, Parent: netlink.HANDLE_INGRESS}}))
	err = watchIn(t, ns, pinDir(t), attach("eth1"))
	if err == nil || !strings.Contains(err.Error(), "`tc qdisc del dev eth1 ingress`") {
		t.Errorf("error %v, want one that names the mend", err)
	}
	expectWatching(t, ns, "as before", "eth1", "ingress")
}

// TestWatchIsMissed takes the programs away in the ways that others do.
func TestWatchIsMissed(t *testing.T) {
	dir := pinDir(t)
	ns, peer := netnstest.New(t), netnstest.New(t)
	netnstest.Veth(t, ns, "eth1", noPrefix, peer, "eth0", noPrefix)
	netnstest.Veth(t, ns, "eth2", noPrefix, peer, "eth3", noPrefix)
	names := []string{"eth1", "eth2"}
	missing := func() []string {
		t.Helper()
		var list []string
		put(t, watchIn(t, ns, dir, func(w *Watch) (err error) {
			list, err = w.Missing(names)
			return err
		}))
		return list
	}
	put(t, watchIn(t, ns, dir, attach(names...)))
	if list := missing(); list != nil {
		t.Errorf("missing on %v after a start", list)
	}
	eth1, err := ns.Link.LinkByName("eth1")
	put(t, err)
	put(t, ns.Link.QdiscDel(clsact(eth1.Attrs().Index)))
	if diff := cmp.Diff([]string{"eth1"}, missing()); diff != "" {
		t.Errorf("missing (-want +got):\n%s", diff)
	}
	put(t, watchIn(t, ns, dir, attach(names...)))
	expectWatching(t, ns, "after another start", "eth1", both...)
	put(t, ns.Link.LinkDel(eth1))
	if diff := cmp.Diff([]string{"eth1"}, missing()); diff != "" {
		t.Errorf("missing (-want +got):\n%s", diff)
	}
	err = watchIn(t, ns, dir, attach(names...))
	if err == nil || !strings.Contains(err.Error(), "watch eth1: no such interface here") {
		t.Errorf("error %v, want one that names the interface", err)
	}
	put(t, watchIn(t, ns, dir, (*Watch).Detach))
	expectWatching(t, ns, "after the end", "eth2")
}

// TestWatchAcrossLayouts finds what an earlier version has written down.
func TestWatchAcrossLayouts(t *testing.T) {
	dir := pinDir(t)
	ns, peer := netnstest.New(t), netnstest.New(t)
	netnstest.Veth(t, ns, "eth1", noPrefix, peer, "eth0", noPrefix)
	put(t, watchIn(t, ns, dir, attach("eth1")))
	put(t, os.Rename(dir+"/"+layout, dir+"/maps-1"))
	put(t, watchIn(t, ns, dir, attach()))
	expectWatching(t, ns, "that is named no more", "eth1")
	if _, err := os.Stat(dir + "/maps-1"); !os.IsNotExist(err) {
		t.Errorf("the other version's maps: %v", err)
	}
}
