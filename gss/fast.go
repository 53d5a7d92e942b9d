package gss

import (
	"encoding/binary"
	"fmt"
	"hash/maphash"
	"math/rand/v2"
	"net/netip"
	"runtime/debug"
	"time"

	"github.com/miekg/dns"

	"anycastle/gss/cookie"
	"anycastle/gss/limit"
	"anycastle/gss/message"
	"anycastle/gss/table"
	"anycastle/gss/udp"
)

// tableCookies has a table make cookies.
type tableCookies struct{ *cookie.Server }

// Append implements table.Cookies.
func (c tableCookies) Append(dst, sent []byte, client netip.Addr, now uint32) ([]byte, bool) {
	dst, status := c.Renew(dst, sent, client, now)
	return dst, status == cookie.Valid
}

// Lane implements udp.Handler.
func (g *GSS) Lane(i int) udp.Lane {
	return &lane{gss: g, client: table.Client{Lane: i, Random: *rand.NewPCG(rand.Uint64(), rand.Uint64())}}
}

// lane answers the queries of one socket from packed replies.
type lane struct {
	gss    *GSS
	client table.Client
	now    time.Time
	served *snapshot // held for a batch
}

// Begin implements udp.Lane.
func (l *lane) Begin(now time.Time) {
	l.now, l.client.Now, l.served = now, uint32(now.Unix()), l.gss.engine.current.Load()
}

// Fast implements udp.Lane. Whatever goes wrong costs this one query only.
func (l *lane) Fast(dst, query []byte, from netip.AddrPort) (n int, v udp.Verdict) {
	g := l.gss
	defer func() {
		if p := recover(); p != nil {
			n, v = 0, udp.Dropped
			g.fault(fmt.Errorf("panic: %v\n%s", p, debug.Stack()))
		}
	}()
	served := l.served
	if !served.limiter.Query(l.now, from.Addr(), false) {
		return 0, udp.Dropped
	}
	l.client.Addr = from.Addr()
	n, ok := served.live.Answer(dst, query, &l.client)
	if !ok {
		n, ok = served.packed.Answer(dst, query, &l.client)
	}
	if !ok {
		return 0, udp.Slow
	}
	r := limit.Reply{To: from.Addr(), Kind: limit.Answer, Name: g.nameHash(l.client.Name()), Trusted: l.client.Known}
	switch served.limiter.Decide(l.now, r) {
	case limit.Drop:
		return 0, udp.Dropped
	case limit.Slip:
		q, reply, _ := served.edge.Read(query, message.UDP, from, l.now)
		if reply == nil && q != nil {
			reply = served.edge.Slip(q)
		}
		n = copy(dst, reply)
	}
	g.queries.add(l.now, from, message.UDP, served, dst[:n])
	return n, udp.Answered
}

// Slow implements udp.Handler.
func (g *GSS) Slow(dst, query []byte, from netip.AddrPort) int {
	return copy(dst, g.respond(query, message.UDP, from))
}

// nameHash is what names are equal by for limits: a hash of the wire form in lower case.
func (g *GSS) nameHash(wire []byte) uint64 { return maphash.Bytes(g.seed, wire) }

// limitReply says what becomes of a reply of the slow path over UDP: it may be held back, or replaced.
func (g *GSS) limitReply(served *snapshot, q *message.Query, reply []byte, zone string, now time.Time) []byte {
	if q == nil || q.Via != message.UDP || reply == nil {
		return reply
	}
	r := limit.Reply{To: q.From.Addr(), Kind: kindOf(reply), Trusted: q.Trusted()}
	name := q.Name
	if r.Kind == limit.NameError {
		name = zone // each name that does not exist is another one
	}
	var wire [256]byte
	if n, err := dns.PackDomainName(name, wire[:], 0, nil, false); err == nil {
		r.Name = g.nameHash(wire[:n])
	}
	switch served.limiter.Decide(now, r) {
	case limit.Drop:
		return nil
	case limit.Slip:
		return served.edge.Slip(q)
	}
	return reply
}

// kindOf says by what a reply is equal to others.
func kindOf(reply []byte) limit.Kind {
	switch message.Rcode(reply) {
	case dns.RcodeSuccess:
		if binary.BigEndian.Uint16(reply[6:]) == 0 && reply[2]&4 == 0 {
			return limit.Referral
		}
		return limit.Answer
	case dns.RcodeNameError:
		return limit.NameError
	}
	return limit.Failure
}
