package message

import (
	"encoding/binary"
	"time"

	"github.com/miekg/dns"

	"anycastle/gss/cookie"
)

// Flags in an OPT record's TTL: RFC 6891 section 6.1.3, RFC 9824 section 5.1.
const (
	flagDO = 1 << 15
	flagCO = 1 << 14
)

func version(opt record) byte { return byte(opt.ttl >> 16) }

// takeOPT takes in the fixed part of an OPT record of any version. Unknown flags mean nothing and are never repeated.
func (q *Query) takeOPT(opt record) {
	q.EDNS = true
	q.UDPSize = max(opt.class, plainSize) // RFC 6891 section 6.2.3
	q.DO, q.CO = opt.ttl&flagDO != 0, opt.ttl&flagCO != 0
}

// takeOptions takes in the options of an OPT record of version 0, and says whether those that we know are well formed. It
// looks at all of them in any case, so that a FORMERR for one does not lack the cookie of another. Of options that come
// twice the first counts.
func (e *Edge) takeOptions(q *Query, data []byte, now time.Time) bool {
	sound := true
	var seenCookie, seenSubnet bool
	for len(data) > 0 {
		if len(data) < 4 {
			return false
		}
		code, size := binary.BigEndian.Uint16(data), int(binary.BigEndian.Uint16(data[2:]))
		if data = data[4:]; size > len(data) {
			return false
		}
		body := data[:size]
		data = data[size:]
		switch {
		case code == dns.EDNS0NSID:
			q.NSID = true // a body is to be ignored: RFC 5001 section 2.1
		case code == dns.EDNS0COOKIE && e.cookies != nil && !seenCookie:
			seenCookie = true // RFC 7873 section 4: the first
			sound = e.takeCookie(q, body, now) && sound
		case code == dns.EDNS0SUBNET && e.cfg.ClientSubnet && !seenSubnet:
			seenSubnet = true
			sound = q.takeSubnet(body) && sound
		case code == dns.EDNS0EXPIRE:
			q.Expire = q.asksForZone() // RFC 7314 section 2
		case code == dns.EDNS0TCPKEEPALIVE && q.Via != UDP: // over UDP to be ignored: RFC 7828 section 3.2.1
			q.Keepalive = true
			sound = (size == 0 || size == 2) && sound
		case code == dns.EDNS0PADDING:
			q.Padding = q.Via == TLS // without encryption padding hides nothing: RFC 7830 section 6
		}
	}
	return sound
}

func (q *Query) asksForZone() bool {
	t := q.Question.Qtype
	return q.asked && q.Opcode == dns.OpcodeQuery && (t == dns.TypeSOA || t == dns.TypeAXFR || t == dns.TypeIXFR)
}

func (e *Edge) takeCookie(q *Query, body []byte, now time.Time) bool {
	if len(body) == 0 {
		return false // cookie.None stands for a query without the option
	}
	seconds := uint32(now.Unix()) // which may wrap
	reply, status := e.cookies.Renew(nil, body, q.From.Addr(), seconds)
	if status == cookie.Malformed {
		return false // RFC 7873 section 5.2.2
	}
	q.Cookie, q.cookie = status, reply
	return true
}
