package lb

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"anycastle/bpf"
	"anycastle/internal/nexthop"
	"anycastle/internal/probe"

	"github.com/google/go-cmp/cmp"
)

var testHop = Hop{Source: addr("198.51.100.2"), Ifindex: 2, MTU: 1600, DstMAC: [6]byte{0, 0, 0x5e, 0, 0x53, 1}}

// allPassing gives the inputs of a config whose reals all pass and are all resolved.
func allPassing(cfg *Config) *inputs {
	in := newInputs(cfg)
	for _, b := range in.farms {
		for _, targets := range b.targets {
			for _, t := range targets {
				in.probes[t.id] = probed{state: probe.Passing}
			}
		}
	}
	for _, addr := range in.addresses() {
		hop := testHop
		if addr.Is6() {
			hop.Source, hop.Tags = netip.MustParseAddr("2001:db8::2"), [2]nexthop.Tag{{Proto: 0x88a8, TCI: 7}, {Proto: 0x8100, TCI: 12}}
		}
		in.hops[addr] = hop
	}
	in.evolve(epoch)
	return &in
}

// all names every real of the config.
func (in *inputs) all() map[realID]bool {
	ids := map[realID]bool{}
	for farm, b := range in.farms {
		for name := range b.targets {
			ids[realID{farm, name}] = true
		}
	}
	return ids
}

// probe has every probe of a real give a state.
func (in *inputs) probe(farm, name string, state probe.State) {
	for _, t := range in.farms[farm].targets[name] {
		in.probes[t.id] = probed{state: state, why: "connection refused"}
	}
	in.evolve(epoch)
}

const twoFarms = `lb:
  uplinks: [eth1]
  hash_key: "000102030405060708090a0b0c0d0e0f"
  farms:
    - name: smtp
      probes: [{type: tcp}]
      reals: [{name: mx1, address: 198.51.100.9}, {name: mx2, address: 198.51.100.10}]
    - name: imap
      probes: [{type: tcp}]
      reals: [{name: mx2, address: 198.51.100.10}, {name: imap1, address: 198.51.100.11}]
  vips:
    - {name: smtp, address: 203.0.113.10, port: 25, farm: smtp, min_reals: 2}
    - {name: imap, address: 203.0.113.10, port: 143, farm: imap}
    - {name: other, address: 203.0.113.11, port: 143, farm: imap}
`

func TestFirstInstallIsOrdered(t *testing.T) {
	plane := newFakePlane()
	in := allPassing(mustParse(t, twoFarms))
	have := newTables()
	check(t, reconcile(plane, have, in.desired(have, epoch)))
	want := []string{
		"real 1 = 198.51.100.9", "real 2 = 198.51.100.10", "real 3 = 198.51.100.11",
		"table 0 of [1 2]", "table 1 of [2 3]",
		"vip 203.0.113.10:25 to 0", "vip 203.0.113.10:143 to 1", "vip 203.0.113.11:143 to 1",
		"address 203.0.113.10", "address 203.0.113.11",
	}
	if diff := cmp.Diff(want, plane.take()); diff != "" {
		t.Errorf("steps (-want +got):\n%s", diff)
	}
	check(t, reconcile(plane, have, in.desired(have, epoch)))
	if again := plane.take(); len(again) != 0 {
		t.Errorf("a second time changes %q", again)
	}
}

func TestRemovalIsOrdered(t *testing.T) {
	plane := newFakePlane()
	have := newTables()
	check(t, reconcile(plane, have, allPassing(mustParse(t, twoFarms)).desired(have, epoch)))
	plane.take()
	check(t, reconcile(plane, have, allPassing(mustParse(t, valid)).desired(have, epoch)))
	want := []string{
		"table 0 of [1 2]", // mx2 has another weight there
		"address 203.0.113.11 gone", "vip 203.0.113.10:143 gone", "vip 203.0.113.11:143 gone",
		"table 1 gone", "real 3 gone",
	}
	if diff := cmp.Diff(want, plane.take()); diff != "" {
		t.Errorf("steps (-want +got):\n%s", diff)
	}
}

