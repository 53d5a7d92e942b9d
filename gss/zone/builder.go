package zone

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strings"

	"github.com/miekg/dns"
)

const (
	maxRecords = 10_000_000 // of a zone
	maxData    = 1 << 30    // bytes of names, and of rdata

	// maxSet bounds a set's bytes in a message, so that it fits the 65,535 of TCP with the question, the signature, EDNS
	// options and the aliases that led to it.
	maxSet = 57_000
)

// builder collects records and makes a zone of them.
type builder struct {
	origin string // canonical
	strict bool   // refuse also what Build does not
	errs   collector

	key     []byte // of the origin
	ids     map[string]uint32
	owners  []string // keys by id
	last    string   // owner of the record before, as it was spelt, and its id
	lastID  uint32
	records []record
	rdata   []byte // of each record: two bytes of length, then its wire form
	buf     []byte
}

// record is one record until the zone is laid out.
type record struct {
	owner  uint32 // id
	rdata  uint32 // where it begins
	ttl    uint32
	line   uint32
	file   uint16
	rrtype uint16
}

func (r *record) pos() pos { return pos{r.file, r.line} }

func newBuilder(origin string, strict bool) (*builder, error) {
	canon, ok := canonical(origin)
	if !ok {
		return nil, fmt.Errorf("%q is no domain name; a zone's origin is such as example.org", origin)
	}
	var n name
	n.parse(canon)
	if isWildcard(n.key(n.labels)) {
		return nil, fmt.Errorf("the origin %s is a wildcard, which no zone can be named; name the zone after the name above", canon)
	}
	key := bytes.Clone(n.key(n.labels))
	buf := make([]byte, math.MaxUint16+maxWire+10)
	return &builder{origin: canon, strict: strict, key: key, ids: map[string]uint32{}, buf: buf}, nil
}

// add takes one record, or reports why not.
func (b *builder) add(rr dns.RR, at pos) {
	h := rr.Header()
	id, wrong := b.owner(h.Name)
	if wrong == "" {
		wrong = b.refused(h, b.owners[id])
	}
	if wrong != "" {
		b.errs.addf(at, "%s", wrong)
		return
	}
	if len(b.records) == maxRecords || len(b.rdata) > maxData {
		b.errs.addf(at, "the zone has more than %d records, or too long ones; split it", len(b.records))
		return
	}
	// a root owner, so that what is before the rdata has a known length
	spelt := h.Name
	h.Name = "."
	end, err := dns.PackRR(rr, b.buf, 0, nil, false)
	h.Name = spelt
	const start = 1 + 10
	if err == nil {
		err = incomplete(rr, end == start)
	}
	if err == nil {
		h := *h
		h.Rdlength = uint16(end - start)
		_, _, err = dns.UnpackRRWithHeader(h, b.buf[:end], start)
	}
	if err != nil {
		b.errs.addf(at, "the %s record of %s cannot be sent: %v; mend its data", dns.Type(h.Rrtype), h.Name, err)
		return
	}
	b.records = append(b.records, record{id, uint32(len(b.rdata)), h.Ttl, at.line, at.file, h.Rrtype})
	b.rdata = append(b.rdata, byte((end-start)>>8), byte(end-start))
	b.rdata = append(b.rdata, b.buf[start:end]...)
}

// incomplete says what a record lacks that miekg/dns would not miss: it reads and sends records without data, as dynamic
// updates have them, and others up to a name that is not there.
func incomplete(rr dns.RR, empty bool) error {
	switch rrtype := rr.Header().Rrtype; {
	case empty && rrtype != dns.TypeNULL && rrtype != dns.TypeAPL && dns.TypeToString[rrtype] != "":
		return errors.New("it has no data")
	case rrtype == dns.TypeA || rrtype == dns.TypeAAAA || rrtype == dns.TypeTXT: // nearly all, and without names
		return nil
	}
	if missing := emptyName(reflect.ValueOf(rr).Elem()); missing != "" {
		return fmt.Errorf("its %s is missing", strings.ToLower(missing))
	}
	return nil
}

// emptyName gives the field of a record that is to be a name and is not.
func emptyName(v reflect.Value) string {
	for i := range v.NumField() {
		field := v.Type().Field(i)
		if field.Anonymous { // HTTPS is SVCB
			return emptyName(v.Field(i))
		}
		if field.Type.Kind() == reflect.String && strings.HasSuffix(field.Tag.Get("dns"), "domain-name") && v.Field(i).Len() == 0 {
			return field.Name
		}
	}
	return ""
}

