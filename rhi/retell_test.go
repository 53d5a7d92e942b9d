package rhi

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// TestLastWordIsHeard has the best path of many prefixes change again and again, from one neighbor's to another's, to none. What a
// router then tells others must be the last of it: gobgp sends what changes at the same time in any order.
func TestLastWordIsHeard(t *testing.T) {
	t.Parallel()
	near, far, m, c := newNode(t, "near"), newNode(t, "far"), newNode(t, "m"), newNode(t, "c")
	for i, n := range []*node{near, far, c} {
		link(t, n, m, i+1)
	}
	speaker := func(asn, subnet, prepend int) string {
		return fmt.Sprintf(`
rhi:
  asn: %d
  router_id: 198.51.100.%d
  neighbors: [{name: m, address: 192.0.2.%d, asn: 65001, passive: true, prepend: %d}]
`, asn, subnet+1, 2*subnet+1, prepend)
	}
	near.start(speaker(65002, 1, 0))
	far.start(speaker(65003, 2, 3))
	c.start(speaker(65004, 3, 0))
	m.start(`
rhi:
  asn: 65001
  router_id: 198.51.100.1
  neighbors:
    - {name: near, address: 192.0.2.2, asn: 65002}
    - {name: far, address: 192.0.2.4, asn: 65003}
    - {name: c, address: 192.0.2.6, asn: 65004}
  router: {pass: [203.0.113.0/24]}
`)
	eventually(t, "sessions", soon, func() bool { return m.up("near") && m.up("far") && m.up("c") })
	var all []string
	for i := range 200 {
		all = append(all, fmt.Sprintf("203.0.113.%d/32", i))
	}
	for turn := range 4 {
		for range 10 {
			far.set(all...)
			near.set(all...)
			near.set()
			far.set()
		}
		time.Sleep(50 * time.Millisecond) // for m to have heard it all; c must hear the same in the end
		eventually(t, fmt.Sprintf("turn %d: c is told that all is gone", turn), soon, func() bool {
			return len(m.status().Routes) == 0 && len(c.status().Routes) == 0
		})
	}
}

func TestRetelling(t *testing.T) {
	a, b := netip.MustParsePrefix("203.0.113.1/32"), netip.MustParsePrefix("203.0.113.2/32")
	one, two := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	const ms = time.Millisecond
	type step struct {
		at   time.Duration
		list []heard
	}
	at := func(d time.Duration, p netip.Prefix, from netip.Addr, sum uint64) step {
		return step{d, []heard{{source{p, from}, sum}}}
	}
	for name, tc := range map[string]struct {
		steps []step
		want  []netip.Prefix
	}{
		"nothing":                        {nil, nil},
		"one change":                     {[]step{at(0, a, one, 1)}, nil},
		"two prefixes":                   {[]step{at(0, a, one, 1), at(0, b, one, 1)}, nil},
		"the same again":                 {[]step{at(0, a, one, 1), at(10*ms, a, one, 1)}, nil},
		"gone that never was":            {[]step{at(0, a, one, 1), at(10*ms, a, two, 0)}, nil},
		"changes twice":                  {[]step{at(0, a, one, 1), at(10*ms, a, one, 2)}, []netip.Prefix{a}},
		"comes and goes":                 {[]step{at(0, a, one, 1), at(10*ms, a, one, 0)}, []netip.Prefix{a}},
		"another neighbor's":             {[]step{at(0, a, one, 1), at(10*ms, a, two, 1)}, []netip.Prefix{a}},
		"changes again after long":       {[]step{at(0, a, one, 1), at(300*ms, a, one, 2)}, nil},
		"and then once more":             {[]step{at(0, a, one, 1), at(300*ms, a, one, 2), at(400*ms, a, one, 0)}, []netip.Prefix{a}},
		"both":                           {[]step{at(0, a, one, 1), at(0, b, one, 1), at(1*ms, a, one, 0), at(2*ms, b, one, 0)}, []netip.Prefix{a, b}},
		"in one go":                      {[]step{{0, []heard{{source{a, one}, 1}, {source{a, two}, 2}}}}, []netip.Prefix{a}},
		"swept while it matters no more": {[]step{at(0, a, one, 1), at(5000*ms, b, one, 1), at(5001*ms, a, one, 2)}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			r, start := newRetelling(), time.Now()
			defer r.due.Stop()
			for _, s := range tc.steps {
				r.note(s.list, start.Add(s.at))
			}
			if r.armed != (tc.want != nil) {
				t.Errorf("armed: %v", r.armed)
			}
			_, got := r.take(start.Add(2 * time.Second))
			slices.SortFunc(got, comparePrefixes)
			if diff := cmp.Diff(tc.want, got, cmpopts.EquateComparable(netip.Prefix{})); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
		})
	}
}

// What changes right after all was told again may go out together with that.
func TestRetellingOnceMore(t *testing.T) {
	a, from, start := netip.MustParsePrefix("203.0.113.1/32"), netip.MustParseAddr("192.0.2.1"), time.Now()
	r := newRetelling()
	defer r.due.Stop()
	note := func(after time.Duration, sum uint64) (again bool) {
		r.note([]heard{{source{a, from}, sum}}, start.Add(after))
		return r.armed
	}
	note(0, 1)
	note(1, 2)
	if _, list := r.take(start.Add(2 * time.Second)); len(list) != 1 || r.armed {
		t.Fatalf("told again %v, armed %v", list, r.armed)
	}
	if !note(2100*time.Millisecond, 1) {
		t.Error("a change right after it is not told again")
	}
	r.take(start.Add(4 * time.Second))
	if note(5500*time.Millisecond, 2) {
		t.Error("a change long after it is told again")
	}
	r.begun(from)
	if peers, list := r.take(start.Add(7 * time.Second)); len(peers) != 1 || len(list) != 0 {
		t.Errorf("after a session has begun %v are told, and of %v", peers, list)
	}
}
