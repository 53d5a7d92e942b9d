package gss

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"net/netip"
	"slices"

	"anycastle/gss/table"
)

// classes tell clients apart as far as rules do: two addresses are of one class if the same lists of sources have them. Class 0
// is of those that no list has.
type classes struct {
	of     *table.Classes
	lists  [][]bool // by class: which lists, by their place in the config, have its clients
	digest uint64   // of which prefixes are of which class
}

// mask is a set of lists, a bit each.
type mask uint64

// newClasses compiles the lists of a valid config. It reads the databases that they name.
func newClasses(sources []Sources) (*classes, error) {
	masks := map[netip.Prefix]mask{}
	for i, s := range sources {
		for _, p := range s.Prefixes {
			masks[p] |= 1 << i
		}
		if s.MMDB == nil {
			continue
		}
		networks, err := s.MMDB.networks()
		if err != nil {
			return nil, fmt.Errorf("list of sources %s: %w", s.Name, err)
		}
		for _, p := range networks {
			masks[p] |= 1 << i
		}
	}
	c := &classes{lists: [][]bool{make([]bool, len(sources))}}
	numbers := map[mask]int{0: 0}
	number := func(m mask) int {
		if n, ok := numbers[m]; ok {
			return n
		}
		lists := make([]bool, len(sources))
		for i := range lists {
			lists[i] = m&(1<<i) != 0
		}
		c.lists = append(c.lists, lists)
		numbers[m] = len(c.lists) - 1
		return numbers[m]
	}
	list := make([]table.ClassPrefix, 0, len(masks))
	sum := fnv.New64a()
	var around []netip.Prefix // the prefixes that the present one lies in, each in the one before it
	for _, p := range sortedPrefixes(masks) {
		for len(around) > 0 && !around[len(around)-1].Contains(p.Addr()) {
			around = around[:len(around)-1]
		}
		if len(around) > 0 {
			masks[p] |= masks[around[len(around)-1]]
		}
		around = append(around, p)
		list = append(list, table.ClassPrefix{Prefix: p, Class: number(masks[p])})
		addr := p.Addr().As16()
		sum.Write(binary.BigEndian.AppendUint64(append(addr[:], byte(p.Bits())), uint64(masks[p])))
	}
	c.digest = sum.Sum64()
	var err error
	c.of, err = table.NewClasses(list)
	return c, err
}

// sortedPrefixes gives each prefix after all that it lies in.
func sortedPrefixes(of map[netip.Prefix]mask) []netip.Prefix {
	list := make([]netip.Prefix, 0, len(of))
	for p := range of {
		list = append(list, p)
	}
	slices.SortFunc(list, func(a, b netip.Prefix) int {
		return cmp.Or(a.Addr().Compare(b.Addr()), cmp.Compare(a.Bits(), b.Bits()))
	})
	return list
}

// lookup gives the class of an address, and how many bits of it that took.
func (c *classes) lookup(addr netip.Addr) (class, bits int) {
	n, bits := c.of.Lookup(addr)
	return int(n), bits
}
