package gss

import (
	"hash/maphash"
	"net/netip"
	"time"

	"github.com/miekg/dns"

	"anycastle/gss/limit"
	"anycastle/gss/message"
	"anycastle/gss/zone"
)

// likeness is by what a reply is equal to others for limits.
type likeness struct {
	kind limit.Kind
	name string // canonical
}

// nameHash is what names are equal by for limits: a hash of the wire form in lower case.
func (g *GSS) nameHash(wire []byte) uint64 { return maphash.Bytes(g.seed, wire) }

// likenessOf says by what the reply that a zone gives is equal to others. Whoever asks for random names shall not find that
// each has a reply of its own: those below a delegation, a wildcard or a DNAME are one, and so are those that do not exist.
func likenessOf(z *zone.Zone, q *message.Query, r *zone.Result) likeness {
	switch r.Kind {
	case zone.Refused:
		return likeness{kind: limit.Failure}
	case zone.NXDomain:
		return likeness{limit.NameError, z.Origin()}
	case zone.Delegation:
		return likeness{limit.Referral, r.Name}
	}
	l := likeness{limit.Answer, q.Name}
	if r.Kind == zone.NoData {
		l.kind = limit.NoData
	}
	if len(r.Wildcards) > 0 && r.Wildcards[0].Name == q.Question.Name {
		l.name = r.Wildcards[0].Source
	}
	if len(r.Answer) > 0 && r.Answer[0].Header().Rrtype == dns.TypeDNAME {
		l.name = r.Answer[0].Header().Name
	}
	return l
}

// likenessOfOther is likenessOf for a reply that no zone gives.
func likenessOfOther(q *message.Query, reply []byte) likeness {
	if authoritative := reply[2]&4 != 0; authoritative && message.Rcode(reply) == dns.RcodeSuccess {
		return likeness{limit.Answer, q.Name}
	}
	return likeness{kind: limit.Failure}
}

// hold says whether limits hold back a reply over UDP, and gives what goes out in its place; nil: nothing does.
func (x *exchange) hold(l likeness) (instead []byte, held bool) {
	q := x.query
	x.judged = true
	if q.Via != message.UDP {
		return nil, false
	}
	r := limit.Reply{To: q.From.Addr(), Kind: l.kind, Trusted: q.Trusted()}
	var wire [256]byte
	if n, err := dns.PackDomainName(l.name, wire[:], 0, nil, false); err == nil {
		r.Name = x.nameHash(wire[:n])
	}
	switch x.served.limiter.Decide(x.now, r) {
	case limit.Drop:
		return nil, true
	case limit.Slip:
		return x.served.edge.Slip(q), true
	}
	return nil, false
}

// topNetworks is how many networks are shown.
const topNetworks = 20

// LimitStatus is how often something was beyond a limit, for `show limit`.
type LimitStatus struct {
	Limit   string       `json:"limit"`
	Network netip.Prefix `json:"network,omitzero"` // missing: of all networks, since the start
	Held    uint64       `json:"held"`             // back; of a network roughly
	Logged  uint64       `json:"logged"`           // and let go (log_only)
	Last    time.Time    `json:"last,omitzero"`    // of a network
}

// Limits gives all limits, and then the networks that were beyond them most in the last minutes.
func (g *GSS) Limits() []LimitStatus {
	list, l := []LimitStatus{}, g.engine.serving().limiter
	for _, c := range l.Counts() {
		list = append(list, LimitStatus{Limit: c.Reason.String(), Held: c.Held, Logged: c.Logged})
	}
	for _, n := range l.Top(time.Now(), topNetworks) {
		s := LimitStatus{Limit: n.Reason.String(), Network: n.Network, Held: n.Count, Last: n.Last}
		if !n.Held {
			s.Held, s.Logged = 0, n.Count
		}
		list = append(list, s)
	}
	return list
}
