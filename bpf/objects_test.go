package bpf

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"anycastle/internal/netnstest"

	"github.com/cilium/ebpf"
	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
)

func TestSwappedTableIsSeenByTheNextPacket(t *testing.T) {
	r := newRig(t)
	r.setVIPs(t, steady(ipip4), func(v *VIP) { v.Farm = rigFarms - 1 })
	for i, want := range []uint32{xdpTX, xdpRedirect, xdpDrop, xdpTX} {
		setFarm(t, r.LB, rigFarms-1, allSlots([]uint16{mx1Index, mx2Index, 0, mx1Index}[i]))
		verdict, _, err := r.prog.Test(tcp().Bytes(t))
		put(t, err)
		if verdict != want {
			t.Errorf("after swap %d: verdict %d, want %d", i, verdict, want)
		}
	}
}

func TestPinnedMapsAreTakenOver(t *testing.T) {
	dir := pinDir(t)
	first, err := LoadLB(dir, hashKey)
	put(t, err)
	put(t, first.Reals.Put(uint32(mx1Index), newReal(mx1, ingress)))
	put(t, first.Close())

	second, err := LoadLB(dir, hashKey)
	put(t, err)
	defer second.Close()
	var got Real
	put(t, second.Reals.Lookup(uint32(mx1Index), &got))
	if want := newReal(mx1, ingress); got != want {
		t.Errorf("real after restart: %+v, want %+v", got, want)
	}
}

func TestIncompatiblePinIsRefused(t *testing.T) {
	dir := pinDir(t)
	put(t, os.MkdirAll(filepath.Join(dir, layout), 0o700))
	other, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Hash, KeySize: 4, ValueSize: 4, MaxEntries: 1})
	put(t, err)
	defer other.Close()
	put(t, other.Pin(filepath.Join(dir, layout, lbMapVips4)))
	lb, err := LoadLB(dir, hashKey)
	if err == nil {
		lb.Close()
		t.Fatal("a map of another shape was taken over")
	}
	if !strings.Contains(err.Error(), "remove that directory") {
		t.Errorf("error names no mend: %v", err)
	}
}

func TestSecondProcessIsRefused(t *testing.T) {
	dir := pinDir(t)
	first, err := LoadLB(dir, hashKey)
	put(t, err)
	defer first.Close()
	second, err := LoadLB(dir, hashKey)
	if err == nil {
		second.Close()
		t.Fatal("two processes have the same maps")
	}
	if !strings.Contains(err.Error(), "another process has it") {
		t.Errorf("error names no mend: %v", err)
	}
}

func TestPinDirOutsideBPFFS(t *testing.T) {
	netnstest.Root(t)
	_, err := LoadLB(filepath.Join(t.TempDir(), "lb"), hashKey)
	if err == nil || !strings.Contains(err.Error(), "mount -t bpf") {
		t.Errorf("error %v, want one that names the mend", err)
	}
}

// attached gives the id of the XDP program on an interface, 0 for none.
func attached(t *testing.T, ns *netnstest.NS, name string) uint32 {
	t.Helper()
	l, err := ns.Link.LinkByName(name)
	put(t, err)
	if l.Attrs().Xdp == nil {
		return 0
	}
	return l.Attrs().Xdp.ProgId
}

// attachIn loads a balancer in a namespace, attaches it as often as asked, and closes it as a process that ends does.
func attachIn(ns *netnstest.NS, dir string, times int, names ...string) (uplinks []Uplink, err error) {
	ns.Do(func() error {
		var lb *LB
		if lb, err = loadSmall(dir); err != nil {
			return nil
		}
		for range times {
			if uplinks, err = lb.Attach(names); err != nil {
				break
			}
		}
		return lb.Close()
	})
	return uplinks, err
}

func TestAttachRestartUnload(t *testing.T) {
	dir := pinDir(t)
	ns, peer := netnstest.New(t), netnstest.New(t)
	// a dot as in a VLAN's name, which bpffs would not take
	netnstest.Veth(t, ns, "eth1.7", noPrefix, peer, "eth0", noPrefix)
	netnstest.Veth(t, ns, "eth2", noPrefix, peer, "eth3", noPrefix)

	uplinks, err := attachIn(ns, dir, 1, "eth1.7", "eth2")
	put(t, err)
	if diff := cmp.Diff([]Uplink{{Name: "eth1.7", Mode: Native}, {Name: "eth2", Mode: Native}}, uplinks); diff != "" {
		t.Errorf("uplinks (-want +got):\n%s", diff)
	}
	left := attached(t, ns, "eth1.7")
	if left == 0 {
		t.Fatal("the program went with the process")
	}

	_, err = attachIn(ns, dir, 2, "eth1.7") // the second time changes nothing
	put(t, err)
	if id := attached(t, ns, "eth1.7"); id == 0 || id == left {
		t.Errorf("program %d is attached after a restart; the one before was %d", id, left)
	}
	if id := attached(t, ns, "eth2"); id != 0 {
		t.Errorf("program %d is still on an interface that is not named any more", id)
	}
	_, err = attachIn(ns, dir, 1, "eth9")
	if err == nil || !strings.Contains(err.Error(), "no such interface") {
		t.Errorf("missing interface: error %v", err)
	}

	for range 2 { // the second time there is nothing to remove
		put(t, Unload(dir))
	}
	if id := attached(t, ns, "eth1.7"); id != 0 {
		t.Errorf("program %d is still attached after Unload", id)
	}
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("pin directory after Unload: %v", err)
	}
}

