package gss

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/miekg/dns"

	"anycastle/gss/transfer"
	"anycastle/gss/zone"
)

// sharing is who a zone comes from and goes to.
type sharing struct {
	to        []Secondary
	primaries []transfer.Peer // none: this server is the primary
	notify    []transfer.Peer
	dynamic   map[string][]uint16 // names that rules answer for, by canonical name, and what signing adds
}

// share finds who the zones come from and go to, and has secondary zones have the contents that they had before.
func (s *serving) share(was *serving) error {
	var err error
	if s.keys, err = s.config.keys(); err != nil {
		return err
	}
	s.shared = map[string]*sharing{}
	for i, z := range s.zones.Zones() {
		c := &s.config.Zones[i]
		s.shared[z.Origin()] = &sharing{c.Transfer.To, c.primaries(s.keys), peersOf(c.Notify, s.keys), map[string][]uint16{}}
	}
	for name, types := range s.rules.names {
		origin := s.zones.Find(name, dns.TypeA).Origin()
		s.shared[origin].dynamic[name] = slices.Sorted(maps.Keys(types))
	}
	for i, z := range s.zones.Zones() {
		if s.config.Zones[i].DNSSEC != nil {
			of := s.shared[z.Origin()].dynamic
			of[z.Origin()] = append(of[z.Origin()], apexTypes...)
		}
	}
	if was == nil {
		return s.fill(nil)
	}
	s.moves = was.moves
	contents := maps.Clone(was.contents)
	for _, z := range was.zones.Zones() {
		if _, secondary := contents[z.Origin()]; !secondary { // until a primary has given it, it is answered for as before
			contents[z.Origin()] = transfer.Content{Zone: z, Good: true, Former: true}
		}
	}
	return s.fill(contents)
}

// fill has secondary zones have contents, by origin, or says why one cannot be served. Those that have none are absent.
func (s *serving) fill(contents map[string]transfer.Content) error {
	s.contents, s.absent = map[string]transfer.Content{}, map[string]bool{}
	zones := slices.Clone(s.zones.Zones())
	for i, z := range zones {
		if len(s.shared[z.Origin()].primaries) == 0 {
			continue
		}
		made, err := s.take(z, contents[z.Origin()])
		if err != nil {
			return fmt.Errorf("the zone %s, as it is served now, does not go with the rules: %w", bare(z.Origin()), err)
		}
		zones[i] = made
	}
	s.zones = zone.NewSet(zones...)
	return nil
}

// take has a secondary zone have a content, and gives the zone as it is served, or says why it does not go with the rules.
func (s *serving) take(z *zone.Zone, c transfer.Content) (*zone.Zone, error) {
	origin := z.Origin()
	if c.Zone != nil {
		made, err := c.Zone.WithDynamic(s.shared[origin].dynamic)
		if err != nil {
			return nil, err
		}
		z = made
	}
	s.contents[origin], s.absent[origin] = c, !c.Good || c.Zone == nil
	return z, nil
}

// with gives a serving in which secondary zones have other contents, by origin; s itself if they have them already. Those that
// cannot be served stay as they are, and refused says why.
func (s *serving) with(contents map[string]transfer.Content) (next *serving, refused map[string]error, err error) {
	other := *s
	other.contents, other.absent = maps.Clone(s.contents), maps.Clone(s.absent)
	zones, refused := slices.Clone(s.zones.Zones()), map[string]error{}
	for i, z := range zones {
		c, ok := contents[z.Origin()]
		if was, secondary := s.contents[z.Origin()]; !ok || !secondary || c == was {
			continue // what stays is left alone, so that nobody compares it with what it was
		}
		made, err := other.take(z, c)
		if err != nil {
			refused[z.Origin()] = fmt.Errorf("the zone %s, as its primary has it, does not go with the rules: %w", bare(z.Origin()), err)
			continue
		}
		zones[i] = made
	}
	if maps.Equal(other.contents, s.contents) {
		return s, refused, nil
	}
	other.zones = zone.NewSet(zones...)
	other.packed, err = other.packStatic()
	return &other, refused, err
}

// present are the zones that are not absent.
func (s *serving) present() *zone.Set {
	return zone.NewSet(slices.DeleteFunc(slices.Clone(s.zones.Zones()), func(z *zone.Zone) bool { return s.absent[z.Origin()] })...)
}

// secondaries are the zones that come from primaries.
func (s *serving) secondaries() (list []transfer.Secondary) {
	for _, z := range s.zones.Zones() {
		if from := s.shared[z.Origin()].primaries; len(from) > 0 {
			list = append(list, transfer.Secondary{Origin: z.Origin(), Primaries: from})
		}
	}
	return list
}

// fingerprint is equal for two versions of a zone in which the same names and types are dynamic.
func (s *sharing) fingerprint() string {
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(s.dynamic)) {
		fmt.Fprintln(&b, name, s.dynamic[name])
	}
	return b.String()
}

// ofRules says whether this server alone makes what a lookup for a type found: records of rules and those that signing adds to
// the apex, or that there is none. That is answered also while its zone is absent.
func (s *serving) ofRules(r *zone.Result, rrtype uint16) bool {
	source := func(owner string) string {
		for _, w := range r.Wildcards {
			if w.Name == owner {
				owner = w.Source
			}
		}
		return dns.CanonicalName(owner)
	}
	apex := func(owner string, rrtype uint16) bool {
		return s.signed[owner] != nil && slices.Contains(apexTypes, rrtype)
	}
	for _, rr := range r.Answer {
		owner, t := source(rr.Header().Name), rr.Header().Rrtype
		if len(s.rules.names[owner][t]) == 0 && !apex(owner, t) {
			return false
		}
	}
	owner := source(r.Name)
	return len(r.Answer) > 0 || r.Kind == zone.NoData && (s.rules.names[owner] != nil || apex(owner, rrtype))
}

// arrival is a version of a secondary zone that is to be served. All but what it is made with is guarded by GSS.reloading.
type arrival struct {
	origin  string
	content transfer.Content
	over    bool
	err     error // why it is not served
}

// install has a version of a secondary zone served; it is a transfer.Options.Install. As the replies of all zones are packed for
// it, versions that come meanwhile are served together.
func (g *GSS) install(origin string, c transfer.Content) error {
	own := &arrival{origin: origin, content: c}
	g.moves.arrive(own)
	g.reloading.Lock()
	defer g.reloading.Unlock()
	if !own.over {
		g.installAll(g.moves.arrivals())
	}
	return own.err
}

// installAll has versions of secondary zones served. Of zones that the config has no more nothing becomes. The caller holds
// reloading.
func (g *GSS) installAll(list []*arrival) {
	contents := map[string]transfer.Content{}
	for _, a := range list {
		a.over, a.err = true, transfer.ErrFault // unless this comes to its end
		contents[a.origin] = a.content
	}
	was := g.engine.serving()
	next, refused, err := was.with(contents)
	if err == nil && next != was {
		g.moves.remember(next)
		err = g.engine.serve(next)
		next.giveBack()
	}
	for _, a := range list {
		a.err = cmp.Or(refused[a.origin], err)
	}
}
