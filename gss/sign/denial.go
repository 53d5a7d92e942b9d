package sign

import (
	"slices"
	"strings"

	"github.com/miekg/dns"
)

const (
	maxName  = 255 // octets, RFC 1035 section 2.3.4
	maxLabel = 63
)

// NSEC gives the record that denies types at a name of the zone which exists: all but those given. It is what Secure adds to
// such replies, unsigned, so that Presign can have it. RRSIG and NSEC, which a signed name has too, are added here, and at the
// apex the types of keys. The TTL is in seconds: of negative replies, the lesser of the SOA record's TTL and minimum.
func (s *Signer) NSEC(name string, types []uint16, ttl uint32) *dns.NSEC {
	return s.nsecPresent(s.state.Load(), name, types, 0, ttl)
}

// nsecPresent leaves the type that is denied out, whatever the zone says of it: an answer group may be without answers.
func (s *Signer) nsecPresent(st *state, name string, types []uint16, denied uint16, ttl uint32) *dns.NSEC {
	bitmap := make([]uint16, 0, len(types)+5)
	for _, t := range slices.Concat(types, st.apexTypes(name)) {
		if t != denied && !meta(t) {
			bitmap = append(bitmap, t)
		}
	}
	return s.nsec(name, append(bitmap, dns.TypeRRSIG, dns.TypeNSEC), ttl)
}

// meta says whether a type is at no name (RFC 4034 section 4.1.2).
func meta(t uint16) bool {
	return t == dns.TypeNone || t == dns.TypeOPT || t >= dns.TypeNXNAME && t <= dns.TypeANY
}

// nxname is the record that says that the name does not exist (RFC 9824 section 3.1).
func (s *Signer) nxname(name string, ttl uint32) *dns.NSEC {
	return s.nsec(name, []uint16{dns.TypeRRSIG, dns.TypeNSEC, dns.TypeNXNAME}, ttl)
}

// nsec sorts the bitmap in place. The next name is in lower case, as it is signed as it is (RFC 6840 section 5.1); the
// owner may keep the query's spelling.
func (s *Signer) nsec(name string, bitmap []uint16, ttl uint32) *dns.NSEC {
	slices.Sort(bitmap)
	return &dns.NSEC{
		Hdr:        dns.RR_Header{Name: name, Rrtype: dns.TypeNSEC, Class: dns.ClassINET, Ttl: ttl},
		NextDomain: successor(name, s.cfg.Origin), TypeBitMap: slices.Compact(bitmap),
	}
}

// successor is the name that follows immediately in canonical order, so that the record denies nothing but its owner:
// \000.name, or if that were too long, what RFC 4471 section 3.1.2 says. Behind the zone's last name comes its first.
func successor(name, origin string) string {
	canon := dns.CanonicalName(name)
	if len(canon) <= maxName-3 && !strings.Contains(canon, `\`) { // in wire format one octet more; as many as it has for the root
		return below(canon)
	}
	wire := make([]byte, maxName+1)
	end, err := dns.PackDomainName(canon, wire, 0, nil, false)
	if err != nil {
		return below(canon) // it is no name, which signing will report
	}
	if end+2 <= maxName {
		return below(canon)
	}
	after, _, err := dns.UnpackDomainName(next(wire[:end]), 0)
	if err != nil || !within(origin, after) {
		return origin
	}
	return after
}

func below(canon string) string {
	if canon == "." {
		return `\000.`
	}
	return `\000.` + canon
}

// next is the successor of a name in wire format that has no room for another label.
func next(wire []byte) []byte {
	n := int(wire[0])
	if n == 0 {
		return wire // above the last name of all comes the first
	}
	label, rest := wire[1:1+n], wire[1+n:]
	if n < maxLabel && len(wire) < maxName {
		return slices.Concat([]byte{byte(n + 1)}, label, []byte{0}, rest)
	}
	for n > 0 && label[n-1] == 0xff {
		n--
	}
	if n == 0 {
		return next(rest) // behind all names below it; the rest has room, but what is below that comes before
	}
	label = slices.Clone(label[:n])
	label[n-1]++
	if label[n-1] == 'A' {
		label[n-1] = 'Z' + 1 // upper case sorts as lower case does, further on
	}
	return slices.Concat([]byte{byte(n)}, label, rest)
}
