package zone

import (
	"bytes"
	"slices"
	"strings"

	"github.com/miekg/dns"
)

// maxTargets is for how many names one reply has addresses.
const maxTargets = 32

// addAddresses adds the addresses of the names that records point to.
func (s *search) addAddresses(rrs []dns.RR) {
	var done []string
	for _, rr := range rrs {
		t := target(rr)
		if t == "" || rr.Header().Rrtype == dns.TypeCNAME || slices.Contains(done, t) || len(done) == maxTargets {
			continue
		}
		done = append(done, t)
		var n name
		if !n.parse(t) || !s.contains(&n) {
			continue
		}
		if i, _ := s.source(&n); i != none && s.cutOf(i) == none {
			s.add(i, t)
			if h := rr.Header(); isService(h.Rrtype) && !strings.EqualFold(t, h.Name) { // RFC 9460 section 4.1
				s.result.Additional = append(s.result.Additional, s.recordsOf(i, h.Rrtype, t, s.live)...)
			}
		}
	}
}

// add adds the addresses of a node under the name that has them. Nothing that leads here has them in Answer already.
func (s *search) add(i uint32, owner string) {
	for _, t := range []uint16{dns.TypeA, dns.TypeAAAA} {
		s.result.Additional = append(s.result.Additional, s.recordsOf(i, t, owner, s.live)...)
	}
}

// addGlue adds the addresses of a delegation's servers: first of those below it, whom nobody can find otherwise, then of
// others that the zone knows (sibling glue, RFC 9471 section 2.2).
func (s *search) addGlue(cut []byte, ns []dns.RR) {
	var others []string
	for _, rr := range ns {
		var n name
		t := target(rr)
		if !n.parse(t) || !s.contains(&n) {
			continue
		}
		key := n.key(n.labels)
		if !bytes.HasPrefix(key, cut) {
			others = append(others, t)
			continue
		}
		if i := s.find(key); i != none {
			s.add(i, t)
		}
	}
	s.result.Glue = len(s.result.Additional)
	for _, t := range others[:min(len(others), maxTargets)] {
		var n name
		n.parse(t)
		i := s.find(n.key(n.labels))
		if i == none {
			i, _ = s.source(&n)
		}
		if i != none {
			s.add(i, t)
		}
	}
}
