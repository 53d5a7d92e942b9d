package bfd

import (
	"errors"
	"fmt"
	"net/netip"
	"time"
)

// What a zero in a Config stands for.
const (
	DefaultInterval   = 300 * time.Millisecond
	DefaultMultiplier = 3
	DefaultMinTTL     = 254 // of several hops: at most one router between, as for FRR
)

const (
	minInterval = 10 * time.Millisecond // less is beyond what a process that is not alone on its host keeps up
	maxWanted   = time.Minute
	oneHopTTL   = 255
)

// Config is one session. Two of them are the same session if they agree in peer, addresses, interface and hops; the rest
// of it may change while it is up.
type Config struct {
	Peer       string        `json:"peer"`       // name in status, logs and metrics; required, unique
	Remote     netip.Addr    `json:"remote"`     // address of the peer; a zone is the same as Interface; required
	Local      netip.Addr    `json:"local"`      // own address; default is what the kernel chooses. Required with Multihop.
	Interface  string        `json:"interface"`  // the link that the peer is on; default any. Required for a link-local peer, not for Multihop.
	Multihop   bool          `json:"multihop"`   // there may be routers between, as between loopback addresses (RFC 5883)
	MinTTL     uint8         `json:"min_ttl"`    // with Multihop, the least TTL that a packet may arrive with; default 254, but BIRD begins with 64
	Transmit   time.Duration `json:"transmit"`   // send this often if the peer agrees (desired min TX), 10ms to 1m; default 300ms
	Receive    time.Duration `json:"receive"`    // hear the peer at most this often (required min RX), 10ms to 1m; default 300ms
	Multiplier uint8         `json:"multiplier"` // intervals of silence after which the peer gives us up; default 3
	AdminDown  bool          `json:"admin_down"` // hold the session down, and say to the peer that it is an order
	Key        Key           `json:"key"`        // authentication; default none
}

// path is what makes two sessions the same to their packets.
type path struct {
	remote, local netip.Addr // without zones
	link          string
	multihop      bool
}

func (c *Config) path() path {
	return path{remote: c.Remote, local: c.Local, link: c.Interface, multihop: c.Multihop}
}

// normal fills in the defaults, and gives an address one form.
func (c Config) normal() Config {
	if zone := c.Remote.Zone(); zone != "" && c.Interface == "" {
		c.Interface = zone
	}
	if c.Remote.Zone() == c.Interface {
		c.Remote = c.Remote.WithZone("")
	}
	if c.Local.Zone() == c.Interface {
		c.Local = c.Local.WithZone("")
	}
	c.Remote, c.Local = c.Remote.Unmap(), c.Local.Unmap()
	if c.Transmit == 0 {
		c.Transmit = DefaultInterval
	}
	if c.Receive == 0 {
		c.Receive = DefaultInterval
	}
	if c.Multiplier == 0 {
		c.Multiplier = DefaultMultiplier
	}
	switch {
	case !c.Multihop:
		c.MinTTL = oneHopTTL
	case c.MinTTL == 0:
		c.MinTTL = DefaultMinTTL
	}
	return c
}

// Validate reports everything that is wrong with the session.
func (c Config) Validate() error {
	c = c.normal()
	var errs []error
	wrong := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if c.Peer == "" {
		wrong("a BFD session has no peer name; name it, it is what status and metrics will call it")
	}
	c.validateAddresses(wrong)
	for _, i := range []struct {
		name  string
		value time.Duration
	}{{"transmit", c.Transmit}, {"receive", c.Receive}} {
		if i.value < minInterval || i.value > maxWanted {
			wrong("%s interval %v is out of range; use %v to %v", i.name, i.value, minInterval, maxWanted)
		}
	}
	if len(c.Key.Secret) > maxSecret {
		wrong("the secret of the key has %d octets, and SHA1 authentication takes %d; shorten it at both ends", len(c.Key.Secret), maxSecret)
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("BFD peer %q: %w", c.Peer, err)
	}
	return nil
}

func (c *Config) validateAddresses(wrong func(string, ...any)) {
	switch r := c.Remote; {
	case !r.IsValid():
		wrong("no remote address; give that of the peer")
	case r.Zone() != "" || c.Local.Zone() != "":
		wrong("the zone of %v or %v is not the interface %q; give one link", r, c.Local, c.Interface)
	case r.IsUnspecified() || r.IsMulticast():
		wrong("%v is no address of another host; give that of the peer", r)
	case r == c.Local:
		wrong("%v is both ends of the session; give the peer's address as remote", r)
	case c.Local.IsValid() && c.Local.Is4() != r.Is4():
		wrong("local address %v and remote address %v are of two families; give a pair of one", c.Local, r)
	case r.Is6() && r.IsLinkLocalUnicast() && c.Interface == "":
		wrong("%v is link-local, and no interface is given; name the link that the peer is on", r)
	}
	if c.Multihop && c.Interface != "" {
		wrong("a session over several hops has no interface of its own; leave out %q", c.Interface)
	}
	if c.Multihop && !c.Local.IsValid() {
		wrong("a session over several hops needs its local address; give the one that the peer knows, such as the loopback's")
	}
}

// check validates a whole set and gives it with defaults.
func check(configs []Config) ([]Config, error) {
	var errs []error
	names, paths := map[string]bool{}, map[path]string{}
	set := make([]Config, len(configs))
	for i, c := range configs {
		errs = append(errs, c.Validate())
		c = c.normal()
		if names[c.Peer] {
			errs = append(errs, fmt.Errorf("BFD peer %q is given twice; give each session a name of its own", c.Peer))
		}
		if other, ok := paths[c.path()]; ok {
			errs = append(errs, fmt.Errorf("BFD peers %q and %q are one session; keep one", other, c.Peer))
		}
		names[c.Peer], paths[c.path()] = true, c.Peer
		set[i] = c
	}
	return set, errors.Join(errs...)
}
