package gss

import (
	"net/netip"
	"slices"

	"anycastle/gss/table"
)

// classes tell clients apart as far as rules do: two addresses are of one class if the same lists of sources have them. Class 0
// is of those that no list has.
type classes struct {
	of    *table.Classes
	lists [][]bool // by class: which lists, by their place in the config, have its clients
}

// newClasses compiles the lists of a valid config.
func newClasses(sources []Sources) (*classes, error) {
	c := &classes{lists: [][]bool{make([]bool, len(sources))}}
	seen := map[netip.Prefix]bool{}
	var list []table.ClassPrefix
	for _, s := range sources {
		for _, p := range s.Prefixes {
			if !seen[p] {
				seen[p] = true
				list = append(list, table.ClassPrefix{Prefix: p, Class: c.class(sources, p)})
			}
		}
	}
	var err error
	c.of, err = table.NewClasses(list)
	return c, err
}

// lookup gives the class of an address, and how many bits of it that took.
func (c *classes) lookup(addr netip.Addr) (class, bits int) {
	n, bits := c.of.Lookup(addr)
	return int(n), bits
}

// class gives the class of a prefix: all lists that have all of it.
func (c *classes) class(sources []Sources, p netip.Prefix) int {
	has := make([]bool, len(sources))
	for i, s := range sources {
		has[i] = slices.ContainsFunc(s.Prefixes, func(q netip.Prefix) bool { return q.Bits() <= p.Bits() && q.Contains(p.Addr()) })
	}
	for i, lists := range c.lists {
		if slices.Equal(lists, has) {
			return i
		}
	}
	c.lists = append(c.lists, has)
	return len(c.lists) - 1
}
