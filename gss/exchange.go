package gss

import (
	"errors"
	"fmt"
	"iter"
	"net/netip"
	"slices"
	"time"

	"github.com/miekg/dns"

	"anycastle/gss/message"
	"anycastle/gss/transfer"
	"anycastle/gss/zone"
)

const (
	maxTransfers = 10               // out, at once
	transferTime = 30 * time.Minute // for one
	maxDatagram  = 100              // records of an increment that may fit a datagram
)

// errAborted says that a transfer came to no end.
var errAborted = errors.New("the secondary went away, or was too slow")

// exchange makes the reply to one query.
type exchange struct {
	*GSS
	served    *snapshot
	query     *message.Query
	signature *transfer.Signature // nil: the query has none
	more      func([]byte) bool   // sends a message of the reply that is not its last, and says whether to go on; nil over UDP
	now       time.Time
	zone      string // whose transfer it is
	judged    bool   // the limits have been asked
}

// run gives the last message of the reply; nil if limits hold it back.
func (x *exchange) run() ([]byte, error) {
	q := x.query
	if q.TSIG != nil {
		x.signature = x.served.keys.Check(q.Signed, x.now)
		if err := x.signature.Err; err != nil {
			x.note("signature refused", "", q.TSIG.Hdr.Name, err.Error())
			return x.finish(&dns.Msg{MsgHdr: dns.MsgHdr{Rcode: x.signature.Rcode}}, message.Extras{})
		}
	}
	switch {
	case q.Opcode == dns.OpcodeNotify:
		return x.notified()
	case q.Question.Qtype == dns.TypeAXFR && x.more != nil, q.Question.Qtype == dns.TypeIXFR:
		return x.transfer()
	}
	a := &answerer{now: x.served, client: q.Client().Addr()}
	m, extras := a.answer(q)
	if instead, held := x.hold(a.like); held {
		return instead, a.failed
	}
	if a.secure(m, q, &extras) != nil {
		x.metrics.unsigned.Inc() // the reply is good without
	}
	reply, err := x.finish(m, extras)
	return reply, errors.Join(err, a.failed)
}

func (x *exchange) finish(m *dns.Msg, extras message.Extras) ([]byte, error) {
	reply, err := x.served.edge.Finish(x.query, m, x.complete(extras))
	if err != nil {
		return nil, err
	}
	return x.signature.Sign(reply, time.Now()), nil // a transfer may take longer than clocks may be apart
}

// complete adds what all replies have.
func (x *exchange) complete(extras message.Extras) message.Extras {
	extras.Idle, extras.Reserve, extras.Version = idleTime, x.signature.Size(), x.served.generation
	return extras
}

func (x *exchange) refuse(rcode int, code uint16, text string) ([]byte, error) {
	var extras message.Extras
	if code != 0 {
		extras.Errors = []message.ExtendedError{{Code: code, Text: text}}
	}
	return x.finish(&dns.Msg{MsgHdr: dns.MsgHdr{Rcode: rcode}}, extras)
}

// note logs that the query is refused, and why, if that was not logged lately.
func (x *exchange) note(what, zone, key, why string) {
	if !x.refusals.isNew(refusal{what + zone + key, x.query.From.Addr(), why}, x.now) {
		return
	}
	attrs := []any{"from", x.query.From}
	if zone != "" {
		attrs = append(attrs, "zone", bare(zone))
	}
	if key != "" {
		attrs = append(attrs, "key", bare(key))
	}
	x.log.Info(what, append(attrs, "cause", why)...)
}

// expired refuses to answer for a zone that is absent.
var expired = message.ExtendedError{Code: dns.ExtendedErrorCodeInvalidData, Text: "no primary has given the zone, or not for too long"}

// transfer answers AXFR and IXFR.
func (x *exchange) transfer() ([]byte, error) {
	q := x.query
	z := x.served.zones.Find(q.Name, dns.TypeSOA)
	if z == nil || z.Origin() != q.Name {
		return x.refuse(dns.RcodeNotAuth, dns.ExtendedErrorCodeNotAuthoritative, "") // RFC 5936 section 2.2.1
	}
	x.zone = z.Origin()
	with, ok := x.served.shared[x.zone].allows(q.From.Addr(), x.signature.Valid())
	if !ok {
		x.metrics.transferredOut(x.zone, "", transfer.ErrRefused)
		x.note("transfer refused", x.zone, x.signature.Valid(), x.served.shared[x.zone].denial(q.From.Addr(), x.signature.Valid()))
		return x.refuse(dns.RcodeRefused, dns.ExtendedErrorCodeProhibited, "")
	}
	if x.served.absent[x.zone] {
		return x.refuse(dns.RcodeServerFailure, expired.Code, expired.Text)
	}
	a := &answerer{now: x.served, client: q.From.Addr().Unmap()}
	live := a.live
	if with.WithoutRules {
		live = nil
	}
	kind, records := transfer.Whole, transfer.Full(z, live)
	if q.Question.Qtype == dns.TypeIXFR {
		i := slices.IndexFunc(q.Authority, func(rr dns.RR) bool { return rr.Header().Rrtype == dns.TypeSOA })
		if i < 0 {
			return x.refuse(dns.RcodeFormatError, 0, "")
		}
		kind, records = x.moves.history.Answer(z, live, q.Authority[i].(*dns.SOA).Serial)
	}
	if x.more == nil {
		return x.datagram(z, kind, records)
	}
	select {
	case x.moves.slots <- struct{}{}:
		defer func() { <-x.moves.slots }()
	default:
		return x.refuse(dns.RcodeServerFailure, dns.ExtendedErrorCodeNotReady, "too many transfers at once; try again")
	}
	reply, n, err := x.stream(z, kind, records)
	err = errors.Join(err, a.failed)
	x.metrics.transferredOut(x.zone, kind, err)
	if err != nil {
		x.log.Warn("transfer broke off", "zone", bare(x.zone), "to", q.From, "kind", kind, "records", n, "err", err)
		return nil, err
	}
	x.log.Info("zone transferred", "zone", bare(x.zone), "to", q.From, "kind", kind, "serial", z.Serial(), "records", n)
	return reply, nil
}

