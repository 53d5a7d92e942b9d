package rhi

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"anycastle/internal/netnstest"
	"anycastle/rhi/bfd"
)

// soakSession is one of a soak: BGP, and BFD below it, with a neighbor of that name.
type soakSession struct {
	name         string
	router       *foreign
	family       Family
	interval     time.Duration
	ours, theirs netip.Addr
}

// soakCount is how often things went wrong, since the start.
type soakCount struct {
	downs, peerDowns       int // of BFD, as the node and its peer have it
	bgpDowns, peerBGPDowns int
	stalls                 int // of the node: it was late by more than an interval, and saw it
}

// minus gives what came after another count.
func (c soakCount) minus(o soakCount) soakCount {
	return soakCount{c.downs - o.downs, c.peerDowns - o.peerDowns, c.bgpDowns - o.bgpDowns, c.peerBGPDowns - o.peerBGPDowns, c.stalls - o.stalls}
}

// soak is a node with sessions of each family and of two intervals, to FRR and to BIRD.
type soak struct {
	b        *testing.B
	lb       *node
	sessions []soakSession
	base     []soakCount
	// what look saw last
	bfd map[string]bfd.Status // by name
	bgp map[string]*bgpSight
	far map[netip.Addr]farSight // of both routers, by the node's address
	ask []func() map[netip.Addr]farSight
}

// farSight is what a router has of its sessions with the node.
type farSight struct {
	up                 bool // both of them
	bfdDowns, bgpDowns int
}

// bgpSight is what the node has of a BGP session, which counts what it sees of changes.
type bgpSight struct {
	up    bool
	since time.Time
	downs int
}

func newSoak(b *testing.B) *soak {
	b.Helper()
	s := &soak{b: b, lb: newNode(b, "lb"), bgp: map[string]*bgpSight{}}
	routers := []*foreign{{name: "frr", ns: netnstest.New(b)}, {name: "bird", ns: netnstest.New(b)}}
	for i, r := range routers {
		for j, interval := range []time.Duration{fastBFD, bfd.DefaultInterval} {
			four, six := dualLink(b, s.lb, r.ns, 1+2*i+j)
			for _, f := range []struct {
				family Family
				ends   [2]string
			}{{IPv4, four}, {IPv6, six}} {
				s.sessions = append(s.sessions, soakSession{fmt.Sprintf("%s %s %v", r.name, f.family, interval), r, f.family, interval,
					netip.MustParseAddr(f.ends[0]), netip.MustParseAddr(f.ends[1])})
			}
		}
	}
	half := len(s.sessions) / 2
	frr := newFRR(b, routers[0].ns, "frr", soakFRR(s.sessions[:half]), "bfdd")
	bird := newBIRD(b, routers[1].ns, "bird", soakBIRD(s.sessions[half:]))
	s.ask = append(s.ask, frr.farFRR, func() map[netip.Addr]farSight { return bird.farBIRD(s.sessions[half:]) })
	s.lb.start(soakNode(s.sessions))
	s.lb.set(vip, vip6)
	return s
}

func soakNode(sessions []soakSession) string {
	text := "\nrhi:\n  asn: 65011\n  router_id: 198.51.100.11\n  neighbors:\n"
	for _, x := range sessions {
		asn, more := 65002, ""
		if x.router.name == "frr" { // which takes GTSM for several hops
			asn, more = 65001, fmt.Sprintf(", multihop: true, local: %q", x.ours)
		}
		text += fmt.Sprintf("    - {name: %s, address: %q, asn: %d, password: secret, bfd: {interval: %v%s}}\n", x.name, x.theirs, asn, x.interval, more)
	}
	return text
}

func soakFRR(sessions []soakSession) string {
	var text, activate strings.Builder
	text.WriteString("router bgp 65001\n bgp router-id 198.51.100.1\n no bgp ebgp-requires-policy\n no bgp default ipv4-unicast\n")
	for _, x := range sessions {
		profile := fmt.Sprintf("every%d", x.interval.Milliseconds())
		for _, line := range []string{"remote-as 65011", "timers 3 9", "passive", "password secret", "ttl-security hops 1", "bfd profile " + profile} {
			fmt.Fprintf(&text, " neighbor %v %s\n", x.ours, line)
		}
		fmt.Fprintf(&activate, " address-family %s unicast\n  neighbor %v activate\n exit-address-family\n", x.family, x.ours)
	}
	text.WriteString(activate.String() + "bfd\n")
	for _, ms := range []int64{fastBFD.Milliseconds(), bfd.DefaultInterval.Milliseconds()} {
		fmt.Fprintf(&text, " profile every%[1]d\n  detect-multiplier 3\n  transmit-interval %[1]d\n  receive-interval %[1]d\n", ms)
	}
	return text.String()
}

