package gss

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"runtime/debug"
	"time"

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
	l.client.Addr, l.client.NSID = from.Addr(), served.nsid
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
		n = served.packed.Slip(dst, query, &l.client)
	}
	g.queries.add(l.now, from, message.UDP, served, dst[:n])
	return n, udp.Answered
}

// Slow implements udp.Handler.
func (g *GSS) Slow(dst, query []byte, from netip.AddrPort) int {
	return copy(dst, g.respond(query, message.UDP, from))
}