// TestFailureAtEachStep interrupts a change from one config to another at every step, and goes on with what is known
// then, as well as with what a restarted process reads.
func TestFailureAtEachStep(t *testing.T) {
	from, to := allPassing(mustParse(t, twoFarms)), allPassing(mustParse(t, valid))
	to.probe("smtp", "mx1", probe.Failing)
	for _, restart := range []bool{false, true} {
		for _, dir := range [][2]*inputs{{from, to}, {to, from}} {
			for n := 1; ; n++ {
				plane := newFakePlane()
				have := newTables()
				check(t, reconcile(plane, have, dir[0].desired(have, epoch)))
				plane.failAt = n
				err := reconcile(plane, have, dir[1].desired(have, epoch))
				if err == nil {
					break // fewer than n steps
				}
				if restart {
					have, _ = plane.Read()
				}
				want := dir[1].desired(have, epoch)
				check(t, reconcile(plane, have, want))
				if !sameTables(want, plane.tables) {
					t.Errorf("interrupted at step %d: the maps are not as wanted", n)
				}
				if len(plane.broken) > 0 {
					t.Errorf("interrupted at step %d: %s", n, strings.Join(plane.broken, "; "))
				}
			}
		}
	}
}

// farmOf gives the farm that takes a packet, as the data path looks for it.
func (t tables) farmOf(k vipKey) (uint32, bool) {
	if e, ok := t.vips[k]; ok {
		return e.farm, true
	}
	for _, r := range t.addresses[k.addr].ranges {
		if r.key.proto == k.proto && r.key.ports.overlaps(k.ports) {
			return r.farm, true
		}
	}
	return 0, false
}

// TestPortIsAlwaysSomeones changes VIPs of one port to ranges and back, and looks after each step where packets of the
// port would go.
func TestPortIsAlwaysSomeones(t *testing.T) {
	const wide = "    - {name: wide, address: 203.0.113.10, port: any, farm: imap}\n"
	texts := []string{
		twoFarms, strings.Replace(twoFarms, "port: 25,", "port: 20-30,", 1), twoFarms + wide,
		strings.Replace(twoFarms, "port: 25,", "port: 20-30,", 1) + wide,
	}
	ins := make([]*inputs, len(texts))
	for i, text := range texts {
		ins[i] = allPassing(mustParse(t, withProbePorts(text)))
	}
	for i, from := range ins {
		for j, to := range ins {
			for n := 1; ; n++ {
				plane, have := newFakePlane(), newTables()
				check(t, reconcile(plane, have, from.desired(have, epoch)))
				plane.failAt = n
				err := reconcile(plane, have, to.desired(have, epoch))
				farm, ok := plane.farmOf(vipKey{addr("203.0.113.10"), 6, OnePort(25)})
				if primary, _ := named(plane.slots[farm]); !ok || !slices.Equal(primary, []uint16{1, 2}) {
					t.Errorf("from %d to %d, after %d steps: port 25 goes to reals %v, want [1 2]", i, j, n-1, primary)
				}
				if err == nil {
					break // fewer than n steps
				}
			}
		}
	}
}

// withProbePorts lets the VIPs of twoFarms have any ports.
func withProbePorts(text string) string {
	return strings.ReplaceAll(text, "probes: [{type: tcp}]", "probes: [{type: tcp, port: 25}]")
}

// TestRangesAreOfferedNarrowestFirst holds the order that the data path relies on.
func TestRangesAreOfferedNarrowestFirst(t *testing.T) {
	text := withProbePorts(twoFarms)
	for i, port := range []string{"any", "100-200", "1-1000", "100-200, protocol: udp", "300-400"} {
		text += fmt.Sprintf("    - {name: r%d, address: 203.0.113.10, farm: imap, port: %s}\n", i, port)
	}
	var got []string
	for _, r := range allPassing(mustParse(t, text)).desired(newTables(), epoch).addresses[addr("203.0.113.10")].ranges {
		got = append(got, fmt.Sprintf("%v/%d", r.key.ports, r.key.proto))
	}
	if diff := cmp.Diff([]string{"100-200/6", "300-400/6", "100-200/17", "1-1000/6", "any/6"}, got); diff != "" {
		t.Errorf("ranges (-want +got):\n%s", diff)
	}
}

