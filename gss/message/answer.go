package message

import (
	"github.com/miekg/dns"

	"anycastle/gss/cookie"
)

// typeNXNAME stands in NSEC bitmaps only: RFC 9824 section 3.5.
const typeNXNAME = 128

// withoutQuestion judges a message with an empty question section: a client may ask for a cookie that way (RFC 7873
// section 5.4), and for nothing else.
func (q *Query) withoutQuestion() verdict {
	switch {
	case q.Opcode != dns.OpcodeQuery || q.Cookie == cookie.None:
		return say(dns.RcodeFormatError)
	case q.Cookie == cookie.ClientOnly || q.Cookie == cookie.Valid:
		return say(dns.RcodeSuccess)
	}
	return say(dns.RcodeBadCookie)
}

// wantCookie refuses an answer to who may not be who it seems: a client that knows cookies gets one and asks again (RFC
// 7873 section 5.2.3), another is sent to TCP.
func (q *Query) wantCookie() verdict {
	if q.Cookie == cookie.None {
		return verdict{final: true, tc: true}
	}
	return say(dns.RcodeBadCookie)
}

// byClassAndType answers what no zone can.
func (e *Edge) byClassAndType(q *Query) verdict {
	if q.Question.Qclass == dns.ClassCHAOS && q.Opcode == dns.OpcodeQuery {
		return e.whoAmI(q)
	}
	if q.Question.Qclass != dns.ClassINET {
		return say(dns.RcodeRefused)
	}
	switch q.Question.Qtype {
	case dns.TypeOPT, dns.TypeTSIG:
		return say(dns.RcodeFormatError) // records of messages, not of zones: RFC 6891 section 6.1.1, RFC 8945 section 4.2
	case typeNXNAME:
		return verdict{final: true, rcode: dns.RcodeFormatError, why: dns.ExtendedErrorCodeInvalidQueryType}
	case dns.TypeMAILA, dns.TypeMAILB, dns.TypeTKEY:
		return say(dns.RcodeNotImplemented)
	}
	return verdict{}
}

// whoAmI answers RFC 4892 section 2 and its older names, as far as the config says who we are.
func (e *Edge) whoAmI(q *Query) verdict {
	var text string
	switch q.Name {
	case "id.server.", "hostname.bind.":
		text = e.cfg.ID
	case "version.server.", "version.bind.":
		text = e.cfg.Version
	}
	if text == "" || q.Question.Qtype != dns.TypeTXT && q.Question.Qtype != dns.TypeANY {
		return say(dns.RcodeRefused)
	}
	hdr := dns.RR_Header{Name: q.Question.Name, Rrtype: dns.TypeTXT, Class: dns.ClassCHAOS}
	return verdict{final: true, about: []dns.RR{&dns.TXT{Hdr: hdr, Txt: []string{escapeText(text)}}}}
}

// escapeText writes a string as the library's TXT wants it.
func escapeText(s string) string {
	const digits = "0123456789"
	b := make([]byte, 0, len(s))
	for _, c := range []byte(s) {
		switch {
		case c == '"' || c == '\\':
			b = append(b, '\\', c)
		case c < ' ' || c > '~':
			b = append(b, '\\', digits[c/100], digits[c/10%10], digits[c%10])
		default:
			b = append(b, c)
		}
	}
	return string(b)
}

// reply writes what Read answers by itself.
func (e *Edge) reply(q *Query, v verdict) []byte {
	m := &dns.Msg{Answer: v.about}
	m.Rcode, m.Truncated, m.Authoritative = v.rcode, v.tc, len(v.about) > 0
	x := Extras{least: v.tc || v.rcode == dns.RcodeBadCookie}
	if v.why != 0 {
		x.Errors = []ExtendedError{{Code: v.why}}
	}
	wire, err := e.Finish(q, m, x)
	if err != nil {
		// only a name that cannot be packed again could bring us here; the header alone can always be
		return header(q, m)
	}
	return wire
}

// Slip is the least reply: truncated, so that a client which is who it seems asks again over TCP. Rate limits send it in
// place of some of the replies that they hold back.
func (e *Edge) Slip(q *Query) []byte { return e.reply(q, verdict{tc: true}) }

// BadCookie is the reply that makes a client ask again with the cookie in it. It is nil for a query that had none, to
// which the RCODE would mean nothing.
func (e *Edge) BadCookie(q *Query) []byte {
	if q.cookie == nil {
		return nil
	}
	return e.reply(q, say(dns.RcodeBadCookie))
}
