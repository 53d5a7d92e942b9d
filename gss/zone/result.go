package zone

import "github.com/miekg/dns"

// Kind is what became of a query: of the last name, if aliases led from the one that was asked.
type Kind uint8

const (
	// Refused is a query that is not for the zone: the name is outside it, or the type is one of transfers and messages.
	Refused Kind = iota
	// Answer is one with records of the type, or one whose last alias leads out of the zone.
	Answer
	// NoData is a name that exists without records of the type.
	NoData
	// NXDomain is a name that does not exist, nor anything below it.
	NXDomain
	// Delegation is a name that other servers answer for.
	Delegation
	// YXDomain is a name that becomes too long when a DNAME is applied (RFC 6672 section 2.2).
	YXDomain
)

func (k Kind) String() string {
	names := [...]string{"refused", "answer", "no data", "no such name", "delegation", "name too long"}
	if int(k) < len(names) {
		return names[k]
	}
	return "unknown"
}

// Result is what a zone says to a query. The sections are for a reply whose records all fit; only the ones at the front of
// Additional that Glue counts must fit, else the reply is truncated (RFC 9471).
//
// A signer that denies with one NSEC record ("black lies") makes it for Name, with Types and its own; the name just after
// Name is the next. It needs no proof that wildcards or closer names do not exist, if it signs what Wildcards lists as if
// the names stood in the zone; one that signs the wildcards takes the label counts from there.
type Result struct {
	Kind          Kind
	Rcode         int
	Authoritative bool

	Answer     []dns.RR // aliases in the order that they lead, then what they led to
	Authority  []dns.RR // of a Delegation its NS set, of NoData and NXDomain the SOA record (RFC 2308 section 3)
	Additional []dns.RR // addresses of names in Answer or Authority
	Glue       int      // how many records of Additional a Delegation cannot do without

	// Name is the name that Kind is about: the last of the aliases, or what a Delegation delegates.
	Name string
	// Types are those that exist at Name for NoData and Delegation, in order; not those that come with signing.
	Types []uint16
	// DS is the DS set of a Delegation, which belongs into Authority if the query has the DO bit; without one, the NSEC
	// record of Name does (RFC 4035 section 3.1.4).
	DS []dns.RR
	// Wildcards are the owners in Answer that exist thanks to a wildcard, and Name if so.
	Wildcards []Wildcard
}

// Wildcard says where a name's records come from (RFC 4592 section 3.3).
type Wildcard struct {
	Name   string // as in the Result
	Source string // such as *.example.org.
}
