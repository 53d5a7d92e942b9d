package rhi

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"anycastle/internal/config"
)

// maxRungs bounds a ladder; nobody climbs so many in an outage.
const maxRungs = 16

// Group is peers that climb one ladder.
type Group struct {
	Ladder   []Rung `yaml:"ladder"`   // the rungs between announced, which is rung 0, and withdrawn; default med 100 with prepend 1, then gshut with med 200 and prepend 3
	Backup   *int   `yaml:"backup"`   // the rung of a backup site at its best; default 1
	Degraded *int   `yaml:"degraded"` // the rung of a VIP that is degraded; default 2
	Draining *int   `yaml:"draining"` // the rung of a VIP that drains; default the last
	Parked   *int   `yaml:"parked"`   // the rung of a VIP that flaps; default the last
}

// SetDefaults implements config.Defaulter.
func (g *Group) SetDefaults() { g.Ladder = defaultLadder() }

// defaultLadder has a rung for what is fit and not preferred, and one for what is to be taken by nobody who has a choice.
// Routers compare MEDs of one neighboring AS alone, so the paths differ too.
func defaultLadder() []Rung {
	low, high := uint32(100), uint32(200)
	return []Rung{{MED: &low, Prepend: 1}, {MED: &high, Prepend: 3, GSHUT: true}}
}

// Rung is what a group is sent of a prefix. The zero Rung is the first of each ladder: announced as it is.
type Rung struct {
	MED         *uint32     `yaml:"med"`         // MULTI_EXIT_DISC; lower ones win among routes of the same AS; default none is sent
	Prepend     int         `yaml:"prepend"`     // own AS this many more times, 0 to 10, besides the neighbor's own prepend; default 0
	Communities []Community `yaml:"communities"` // standard 65000:100 or large 65000:1:2; default none
	GSHUT       bool        `yaml:"gshut"`       // graceful shutdown (RFC 8326): the peer is asked to prefer any other route; default false
	Withdrawn   bool        `yaml:"-"`           // the last rung of each ladder
}

// String says in words what a group is sent.
func (r Rung) String() string {
	var words []string
	if r.MED != nil {
		words = append(words, fmt.Sprintf("med %d", *r.MED))
	}
	if r.Prepend > 0 {
		words = append(words, fmt.Sprintf("prepend %d", r.Prepend))
	}
	for _, c := range r.Communities {
		words = append(words, "community "+c.String())
	}
	if r.GSHUT {
		words = append(words, "gshut")
	}
	if r.Withdrawn {
		words = append(words, "withdrawn")
	}
	return cmp.Or(strings.Join(words, ", "), "announced")
}

// communities lists the standard and the large communities of a rung as text.
func (r Rung) communities() (standard, large []string) {
	for _, c := range r.Communities {
		if c.large {
			large = append(large, c.String())
		} else {
			standard = append(standard, c.String())
		}
	}
	if r.GSHUT {
		standard = append(standard, gshut.String())
	}
	return standard, large
}

// Community is a standard community (RFC 1997) or a large one (RFC 8092).
type Community struct {
	parts [3]uint32 // the third is of large ones only
	large bool
}

// gshut is GRACEFUL_SHUTDOWN of RFC 8326.
var gshut = Community{parts: [3]uint32{65535, 0}}

// UnmarshalText implements encoding.TextUnmarshaler.
func (c *Community) UnmarshalText(text []byte) error {
	fields := strings.Split(string(text), ":")
	if len(fields) != 2 && len(fields) != 3 {
		return fmt.Errorf("no community: %s", text)
	}
	*c = Community{large: len(fields) == 3}
	bits := 16
	if c.large {
		bits = 32
	}
	for i, f := range fields {
		n, err := strconv.ParseUint(f, 10, bits)
		if err != nil {
			return fmt.Errorf("no community: %s: %w", text, err)
		}
		c.parts[i] = uint32(n)
	}
	return nil
}

