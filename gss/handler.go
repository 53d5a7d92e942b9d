package gss

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"

	"github.com/miekg/dns"

	"anycastle/gss/decide"
	"anycastle/gss/limit"
	"anycastle/gss/message"
	"anycastle/gss/table"
	"anycastle/gss/zone"
	"anycastle/internal/flowhash"
)

// Subnets by which hashed knows clients; see package table, which answers the most of them.
const (
	hashedBits4 = 24
	hashedBits6 = 56
)

// answerer finds what a query is answered with. It is for one query.
type answerer struct {
	now    *snapshot
	client netip.Addr // by which rules decide

	used   []part
	zone   *zone.Zone  // that answered; nil: none
	result zone.Result // what it says; of a query for it
	like   likeness
	scope  int // bits of the client's address that counted
	failed error
}

// part is a rule that had one in an answer.
type part struct {
	rule    *compiledRule
	outcome outcome
	variant int
	name    string // that it answers for
	rrtype  uint16
}

// answer gives the reply to a query that no other layer has answered, and what goes with it. It is not signed yet.
func (a *answerer) answer(q *message.Query) (*dns.Msg, message.Extras) {
	m := &dns.Msg{}
	a.like.kind = limit.Failure
	z := a.now.zones.Find(q.Name, q.Question.Qtype)
	if z == nil {
		m.Rcode = dns.RcodeRefused
		return m, message.Extras{Errors: []message.ExtendedError{{Code: dns.ExtendedErrorCodeNotAuthoritative}}}
	}
	if q.Question.Qtype == dns.TypeNXNAME {
		m.Rcode = dns.RcodeFormatError // RFC 9824 section 3.5
		return m, message.Extras{Errors: []message.ExtendedError{{Code: dns.ExtendedErrorCodeInvalidQueryType}}}
	}
	r := z.Lookup(q.Question.Name, q.Question.Qtype, a.live)
	if a.now.absent[z.Origin()] { // RFC 1034 section 4.3.5
		if !a.now.ofRules(&r, q.Question.Qtype) {
			m.Rcode = dns.RcodeServerFailure
			return m, message.Extras{Errors: []message.ExtendedError{expired}}
		}
		r.Additional = nil
	}
	m = newReply(r)
	a.zone, a.result, a.like = z, r, likenessOf(z, q, &r)
	x := message.Extras{Glue: r.Glue, Scope: a.scope}
	if q.Expire {
		left := a.now.moves.expire(z, time.Now())
		x.Expire = &left
	}
	if r.Kind == zone.Refused {
		x.Errors = append(x.Errors, message.ExtendedError{Code: dns.ExtendedErrorCodeNotSupported})
	}
	for _, u := range a.used {
		if !u.outcome.basis.Works() {
			x.Errors = append(x.Errors, staleError(u.rule.Name, u.outcome.basis))
			break
		}
	}
	return m, x
}

// secure signs the reply that answer has given, where its zone is signed and the client wants that.
func (a *answerer) secure(m *dns.Msg, q *message.Query, x *message.Extras) error {
	if a.zone == nil || !q.DO {
		return nil
	}
	is := a.now.signed[a.zone.Origin()]
	if is == nil {
		return nil
	}
	err := is.secure(m, a.result, q.Question.Qtype, q.CO)
	x.CO = q.CO && a.result.Kind == zone.NXDomain && len(m.Ns) > len(a.result.Authority) // there is a denial
	return err
}

// staleError tells a resolver's people that nothing of a rule works.
func staleError(rule string, b decide.Basis) message.ExtendedError {
	text := fmt.Sprintf("rule %s: nothing works; the last known good", rule)
	if b == decide.WholeGroup {
		text = fmt.Sprintf("rule %s: nothing works; all there is", rule)
	}
	return message.ExtendedError{Code: dns.ExtendedErrorCodeStaleAnswer, Text: text}
}

// live gives the records of a set that rules make, for the client; it is a zone.Live.
func (a *answerer) live(name string, rrtype uint16) []dns.RR {
	if is := a.now.signed[name]; is != nil && slices.Contains(apexTypes, rrtype) {
		return is.apex(rrtype)
	}
	rules := a.now.rules
	class, bits := rules.classes.lookup(a.client)
	if rules.depends(name, rrtype) {
		a.scope = max(a.scope, bits)
	}
	rule, o, ok := a.now.find(name, rrtype, class)
	if !ok {
		return nil
	}
	u := part{rule, o, o.pick(a.client), name, rrtype}
	if o.method == decide.Hashed {
		a.scope = max(a.scope, hashedScope(a.client))
	}
	a.used = append(a.used, u)
	rrs, err := rule.records(o.variants[u.variant], rrtype, name, o.ttl)
	if err != nil {
		a.failed = err // the config was checked for it
	}
	return rrs
}

func hashedScope(client netip.Addr) int {
	if client.Is4() {
		return hashedBits4
	}
	return hashedBits6
}

// hashKey is the same at all servers, so that they send a client to the same answer.
func hashKey() flowhash.Key { return flowhash.Key{} }

// pick gives the variant that a client gets.
func (o *outcome) pick(client netip.Addr) int {
	if len(o.variants) == 1 {
		return 0
	}
	var weights []uint32
	var keys []string
	total := 0
	for _, v := range o.variants {
		weights, keys = append(weights, uint32(v.share)), append(keys, v.answers[0].Name)
		total += v.share
	}
	if o.method == decide.Hashed {
		return table.PickHashed(hashKey(), client, keys, weights)
	}
	if o.method == decide.RoundRobin {
		return int(o.turn.Add(1) % uint32(len(o.variants)))
	}
	x := rand.IntN(total)
	for i, v := range o.variants {
		if x -= v.share; x < 0 {
			return i
		}
	}
	return 0
}
