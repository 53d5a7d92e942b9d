package sign

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"

	"github.com/miekg/dns"
)

// setKey is the content of an RRset as bytes: its records in wire format, uncompressed, the owner in lower case and the
// TTL zero, in the order of their bytes. So neither the order of records, which some balance methods turn, nor the
// spelling of the query, nor a TTL that shrinks costs another signature.
type setKey struct {
	msg   dns.Msg
	wire  []byte // of msg
	parts [][]byte
	key   []byte // sorted
}

const msgHeader = 12 // octets

// build makes the key of a set; it lasts until the next build. The records go through a message, as the library's function
// that packs one record writes to it, and the zone's are shared.
func (b *setKey) build(set []dns.RR) (key []byte, err error) {
	b.msg.Answer = set
	b.wire, err = b.msg.PackBuffer(b.wire[:cap(b.wire)])
	b.msg.Answer = nil
	if err != nil {
		return nil, fmt.Errorf("pack %s %s: %w", set[0].Header().Name, dns.Type(set[0].Header().Rrtype), err)
	}
	b.parts = b.parts[:0]
	for rest := b.wire[msgHeader:]; len(rest) > 0; {
		end := normalize(rest)
		b.parts = append(b.parts, rest[:end])
		rest = rest[end:]
	}
	if len(b.parts) == 1 {
		return b.parts[0], nil
	}
	slices.SortFunc(b.parts, bytes.Compare)
	b.key = b.key[:0]
	for _, p := range b.parts {
		b.key = append(b.key, p...)
	}
	return b.key, nil
}

// normalize lowers the owner of the packed record at the beginning, clears its TTL and tells its length.
func normalize(record []byte) int {
	i := 0
	for record[i] != 0 {
		n := int(record[i])
		for j := i + 1; j <= i+n; j++ {
			record[j] = lower(record[j])
		}
		i += 1 + n
	}
	i += 5 // root label, type and class
	clear(record[i : i+4])
	return i + 6 + int(binary.BigEndian.Uint16(record[i+4:]))
}

// unpack gives the records of a key. Their names are spelled in one way only, whatever escapes the zone file had: the
// library lowers letters in names, but not letters in escapes such as \065.
func unpack(key []byte) (set []dns.RR, err error) {
	for off := 0; off < len(key); {
		rr, end, err := dns.UnpackRR(key, off)
		if err != nil {
			return nil, fmt.Errorf("unpack a record to sign: %w", err)
		}
		// A label such as *foo is no wildcard (RFC 4592 section 2.1.1), which the library believes; with an escape it does not.
		if name := rr.Header().Name; strings.HasPrefix(name, "*") && !strings.HasPrefix(name, "*.") {
			rr.Header().Name = `\042` + name[1:]
		}
		set = append(set, rr)
		off = end
	}
	return set, nil
}

// sameSet says whether two records belong to one RRset.
func sameSet(a, b dns.RR) bool {
	ha, hb := a.Header(), b.Header()
	return ha.Rrtype == hb.Rrtype && ha.Class == hb.Class && (ha.Name == hb.Name || equalFold(ha.Name, hb.Name))
}

// equalFold compares names of the same spelling of escapes, without regard to the case of ASCII letters.
func equalFold(a, b string) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range len(a) {
		if a[i] != b[i] && lower(a[i]) != lower(b[i]) {
			return false
		}
	}
	return true
}

func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		return c + 'a' - 'A'
	}
	return c
}

// within says whether a name is the origin or below it, without the allocations of the library's.
func within(origin, name string) bool {
	if origin == "." {
		return true
	}
	cut := len(name) - len(origin)
	if cut < 0 || !equalFold(name[cut:], origin) {
		return false
	}
	if cut == 0 {
		return true
	}
	if name[cut-1] != '.' {
		return false
	}
	escapes := 0 // a dot behind an odd number of them is part of a label
	for i := cut - 2; i >= 0 && name[i] == '\\'; i-- {
		escapes++
	}
	return escapes%2 == 0
}

// together orders records such that those of one set follow each other, sets in the order of their first records.
func together(rrs []dns.RR) []dns.RR {
	scattered := false
	for i := 1; i < len(rrs) && !scattered; i++ {
		scattered = !sameSet(rrs[i-1], rrs[i]) && slices.ContainsFunc(rrs[:i-1], func(rr dns.RR) bool { return sameSet(rr, rrs[i]) })
	}
	if !scattered {
		return rrs
	}
	ordered := make([]dns.RR, 0, len(rrs))
	for i, rr := range rrs {
		if slices.ContainsFunc(rrs[:i], func(other dns.RR) bool { return sameSet(other, rr) }) {
			continue
		}
		for _, other := range rrs[i:] {
			if sameSet(rr, other) {
				ordered = append(ordered, other)
			}
		}
	}
	return ordered
}
