package rhi

import (
	"net/netip"
	"strconv"

	"golang.org/x/sys/unix"

	"anycastle/internal/config"
)

// linkLocal says whether an address means nothing without its link.
func linkLocal(a netip.Addr) bool { return a.Is6() && a.IsLinkLocalUnicast() }

// validateLinkLocal checks what only holds for a link-local neighbor; others are the neighbors before it.
func (n *Neighbor) validateLinkLocal(at config.Cursor, others []Neighbor) {
	a := n.Address
	if !linkLocal(a) {
		return
	}
	_, notNamed := strconv.Atoi(a.Zone())
	switch {
	case a.Zone() == "":
		at.Key("address").Errorf("%v is link-local and may be on any link; name the link, such as %v%%eth0", a, a)
	case notNamed == nil || len(a.Zone()) >= unix.IFNAMSIZ:
		at.Key("address").Errorf("%q is not the name of a link; write one such as %v%%eth0", a.Zone(), a.WithZone(""))
	}
	if n.Multihop > 0 {
		at.Key("multihop").Errorf("a link-local address is on a link of the node; remove it, or use the peer's global address")
	}
	for _, o := range others {
		if o.Address != a && o.Address.WithZone("") == a.WithZone("") && !n.toldLike(o) {
			at.Key("address").Errorf("%q has the same address on another link, and the BGP library cannot tell the two apart by link when it looks up "+
				"what to send or a password; let group, prepend, password and watches of both agree, or give one another address", o.Name)
		}
	}
}

// toldLike says whether what is looked up by the address alone is the same for both: gobgp's sets of neighbors and the
// kernel's passwords know no links.
func (n *Neighbor) toldLike(o Neighbor) bool {
	return n.Group == o.Group && n.Prepend == o.Prepend && n.watched() == o.watched() && n.Password == o.Password && n.PasswordFile == o.PasswordFile
}
