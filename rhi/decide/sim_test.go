package decide

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var (
	epoch = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	vipA  = netip.MustParsePrefix("203.0.113.10/32")
	vipB  = netip.MustParsePrefix("2001:db8::10/128")
)

// world is some sites that decide for the same VIPs, and what lies between them: messages that are late, lost, overtaken
// or cut off, BGP tables that lag, and processes that die.
type world struct {
	t     *testing.T
	rnd   *rand.Rand
	now   time.Time
	sites []*simSite
	vips  []netip.Prefix
	mail  []message
	cut   map[[2]int]bool // from, to: nothing passes
	net   network
	trail []string // what happened, for a failure
}

// network says how bad it is.
type network struct {
	delay     time.Duration // of a message, at most
	loss      float64
	unordered bool          // an old report may take the place of a newer one
	lag       time.Duration // of a BGP table, at most
	blind     float64       // share of tables that cannot tell
}

type simSite struct {
	name    string
	role    Role
	up      bool
	wake    time.Time // when it comes up again
	boot    time.Time
	state   State
	old     State // an older state, which a restart may find
	cfg     Config
	health  map[netip.Prefix]Health
	hung    bool
	order   *Order
	flows   Flows
	views   map[netip.Prefix]map[string]Site
	changes map[netip.Prefix]int // that peers saw
	spoke   time.Time
	last    Decisions
}

// message is a report, or with table set what a BGP table learns.
type message struct {
	at       time.Time
	from, to int
	vip      netip.Prefix
	report   Report
	table    *bool
}

func newWorld(t *testing.T, seed uint64, roles ...Role) *world {
	w := &world{t: t, rnd: rand.New(rand.NewPCG(seed, 1)), now: epoch, vips: []netip.Prefix{vipA, vipB}, cut: map[[2]int]bool{}}
	for i, role := range roles {
		w.sites = append(w.sites, &simSite{name: string(rune('a' + i)), role: role, cfg: Defaults(DefaultGroup("isp", 3), DefaultGroup("core", 1))})
	}
	for _, s := range w.sites {
		w.start(s, State{})
		s.health, s.changes = map[netip.Prefix]Health{}, map[netip.Prefix]int{}
		for _, p := range w.vips {
			s.health[p] = good
		}
	}
	return w
}

var (
	good    = Health{Known: true, InService: 4, Reals: 4, Share: 1}
	bad     = Health{Known: true, Reals: 4}
	half    = Health{Known: true, InService: 2, Reals: 4, Share: 0.5}
	unknown = Health{}
)

// start has a process of the site begin.
func (w *world) start(s *simSite, state State) {
	s.up, s.boot, s.state, s.views, s.last = true, w.now, state, map[netip.Prefix]map[string]Site{}, Decisions{}
	for _, p := range w.vips {
		s.views[p] = map[string]Site{}
		for _, o := range w.sites {
			if o != s {
				s.views[p][o.name] = Site{Role: o.role}
			}
		}
	}
}

func (w *world) note(format string, args ...any) {
	w.trail = append(w.trail, fmt.Sprintf("%8v ", w.now.Sub(epoch))+fmt.Sprintf(format, args...))
	if len(w.trail) > 300 {
		w.trail = w.trail[1:]
	}
}

func (w *world) fatalf(format string, args ...any) {
	w.t.Helper()
	for _, line := range w.trail {
		w.t.Log(line)
	}
	w.t.Fatalf("after %v: %s", w.now.Sub(epoch), fmt.Sprintf(format, args...))
}

// inputs are what the site knows now.
func (w *world) inputs(s *simSite) Inputs {
	in := Inputs{Site: s.name, Boot: s.boot, Config: s.cfg, Order: s.order, VIPs: map[netip.Prefix]VIP{}}
	for _, p := range w.vips {
		h := s.health[p]
		h.Lease = w.now
		if s.hung {
			h.Lease = w.now.Add(-time.Minute)
		}
		sent := Sent{Known: true}
		if s.announces(p) {
			sent.Peers = 2
		}
		in.VIPs[p] = VIP{Role: s.role, Health: h, Full: Minimum{Share: 0.75}, Flows: s.flows, Sent: sent, Sites: s.views[p]}
	}
	return in
}

