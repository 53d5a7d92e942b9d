package gss

import (
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
		s.shared[z.Origin()] = &sharing{c.Transfer.To, peersOf(c.Primaries, s.keys), peersOf(c.Notify, s.keys), map[string][]uint16{}}
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
	return s.fill(was.contents)
}

// fill has secondary zones have contents, by origin, or says why one cannot be served. Those that have none are absent.
func (s *serving) fill(contents map[string]transfer.Content) error {
	s.contents, s.absent = map[string]transfer.Content{}, map[string]bool{}
	zones := slices.Clone(s.zones.Zones())
	for i, z := range zones {
		origin := z.Origin()
		if len(s.shared[origin].primaries) == 0 {
			continue
		}
		c := contents[origin]
		s.contents[origin] = c
		if !c.Good || c.Zone == nil {
			s.absent[origin] = true
		}
		if c.Zone == nil {
			continue
		}
		made, err := c.Zone.WithDynamic(s.shared[origin].dynamic)
		if err != nil {
			return fmt.Errorf("the zone %s, as its primary has it, does not go with the rules: %w", bare(origin), err)
		}
		zones[i] = made
	}
	s.zones = zone.NewSet(zones...)
	return nil
}

// with gives a serving in which secondary zones have other contents, or says why one cannot be served.
func (s *serving) with(contents map[string]transfer.Content) (*serving, error) {
	next := *s
	all := maps.Clone(s.contents)
	maps.Copy(all, contents)
	if err := next.fill(all); err != nil {
		return nil, err
	}
	var err error
	next.packed, err = next.packStatic()
	return &next, err
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

// ofRules says whether rules alone make what a lookup found: records, or that there is none. That is answered also while its
// zone is absent.
func (s *serving) ofRules(r *zone.Result) bool {
	types := func(owner string) map[uint16][]int {
		for _, w := range r.Wildcards {
			if w.Name == owner {
				owner = w.Source
			}
		}
		return s.rules.names[dns.CanonicalName(owner)]
	}
	for _, rr := range r.Answer {
		if len(types(rr.Header().Name)[rr.Header().Rrtype]) == 0 {
			return false
		}
	}
	return len(r.Answer) > 0 || r.Kind == zone.NoData && types(r.Name) != nil
}

// install has a version of a secondary zone served; it is a transfer.Options.Install.
func (g *GSS) install(origin string, c transfer.Content) error {
	g.reloading.Lock()
	defer g.reloading.Unlock()
	was := g.engine.serving()
	if s := was.shared[origin]; s == nil || len(s.primaries) == 0 {
		return nil // the config has it no more
	}
	next, err := was.with(map[string]transfer.Content{origin: c})
	if err != nil {
		return err
	}
	g.moves.remember(next)
	return g.engine.serve(next)
}
