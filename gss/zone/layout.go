package zone

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/miekg/dns"
)

// layout makes the data of a zone from records that are sorted by name and type.
type layout struct {
	*builder
	data   *data
	places []pos    // of each set's first record
	open   []uint32 // nodes from the apex to the one added last
}

// addName adds a name with its records, after the names between it and the apex.
func (l *layout) addName(key string, records []record) {
	l.openTo([]byte(key))
	for len(records) > 0 {
		n := 1
		for n < len(records) && records[n].rrtype == records[0].rrtype {
			n++
		}
		l.addSet(key, records[:n])
		records = records[n:]
	}
	l.setCut()
}

// openTo makes the node of a key, and those above it that have no records (RFC 4592 section 2.2.2).
func (l *layout) openTo(key []byte) {
	d := l.data
	for len(l.open) > 0 && !bytes.HasPrefix(key, d.nodeKey(l.open[len(l.open)-1])) {
		l.open = l.open[:len(l.open)-1]
	}
	have := -1 // length of the deepest node's key that is made
	if len(l.open) > 0 {
		have = len(d.nodeKey(l.open[len(l.open)-1]))
	}
	for at := max(have+1, len(d.origin)); at <= len(key); at++ {
		if at == len(d.origin) || key[at-1] == 0 {
			if at < len(key) {
				l.newNode(key[:at])
				l.setCut()
				continue
			}
			l.newNode(key)
		}
	}
}

func (l *layout) newNode(key []byte) {
	d := l.data
	d.nodes = append(d.nodes, node{key: uint32(len(d.keys)), sets: uint32(len(d.sets)), cut: none})
	d.keys = append(d.keys, key...)
	l.open = append(l.open, uint32(len(d.nodes)-1))
}

// setCut finds what covers the node that is open, once its records are known: the delegation or DNAME next to the apex.
func (l *layout) setCut() {
	d := l.data
	this := l.open[len(l.open)-1]
	switch {
	case len(l.open) == 1: // the apex
	case d.nodes[l.open[len(l.open)-2]].cut != none:
		d.nodes[this].cut = d.nodes[l.open[len(l.open)-2]].cut
	case d.static(l.open[len(l.open)-2], dns.TypeDNAME) != nil:
		d.nodes[this].cut = l.open[len(l.open)-2]
	case d.static(this, dns.TypeNS) != nil:
		d.nodes[this].cut = this
	}
}

// addSet adds the records of one type, without those that are there twice.
func (l *layout) addSet(key string, records []record) {
	d, first := l.data, records[0]
	s := set{rrtype: first.rrtype, ttl: first.ttl, rdata: uint32(len(d.rdata))}
	size := 0
	seen := newDuplicates(len(records), first.rrtype)
	for _, r := range records {
		raw := l.raw(r)
		if seen.twice(raw) {
			continue
		}
		if r.ttl != s.ttl && l.strict {
			l.errs.addf(r.pos(), "%s has %s records with TTL %d and %d (RFC 2181 section 5.2); give them one",
				present([]byte(key)), dns.Type(r.rrtype), s.ttl, r.ttl)
		}
		s.ttl = min(s.ttl, r.ttl)
		if size += 12 + len(raw); size > maxSet {
			l.errs.addf(r.pos(), "%s has %s records of more than %d bytes, too many for one message; remove some",
				present([]byte(key)), dns.Type(r.rrtype), maxSet)
			break
		}
		s.count++
		d.rdata = binary.BigEndian.AppendUint16(d.rdata, uint16(len(raw)))
		d.rdata = append(d.rdata, raw...)
	}
	d.sets = append(d.sets, s)
	l.places = append(l.places, first.pos())
}

// raw gives a record's rdata.
func (b *builder) raw(r record) []byte {
	n := uint32(binary.BigEndian.Uint16(b.rdata[r.rdata:]))
	return b.rdata[r.rdata+2 : r.rdata+2+n]
}

// end closes the last node.
func (l *layout) end() {
	if len(l.data.nodes) == 0 {
		l.openTo(l.key) // so that there is an apex to complain about
	}
}

// zone finishes the data of a zone that is in order.
func (l *layout) zone() (*Zone, error) {
	d := l.data
	if len(d.keys) > maxData || len(d.rdata) > maxData {
		return nil, fmt.Errorf("the zone %s has more than %d bytes of names or records; split it", l.origin, maxData)
	}
	d.nodes, d.sets = slices.Clone(d.nodes), slices.Clone(d.sets) // without room to grow
	d.keys, d.rdata = bytes.Clone(d.keys), bytes.Clone(d.rdata)
	d.files = l.errs.files
	d.soa = d.records(d.static(0, dns.TypeSOA), l.origin)[0].(*dns.SOA)
	return &Zone{data: d, origin: l.origin}, nil
}

// duplicates finds records that are in a set twice. Two are the same when only the case of names in them differs.
type duplicates struct {
	rrtype uint16
	seen   map[string][][]byte // by rdata in lower case; nil for a set of one
}

func newDuplicates(n int, rrtype uint16) *duplicates {
	d := &duplicates{rrtype: rrtype}
	if n > 1 {
		d.seen = make(map[string][][]byte, n)
	}
	return d
}

// twice says whether a record with this rdata was there before.
func (d *duplicates) twice(raw []byte) bool {
	if d.seen == nil {
		return false
	}
	folded := make([]byte, len(raw))
	for i, c := range raw {
		folded[i] = lower(c)
	}
	for _, other := range d.seen[string(folded)] {
		if bytes.Equal(other, raw) || dns.IsDuplicate(unpack(d.rrtype, 0, raw, "."), unpack(d.rrtype, 0, other, ".")) {
			return true
		}
	}
	d.seen[string(folded)] = append(d.seen[string(folded)], raw)
	return false
}
