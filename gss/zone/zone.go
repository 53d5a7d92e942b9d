package zone

import (
	"bytes"
	"encoding/binary"
	"hash/maphash"
	"math"
	"math/bits"
	"net"
	"slices"

	"github.com/miekg/dns"
)

// Zone is the data of one zone, with the sets that are dynamic. It never changes.
type Zone struct {
	*data
	origin  string // canonical
	dynamic *dynamic
}

// data are the records of a zone file or transfer.
type data struct {
	origin []byte // its key
	labels int    // of the origin
	soa    *dns.SOA

	keys  []byte // of the nodes, in order
	nodes []node // in the order of names, the apex first
	sets  []set  // of the nodes, by type
	rdata []byte // of the sets: for each record two bytes of length and its wire form
	seed  maphash.Seed
	table []uint32 // open addressing: the number of a node plus 1 by the hash of its key, or 0

	files    []string  // of the records
	pointers []pointer // that lead nowhere without dynamic names
}

// node is a name that exists. Its key and sets end where those of the node after it begin.
type node struct {
	key, sets uint32
	cut       uint32 // node of the delegation at or above it, or of the DNAME above it; none
}

// set is the records of one type that a name has.
type set struct {
	rdata  uint32
	ttl    uint32
	rrtype uint16
	count  uint16
}

const none = math.MaxUint32

// maxChain is how many aliases one query follows. Resolvers follow about as many, and go on from the last.
const maxChain = 16

func newData(key []byte) *data {
	return &data{origin: key, labels: keyLabels(key), seed: maphash.MakeSeed()}
}

// Origin gives the zone's name in lower case with a dot at its end.
func (z *Zone) Origin() string { return z.origin }

// SOA gives a copy of the zone's SOA record.
func (z *Zone) SOA() *dns.SOA {
	soa := *z.soa
	return &soa
}

// Serial gives the zone's serial number.
func (z *Zone) Serial() uint32 { return z.soa.Serial }

// Len gives the number of records that are not dynamic.
func (z *Zone) Len() int {
	n := 0
	for _, s := range z.sets {
		n += int(s.count)
	}
	return n
}

// nodeKey gives the key of a node.
func (d *data) nodeKey(i uint32) []byte {
	end := uint32(len(d.keys))
	if int(i)+1 < len(d.nodes) {
		end = d.nodes[i+1].key
	}
	return d.keys[d.nodes[i].key:end]
}

// nodeSets gives the sets of a node.
func (d *data) nodeSets(i uint32) []set {
	end := uint32(len(d.sets))
	if int(i)+1 < len(d.nodes) {
		end = d.nodes[i+1].sets
	}
	return d.sets[d.nodes[i].sets:end]
}

// static gives the set of a node with a type, or nil.
func (d *data) static(i uint32, rrtype uint16) *set {
	sets := d.nodeSets(i)
	for j := range sets {
		if sets[j].rrtype == rrtype {
			return &sets[j]
		}
	}
	return nil
}

// index makes the hash table, at most two thirds full.
func (d *data) index() {
	d.table = make([]uint32, 1<<bits.Len(uint(len(d.nodes)+len(d.nodes)/2)))
	for i := range d.nodes {
		at := maphash.Bytes(d.seed, d.nodeKey(uint32(i))) & uint64(len(d.table)-1)
		for d.table[at] != 0 {
			at = (at + 1) & uint64(len(d.table)-1)
		}
		d.table[at] = uint32(i) + 1
	}
}

// lookup gives the node of a key, or none.
func (d *data) lookup(key []byte) uint32 {
	mask := uint64(len(d.table) - 1)
	for at := maphash.Bytes(d.seed, key) & mask; ; at = (at + 1) & mask {
		i := d.table[at]
		if i == 0 {
			return none
		}
		if bytes.Equal(d.nodeKey(i-1), key) {
			return i - 1
		}
	}
}

// contains says whether a name is at or below the origin.
func (d *data) contains(n *name) bool {
	return n.labels >= d.labels && bytes.Equal(n.key(d.labels), d.origin)
}

// raws gives the rdata of each record of a set.
func (d *data) raws(s *set) func(yield func([]byte) bool) {
	return func(yield func([]byte) bool) {
		at := int(s.rdata)
		for range s.count {
			n := int(binary.BigEndian.Uint16(d.rdata[at:]))
			if !yield(d.rdata[at+2 : at+2+n]) {
				return
			}
			at += 2 + n
		}
	}
}

// extent gives all bytes of a set's records.
func (d *data) extent(s *set) []byte {
	at := int(s.rdata)
	for range s.count {
		at += 2 + int(binary.BigEndian.Uint16(d.rdata[at:]))
	}
	return d.rdata[s.rdata:at]
}

// records gives a set as new records of an owner.
func (d *data) records(s *set, owner string) []dns.RR {
	rrs := make([]dns.RR, 0, s.count)
	for raw := range d.raws(s) {
		rrs = append(rrs, unpack(s.rrtype, s.ttl, raw, owner))
	}
	return rrs
}

// unpack makes a record of its wire form.
func unpack(rrtype uint16, ttl uint32, raw []byte, owner string) dns.RR {
	h := dns.RR_Header{Name: owner, Rrtype: rrtype, Class: dns.ClassINET, Ttl: ttl, Rdlength: uint16(len(raw))}
	switch rrtype {
	case dns.TypeA:
		return &dns.A{Hdr: h, A: net.IP(slices.Clone(raw))}
	case dns.TypeAAAA:
		return &dns.AAAA{Hdr: h, AAAA: net.IP(slices.Clone(raw))}
	}
	rr, _, err := dns.UnpackRRWithHeader(h, raw, 0)
	if err != nil {
		panic("zone: a record that the builder took cannot be unpacked: " + err.Error())
	}
	return rr
}
