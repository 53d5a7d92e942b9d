package lb

import (
	"fmt"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"anycastle/bpf"
	"anycastle/internal/flowhash"
	"anycastle/internal/netnstest"
	"anycastle/internal/probe"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// pinDir gives a directory in a bpf file system of the test's own.
func pinDir(t testing.TB) string {
	t.Helper()
	netnstest.Root(t)
	dir := t.TempDir()
	check(t, unix.Mount("bpf", dir, "bpf", 0, ""))
	t.Cleanup(func() { check(t, unix.Unmount(dir, unix.MNT_DETACH)) })
	return filepath.Join(dir, "lb")
}

// withPlane does with the maps what one process does between its start and its end. It attaches nothing.
func withPlane(t testing.TB, dir string, key HashKey, f func(x *xdp, have tables)) {
	t.Helper()
	lb, err := bpf.LoadLB(dir, key)
	check(t, err)
	marked, err := lb.LoadMarked()
	check(t, err)
	x := &xdp{lb, marked, flowhash.Key(key)}
	have, err := x.Read()
	check(t, err)
	f(x, have)
	check(t, x.Close())
}

// slotsIn reads a slot table back.
func slotsIn(t *testing.T, x *xdp, farm uint32) []slotPair {
	t.Helper()
	var id uint32
	check(t, x.lb.Farms.Lookup(farm, &id))
	table, err := ebpf.NewMapFromID(ebpf.MapID(id))
	check(t, err)
	defer table.Close()
	pairs, err := bpf.ReadTable(table)
	check(t, err)
	slots := make([]slotPair, 0, bpf.Slots)
	for _, slot := range pairs {
		slots = append(slots, slotPair{slot.Primary, slot.Secondary})
	}
	return slots
}

// TestRestartWithAnotherConfig has a second process find the pinned maps of a first one: after it has applied its own
// config they hold that and nothing else.
func TestRestartWithAnotherConfig(t *testing.T) {
	for _, tc := range []struct{ name, old, new string }{
		{"nothing changed", "", ""},
		{"vip removed", "    - {name: other, address: 203.0.113.11, port: 143, farm: imap}\n", ""},
		{"port changed", "port: 25,", "port: 26,"},
		{"port to a range", "port: 25,", "port: 25-30,"},
		{"port to any", "port: 25,", "port: any,"},
		{"hash by source", "port: 25,", "port: 25, hash: source, source_prefix: 20,"},
		{"vip to IPv6", "203.0.113.11, port: 143", "'2001:db8::11', port: 143, hash: source, source_prefix: 52"},
		{"range on IPv6", "203.0.113.11, port: 143", "'2001:db8::11', port: 1-60000, protocol: udp, hash: source"},
		{"forward changed", "address: 198.51.100.9}", "address: 198.51.100.9, forward: gue}"},
		{"real to IPv6", "198.51.100.9", "2001:db8::9"},
		{"real address changed", "198.51.100.9", "198.51.100.12"},
		{"addresses of two reals changed places", "name: mx1, address: 198.51.100.9}, {name: mx2, address: 198.51.100.10",
			"name: mx1, address: 198.51.100.10}, {name: mx2, address: 198.51.100.9"},
		{"real removed", ", {name: imap1, address: 198.51.100.11}", ""},
		{"hash key changed", "0c0d0e0f", "0c0d0e10"},
		{"vip to another farm", "port: 143, farm: imap}\n    - {name: other", "port: 25, protocol: udp, farm: smtp}\n    - {name: other"},
		{"farm removed", twoFarms[strings.Index(twoFarms, "    - name: imap"):],
			"  vips:\n    - {name: smtp, address: 203.0.113.10, port: 25, farm: smtp}\n"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			before := allPassing(mustParse(t, withProbePorts(twoFarms)))
			after := allPassing(mustParse(t, withProbePorts(strings.Replace(twoFarms, tc.old, tc.new, 1))))
			dir := pinDir(t)
			withPlane(t, dir, before.cfg.HashKey, func(x *xdp, have tables) {
				check(t, reconcile(x, have, before.desired(have, epoch)))
			})
			withPlane(t, dir, after.cfg.HashKey, func(x *xdp, have tables) {
				check(t, reconcile(x, have, after.desired(have, epoch)))
			})
			withPlane(t, dir, after.cfg.HashKey, func(x *xdp, got tables) {
				for farm := range got.slots {
					got.slots[farm] = slotsIn(t, x, farm)
				}
				// a third process wants exactly what the second left
				if want := after.desired(got, epoch); !sameTables(want, got) {
					t.Errorf("installed: reals %v, vips %v, addresses %v, %d tables\nwanted: reals %v, vips %v, addresses %v, %d tables",
						got.reals, got.vips, got.addresses, len(got.slots), want.reals, want.vips, want.addresses, len(want.slots))
				}
			})
		})
	}
}

