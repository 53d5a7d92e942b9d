package rhi

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const ladderNode = `
rhi:
  asn: 65011
  router_id: 198.51.100.3
  groups:
    isp: {ladder: [{med: 100, communities: ["65011:7", "65011:1:2"]}, {prepend: 3}, {gshut: true}]}
    core: {ladder: []}
  neighbors:
    - {name: isp a, address: 192.0.2.1, asn: 64496, group: isp, prepend: 1}
    - {name: isp b, address: 192.0.2.3, asn: 64497, group: isp, families: [ipv4, ipv6], next_hop: "2001:db8::1"}
    - {name: core, address: 192.0.2.5, asn: 65001, group: core}
    - {name: other, address: 192.0.2.7, asn: 65002}
  router: {pass: [198.51.100.0/24]}
`

func ladderConfig(t *testing.T) *Config {
	t.Helper()
	cfg, err := decode("node.yml", []byte(ladderNode))
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

func TestLadder(t *testing.T) {
	t.Parallel()
	cfg := ladderConfig(t)
	for group, want := range map[string]string{
		"isp":     "[announced med 100, community 65011:7, community 65011:1:2 prepend 3 gshut withdrawn]",
		"core":    "[announced withdrawn]",
		"default": "[announced med 100, prepend 1 med 200, prepend 3, gshut withdrawn]",
	} {
		if got := fmt.Sprint(cfg.Ladder(group)); got != want {
			t.Errorf("%s: got %s, want %s", group, got, want)
		}
	}
	if got := cfg.groupNames(); !slices.Equal(got, []string{"core", "default", "isp"}) {
		t.Errorf("groups %v", got)
	}
	if got := cfg.lastRungs(); !slices.Equal(got, []uint32{1, 3, 4}) {
		t.Errorf("last rungs %v", got)
	}
}

func TestLadderComplaints(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, old, new, complaint string }{
		{"unknown group", "group: core}", "group: cor}", `node.yml:11: rhi.neighbors[2].group: no group "cor"; did you mean "core", or add it to rhi.groups`},
		{"empty group", "group: core}", `group: ""}`, `rhi.neighbors[2].group: no group ""`},
		{"group of nobody", "core: {ladder: []}", "core: {ladder: []}\n    cores: {}", "node.yml:8: rhi.groups.cores: no peer is in it; give a neighbor `group: cores`"},
		{"idle rung", "{prepend: 3}", "{prepend: 0}", "rhi.groups.isp.ladder[1]: it is no worse than announced"},
		{"much prepend", "{prepend: 3}", "{prepend: 30}", "rhi.groups.isp.ladder[1].prepend: 30 is out of range; use 0 to 10"},
		{"long ladder", "{prepend: 3}", strings.Repeat("{prepend: 1}, ", 15) + "{prepend: 3}", "rhi.groups.isp.ladder: it has 18 rungs; use 16 at most"},
		{"large MED", "med: 100", "med: 4294967296", "is no whole number from 0 to 4294967295"},
		{"no community", "65011:7", "65536:7", "is not a community; write a standard one as 65000:100"},
		{"same community", "65011:1:2", "65011:7", "65011:7 is given twice"},
		{"gshut by hand", "65011:7", "65535:0", "65535:0 is what `gshut: true` sends; write that"},
		{"our own markers", "65011:1:2", "0:1:2", "0:1:2: no AS has the number 0"},
		{"rung that is written", "{gshut: true}", "{withdrawn: true}", "ladder[2].withdrawn: unknown key"},
	} {
		text := strings.ReplaceAll(ladderNode, c.old, c.new)
		if text == ladderNode {
			t.Errorf("%s: the case changes nothing", c.name)
		}
		if _, err := decode("node.yml", []byte(text)); err == nil || !strings.Contains(err.Error(), c.complaint) {
			t.Errorf("%s: got %v, want %q in it", c.name, err, c.complaint)
		}
	}
}

func FuzzCommunity(f *testing.F) {
	for _, text := range []string{"65000:100", "65000:1:2", "4294967295:0:4294967295", "65535:0", "", ":", "1:2:3:4", "-1:0", "65536:1"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		var c, again Community
		if c.UnmarshalText([]byte(text)) != nil {
			return
		}
		if err := again.UnmarshalText([]byte(c.String())); err != nil || again != c {
			t.Errorf("%q is %v, which is %v (%v)", text, c, again, err)
		}
	})
}

func TestAnnouncements(t *testing.T) {
	t.Parallel()
	cfg := ladderConfig(t)
	p := netip.MustParsePrefix(vip)
	got, err := cfg.announcements([]Announcement{{Prefix: p, Rungs: map[string]int{"isp": 4, "default": 1}}, {Prefix: netip.MustParsePrefix(vip6), MED: new(uint32(7))}})
	want := announceTable{p: {0, 1, 4}, netip.MustParsePrefix(vip6): {0, 0, 0, 7}}
	if diff := cmp.Diff(want, got, byValue); diff != "" || err != nil {
		t.Errorf("%v; -want +got\n%s", err, diff)
	}
	for _, c := range []struct {
		complaint     string
		announcements []Announcement
	}{
		{"want an IPv4 or IPv6 prefix without host bits", []Announcement{{Prefix: netip.MustParsePrefix("203.0.113.10/24")}}},
		{"want an IPv4 or IPv6 prefix without host bits", []Announcement{{}}},
		{"given twice", []Announcement{{Prefix: p}, {Prefix: p}}},
		{`no peer is in group "cores"`, []Announcement{{Prefix: p, Rungs: map[string]int{"cores": 0}}}},
		{`group "isp" has rungs 0 to 4, not 5`, []Announcement{{Prefix: p, Rungs: map[string]int{"isp": 5}}}},
		{`group "core" has rungs 0 to 1, not -1`, []Announcement{{Prefix: p, Rungs: map[string]int{"core": -1}}}},
	} {
		if _, err := cfg.announcements(c.announcements); err == nil || !strings.Contains(err.Error(), c.complaint) {
			t.Errorf("%+v: got %v, want %q in it", c.announcements, err, c.complaint)
		}
	}
}

