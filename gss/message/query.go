package message

import (
	"net/netip"

	"github.com/miekg/dns"

	"anycastle/gss/cookie"
)

// Transport is what a query came over.
type Transport uint8

// The transports.
const (
	UDP Transport = iota
	TCP
	TLS // RFC 7858
)

// String gives the label for metrics.
func (t Transport) String() string {
	names := [...]string{"udp", "tcp", "tls"}
	if int(t) < len(names) {
		return names[t]
	}
	return "unknown"
}

// Reason says why a message gets no reply; it is a label for metrics. The empty Reason stands for none.
type Reason string

// The reasons.
const (
	Short   Reason = "short"   // than a header
	IsReply Reason = "reply"   // QR is set
	NoPort  Reason = "no-port" // UDP from port 0, where no reply can go
)

// Query is what a client asks, read from one message. It holds nothing of the message's memory.
type Query struct {
	ID       uint16
	Opcode   int          // dns.OpcodeQuery or dns.OpcodeNotify
	Question dns.Question // as it was asked, with the spelling of its name
	Name     string       // the question's name in canonical form: lower case, with the final dot

	RD bool // recursion desired; of no effect but that the reply repeats it
	AD bool // the client understands AD in a reply: RFC 6840 section 5.7
	CD bool // repeated in the reply, as RFC 4035 section 3 wants it, and as most servers do whatever its section 3.1.6 says

	Via  Transport
	From netip.AddrPort // where the reply goes

	EDNS    bool   // the message has an OPT record of version 0, and so must the reply
	UDPSize uint16 // what the client says it can receive; at least 512 with EDNS, 0 without
	DO      bool   // wants DNSSEC records: RFC 3225
	CO      bool   // takes NXDOMAIN together with a compact denial: RFC 9824 section 5.1

	Cookie    cookie.Status // Malformed never gets here
	NSID      bool          // asks for the server's name
	Expire    bool          // asks how long the zone stays good; only of SOA, AXFR and IXFR
	Keepalive bool          // asks for how long the connection may idle; never over UDP
	Padding   bool          // asks for a padded reply; only over TLS

	Subnet netip.Prefix // of RFC 7871, masked; the zero Prefix without the option and where the client opted out (/0)

	TSIG   *dns.TSIG // the message's signature, which nobody has checked yet; nil without
	Signed []byte    // the whole message, for the check; nil without TSIG

	Answer    []dns.RR // of a NOTIFY: the SOA that the primary may have sent along
	Authority []dns.RR // of an IXFR: the SOA that the secondary has

	asked     bool   // Question was there and could be read
	cookie    []byte // for the reply: whole and valid; nil for none
	subnet    []byte // for the reply: the option's family, source prefix length, and address
	subnetMax int    // bits of an address of the family
}

// Client is the address or network that rules decide by: the subnet that the resolver names, or the resolver itself. One of
// IPv4 in IPv6 form is given as IPv4.
func (q *Query) Client() netip.Prefix {
	if q.Subnet.IsValid() {
		return netip.PrefixFrom(q.Subnet.Addr().Unmap(), q.Subnet.Bits()-q.mapped())
	}
	addr := q.From.Addr().Unmap().WithZone("")
	return netip.PrefixFrom(addr, addr.BitLen())
}

// mapped is how many bits of the subnet say no more than that it is IPv4 in IPv6 form.
func (q *Query) mapped() int {
	if q.Subnet.Addr().Is4In6() {
		return 96
	}
	return 0
}

// Trusted says that the sender has shown that it receives at its address: by a connection or a valid cookie.
func (q *Query) Trusted() bool { return q.Via != UDP || q.Cookie == cookie.Valid }

// Limit is the size in bytes that a reply may have.
func (e *Edge) Limit(q *Query) int {
	switch {
	case q.Via != UDP:
		return streamSize
	case !q.EDNS:
		return plainSize
	}
	return min(int(q.UDPSize), e.cfg.MaxUDP)
}