// announces says whether the site's route is out.
func (s *simSite) announces(p netip.Prefix) bool {
	d, ok := s.last.VIPs[p]
	return s.up && ok && d.Place != PlaceWithdrawn
}

// act has one site decide, and do it.
func (w *world) act(i int) {
	s := w.sites[i]
	in := w.inputs(s)
	was := map[netip.Prefix]bool{}
	for _, p := range w.vips {
		was[p] = s.announces(p)
	}
	before := s.last
	s.state, s.last = next(w, s.state, in, w.now)
	if w.rnd.IntN(50) == 0 {
		s.old = s.state
	}
	for _, p := range w.vips {
		d := s.last.VIPs[p]
		if old, ok := before.VIPs[p]; ok && !reflect.DeepEqual(old.Rungs, d.Rungs) {
			s.changes[p]++
		}
		if old := before.VIPs[p]; old.Place != d.Place || old.Cause != d.Cause || old.Report.Want != d.Report.Want || !reflect.DeepEqual(old.Report.Holds, d.Report.Holds) {
			w.note("%s %v: %s %s want %d holds %v: %s", s.name, p, d.Place, d.Cause, d.Report.Want, d.Report.Holds, d.Why)
		}
		if now := s.announces(p); now != was[p] {
			w.tell(i, p, now)
		}
	}
	w.check()
	if w.now.Sub(s.spoke) >= time.Second || !reflect.DeepEqual(reports(before), reports(s.last)) {
		s.spoke = w.now
		for _, p := range w.vips {
			for j := range w.sites {
				w.send(message{from: i, to: j, vip: p, report: s.last.VIPs[p].Report})
			}
		}
	}
}

func reports(ds Decisions) map[netip.Prefix]Report {
	all := map[netip.Prefix]Report{}
	for p, d := range ds.VIPs {
		all[p] = d.Report
	}
	return all
}

// tell has the BGP tables of the others learn of a route.
func (w *world) tell(i int, p netip.Prefix, announced bool) {
	for j := range w.sites {
		if j != i {
			w.tellOne(i, j, p, announced)
		}
	}
}

// tellOne has one of them learn of it, after what it was told before: BGP keeps its order.
func (w *world) tellOne(from, to int, p netip.Prefix, announced bool) {
	at := w.now.Add(w.random(w.net.lag))
	for _, m := range w.mail {
		if m.table != nil && m.from == from && m.to == to && m.vip == p && m.at.After(at) {
			at = m.at
		}
	}
	w.mail = append(w.mail, message{at: at, from: from, to: to, vip: p, table: &announced})
}

func (w *world) random(most time.Duration) time.Duration {
	if most <= 0 {
		return 0
	}
	return time.Duration(w.rnd.Int64N(int64(most)))
}

func (w *world) send(m message) {
	if m.from == m.to || w.cut[[2]int{m.from, m.to}] || w.rnd.Float64() < w.net.loss {
		return
	}
	m.at = w.now.Add(w.random(w.net.delay))
	w.mail = append(w.mail, m)
}

// deliver brings what is due, of what is due at once in any order.
func (w *world) deliver() {
	var due []message
	w.mail = slices.DeleteFunc(w.mail, func(m message) bool {
		if m.at.After(w.now) {
			return false
		}
		due = append(due, m)
		return true
	})
	slices.SortStableFunc(due, func(a, b message) int { return a.at.Compare(b.at) })
	if w.net.unordered {
		w.rnd.Shuffle(len(due), func(i, j int) {
			if due[i].table == nil && due[j].table == nil {
				due[i], due[j] = due[j], due[i]
			}
		})
	}
	for _, m := range due {
		if m.table != nil {
			w.learn(m)
			continue
		}
		to := w.sites[m.to]
		if !to.up {
			continue
		}
		name := w.sites[m.from].name
		view := to.views[m.vip][name]
		if view.Report == nil || w.net.unordered || m.report.Generation >= view.Report.Generation {
			view.Report, view.Heard = &m.report, w.now
		}
		to.views[m.vip][name] = view
	}
	for _, s := range w.sites {
		for _, p := range w.vips {
			for _, name := range slices.Sorted(maps.Keys(s.views[p])) { // in order: a seed gives the same world each time
				view := s.views[p][name]
				view.Table.Known, view.Table.At = w.rnd.Float64() >= w.net.blind, w.now
				s.views[p][name] = view
			}
		}
	}
}