// Kind says what a Community looks like, for complaints about a config.
func (c *Community) Kind() string {
	return "a community; write a standard one as 65000:100, a large one as 65000:1:2"
}

func (c Community) String() string {
	if c.large {
		return fmt.Sprintf("%d:%d:%d", c.parts[0], c.parts[1], c.parts[2])
	}
	return fmt.Sprintf("%d:%d", c.parts[0], c.parts[1])
}

// Ladder gives all rungs of a group, from announced (0) to withdrawn (the last).
func (c *Config) Ladder(group string) []Rung {
	g, ok := c.Groups[group]
	if !ok {
		g.SetDefaults()
	}
	return slices.Concat([]Rung{{}}, g.Ladder, []Rung{{Withdrawn: true}})
}

// groupNames lists the groups that peers to announce to are in, each once. The place in it is the group's number in markers.
func (c *Config) groupNames() []string {
	seen := map[string]bool{}
	for _, p := range c.audience() {
		seen[p.Group] = true
	}
	return slices.Sorted(maps.Keys(seen))
}

// Announcement is what is to be sent of a prefix.
type Announcement struct {
	Prefix netip.Prefix
	Rungs  map[string]int // by group, as in Ladder; a group that is not named is at 0, announced
	MED    *uint32        // sent where the rung has none of its own; nil: none

	// Stamps of the step that led here, for Sent and the histogram. They count once: with the apply that sends it.
	Why     string    // one line; default none
	Cause   time.Time // when what led to it happened, such as the probe's result; zero: not known
	Decided time.Time // when it was decided; zero: not known
}

func byPrefix(list []Announcement) map[netip.Prefix]Announcement {
	m := make(map[netip.Prefix]Announcement, len(list))
	for _, a := range list {
		m[a.Prefix] = a
	}
	return m
}

// marker is a large community on an own path inside the speaker, which says at which rung a group is. It never leaves the
// node: the export policy strips all of them. Nobody else's community looks like it, as no AS has the number 0.
type marker struct{ group, rung uint32 }

// ownMED stands in the place of a group in the marker that tells a MED of the announcement's own.
const ownMED = 1<<32 - 1

func (m marker) String() string { return fmt.Sprintf("0:%d:%d", m.group, m.rung) }

// markers lists those that stand for something sent.
func (c *Config) markers() []marker {
	var all []marker
	for i, last := range c.lastRungs() {
		for rung := range last {
			all = append(all, marker{uint32(i), rung})
		}
	}
	return all
}

// announceTable maps a prefix to the rung of each group, in the order of groupNames, and to its own MED after them if it has one.
type announceTable map[netip.Prefix][]uint32

// lastRungs is the row of an announceTable for a prefix that no group is sent.
func (c *Config) lastRungs() []uint32 {
	var last []uint32
	for _, g := range c.groupNames() {
		last = append(last, uint32(len(c.Ladder(g))-1))
	}
	return last
}

// rungsOf reads a row of an announceTable from an own path; nil when it has other markers than the number of groups.
func rungsOf(markers []marker, groups int) []uint32 {
	if len(markers) != groups && len(markers) != groups+1 {
		return nil
	}
	rungs := make([]uint32, len(markers))
	for i, m := range markers {
		if i < groups && m.group != uint32(i) || i == groups && m.group != ownMED {
			return nil
		}
		rungs[i] = m.rung
	}
	return rungs
}

// sent says in words what each group is sent.
func (c *Config) sent(rungs []uint32) map[string]string {
	words := map[string]string{}
	for i, g := range c.groupNames() {
		if ladder := c.Ladder(g); i < len(rungs) && int(rungs[i]) < len(ladder) {
			words[g] = ladder[rungs[i]].String()
		}
	}
	return words
}

