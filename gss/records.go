package gss

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/miekg/dns"

	"anycastle/internal/config"
)

const (
	maxRecords = 10_000 // of the zone
	maxSetSize = 16_384 // bytes of one record set: it has to fit a TCP message with room to spare
)

// recordTypes are those that may stand in records.
var recordTypes = []uint16{
	dns.TypeA, dns.TypeAAAA, dns.TypeCAA, dns.TypeCNAME, dns.TypeMX, dns.TypeNS, dns.TypeSRV, dns.TypeTLSA, dns.TypeTXT,
}

// record is one record and the line of the text, from 1, that it ends on.
type record struct {
	rr   dns.RR
	line int
}

// lineReader feeds the zone parser byte by byte and knows the line of the byte it gave last: the parser itself tells
// lines only in errors.
type lineReader struct {
	*strings.Reader
	line  int
	ended bool // the byte given last ends the line
}

func (r *lineReader) ReadByte() (byte, error) {
	b, err := r.Reader.ReadByte()
	if err != nil {
		return 0, err
	}
	if r.ended {
		r.line++
	}
	r.ended = b == '\n'
	return b, nil
}

// parseRecords reads master-file text. On an error it gives the records before it and the line it is on.
func parseRecords(text, origin string, ttl uint32) (records []record, line int, err error) {
	for i, l := range strings.Split(text, "\n") {
		for _, directive := range []string{"$INCLUDE", "$GENERATE"} {
			if len(l) >= len(directive) && strings.EqualFold(l[:len(directive)], directive) {
				return nil, i + 1, fmt.Errorf("%s is not taken here; write the records out", directive)
			}
		}
	}
	// without $TTL a record without TTL would take that of the record before it (RFC 1035 section 5.1)
	r := &lineReader{Reader: strings.NewReader(fmt.Sprintf("$TTL %d\n%s", ttl, text))}
	parser := dns.NewZoneParser(r, origin, "")
	for rr, ok := parser.Next(); ok; rr, ok = parser.Next() {
		if len(records) == maxRecords {
			return records, r.line, fmt.Errorf("more than %d records, which is more than one node file should hold", maxRecords)
		}
		records = append(records, record{rr, r.line})
	}
	if err := parser.Err(); err != nil {
		what, _, _ := strings.Cut(strings.TrimPrefix(err.Error(), "dns: "), " at line: ")
		return records, r.line, fmt.Errorf("no master-file line: %s; write one such as `ns-east A 198.51.100.7`", what)
	}
	return records, 0, nil
}

// addRecords puts the master-file text's records into the zone.
func (z *zone) addRecords(text string, at config.Cursor) {
	records, line, err := parseRecords(text, z.origin, z.ttl)
	for _, r := range records {
		at := at.Line(r.line)
		if err := z.addRecord(r.rr, at); err != nil {
			at.Errorf("%v", err)
		}
	}
	if err != nil {
		at.Line(line).Errorf("%v", err)
	}
}

func (z *zone) addRecord(rr dns.RR, at config.Cursor) error {
	h := rr.Header()
	name, err := canonical(h.Name)
	if err != nil {
		return err
	}
	rrtype := dns.Type(h.Rrtype)
	switch {
	case h.Class != dns.ClassINET:
		return fmt.Errorf("class %s is not served; leave the class out, or write IN", dns.Class(h.Class))
	case h.Rrtype == dns.TypeSOA:
		return fmt.Errorf("the SOA record is made from primary, contact, serial and ttl; remove this line")
	case !slices.Contains(recordTypes, h.Rrtype):
		return fmt.Errorf("%s records are not served in this version; remove the line", rrtype)
	case !z.contains(name):
		return fmt.Errorf("%s is outside the zone %s; remove the line, or write the name relative to the zone", bare(name), bare(z.origin))
	case h.Ttl > math.MaxInt32:
		return fmt.Errorf("TTL %d is more than %d (RFC 2181 section 8); an hour, 3600, is plenty", h.Ttl, math.MaxInt32)
	case strings.HasPrefix(name, "*."):
		return fmt.Errorf("wildcards are not served in this version; write each name out")
	case h.Rrtype == dns.TypeNS && name != z.origin:
		return fmt.Errorf("delegations are not served in this version; NS records belong to the apex, written @")
	case h.Rrtype == dns.TypeCNAME && name == z.origin:
		return fmt.Errorf("the apex has an SOA record and cannot be an alias (RFC 1034 section 3.6.2); use a rule or an A record")
	}
	n := z.make(name)
	if err := n.clash(rr); err != nil {
		return fmt.Errorf("%s %w", bare(name), err)
	}
	n.records[h.Rrtype] = append(n.records[h.Rrtype], rr)
	z.pointers = append(z.pointers, pointer{name, rr, at})
	return nil
}

// clash says why rr cannot stand beside the records that the name has.
func (n *node) clash(rr dns.RR) error {
	h := rr.Header()
	set := n.records[h.Rrtype]
	_, aliased := n.records[dns.TypeCNAME]
	if (h.Rrtype == dns.TypeCNAME || aliased) && len(n.records) > 0 {
		return fmt.Errorf("is an alias and has another record beside its CNAME (RFC 1034 section 3.6.2); keep one")
	}
	size := dns.Len(rr)
	for _, other := range set {
		if dns.IsDuplicate(other, rr) {
			return fmt.Errorf("has this %s record twice; keep one", dns.Type(h.Rrtype))
		}
		if other.Header().Ttl != h.Ttl {
			return fmt.Errorf("has %s records with TTL %d and %d (RFC 2181 section 5.2); give them one", dns.Type(h.Rrtype), other.Header().Ttl, h.Ttl)
		}
		size += dns.Len(other)
	}
	if size > maxSetSize {
		return fmt.Errorf("has %s records of more than %d bytes, too many for one reply; remove some", dns.Type(h.Rrtype), maxSetSize)
	}
	return nil
}