// sameTables is a comparison that is fast enough for slot tables.
func sameTables(a, b tables) bool {
	return maps.Equal(a.reals, b.reals) && maps.Equal(a.vips, b.vips) &&
		maps.EqualFunc(a.addresses, b.addresses, addressEntry.equal) && maps.EqualFunc(a.slots, b.slots, slices.Equal)
}

func sameAddr(a, b netip.Addr) bool { return a == b }

func TestIndexesSurviveRestart(t *testing.T) {
	plane := newFakePlane()
	have := newTables()
	check(t, reconcile(plane, have, allPassing(mustParse(t, twoFarms)).desired(have, epoch)))
	before := maps.Clone(plane.reals)
	// the new process has its farms and reals in another order, and one real more in front
	text := strings.Replace(twoFarms, "[{name: mx1,", "[{name: mx0, address: 198.51.100.8}, {name: mx1,", 1)
	text = strings.Replace(text, "{name: mx2, address: 198.51.100.10}, {name: imap1, address: 198.51.100.11}",
		"{name: imap1, address: 198.51.100.11}, {name: mx2, address: 198.51.100.10}", 1)
	have, err := plane.Read()
	check(t, err)
	want := allPassing(mustParse(t, text)).desired(have, epoch)
	for index, r := range before {
		if want.reals[index] != r {
			t.Errorf("real %d was %v and is %v", index, r.addr, want.reals[index].addr)
		}
	}
	if want.reals[4].addr != addr("198.51.100.8") {
		t.Errorf("the new real is not in the free index: %v", want.reals)
	}
	if diff := cmp.Diff(have.vips, want.vips, cmp.AllowUnexported(vipKey{}, vipEntry{}), cmp.Comparer(sameAddr)); diff != "" {
		t.Errorf("VIPs moved:\n%s", diff)
	}
}

func TestTwoBalancersComputeTheSame(t *testing.T) {
	in := allPassing(mustParse(t, twoFarms))
	// the other one has had other reals before, and so gives other indexes
	past := newTables()
	past.reals[1] = realEntry{realKey: realKey{addr: addr("198.51.100.11")}}
	past.reals[2] = realEntry{realKey: realKey{addr: addr("198.51.100.99")}}
	a, b := in.desired(newTables(), epoch), in.desired(past, epoch)
	for key, e := range a.vips {
		for slot, here := range a.slots[e.farm] {
			there := b.slots[b.vips[key].farm][slot]
			for _, i := range [][2]uint16{{here.primary, there.primary}, {here.secondary, there.secondary}} {
				if a.reals[uint32(i[0])].addr != b.reals[uint32(i[1])].addr {
					t.Fatalf("%v slot %d: %v here, %v there", key, slot, here, there)
				}
			}
		}
	}
}

func TestAnnounce(t *testing.T) {
	both := []netip.Prefix{netip.MustParsePrefix("203.0.113.10/32"), netip.MustParsePrefix("203.0.113.11/32")}
	for _, tc := range []struct {
		name   string
		change func(in *inputs)
		want   []netip.Prefix
		why    string // of 203.0.113.10
	}{
		{"all active", func(*inputs) {}, both, ""},
		{"too few for one of the VIPs on it", func(in *inputs) { in.probe("smtp", "mx1", probe.Failing) }, both[1:],
			"vip smtp has 1 of 2 reals that it needs"},
		{"enough without one", func(in *inputs) { in.probe("imap", "imap1", probe.Failing) }, both, ""},
		{"next hop not resolved", func(in *inputs) { in.hops[addr("198.51.100.9")] = nexthop.Hop{}; in.evolve(epoch) }, both[1:],
			"vip smtp has 1 of 2 reals that it needs"},
		{"not probed yet", func(in *inputs) {
			in.probes, in.states = map[targetID]probed{}, map[string]farmState{}
			in.evolve(epoch)
		}, nil,
			"vip smtp has 0 of 2 reals that it needs"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			in := allPassing(mustParse(t, twoFarms))
			tc.change(in)
			got, withheld := in.announce()
			if diff := cmp.Diff(tc.want, got, cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); diff != "" {
				t.Errorf("announced (-want +got):\n%s", diff)
			}
			if why := withheld[addr("203.0.113.10")]; why != tc.why {
				t.Errorf("withheld because %q, want %q", why, tc.why)
			}
		})
	}
}

