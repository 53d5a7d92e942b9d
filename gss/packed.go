package gss

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"

	"github.com/miekg/dns"

	"anycastle/gss/decide"
	"anycastle/gss/message"
	"anycastle/gss/sign"
	"anycastle/gss/table"
	"anycastle/gss/zone"
)

// fastTypes are those whose replies are packed beforehand.
var fastTypes = [...]uint16{dns.TypeA, dns.TypeAAAA}

// packStatic packs the replies of names that have addresses in the zones themselves; also that one family has none, as clients
// ask for both. What rules or wildcards answer for, and what lies behind an alias, is not in it.
func (s *serving) packStatic() (t *table.Table, err error) {
	s.packs.Inc()
	calmly(func() { t, err = s.packAll() })
	return t, err
}

func (s *serving) packAll() (*table.Table, error) {
	b, err := table.NewBuilder(s.tables)
	if err != nil {
		return nil, err
	}
	for _, z := range s.present().Zones() {
		if err := s.presignZone(z); err != nil && !errors.Is(err, sign.ErrUnsigned) {
			return nil, err
		}
		last := ""
		for rr := range z.All(nil) {
			h := rr.Header()
			if h.Name == last || h.Rrtype != dns.TypeA && h.Rrtype != dns.TypeAAAA || strings.HasPrefix(h.Name, "*.") {
				continue
			}
			if last = h.Name; s.zones.Find(last, h.Rrtype) != z {
				continue // a zone below answers for it
			}
			for _, t := range fastTypes {
				if len(s.rules.names[dns.CanonicalName(h.Name)][t]) > 0 {
					continue
				}
				r := z.Lookup(h.Name, t, nil)
				if r.Kind != zone.Answer && r.Kind != zone.NoData {
					break // glue
				}
				v, err := s.pack(z, h.Name, t, r)
				if err != nil {
					return nil, err
				}
				if err := b.Add(h.Name, t, 0, table.Entry{Variants: []table.Variant{v}}); err != nil {
					return nil, err
				}
			}
		}
	}
	return b.Build()
}

// pack gives a reply as a table takes it, and also signed where its zone is.
func (s *serving) pack(z *zone.Zone, name string, rrtype uint16, r zone.Result) (v table.Variant, err error) {
	if v.Plain, err = wireOf(newReply(r), name, rrtype); err != nil {
		return v, err
	}
	if is := s.signed[z.Origin()]; is != nil {
		m := newReply(r)
		// what cannot be signed is answered without: better than not at all
		if err := is.secure(m, r, rrtype, false); err != nil && !errors.Is(err, sign.ErrUnsigned) {
			return v, err
		}
		v.Signed, err = wireOf(m, name, rrtype)
	}
	return v, err
}

// newReply puts what a zone says into a message.
func newReply(r zone.Result) *dns.Msg {
	m := &dns.Msg{Answer: r.Answer, Ns: r.Authority, Extra: r.Additional}
	m.Rcode, m.Authoritative = r.Rcode, r.Authoritative
	return m
}

// wireOf gives the wire form of a reply to a question.
func wireOf(m *dns.Msg, name string, rrtype uint16) ([]byte, error) {
	m.Response, m.Compress = true, true
	m.Question = []dns.Question{{Name: name, Qtype: rrtype, Qclass: dns.ClassINET}}
	wire, err := m.Pack()
	if err != nil {
		return nil, fmt.Errorf("pack the reply to %s %s: %w", name, dns.Type(rrtype), err)
	}
	return wire, nil
}

// packLive packs the replies of names that rules answer for, by the decision of a snapshot.
func (s *snapshot) packLive() (*table.Table, error) {
	cfg := s.tables
	cfg.Classes = s.rules.classes.of
	b, err := table.NewBuilder(cfg)
	if err != nil {
		return nil, err
	}
	for name, types := range s.rules.names {
		if strings.HasPrefix(name, "*.") {
			continue
		}
		z := s.zones.Find(name, dns.TypeA)
		for _, t := range fastTypes {
			if len(types[t]) == 0 {
				continue
			}
			classes := 1
			if s.rules.depends(name, t) {
				classes = len(s.rules.classes.lists)
			}
			if classes > table.MaxEntries {
				continue // its replies are made one by one
			}
			for class := range classes {
				e, err := s.entry(z, name, t, class)
				if err != nil {
					return nil, err
				}
				if err := b.Add(name, t, class, e); err != nil {
					return nil, err
				}
			}
		}
	}
	return b.Build()
}

// entry makes what clients of a class are answered with for a name and type.
func (s *snapshot) entry(z *zone.Zone, name string, rrtype uint16, class int) (table.Entry, error) {
	var e table.Entry
	rule, o, ok := s.find(name, rrtype, class)
	if !ok {
		v, err := s.pack(z, name, rrtype, z.Lookup(name, rrtype, nil))
		return table.Entry{Variants: []table.Variant{v}}, err
	}
	var options []byte
	if !o.basis.Works() {
		options = staleOption(rule.Name, o.basis)
	}
	for _, list := range o.variants {
		var failed error
		v, err := s.pack(z, name, rrtype, z.Lookup(name, rrtype, func(owner string, t uint16) []dns.RR {
			if owner != name || t != rrtype {
				return nil // nothing but its own records belongs in an answer of addresses
			}
			var rrs []dns.RR
			rrs, failed = rule.records(list, t, owner, o.ttl)
			return rrs
		}))
		if err == nil {
			err = failed
		}
		if err != nil {
			return e, err
		}
		v.Options, v.Weight, v.Key = options, uint32(list.share), list.answers[0].Name
		e.Variants = append(e.Variants, v)
	}
	switch {
	case len(e.Variants) == 1:
	case o.method == decide.Hashed:
		e.Method = table.Hashed
	case o.method == decide.RoundRobin:
		e.Method = table.Rotate
	default:
		e.Method = table.Weighted
	}
	return e, nil
}

// staleOption is staleError as an EDNS option in wire form (RFC 8914).
func staleOption(rule string, b decide.Basis) []byte {
	e := staleError(rule, b)
	text := message.Shorten(e.Text)
	o := binary.BigEndian.AppendUint16(nil, dns.EDNS0EDE)
	o = binary.BigEndian.AppendUint16(o, uint16(2+len(text)))
	o = binary.BigEndian.AppendUint16(o, e.Code)
	return append(o, text...)
}