// owner gives the id of an owner's name, or what is wrong with it.
func (b *builder) owner(spelt string) (uint32, string) {
	if spelt == b.last && len(b.owners) > 0 {
		return b.lastID, ""
	}
	var n name
	if !n.parse(spelt) {
		return 0, fmt.Sprintf("%q is no domain name; labels have 1 to %d bytes, and names up to %d with a byte for each dot",
			spelt, maxLabel, maxWire)
	}
	key := n.key(n.labels)
	if !bytes.HasPrefix(key, b.key) {
		return 0, fmt.Sprintf("%s is outside the zone %s; remove the record, or look for a dot too many at the end of the name",
			spelt, b.origin)
	}
	id, ok := b.ids[string(key)]
	if !ok {
		id = uint32(len(b.owners))
		b.owners = append(b.owners, string(key))
		b.ids[b.owners[id]] = id
	}
	b.last, b.lastID = spelt, id
	return id, ""
}

// refused says why the zone cannot have a record, whatever else is in it.
func (b *builder) refused(h *dns.RR_Header, owner string) string {
	rrtype, apex := dns.Type(h.Rrtype), len(owner) == len(b.key)
	switch {
	case h.Class != dns.ClassINET:
		return fmt.Sprintf("class %s is not served; leave the class out, or write IN", dns.Class(h.Class))
	case metaType(h.Rrtype):
		return fmt.Sprintf("%s is a type of queries and no record has it (RFC 6895 section 3.1); remove the line", rrtype)
	case signedType(h.Rrtype):
		return fmt.Sprintf("%s records are made while the zone is served, which signs it; remove the line", rrtype)
	case h.Ttl > maxTTL:
		return fmt.Sprintf("TTL %d is more than %d (RFC 2181 section 8); an hour, 3600, is plenty", h.Ttl, maxTTL)
	case h.Rrtype == dns.TypeSOA && !apex:
		return fmt.Sprintf("%s is not the zone's apex %s, which alone has an SOA record; remove it", h.Name, b.origin)
	case h.Rrtype == dns.TypeCNAME && apex:
		return "the apex has an SOA record and cannot be an alias (RFC 1034 section 3.6.2); use address records"
	case h.Rrtype == dns.TypeDS && apex:
		return fmt.Sprintf("a DS record of %s belongs to the zone above (RFC 4034 section 5); give it to who runs that one", b.origin)
	case isWildcard([]byte(owner)) && (h.Rrtype == dns.TypeNS || h.Rrtype == dns.TypeDS || h.Rrtype == dns.TypeDNAME):
		return fmt.Sprintf("what a wildcard with %s records means is not defined (RFC 4592 section 4); write each name out", rrtype)
	}
	return ""
}

// signedType says whether a record of the type is made by who signs a zone.
func signedType(t uint16) bool {
	switch t {
	case dns.TypeDNSKEY, dns.TypeCDNSKEY, dns.TypeCDS, dns.TypeRRSIG, dns.TypeNSEC, dns.TypeNSEC3, dns.TypeNSEC3PARAM,
		dns.TypeSIG, dns.TypeNXT:
		return true
	}
	return false
}

// metaType says whether a type is one of queries and messages (RFC 6895 section 3.1).
func metaType(t uint16) bool { return t == 0 || t == dns.TypeOPT || 128 <= t && t <= 255 }

// finish lays the zone out and checks it.
func (b *builder) finish() (*Zone, error) {
	sorted := make([]uint32, len(b.owners)) // ids in the order of names
	for i := range sorted {
		sorted[i] = uint32(i)
	}
	slices.SortFunc(sorted, func(x, y uint32) int { return cmp.Compare(b.owners[x], b.owners[y]) })
	rank := make([]uint32, len(b.owners))
	for i, id := range sorted {
		rank[id] = uint32(i)
	}
	slices.SortStableFunc(b.records, func(x, y record) int {
		return cmp.Or(cmp.Compare(rank[x.owner], rank[y.owner]), cmp.Compare(x.rrtype, y.rrtype))
	})
	l := layout{builder: b, data: newData(b.key)}
	b.ids, b.last = nil, ""
	for rest := b.records; len(rest) > 0; {
		n := 1
		for n < len(rest) && rest[n].owner == rest[0].owner {
			n++
		}
		l.addName(b.owners[rest[0].owner], rest[:n])
		rest = rest[n:]
	}
	l.end()
	l.check()
	if err := b.errs.err(); err != nil {
		return nil, err
	}
	return l.zone()
}