// TestNewVIPStartsCountingAtZero gives a VIP the counter of one that was removed.
func TestNewVIPStartsCountingAtZero(t *testing.T) {
	key, other := vipKey{addr("203.0.113.10"), 6, OnePort(25)}, vipKey{addr("203.0.113.10"), 6, OnePort(26)}
	withPlane(t, pinDir(t), HashKey{1}, func(x *xdp, _ tables) {
		check(t, x.SetVIP(key, vipEntry{index: 5}))
		cpus, err := ebpf.PossibleCPU()
		check(t, err)
		counts := make([]bpf.Count, cpus)
		counts[0] = bpf.Count{Packets: 3, Bytes: 120}
		check(t, x.lb.Counts.Put(uint32(5), counts))
		check(t, x.SetVIP(key, vipEntry{index: 5, farm: 1}))
		if packets, bytes, err := x.Forwarded(vipEntry{index: 5}); packets != 3 || bytes != 120 || err != nil {
			t.Errorf("counts %d packets, %d bytes, %v after a change of farm", packets, bytes, err)
		}
		check(t, x.ClearVIP(key))
		check(t, x.ClearVIP(key)) // the second time there is none
		check(t, x.SetVIP(other, vipEntry{index: 5}))
		if packets, _, err := x.Forwarded(vipEntry{index: 5}); packets != 0 || err != nil {
			t.Errorf("a new VIP counts %d packets, %v", packets, err)
		}
	})
}

// TestSecondLBIsRefused has it fail before it touches anything.
func TestSecondLBIsRefused(t *testing.T) {
	dir := pinDir(t)
	cfg := mustParse(t, valid)
	withPlane(t, dir, cfg.HashKey, func(*xdp, tables) {
		_, _, err := openXDP(cfg, dir)
		if err == nil || !strings.Contains(err.Error(), "another process has it") {
			t.Errorf("error %v, want one that names the cause", err)
		}
	})
}

// BenchmarkOneRealChanges takes one real of a farm out or in again, from the probe's state to the kernel's map. Much
// of it is the kernel's wait, after a swap, for packets that still use the old table.
func BenchmarkOneRealChanges(b *testing.B) {
	for _, n := range []int{2, 100} {
		b.Run(fmt.Sprintf("table/change-in-kernel/reals=%d", n), func(b *testing.B) {
			cfg := &Config{Farms: []Farm{{Name: "smtp", Probes: []probe.Config{{Type: "tcp", Port: 25}},
				Transition: Transition{Method: Tracked, Time: time.Hour}}}}
			cfg.VIPs = []VIP{{Name: "smtp", Address: addr("203.0.113.10"), Port: OnePort(25), Farm: "smtp"}}
			for i := range n {
				cfg.Farms[0].Reals = append(cfg.Farms[0].Reals,
					Real{Name: fmt.Sprint(i), Address: netip.AddrFrom4([4]byte{198, 51, 100, byte(i + 1)}), Weight: 1})
			}
			in := allPassing(cfg)
			withPlane(b, pinDir(b), HashKey{1}, func(x *xdp, have tables) {
				check(b, reconcile(x, have, in.desired(have, epoch)))
				state := probe.Passing
				for b.Loop() {
					state = probe.Passing + probe.Failing - state
					in.probe("smtp", "0", state)
					check(b, reconcile(x, have, in.desired(have, epoch)))
				}
				b.ReportMetric(milliseconds(b, 1), "ms")
			})
		})
	}
}
