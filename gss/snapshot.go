package gss

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"

	"anycastle/gss/decide"
	"anycastle/gss/table"
)

// snapshot is one decision, made ready for replies. It is never changed; a new one replaces it whole.
type snapshot struct {
	*serving
	generation uint64
	decision   decide.Decision        // with what is known since of the reasons for it
	outcomes   [][]outcome            // by rule, as in the config, and place
	parts      []map[uint16][]outcome // the same for types whose addresses not all answers of the rule have
	live       *table.Table           // replies of names that rules answer for
	nsid       []byte                 // which tells of the generation
}

// outcome is what the clients of one place are answered with by a rule.
type outcome struct {
	rule     string // or the part of it that decided
	basis    decide.Basis
	method   decide.Method
	ttl      uint32
	variants []variant
	turn     *atomic.Uint32 // of round-robin
}

// variant is one list of answers that a client may get, and its share of clients in thousandths.
type variant struct {
	answers []*Answer
	share   int
}

func newSnapshot(ctx context.Context, from *serving, d decide.Decision) (*snapshot, error) {
	s := &snapshot{serving: from, generation: d.Generation, decision: d, nsid: from.config.EDNS.NSID(d.Generation)}
	for _, r := range s.rules.rules {
		s.outcomes = append(s.outcomes, s.rules.places(r.Name, d))
		parts := map[uint16][]outcome{}
		for _, f := range families() {
			parts[f] = s.rules.places(partName(r.Name, f), d)
		}
		s.parts = append(s.parts, parts)
	}
	err := s.presign(ctx)
	live, more := s.packLive()
	if s.live = live; more != nil {
		s.live = s.empty // replies are made one by one
	}
	return s, errors.Join(err, more)
}

// presign signs all that rules may be answered with by this decision, so that no query has to wait for that; but for names that
// a wildcard stands for, which nobody knows beforehand.
func (s *snapshot) presign(ctx context.Context) error {
	var errs []error
	for origin, is := range s.signed {
		var sets [][]dns.RR
		for name, types := range s.rules.names {
			if s.zones.Find(name, dns.TypeNone).Origin() != origin {
				continue
			}
			for t, list := range types {
				for _, i := range list {
					more, err := s.setsOf(i, name, t)
					sets, errs = append(sets, more...), append(errs, err)
				}
			}
		}
		errs = append(errs, is.signer.Add(ctx, sets, is.now()))
	}
	return errors.Join(errs...)
}

// setsOf gives all sets that a rule may give for a name and type, with the longest TTL that they may have.
func (s *snapshot) setsOf(rule int, name string, rrtype uint16) (sets [][]dns.RR, err error) {
	r := &s.rules.rules[rule]
	ttl := time.Duration(0)
	for _, c := range r.Clauses {
		ttl = max(ttl, c.TTL)
	}
	for _, o := range s.places(rule, rrtype) {
		for _, v := range o.variants {
			set, err := r.records(v, rrtype, name, uint32(ttl/time.Second))
			if err != nil {
				return nil, err
			}
			sets = append(sets, set)
		}
	}
	return sets, nil
}

// places makes the outcomes of a rule, or a part of one, by place; none if there is no such part.
func (s *ruleSet) places(rule string, d decide.Decision) (list []outcome) {
	decided := d.Rules[rule]
	for _, c := range decided.Choices {
		o := s.outcome(c, uint32(decided.TTL/time.Second))
		o.rule = rule
		list = append(list, o)
	}
	return list
}

// places gives the outcomes of a rule for a type, by place.
func (s *snapshot) places(rule int, rrtype uint16) []outcome {
	if part := s.parts[rule][rrtype]; len(part) > 0 {
		return part
	}
	return s.outcomes[rule]
}

// outcome makes lists of a choice. What is always the same has one; else there is one that begins with each answer, and has as
// many behind it as clients are to get.
func (s *ruleSet) outcome(c decide.Choice, ttl uint32) outcome {
	o := outcome{basis: c.Basis, method: c.Method, ttl: ttl, turn: new(atomic.Uint32)}
	n := len(c.Shares)
	if c.Method == decide.Ordered || c.Method == decide.Nearest {
		n = 1
	}
	for i := range n {
		v := variant{share: c.Shares[i].Of1000}
		for j := range c.Count {
			v.answers = append(v.answers, s.answers[c.Shares[(i+j)%len(c.Shares)].Answer])
		}
		if v.share > 0 {
			o.variants = append(o.variants, v)
		}
	}
	return o
}

// find gives what clients of a class are answered with for a name and type, and by which rule; false if no rule is for them.
func (s *snapshot) find(name string, rrtype uint16, class int) (rule *compiledRule, o outcome, ok bool) {
	i := s.rules.find(name, rrtype, class)
	if i < 0 {
		return nil, outcome{}, false
	}
	rule = &s.rules.rules[i]
	place := rule.places[class]
	places := s.places(i, rrtype)
	if place >= len(places) {
		place = 0 // none of its clauses in use looks at places
	}
	return rule, places[place], true
}

// records makes the records of a type for one of the variants of an outcome.
func (r *compiledRule) records(v variant, rrtype uint16, owner string, ttl uint32) (rrs []dns.RR, err error) {
	for order, a := range v.answers {
		more, err := a.records(rrtype, r.Records[dns.TypeToString[rrtype]], owner, ttl, order)
		if err != nil {
			return nil, err
		}
		rrs = append(rrs, more...)
	}
	return rrs, nil
}