func TestAnnounceIPv6(t *testing.T) {
	in := allPassing(mustParse(t, strings.Replace(twoFarms, "203.0.113.11", "2001:db8:25::11", 1)))
	got, _ := in.announce()
	if want := "[203.0.113.10/32 2001:db8:25::11/128]"; fmt.Sprint(got) != want {
		t.Errorf("announced %v, want %s", got, want)
	}
}

// TestSharedTableIsNotTakenOver moves one of two VIPs that have one table to another farm, and stops after each step.
func TestSharedTableIsNotTakenOver(t *testing.T) {
	before := allPassing(mustParse(t, strings.Replace(twoFarms, "imap, address: 203.0.113.10", "imap, address: 203.0.113.12", 1)))
	text := strings.Replace(twoFarms, "address: 203.0.113.10, port: 143, farm: imap", "address: 203.0.113.12, port: 143, farm: third", 1)
	text = strings.Replace(text, "  vips:", "    - name: third\n      probes: [{type: tcp}]\n      reals: [{name: mx1, address: 198.51.100.9}]\n  vips:", 1)
	after := allPassing(mustParse(t, text))
	moves, stays := vipKey{addr("203.0.113.12"), 6, OnePort(143)}, vipKey{addr("203.0.113.11"), 6, OnePort(143)}
	for n, done := 1, false; !done; n++ {
		plane, have := newFakePlane(), newTables()
		check(t, reconcile(plane, have, before.desired(have, epoch)))
		plane.failAt = n
		done = reconcile(plane, have, after.desired(have, epoch)) == nil
		reals := func(key vipKey) []uint16 {
			primary, _ := named(plane.slots[plane.vips[key].farm])
			return primary
		}
		if got := reals(stays); !slices.Equal(got, []uint16{2, 3}) {
			t.Errorf("after %d steps the VIP that stays has the reals %v, want [2 3]", n-1, got)
		}
		if got := reals(moves); done && !slices.Equal(got, []uint16{1}) {
			t.Errorf("the VIP that moves has the reals %v, want [1]", got)
		}
	}
}

// TestOldFlowsAreForgottenBeforeATransition has the flows of one transition gone before the next one's first table.
func TestOldFlowsAreForgottenBeforeATransition(t *testing.T) {
	table := func(primary uint16) tables {
		w := newTables()
		w.reals[1] = realEntry{realKey: realKey{addr: addr("198.51.100.9")}}
		w.reals[2] = realEntry{realKey: realKey{addr: addr("198.51.100.10")}}
		w.slots[0] = slices.Repeat([]slotPair{{1, 1}}, bpf.Slots)
		w.slots[0][7].primary = primary
		return w
	}
	follow := table(1)
	follow.vips[vipKey{addr("203.0.113.10"), 6, Ports{25, 25}}] = vipEntry{followAll: true}
	f, have := newFakePlane(), newTables()
	for _, tc := range []struct {
		name    string
		want    tables
		forgets bool
	}{
		{"steady", table(1), false},
		{"transition", table(2), true},
		{"all followed", follow, false},
		{"steady again", table(1), false},
		{"the next transition", table(2), true},
	} {
		f.take()
		check(t, reconcile(f, have, tc.want))
		done := f.take()
		at, swap := slices.Index(done, "forget flows"), slices.IndexFunc(done, func(s string) bool { return strings.HasPrefix(s, "table ") })
		if (at >= 0) != tc.forgets || tc.forgets && at > swap {
			t.Errorf("%s: %q", tc.name, done)
		}
	}
	have.slots[0] = nil // as after a restart: what is installed may be in transition
	check(t, reconcile(f, have, table(2)))
	if done := f.take(); slices.Contains(done, "forget flows") {
		t.Errorf("after a restart: %q", done)
	}
}