func soakBIRD(sessions []soakSession) string {
	var text strings.Builder
	text.WriteString("router id 198.51.100.2;\nprotocol device { }\nprotocol bfd {\n\tdebug { events };\n")
	for i, x := range sessions {
		if i%2 == 0 { // both families are on one link
			fmt.Fprintf(&text, "\tinterface \"eth%d\" { interval %d ms; multiplier 3; };\n", 3+i/2, x.interval.Milliseconds())
		}
	}
	text.WriteString("}\n")
	for i, x := range sessions {
		fmt.Fprintf(&text, "protocol bgp s%d { local as 65002; neighbor %v as 65011; passive on; password \"secret\"; ttl security on; hold time 9; "+
			"debug { states }; bfd on; error wait time 1, 2; %s { import all; export none; }; }\n", i, x.ours, x.family)
	}
	return text.String()
}

// look asks all three for their sessions.
func (s *soak) look() {
	s.bfd = map[string]bfd.Status{}
	for _, st := range s.lb.bfd() {
		s.bfd[st.Peer] = st
	}
	for _, p := range s.lb.status().Peers {
		old := s.bgp[p.Name]
		if old == nil {
			old = &bgpSight{since: p.Since}
			s.bgp[p.Name] = old
		}
		if !p.Since.Equal(old.since) {
			old.downs++ // at least
		}
		old.up, old.since = p.State == established, p.Since
	}
	s.far = map[netip.Addr]farSight{}
	for _, ask := range s.ask {
		for a, sight := range ask() {
			s.far[a] = sight
		}
	}
}

// allUp says whether all sessions are up at both ends, and as fast as they should be.
func (s *soak) allUp() bool {
	s.look()
	for _, x := range s.sessions {
		st := s.bfd[x.name]
		if st.State != bfd.Up || st.Detection != 3*x.interval || st.Transmit != x.interval || s.bgp[x.name] == nil || !s.bgp[x.name].up || !s.far[x.ours].up {
			return false
		}
	}
	return true
}

// count gives what went wrong since the start, by session.
func (s *soak) count() (list []soakCount) {
	s.b.Helper()
	for _, x := range s.sessions {
		st, far, bgp := s.bfd[x.name], s.far[x.ours], s.bgp[x.name]
		list = append(list, soakCount{int(st.Downs), far.bfdDowns, bgp.downs, far.bgpDowns, int(st.Stalls)})
	}
	return list
}

// farFRR asks FRR, which counts.
func (f *foreign) farFRR() map[netip.Addr]farSight {
	var counters []struct {
		Peer netip.Addr
		Down int `json:"session-down"`
	}
	var states []struct {
		Peer   netip.Addr
		Status string
	}
	var bgp map[netip.Addr]struct {
		State   string `json:"bgpState"`
		Dropped int    `json:"connectionsDropped"`
	}
	for _, q := range []struct {
		command string
		to      any
	}{{"show bfd peers counters json", &counters}, {"show bfd peers json", &states}, {"show bgp neighbors json", &bgp}} {
		if err := json.Unmarshal([]byte(f.vtysh(q.command)), q.to); err != nil {
			f.t.Fatalf("%s: %s: %v", f.name, q.command, err)
		}
	}
	sights := map[netip.Addr]farSight{}
	for _, c := range counters {
		sights[c.Peer] = farSight{bfdDowns: c.Down, bgpDowns: bgp[c.Peer].Dropped}
	}
	for _, p := range states {
		sight := sights[p.Peer]
		sight.up = p.Status == "up" && bgp[p.Peer].State == "Established"
		sights[p.Peer] = sight
	}
	return sights
}

var (
	birdUp   = regexp.MustCompile(`(?m)^(\S+)\s+eth\d\s+Up\s`)
	birdBGP  = regexp.MustCompile(`(?m)^s(\d)\s+BGP\s.*\sEstablished`)
	birdFell = regexp.MustCompile(`(?m)Session to (\S+) changed state from Up`)
	birdEnds = regexp.MustCompile(`(?m) s(\d): State changed to down`)
)

// farBIRD asks BIRD, which does not count, but logs.
func (f *foreign) farBIRD(sessions []soakSession) map[netip.Addr]farSight {
	log, err := os.ReadFile(f.log())
	if err != nil {
		f.t.Fatal(err)
	}
	sights, up := map[netip.Addr]farSight{}, map[netip.Addr]bool{}
	for _, m := range birdUp.FindAllStringSubmatch(f.birdc("show bfd sessions"), -1) {
		up[netip.MustParseAddr(m[1])] = true
	}
	change := func(a netip.Addr, do func(*farSight)) {
		sight := sights[a]
		do(&sight)
		sights[a] = sight
	}
	bgp := func(text string, pattern *regexp.Regexp, do func(a netip.Addr, s *farSight)) {
		for _, m := range pattern.FindAllStringSubmatch(text, -1) {
			i, _ := strconv.Atoi(m[1])
			change(sessions[i].ours, func(s *farSight) { do(sessions[i].ours, s) })
		}
	}
	for _, m := range birdFell.FindAllStringSubmatch(string(log), -1) {
		change(netip.MustParseAddr(m[1]), func(s *farSight) { s.bfdDowns++ })
	}
	bgp(string(log), birdEnds, func(_ netip.Addr, s *farSight) { s.bgpDowns++ })
	bgp(f.birdc("show protocols"), birdBGP, func(a netip.Addr, s *farSight) { s.up = up[a] })
	return sights
}