// allows finds what lets a server have the zone.
func (s *sharing) allows(from netip.Addr, key string) (Secondary, bool) {
	for _, to := range s.to {
		if to.Prefix.IsValid() && !to.Prefix.Contains(from.Unmap().WithZone("")) || to.Key != "" && dns.CanonicalName(to.Key) != key {
			continue
		}
		return to, true
	}
	return Secondary{}, false
}

// denial says why a server may not have the zone.
func (s *sharing) denial(from netip.Addr, key string) string {
	if len(s.to) == 0 {
		return "the zone has no transfer.to"
	}
	for _, to := range s.to {
		switch here := !to.Prefix.IsValid() || to.Prefix.Contains(from.Unmap().WithZone("")); {
		case here && key == "":
			return fmt.Sprintf("transfer.to wants it signed with the key %s, and it is not signed", to.Key)
		case here:
			return fmt.Sprintf("transfer.to wants it signed with the key %s, and it is with another", to.Key)
		case to.Key != "" && dns.CanonicalName(to.Key) == key:
			return fmt.Sprintf("transfer.to has the key for %v only", to.Prefix)
		}
	}
	return "no line of transfer.to has the address or the key"
}

// datagram answers IXFR over UDP: with the increment if it fits, with the SOA record alone if not, whereupon the secondary
// comes back over TCP (RFC 1995 section 2).
func (x *exchange) datagram(z *zone.Zone, kind transfer.Kind, records iter.Seq[dns.RR]) ([]byte, error) {
	extras := x.extras(z)
	if kind == transfer.Incremental {
		m := &dns.Msg{MsgHdr: dns.MsgHdr{Authoritative: true}}
		for rr := range records {
			if m.Answer = append(m.Answer, rr); len(m.Answer) > maxDatagram {
				break
			}
		}
		if len(m.Answer) <= maxDatagram {
			reply, err := x.served.edge.Finish(x.query, m, x.complete(extras))
			if err != nil {
				return nil, err
			}
			if reply[2]&2 == 0 { // not truncated
				x.metrics.transferredOut(x.zone, kind, nil)
				return x.signature.Sign(reply, x.now), nil
			}
		}
	}
	return x.finish(&dns.Msg{MsgHdr: dns.MsgHdr{Authoritative: true}, Answer: []dns.RR{z.SOA()}}, extras)
}

func (x *exchange) extras(z *zone.Zone) message.Extras {
	if !x.query.Expire {
		return message.Extras{}
	}
	left := x.moves.expire(z, x.now)
	return message.Extras{Expire: &left}
}

// stream sends all but the last message of a transfer and gives that one, and how many records went.
func (x *exchange) stream(z *zone.Zone, kind transfer.Kind, records iter.Seq[dns.RR]) (last []byte, n int, err error) {
	end := time.Now().Add(transferTime)
	for batch := range transfer.Batches(records) {
		if last != nil && (!x.more(last) || time.Now().After(end)) {
			return nil, n, errAborted
		}
		if last, err = x.finish(&dns.Msg{MsgHdr: dns.MsgHdr{Authoritative: true}, Answer: batch}, x.extras(z)); err != nil {
			return nil, n, err
		}
		n += len(batch)
	}
	return last, n, nil
}

// notified answers NOTIFY (RFC 1996 section 3).
func (x *exchange) notified() ([]byte, error) {
	q := x.query
	s := x.served.shared[q.Name]
	if s == nil || len(s.primaries) == 0 || q.Question.Qtype != dns.TypeSOA {
		return x.refuse(dns.RcodeNotAuth, 0, "")
	}
	from := q.From.Addr().Unmap().WithZone("")
	i := slices.IndexFunc(s.primaries, func(p transfer.Peer) bool {
		return p.Addr.Addr().WithZone("") == from && (p.Key == nil || p.Key.Name == x.signature.Valid())
	})
	if i < 0 {
		x.metrics.notifiedIn(q.Name, transfer.ErrRefused)
		x.note("notification refused", q.Name, x.signature.Valid(), "no line of primaries has the address, with this key or without one")
		return x.refuse(dns.RcodeRefused, dns.ExtendedErrorCodeProhibited, "")
	}
	x.metrics.notifiedIn(q.Name, nil)
	var serial *uint32
	if len(q.Answer) > 0 {
		if soa, ok := q.Answer[0].(*dns.SOA); ok {
			serial = &soa.Serial
		}
	}
	x.moves.follower.Notified(q.Name, i, serial)
	return x.finish(&dns.Msg{MsgHdr: dns.MsgHdr{Authoritative: true}}, message.Extras{})
}
