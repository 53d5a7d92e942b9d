package zone

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/miekg/dns"
)

// Live gives the records of the moment of a set that is dynamic, all with one TTL. name is the owner as canonical form
// has it (lower case, a dot at its end), that of the wildcard if it is one; it is also the owner of the records that are
// wanted, and they are copied if a reply needs them under another. No records mean that the set is empty at the moment.
// Lookup and All call it from the caller's goroutine. A nil Live has no records.
type Live func(name string, rrtype uint16) []dns.RR

// dynamic is what WithDynamic adds to data.
type dynamic struct {
	types map[uint32][]uint16 // by node of the data, in order
	nodes []dynamicNode       // names that the data have not, numbered on from the nodes of the data
	keys  map[string]uint32   // their numbers
}

type dynamicNode struct {
	key   string
	types []uint16 // none: a name between others
}

// WithDynamic gives a zone with the same data in which the sets of these types, by owner's name, are dynamic, and no
// others. It shares the data, so it costs only what the names do. Everything that is wrong with them is told at once.
func (z *Zone) WithDynamic(types map[string][]uint16) (*Zone, error) {
	dyn := &dynamic{types: map[uint32][]uint16{}, keys: map[string]uint32{}}
	made := &Zone{data: z.data, origin: z.origin, dynamic: dyn}
	var errs []error
	for _, spelt := range slices.Sorted(maps.Keys(types)) {
		var n name
		if !n.parse(spelt) {
			errs = append(errs, fmt.Errorf("%q is no domain name; labels have 1 to %d bytes, and names up to %d",
				spelt, maxLabel, maxWire))
			continue
		}
		if err := made.addDynamic(&n, types[spelt]); err != nil {
			errs = append(errs, fmt.Errorf("%s %w", present(n.key(n.labels)), err))
		}
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	return made, nil
}

// addDynamic makes types of a name dynamic.
func (z *Zone) addDynamic(n *name, types []uint16) error {
	if !z.contains(n) {
		return fmt.Errorf("is outside the zone %s; a rule's name is inside it", z.origin)
	}
	labels := n.labels
	for z.data.lookup(n.key(labels)) == none {
		labels--
	}
	above := z.data.lookup(n.key(labels))
	switch cut := z.nodes[above].cut; {
	case cut != none && z.isDNAME(cut), labels < n.labels && z.isDNAME(above):
		return errors.New("is below a DNAME, which answers for it; remove the one or the other")
	case cut != none:
		return fmt.Errorf("is below the delegation of %s, whose servers answer for it; remove the one or the other",
			present(z.nodeKey(cut)))
	}
	i := z.dynamicNode(n)
	for _, t := range types {
		if err := z.mayBeDynamic(i, t); err != nil {
			return err
		}
		if have := z.dynamicTypes(i); !slices.Contains(have, t) {
			have = append(have, t)
			slices.Sort(have)
			z.setDynamicTypes(i, have)
		}
	}
	return nil
}

// mayBeDynamic says why the type of a node cannot be dynamic.
func (z *Zone) mayBeDynamic(i uint32, t uint16) error {
	switch {
	case metaType(t) || t == dns.TypeRRSIG || t == dns.TypeNSEC || t == dns.TypeNSEC3:
		return fmt.Errorf("cannot have records of type %s", dns.Type(t))
	case t == dns.TypeSOA || t == dns.TypeNS || t == dns.TypeCNAME || t == dns.TypeDNAME || t == dns.TypeDS:
		return fmt.Errorf("has the type %s, which shapes the zone and stands in its file", dns.Type(t))
	case int(i) >= len(z.nodes):
		return nil
	case z.static(i, dns.TypeCNAME) != nil:
		return errors.New("is an alias in the zone file (RFC 1034 section 3.6.2); remove its CNAME record or the rule")
	case z.static(i, t) != nil:
		return fmt.Errorf("has %s records in the zone file too; remove them or the rule", dns.Type(t))
	}
	return nil
}

// dynamicNode gives the node of a name, and makes it and those above it if they are missing.
func (z *Zone) dynamicNode(n *name) uint32 {
	for labels := n.labels; z.find(n.key(labels)) == none; labels-- {
		key := string(n.key(labels))
		z.dynamic.keys[key] = uint32(len(z.nodes) + len(z.dynamic.nodes))
		z.dynamic.nodes = append(z.dynamic.nodes, dynamicNode{key: key})
	}
	return z.find(n.key(n.labels))
}

func (z *Zone) setDynamicTypes(i uint32, types []uint16) {
	if int(i) < len(z.nodes) {
		z.dynamic.types[i] = types
	} else {
		z.dynamic.nodes[int(i)-len(z.nodes)].types = types
	}
}

// dynamicTypes gives the types of a node that are dynamic.
func (z *Zone) dynamicTypes(i uint32) []uint16 {
	switch {
	case z.dynamic == nil:
		return nil
	case int(i) < len(z.nodes):
		return z.dynamic.types[i]
	}
	return z.dynamic.nodes[int(i)-len(z.nodes)].types
}

// find gives the node of a key, or none.
func (z *Zone) find(key []byte) uint32 {
	if i := z.lookup(key); i != none || z.dynamic == nil {
		return i
	}
	if i, ok := z.dynamic.keys[string(key)]; ok {
		return i
	}
	return none
}

// keyOf gives the key of any node.
func (z *Zone) keyOf(i uint32) []byte {
	if int(i) < len(z.nodes) {
		return z.nodeKey(i)
	}
	return []byte(z.dynamic.nodes[int(i)-len(z.nodes)].key)
}

// cutOf gives what covers a node; names that are dynamic are covered by nothing.
func (z *Zone) cutOf(i uint32) uint32 {
	if int(i) < len(z.nodes) {
		return z.nodes[i].cut
	}
	return none
}

// staticOf is static for any node.
func (z *Zone) staticOf(i uint32, rrtype uint16) *set {
	if int(i) < len(z.nodes) {
		return z.static(i, rrtype)
	}
	return nil
}

// typesOf gives the types of a node in order.
func (z *Zone) typesOf(i uint32) []uint16 {
	var types []uint16
	if int(i) < len(z.nodes) {
		for _, s := range z.nodeSets(i) {
			types = append(types, s.rrtype)
		}
	}
	if dynamic := z.dynamicTypes(i); len(dynamic) > 0 {
		types = append(types, dynamic...)
		slices.Sort(types)
	}
	return types
}

// recordsOf gives the records of a node's set for an owner; none if it has no such set.
func (z *Zone) recordsOf(i uint32, rrtype uint16, owner string, live Live) []dns.RR {
	if s := z.staticOf(i, rrtype); s != nil {
		return z.records(s, owner)
	}
	if live == nil || !slices.Contains(z.dynamicTypes(i), rrtype) {
		return nil
	}
	return owned(live(present(z.keyOf(i)), rrtype), owner)
}

// owned gives records under an owner's name, and leaves the ones given alone.
func owned(rrs []dns.RR, owner string) []dns.RR {
	if !slices.ContainsFunc(rrs, func(rr dns.RR) bool { return rr.Header().Name != owner }) {
		return rrs
	}
	own := make([]dns.RR, len(rrs))
	for i, rr := range rrs {
		own[i] = dns.Copy(rr)
		own[i].Header().Name = owner
	}
	return own
}