// TestProgramOfAnotherLayoutStaysUntilTakeOver also has a process end before it takes over.
func TestProgramOfAnotherLayoutStaysUntilTakeOver(t *testing.T) {
	dir := pinDir(t)
	ns, peer := netnstest.New(t), netnstest.New(t)
	netnstest.Veth(t, ns, "eth1", noPrefix, peer, "eth0", noPrefix)
	netnstest.Veth(t, ns, "eth2", noPrefix, peer, "eth3", noPrefix)
	_, err := attachIn(ns, dir, 1, "eth1")
	put(t, err)
	old := attached(t, ns, "eth1")
	put(t, os.Rename(filepath.Join(dir, layout), filepath.Join(dir, "maps-1")))
	for range 2 {
		uplinks, err := attachIn(ns, dir, 1, "eth1", "eth2")
		put(t, err)
		if diff := cmp.Diff([]Uplink{{Name: "eth1", Mode: Native}, {Name: "eth2", Mode: Native}}, uplinks); diff != "" {
			t.Errorf("uplinks (-want +got):\n%s", diff)
		}
		if id := attached(t, ns, "eth1"); id != old {
			t.Fatalf("program %d is attached with empty maps, in the place of %d", id, old)
		}
		if attached(t, ns, "eth2") == 0 {
			t.Error("an interface that had no program waits for one")
		}
	}
	ns.Do(func() error {
		lb, err := loadSmall(dir)
		if err != nil {
			return err
		}
		_, err = lb.Attach([]string{"eth1", "eth2"})
		for _, want := range [][]string{{"eth1", "eth2"}, nil} { // the second time there is nothing to take over
			names, failed := lb.TakeOver()
			if diff := cmp.Diff(want, names); diff != "" {
				t.Errorf("taken over (-want +got):\n%s", diff)
			}
			err = errors.Join(err, failed)
		}
		return errors.Join(err, lb.Close())
	})
	if id := attached(t, ns, "eth1"); id == 0 || id == old {
		t.Errorf("program %d is attached after the take-over; the one before was %d", id, old)
	}
	if _, err := os.Stat(filepath.Join(dir, "maps-1")); !os.IsNotExist(err) {
		t.Errorf("the maps of the other layout: %v", err)
	}
}

func TestAttachBesideAnotherProgram(t *testing.T) {
	ns, peer := netnstest.New(t), netnstest.New(t)
	netnstest.Veth(t, ns, "eth1", noPrefix, peer, "eth0", noPrefix)
	_, err := attachIn(ns, pinDir(t), 1, "eth1")
	put(t, err)
	_, err = attachIn(ns, pinDir(t), 1, "eth1")
	if err == nil || !strings.Contains(err.Error(), "xdp off") {
		t.Errorf("error %v, want one that names the mend", err)
	}
}

func TestAttachFallsBackToGeneric(t *testing.T) {
	ns := netnstest.New(t)
	put(t, ns.Link.LinkAdd(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "br0"}}))
	uplinks, err := attachIn(ns, pinDir(t), 1, "br0")
	put(t, err)
	if len(uplinks) != 1 || uplinks[0].Mode != Generic || !strings.HasPrefix(uplinks[0].Why, "its driver does not take the program: ") {
		t.Errorf("uplinks %+v", uplinks)
	}
}

// TestInterfaceComesBack takes an interface away under a pinned link, and brings it back under another index, and then
// another interface under the index of the first.
func TestInterfaceComesBack(t *testing.T) {
	ns, peer := netnstest.New(t), netnstest.New(t)
	dir := pinDir(t)
	for _, name := range []string{"eth1", "eth2"} {
		put(t, ns.Link.LinkAdd(veth(name, 0, peer)))
		_, err := attachIn(ns, dir, 1, name)
		put(t, err)
		gone, err := ns.Link.LinkByName(name)
		put(t, err)
		put(t, ns.Link.LinkDel(gone))

		put(t, ns.Link.LinkAdd(veth(name, 0, peer)))
		_, err = attachIn(ns, dir, 1, name)
		put(t, err)
		if attached(t, ns, name) == 0 {
			t.Errorf("%s has another index than before, and no program", name)
		}
		again, err := ns.Link.LinkByName(name)
		put(t, err)
		put(t, ns.Link.LinkDel(again))

		put(t, ns.Link.LinkAdd(veth(name, again.Attrs().Index, peer)))
		_, err = attachIn(ns, dir, 1, name)
		put(t, err)
		if attached(t, ns, name) == 0 {
			t.Errorf("%s has the same index as before, and no program", name)
		}
	}
	entries, err := os.ReadDir(dir)
	put(t, err)
	links := 0
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), linkPrefix) {
			links++
		}
	}
	if links != 1 {
		t.Errorf("%d links are pinned, want the one of eth2", links)
	}
}

// veth gives a pair to make. Index 0 leaves the index to the kernel.
func veth(name string, index int, peer *netnstest.NS) *netlink.Veth {
	return &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: name, Index: index}, PeerName: fmt.Sprintf("p%s", name),
		PeerNamespace: netlink.NsFd(peer.FD())}
}

// TestPinsOfAnotherNamespace has both interfaces carry the same index.
func TestPinsOfAnotherNamespace(t *testing.T) {
	dir := pinDir(t)
	var errs []error
	for range 2 {
		ns, peer := netnstest.New(t), netnstest.New(t)
		put(t, ns.Link.LinkAdd(veth("eth1", 77, peer)))
		_, err := attachIn(ns, dir, 1, "eth1")
		errs = append(errs, err)
	}
	put(t, errs[0])
	if errs[1] == nil || !strings.Contains(errs[1].Error(), "another network namespace's") {
		t.Errorf("error %v, want one that names the cause", errs[1])
	}
}