func TestAnnouncePlan(t *testing.T) {
	t.Parallel()
	table := func(rung uint32, list ...string) announceTable {
		table := announceTable{}
		for _, p := range prefixes(list...) {
			table[p] = []uint32{0, rung}
		}
		return table
	}
	for _, c := range []struct {
		name             string
		want, have       announceTable
		announce, remove []netip.Prefix
	}{
		{name: "nothing"},
		{name: "same", want: table(1, vip), have: table(1, vip)},
		{name: "new ones in order", want: table(0, "203.0.113.2/32", "203.0.113.1/32"), announce: prefixes("203.0.113.1/32", "203.0.113.2/32")},
		{name: "gone", have: table(0, vip), remove: prefixes(vip)},
		{name: "another rung", want: table(2, vip), have: table(1, vip), announce: prefixes(vip)},
		{name: "foreign markers", want: table(0, vip), have: announceTable{prefixes(vip)[0]: nil}, announce: prefixes(vip)},
		{name: "another length is another route", want: table(0, "203.0.113.0/24"), have: table(0, "203.0.113.0/25"),
			announce: prefixes("203.0.113.0/24"), remove: prefixes("203.0.113.0/25")},
	} {
		announce, withdraw := announcePlan(c.want, c.have)
		if diff := cmp.Diff([][]netip.Prefix{c.announce, c.remove}, [][]netip.Prefix{announce, withdraw}, byValue); diff != "" {
			t.Errorf("%s: -want +got\n%s", c.name, diff)
		}
	}
}

func TestRungsOf(t *testing.T) {
	t.Parallel()
	if got := rungsOf([]marker{{0, 2}, {1, 0}}, 2); !slices.Equal(got, []uint32{2, 0}) {
		t.Errorf("got %v", got)
	}
	if got := rungsOf([]marker{{0, 2}, {1, 0}, {ownMED, 7}}, 2); !slices.Equal(got, []uint32{2, 0, 7}) {
		t.Errorf("with a MED: got %v", got)
	}
	for _, odd := range [][]marker{nil, {{0, 2}}, {{1, 0}, {0, 2}}, {{0, 1}, {0, 2}}, {{0, 1}, {1, 1}, {2, 1}}} {
		if got := rungsOf(odd, 2); got != nil {
			t.Errorf("%v: got %v, want none", odd, got)
		}
	}
}

// Each line as "peer: what it holds for -> what is done".
func TestExportPolicy(t *testing.T) {
	t.Parallel()
	var got []string
	for _, s := range exportPolicy(ladderConfig(t), routing) {
		line := s.to.name + ": "
		switch {
		case s.own && !s.reject:
			line += "own " + s.marker.String()
		case s.own:
			line += "own"
		case s.reject:
			line += "all"
		default:
			line += "pass"
		}
		if s.family != "" {
			line += " " + string(s.family)
		}
		line += fmt.Sprintf(" -> %v", s.rung)
		if s.reject {
			line += " rejected"
		}
		if s.prepend > 0 {
			line += fmt.Sprintf(" + %d", s.prepend)
		}
		if s.nextHop.IsValid() {
			line += fmt.Sprintf(" via %v", s.nextHop)
		}
		got = append(got, line)
	}
	want := []string{
		"isp a: own 0:2:0 -> announced + 1",
		"isp a: own 0:2:1 -> med 100, community 65011:7, community 65011:1:2 + 1",
		"isp a: own 0:2:2 -> prepend 3 + 4",
		"isp a: own 0:2:3 -> gshut + 1",
		"isp a: own -> announced rejected",
		"isp a: pass -> announced + 1",
		"isp a: all -> announced rejected",
		"isp b: own 0:2:0 ipv6 -> announced via 2001:db8::1",
		"isp b: own 0:2:0 -> announced",
		"isp b: own 0:2:1 ipv6 -> med 100, community 65011:7, community 65011:1:2 via 2001:db8::1",
		"isp b: own 0:2:1 -> med 100, community 65011:7, community 65011:1:2",
		"isp b: own 0:2:2 ipv6 -> prepend 3 + 3 via 2001:db8::1",
		"isp b: own 0:2:2 -> prepend 3 + 3",
		"isp b: own 0:2:3 ipv6 -> gshut via 2001:db8::1",
		"isp b: own 0:2:3 -> gshut",
		"isp b: own -> announced rejected",
		"isp b: pass ipv6 -> announced via 2001:db8::1",
		"isp b: pass -> announced",
		"isp b: all -> announced rejected",
		"core: own 0:0:0 -> announced",
		"core: own -> announced rejected",
		"core: pass -> announced",
		"core: all -> announced rejected",
		"other: own 0:1:0 -> announced",
		"other: own 0:1:1 -> med 100, prepend 1 + 1",
		"other: own 0:1:2 -> med 200, prepend 3, gshut + 3",
		"other: own -> announced rejected",
		"other: pass -> announced",
		"other: all -> announced rejected",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}