// announcements checks what a caller wants to be sent and turns it into a table.
func (c *Config) announcements(list []Announcement) (announceTable, error) {
	table, groups, last := announceTable{}, c.groupNames(), c.lastRungs()
	for _, a := range list {
		p := a.Prefix
		if !p.IsValid() || p.Addr().Is4In6() || p != p.Masked() {
			return nil, fmt.Errorf("announce %v: want an IPv4 or IPv6 prefix without host bits", p)
		}
		if _, twice := table[p]; twice {
			return nil, fmt.Errorf("announce %v: it is given twice", p)
		}
		rungs := make([]uint32, len(groups))
		for g, rung := range a.Rungs {
			i := slices.Index(groups, g)
			if i < 0 {
				return nil, fmt.Errorf("announce %v: no peer is in group %q", p, g)
			}
			if rung < 0 || rung > int(last[i]) {
				return nil, fmt.Errorf("announce %v: group %q has rungs 0 to %d, not %d", p, g, last[i], rung)
			}
			rungs[i] = uint32(rung)
		}
		if a.MED != nil {
			rungs = append(rungs, *a.MED)
		}
		table[p] = rungs
	}
	return table, nil
}

// announcePlan is what turns the announced announcements into the wanted ones. What stands with other rungs is announced again,
// which replaces it in one step.
func announcePlan(want, have announceTable) (announce, withdraw []netip.Prefix) {
	for p, rungs := range want {
		if h, ok := have[p]; !ok || !slices.Equal(h, rungs) {
			announce = append(announce, p)
		}
	}
	for p := range have {
		if _, ok := want[p]; !ok {
			withdraw = append(withdraw, p)
		}
	}
	slices.SortFunc(announce, comparePrefixes)
	slices.SortFunc(withdraw, comparePrefixes)
	return announce, withdraw
}

// validateGroups checks the ladders, and that peers and groups name each other.
func (c *Config) validateGroups(at config.Cursor) {
	used := c.groupNames()
	for _, name := range slices.Sorted(maps.Keys(c.Groups)) {
		at := at.Key("groups").Key(name)
		if !slices.Contains(used, name) {
			at.Errorf("no peer is in it; give a neighbor `group: %s`, or remove it", name)
		}
		ladder := c.Groups[name].Ladder
		if len(ladder) > maxRungs {
			at.Key("ladder").Errorf("it has %d rungs; use %d at most", len(ladder), maxRungs)
		}
		for i, r := range ladder {
			r.validate(at.Key("ladder").Index(i))
		}
	}
}

func (r Rung) validate(at config.Cursor) {
	if r.String() == (Rung{}).String() {
		at.Errorf("it is no worse than announced, which is the first rung anyway; set med, prepend, communities or gshut, or remove it")
	}
	if r.Prepend < 0 || r.Prepend > maxPrepend {
		at.Key("prepend").Errorf("%d is out of range; use 0 to %d", r.Prepend, maxPrepend)
	}
	for i, k := range r.Communities {
		at := at.Key("communities").Index(i)
		switch {
		case k == gshut:
			at.Errorf("%v is what `gshut: true` sends; write that", k)
		case k.large && k.parts[0] == 0:
			at.Errorf("%v: no AS has the number 0; use a community of an AS", k)
		case slices.Contains(r.Communities[:i], k):
			at.Errorf("%v is given twice; keep one", k)
		}
	}
}

// validateGroup checks that a group is known. Only the default one needs no entry, so that a slip makes no new one.
func (c *Config) validateGroup(at config.Cursor, name string) {
	if _, ok := c.Groups[name]; ok || name == defaultGroup {
		return
	}
	known := append(slices.Sorted(maps.Keys(c.Groups)), defaultGroup)
	meant := ""
	if near := config.Nearest(name, known); near != "" {
		meant = fmt.Sprintf("did you mean %q, or ", near)
	}
	at.Errorf("no group %q; %sadd it to rhi.groups, such as `groups: {%s: {ladder: [{med: 100}, {gshut: true}]}}`", name, meant, name)
}
