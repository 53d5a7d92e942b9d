package rhi

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"anycastle/internal/config"
)

// Pass is learned routes that some peers are told of.
type Pass struct {
	Prefixes []netip.Prefix `yaml:"prefixes"` // those inside one of these, equal or longer; at least one
	Prepend  int            `yaml:"prepend"`  // own AS this many more times (0 to 10), beside the peer's own prepend; default 0
}

// passSet is the name of the set of prefixes that a router passes on where a peer does not say otherwise; no peer's name, those are
// of another kind of set.
const passSet = "router.pass"

// passing is one Pass with the set of prefixes that the speaker knows it by.
type passing struct {
	set string
	Pass
}

// passings lists what a router passes on to peers, the first that covers a route decides.
func (c *Config) passings(p peers) []passing {
	switch {
	case c.Router == nil:
		return nil
	case p.Pass == nil && len(c.Router.Pass) > 0:
		return []passing{{passSet, Pass{Prefixes: c.Router.Pass}}}
	}
	var list []passing
	for i, pass := range p.Pass {
		list = append(list, passing{fmt.Sprintf("pass %d of %s", i, p.name), pass})
	}
	return list
}

// passSets lists the sets of prefixes that statements name.
func (c *Config) passSets() []passing {
	var sets []passing
	for _, p := range c.audience() {
		for _, pass := range c.passings(p) {
			if !slices.ContainsFunc(sets, func(s passing) bool { return s.set == pass.set }) {
				sets = append(sets, pass)
			}
		}
	}
	return sets
}

// passed says to whom a router passes a learned route on, and by what.
func (c *Config) passed(p netip.Prefix) (why string, ok bool) {
	var reasons, names []string
	own := false // whether some peer has a list of its own
	if by, ok := covering(c.Router.Pass, p); ok && slices.ContainsFunc(c.audience(), func(p peers) bool { return p.Pass == nil }) {
		reasons = append(reasons, fmt.Sprintf("inside %v of router.pass", by))
	}
	for _, peer := range c.audience() {
		if peer.Pass == nil {
			continue
		}
		own = true
		if slices.ContainsFunc(peer.Pass, func(pass Pass) bool { _, ok := covering(pass.Prefixes, p); return ok }) {
			names = append(names, peer.name)
		}
	}
	if len(names) > 0 {
		reasons = append(reasons, "inside pass of "+strings.Join(names, ", "))
	}
	switch {
	case len(reasons) > 0:
		return strings.Join(reasons, "; "), true
	case own:
		return "outside all of router.pass, and of each peer's own", false
	}
	return "outside all of router.pass", false
}

// validatePass checks a peer's own list.
func (c *Config) validatePass(at config.Cursor, list []Pass) {
	if list != nil && c.Router == nil {
		at.Errorf("the node is no router, and passes nothing on; add a `router` section, or remove it")
	}
	for i, pass := range list {
		at := at.Index(i)
		if len(pass.Prefixes) == 0 {
			at.Key("prefixes").Errorf("missing; list at least one, such as 203.0.113.0/24")
		}
		validatePrefixes(at.Key("prefixes"), pass.Prefixes, func(netip.Prefix) string { return "" })
		validatePrepend(at.Key("prepend"), pass.Prepend)
	}
}

func validatePrepend(at config.Cursor, times int) {
	if times < 0 || times > maxPrepend {
		at.Errorf("%d is out of range; use 0 to %d", times, maxPrepend)
	}
}