// learn puts into a BGP table what it is told. One of a process that starts later is filled by its new sessions.
func (w *world) learn(m message) {
	to, name := w.sites[m.to], w.sites[m.from].name
	view := to.views[m.vip][name]
	view.Table.Seen = *m.table
	to.views[m.vip][name] = view
}

// next decides, and looks at what must be true of any decision.
func next(w *world, was State, in Inputs, now time.Time) (State, Decisions) {
	state, ds := Next(was, in, now)
	again, ds2 := Next(state, in, now)
	if !reflect.DeepEqual(state, again) {
		w.fatalf("%s: a second look at the same time (-first +second):\n%s", in.Site, diff(state, again))
	}
	for p, d := range ds.VIPs {
		if !reflect.DeepEqual(d.Rungs, ds2.VIPs[p].Rungs) || d.Why == "" || !reflect.DeepEqual(d.Report, ds2.VIPs[p].Report) {
			w.fatalf("%s: %+v, and at a second look %+v", in.Site, d, ds2.VIPs[p])
		}
		if _, err := d.Report.Encode(); err != nil {
			w.fatalf("%s: report %+v: %v", in.Site, d.Report, err)
		}
	}
	if w.rnd.IntN(20) == 0 {
		w.sleepUntilDeadline(state, in, ds, now)
		text, err := state.Encode()
		if err != nil {
			w.fatalf("%v", err)
		}
		if back, err := DecodeState(text); err != nil || !reflect.DeepEqual(back, state) {
			w.fatalf("%s: state %s comes back as %+v, %v", in.Site, text, back, err)
		}
	}
	return state, ds
}

func diff(a, b State) string {
	return cmp.Diff(a, b, cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }))
}

// sleepUntilDeadline looks at a moment before the deadline, at which nothing may change.
func (w *world) sleepUntilDeadline(state State, in Inputs, ds Decisions, now time.Time) {
	end := ds.Deadline(now)
	if end.IsZero() {
		return
	}
	later := now.Add(w.random(end.Sub(now)))
	if slept, _ := Next(state, in, later); !reflect.DeepEqual(slept, state) {
		w.fatalf("%s: a look at %v, before the deadline %v (-now +then):\n%s", in.Site, later, end, diff(state, slept))
	}
}

// check is the safety property, at each moment between two deeds: the sites are never all withdrawn under promises of
// each other, for health or by orders without force.
func (w *world) check() {
	for _, p := range w.vips {
		gone := 0
		for _, s := range w.sites {
			d := s.last.VIPs[p]
			if s.up && d.Place == PlaceWithdrawn && (d.Cause == CauseHealth || d.Cause == CauseOrder) {
				gone++
			}
		}
		if gone == len(w.sites) {
			w.fatalf("%v is withdrawn at all sites", p)
		}
	}
}

// step lets time pass and has every site that is up decide, in any order.
func (w *world) step(d time.Duration) {
	w.now = w.now.Add(d)
	w.deliver()
	for _, i := range w.rnd.Perm(len(w.sites)) {
		if w.sites[i].up {
			w.act(i)
		}
	}
}

// run lets time pass in steps of half a second.
func (w *world) run(d time.Duration, each ...func()) {
	for end := w.now.Add(d); w.now.Before(end); {
		w.step(500 * time.Millisecond)
		for _, f := range each {
			f()
		}
	}
}

// announced counts the sites that announce a VIP.
func (w *world) announced(p netip.Prefix) int {
	n := 0
	for _, s := range w.sites {
		if s.announces(p) {
			n++
		}
	}
	return n
}

// crash ends a site's process, and its routes with it.
func (w *world) crash(i int, downFor time.Duration) {
	s := w.sites[i]
	for _, p := range w.vips {
		if s.announces(p) {
			w.tell(i, p, false)
		}
	}
	s.up, s.wake, s.last = false, w.now.Add(downFor), Decisions{}
	w.note("%s crashes for %v", s.name, downFor)
}

func (w *world) place(i int, p netip.Prefix) Place { return w.sites[i].last.VIPs[p].Place }
