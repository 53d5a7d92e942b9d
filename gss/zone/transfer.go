package zone

import (
	"bytes"
	"iter"
	"slices"

	"github.com/miekg/dns"
)

// All gives every record: the SOA record first, then the sets together in the order of names, with those that are dynamic
// as they are now. A zone transfer repeats the SOA record after them (RFC 5936 section 2.2).
func (z *Zone) All(live Live) iter.Seq[dns.RR] {
	return func(yield func(dns.RR) bool) {
		if !yield(z.SOA()) {
			return
		}
		for i := range z.nodes {
			if !z.yieldNode(uint32(i), live, yield) {
				return
			}
		}
		if z.dynamic == nil {
			return
		}
		for i := range z.dynamic.nodes {
			if !z.yieldDynamic(uint32(len(z.nodes)+i), live, yield) {
				return
			}
		}
	}
}

func (z *Zone) yieldNode(i uint32, live Live, yield func(dns.RR) bool) bool {
	sets := z.nodeSets(i)
	if len(sets) > 0 {
		owner := present(z.nodeKey(i))
		for j := range sets {
			if sets[j].rrtype == dns.TypeSOA {
				continue
			}
			for raw := range z.raws(&sets[j]) {
				if !yield(unpack(sets[j].rrtype, sets[j].ttl, raw, owner)) {
					return false
				}
			}
		}
	}
	return z.yieldDynamic(i, live, yield)
}

func (z *Zone) yieldDynamic(i uint32, live Live, yield func(dns.RR) bool) bool {
	for _, t := range z.dynamicTypes(i) {
		for _, rr := range z.recordsOf(i, t, present(z.keyOf(i)), live) {
			if !yield(rr) {
				return false
			}
		}
	}
	return true
}

// Diff gives the records that are to be deleted from an old zone and then added to make a new one of the same origin,
// without their SOA records (an incremental transfer has them between, RFC 1995 section 4) and without what is dynamic. A
// record whose TTL or spelling changes is deleted and added.
func Diff(old, new *Zone) (del, add []dns.RR) {
	var i, j uint32
	for int(i) < len(old.nodes) || int(j) < len(new.nodes) {
		var order int
		switch {
		case int(i) == len(old.nodes):
			order = 1
		case int(j) == len(new.nodes):
			order = -1
		default:
			order = bytes.Compare(old.nodeKey(i), new.nodeKey(j))
		}
		switch {
		case order < 0:
			del = old.appendNode(del, i)
			i++
		case order > 0:
			add = new.appendNode(add, j)
			j++
		default:
			del, add = diffNode(old, new, i, j, del, add)
			i, j = i+1, j+1
		}
	}
	return del, add
}

func (z *Zone) appendNode(to []dns.RR, i uint32) []dns.RR {
	for _, s := range z.nodeSets(i) {
		to = append(to, z.records(&s, present(z.nodeKey(i)))...)
	}
	return to
}

// diffNode compares a name's sets in the two zones.
func diffNode(old, new *Zone, i, j uint32, del, add []dns.RR) (d, a []dns.RR) {
	was, is := old.nodeSets(i), new.nodeSets(j)
	types := make([]uint16, 0, len(was)+len(is))
	for _, s := range was {
		types = append(types, s.rrtype)
	}
	for _, s := range is {
		types = append(types, s.rrtype)
	}
	slices.Sort(types)
	for _, t := range slices.Compact(types) {
		if t == dns.TypeSOA {
			continue
		}
		a, b := old.static(i, t), new.static(j, t)
		del = old.appendMissing(del, i, a, new, b)
		add = new.appendMissing(add, j, b, old, a)
	}
	return del, add
}

// appendMissing appends the records of a node's set that another set has not, both of which may be nil.
func (z *Zone) appendMissing(to []dns.RR, i uint32, s *set, other *Zone, than *set) []dns.RR {
	if s == nil {
		return to
	}
	have := map[string]bool{}
	if than != nil && than.ttl == s.ttl {
		if bytes.Equal(z.extent(s), other.extent(than)) {
			return to
		}
		for raw := range other.raws(than) {
			have[string(raw)] = true
		}
	}
	owner := present(z.nodeKey(i))
	for raw := range z.raws(s) {
		if !have[string(raw)] {
			to = append(to, unpack(s.rrtype, s.ttl, raw, owner))
		}
	}
	return to
}
