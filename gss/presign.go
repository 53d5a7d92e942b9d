package gss

import (
	"context"
	"iter"
	"slices"

	"github.com/miekg/dns"

	"anycastle/gss/zone"
)

// referralTTL is that of the denial of a DS set, in seconds: that of sign.Config.NegativeTTL.
const referralTTL = 60

// presignZone signs what a zone itself may answer with, so that no query waits for it: all of its sets, and at each of its names
// and those of rules that there are no other types. Left are names that do not exist, and those that wildcards stand for, as
// nobody knows them beforehand.
func (s *serving) presignZone(z *zone.Zone) error {
	is := s.signed[z.Origin()]
	if is == nil || !is.signs() {
		return nil
	}
	return is.signer.Presign(context.Background(), s.ownSets(z, is), is.now())
}

// ownSets gives those sets.
func (s *serving) ownSets(z *zone.Zone, is *signing) iter.Seq[[]dns.RR] {
	soa := z.SOA()
	negative := max(min(soa.Hdr.Ttl, soa.Minttl), referralTTL)
	return func(yield func([]dns.RR) bool) {
		denial := func(name string) bool {
			r := z.Lookup(name, dns.TypeNSEC, nil)
			types := slices.DeleteFunc(r.Types, func(t uint16) bool { return slices.Contains(apexTypes, t) })
			return r.Kind != zone.NoData && r.Kind != zone.Delegation || yield([]dns.RR{is.signer.NSEC(r.Name, types, negative)})
		}
		last := ""
		for set := range setsOf(z) {
			h := set[0].Header()
			if r := z.Lookup(h.Name, h.Rrtype, nil); r.Kind != zone.Answer {
				if r.Kind == zone.Delegation && h.Rrtype == dns.TypeNS && !denial(h.Name) {
					return
				}
				continue // another zone's
			}
			if !yield(set) || h.Name != last && !denial(h.Name) {
				return
			}
			last = h.Name
		}
		for name := range s.rules.names {
			if s.zones.Find(name, dns.TypeNone) == z && !denial(name) {
				return
			}
		}
	}
}

// setsOf gives the sets of a zone, but for those that rules make.
func setsOf(z *zone.Zone) iter.Seq[[]dns.RR] {
	return func(yield func([]dns.RR) bool) {
		var set []dns.RR
		for rr := range z.All(nil) {
			if len(set) > 0 && (set[0].Header().Name != rr.Header().Name || set[0].Header().Rrtype != rr.Header().Rrtype) {
				if !yield(set) {
					return
				}
				set = nil
			}
			set = append(set, rr)
		}
		if len(set) > 0 {
			yield(set)
		}
	}
}
