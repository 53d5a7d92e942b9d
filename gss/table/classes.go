package table

import (
	"errors"
	"fmt"
	"math"
	"net/netip"
)

// MaxClass is the highest number of a class of clients. Class 0 is that of all clients that no prefix names.
const MaxClass = math.MaxUint16

// ErrClass says that a class or a prefix of one is not as it must be.
var ErrClass = errors.New("class of clients")

// ClassPrefix puts the addresses of a prefix into a class, but for those in a longer prefix.
type ClassPrefix struct {
	Prefix netip.Prefix
	Class  int
}

// Classes finds the class of an address by its longest matching prefix. It is immutable. nil and the zero value have class 0
// only.
type Classes struct{ four, six trie }

// trie is a binary tree over the bits of addresses.
type trie struct {
	root  branch
	nodes [][2]branch
}

// branch is the class of a leaf, or the number of a node with the top bit set.
type branch uint32

const nodeBit = 1 << 31

// NewClasses compiles prefixes. Two of the same prefix, a class out of range and an IPv4 prefix in IPv6 form are errors that
// wrap ErrClass.
func NewClasses(prefixes []ClassPrefix) (*Classes, error) {
	var four, six draft
	seen := make(map[netip.Prefix]bool, len(prefixes))
	for _, p := range prefixes {
		switch masked := p.Prefix.Masked(); {
		case !p.Prefix.IsValid() || p.Prefix.Addr().Is4In6():
			return nil, fmt.Errorf("%w: prefix %v", ErrClass, p.Prefix)
		case p.Class < 0 || p.Class > MaxClass:
			return nil, fmt.Errorf("%w: %d of %v is not within 0 and %d", ErrClass, p.Class, p.Prefix, MaxClass)
		case seen[masked]:
			return nil, fmt.Errorf("%w: %v is given twice", ErrClass, masked)
		default:
			seen[masked] = true
		}
		d := &six
		if p.Prefix.Addr().Is4() {
			d = &four
		}
		d.insert(p.Prefix, uint16(p.Class))
	}
	return &Classes{four: four.compile(), six: six.compile()}, nil
}

// Lookup gives the class of an address, and the length of the shortest prefix around the address that lies in that class as
// a whole. An IPv4 address in IPv6 form counts as IPv4.
func (c *Classes) Lookup(addr netip.Addr) (class uint16, bits int) {
	if c == nil {
		return 0, 0
	}
	if addr = addr.Unmap(); addr.Is4() {
		a := addr.As4()
		return c.four.lookup(a[:])
	}
	a := addr.As16()
	return c.six.lookup(a[:])
}

func (t *trie) lookup(addr []byte) (class uint16, bits int) {
	at := t.root
	for i := range 8 * len(addr) {
		if at&nodeBit == 0 {
			return uint16(at), i
		}
		at = t.nodes[at&^nodeBit][addr[i/8]>>(7-i%8)&1]
	}
	return uint16(at), 8 * len(addr)
}

// draft is a tree that prefixes are put into.
type draft struct {
	class *uint16 // of the prefix that ends here; nil: none does
	next  [2]*draft
}

func (d *draft) insert(p netip.Prefix, class uint16) {
	addr := p.Addr().AsSlice()
	for i := range p.Bits() {
		bit := addr[i/8] >> (7 - i%8) & 1
		if d.next[bit] == nil {
			d.next[bit] = &draft{}
		}
		d = d.next[bit]
	}
	d.class = &class
}

// compile gives the tree with classes at the leaves only, each as near to the root as it can be.
func (d *draft) compile() trie {
	var t trie
	t.root = d.settle(&t, 0)
	return t
}

// settle appends the nodes below d, where a class already holds, and gives the branch to d.
func (d *draft) settle(t *trie, class uint16) branch {
	if d == nil {
		return branch(class)
	}
	if d.class != nil {
		class = *d.class
	}
	node := [2]branch{d.next[0].settle(t, class), d.next[1].settle(t, class)}
	if node[0] == node[1] && node[0]&nodeBit == 0 {
		return node[0]
	}
	t.nodes = append(t.nodes, node)
	return nodeBit | branch(len(t.nodes)-1)
}
