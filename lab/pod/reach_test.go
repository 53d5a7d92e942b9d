package pod

import (
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"

	"anycastle/internal/config"
	"anycastle/internal/firewall"
	"anycastle/internal/netconf"
	"anycastle/lab/reach"
)

// What a matrix of lab/reach says is what the firewalls of the core routers decide, so that a packet test that finds something else
// has found something else that is wrong.
func TestMatricesAreWhatTheFirewallsDecide(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"two-site", "two-pod"} {
		t.Run(name, func(t *testing.T) {
			w := newWays(t, name)
			text, err := os.ReadFile("../reach/" + name + ".txt")
			if err != nil {
				t.Fatal(err)
			}
			m, err := reach.Parse(string(text))
			if err != nil {
				t.Fatal(err)
			}
			for _, s := range m.Services {
				for i, place := range m.Places {
					if s.Answers[i] == reach.Own {
						continue
					}
					for c := 1; c <= 2; c++ {
						if open, way := w.passes(place, s.Target, c); open != (s.Answers[i] == reach.Open) {
							t.Errorf("%s to %s (%v): by core router %d passes %t (%s), the matrix says %c", place, s.Name, s.Target, c, open, way, s.Answers[i])
						}
					}
				}
			}
		})
	}
}

// ways knows the firewalls of a lab and where everything is.
type ways struct {
	*testing.T
	*lab
	walls map[string]firewall.Config // by core router
}

func newWays(t *testing.T, name string) *ways {
	t.Helper()
	file := "../topo/" + name + "/pod.yml"
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	p, err := Parse(file, text)
	if err != nil {
		t.Fatal(err)
	}
	w := &ways{t, newLab(p), map[string]firewall.Config{}}
	for _, h := range w.pick(0, 0, core) {
		doc, err := config.Parse(h.name, []byte(w.coreNode(h)))
		if err != nil {
			t.Fatal(err)
		}
		var net netconf.Config
		doc.Decode("net", &net)
		if err := doc.Err(); err != nil || net.Firewall == nil {
			t.Fatalf("%s has no firewall: %v", h.name, err)
		}
		w.walls[h.name] = *net.Firewall
	}
	return w
}

// spot is a zone of a site; site 0 is outside.
type spot struct {
	site int
	zone string
}

// passes says whether the first packet to a target passes all firewalls on its way, by core router c of each site.
func (w *ways) passes(place string, target reach.Target, c int) (bool, string) {
	w.Helper()
	from, source := w.place(place)
	to := w.at(target.Addr.Addr(), from.site)
	q := firewall.Question{Source: source, Destination: target.Addr.Addr(), Proto: firewall.TCP, Port: target.Addr.Port()}
	if target.Proto == "dns" {
		q.Proto = firewall.UDP
	}
	type hop struct {
		site     int
		from, to string
	}
	var hops []hop
	switch {
	case from.site == to.site && from.site > 0:
		hops = []hop{{from.site, from.zone, to.zone}}
	case from.site > 0 && to.site > 0:
		hops = []hop{{from.site, from.zone, dcZone}, {to.site, dcZone, to.zone}}
	case from.site > 0:
		hops = []hop{{from.site, from.zone, outside}}
	case to.site > 0:
		hops = []hop{{to.site, outside, to.zone}}
	}
	var way []string
	for _, h := range hops {
		q.From, q.To = h.from, h.to
		rule := w.walls[fmt.Sprintf("%s-core%d", w.Sites[h.site-1], c)].Decide(q)
		way = append(way, fmt.Sprintf("%s to %s in %s by rule %d", h.from, h.to, w.Sites[h.site-1], rule))
		if rule == 0 {
			return false, strings.Join(way, ", ")
		}
	}
	return true, strings.Join(way, ", ")
}

// place finds a node that asks.
func (w *ways) place(name string) (spot, netip.Addr) {
	w.Helper()
	for _, h := range w.hosts {
		if h.name == name {
			return spot{h.site, w.zone(h)}, h.addr()
		}
	}
	for _, s := range w.strangers() {
		if s.name == name {
			return spot{0, outside}, s.addr
		}
	}
	w.Fatalf("the lab has no node %s", name)
	return spot{}, netip.Addr{}
}

// at finds what has an address. What several sites have is the asker's own site's, and for who is outside that of its home.
func (w *ways) at(a netip.Addr, asker int) spot {
	w.Helper()
	for _, h := range w.hosts {
		if h.addr() == a {
			return spot{h.site, w.zone(h)}
		}
	}
	for pod := 1; pod <= w.Pods; pod++ {
		for _, n := range w.luns(pod) {
			if n.addr == a {
				return spot{n.home, w.podName(pod) + back}
			}
		}
		near := asker
		if near == 0 {
			near = w.home(pod)
		}
		for _, k := range kinds {
			if k.sharedVIP(pod) == a {
				return spot{near, w.podName(pod) + lb}
			}
			for site := range w.Sites {
				if k.ownVIP(pod, site+1) == a {
					return spot{site + 1, w.podName(pod) + lb}
				}
			}
		}
	}
	switch {
	case slices.Contains(nameServers, a):
		return spot{max(asker, 1), network}
	case slices.ContainsFunc(w.strangers(), func(s stranger) bool { return s.addr == a }):
		return spot{0, outside}
	}
	w.Fatalf("nothing in the lab has the address %v", a)
	return spot{}
}
