package mesh

import (
	"encoding/hex"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"

	"anycastle/internal/config"
)

// MaxMembers is how many members a mesh may have: a site has a few balancers, and a company a few site selectors.
const MaxMembers = 64

const maxName = 64 // bytes of a member's name, which travels with each of its changes

// Config is the `mesh:` part of a role's section.
type Config struct {
	Listen netip.AddrPort   `yaml:"listen"` // this machine's own address, and the port, TCP and UDP, that members reach it at; required
	Key    Key              `yaml:"key"`    // the same on every member; required
	Join   []netip.AddrPort `yaml:"join"`   // members to look for, at start and when they are lost; one list may serve all
	Name   string           `yaml:"name"`   // unique in the mesh; default the host name
}

// Key is the secret that members share: 16 bytes for AES-128 or 32 for AES-256.
type Key []byte

// UnmarshalText implements encoding.TextUnmarshaler: 32 or 64 hex digits.
func (k *Key) UnmarshalText(text []byte) error {
	if len(text) != 32 && len(text) != 64 {
		return fmt.Errorf("%d hex digits, want 32 or 64", len(text))
	}
	b, err := hex.DecodeString(string(text))
	if err != nil {
		return err
	}
	*k = b
	return nil
}

// Kind says in a complaint what a key looks like.
func (Key) Kind() string {
	return "32 or 64 hex digits, the same on every member (`openssl rand -hex 32` makes some)"
}

// String keeps the key out of logs.
func (k Key) String() string { return fmt.Sprintf("a key of %d bytes", len(k)) }

// Validate reports everything that is wrong with the section.
func (c *Config) Validate(at config.Cursor) {
	listens := false
	if !c.Listen.IsValid() {
		at.Key("listen").Errorf("missing; give this machine's address and port that the other members reach, such as 198.51.100.1:7946")
	} else {
		listens = validateAddress(at.Key("listen"), c.Listen)
	}
	if !slices.ContainsFunc(c.Key, func(b byte) bool { return b != 0 }) {
		at.Key("key").Errorf("missing or all zeros; give %s", c.Key.Kind())
	}
	for i, a := range c.Join {
		at := at.Key("join").Index(i)
		switch {
		case !validateAddress(at, a):
		case listens && a.Addr().Is4() != c.Listen.Addr().Is4():
			at.Errorf("%v and listen, %v, are not of one IP version; give all members of a mesh addresses of the same", a, c.Listen)
		case slices.Contains(c.Join[:i], a):
			at.Errorf("%v is named twice; keep one", a)
		}
	}
	if len(c.Join) > MaxMembers {
		at.Key("join").Errorf("%d members; at most %d", len(c.Join), MaxMembers)
	}
	if c.Name != "" && !ValidName(c.Name) {
		at.Key("name").Errorf("%q is no name of a member; use 1 to %d letters, digits, dots, dashes and underscores", c.Name, maxName)
	}
}

// validateAddress says whether other machines could reach a member at the address.
func validateAddress(at config.Cursor, a netip.AddrPort) bool {
	ip := a.Addr()
	switch {
	case ip.Is4In6():
		at.Errorf("%v is an IPv4 address in IPv6 form; write %v", a, netip.AddrPortFrom(ip.Unmap(), a.Port()))
	case ip.Zone() != "" || ip.IsLinkLocalUnicast() && ip.Is6():
		at.Errorf("%v is good on one link only; give a routed address", a)
	case ip.IsUnspecified() || ip.IsMulticast() || ip == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		at.Errorf("%v is no address that members can reach one machine at; give the machine's own", a)
	case a.Port() == 0:
		at.Errorf("%v has port 0; give a port from 1 to 65535, such as 7946", a)
	default:
		return true
	}
	return false
}

// ValidName says whether a name is fit for a member or a site: 1 to 64 letters, digits, dots, dashes and underscores.
func ValidName(name string) bool {
	return name != "" && len(name) <= maxName && strings.IndexFunc(name, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("-._", r)
	}) < 0
}

// NodeName gives the name that this machine has in the mesh, and that its changes carry: the configured one or the host
// name. c may be nil: without a mesh a Map needs a name all the same.
func (c *Config) NodeName() (string, error) {
	if c != nil && c.Name != "" {
		return c.Name, nil
	}
	host, err := os.Hostname()
	if err != nil {
		return "", fmt.Errorf("find the host name: %w; give the mesh a name", err)
	}
	if !ValidName(host) {
		return "", fmt.Errorf("the host name %q is no name of a member; give the mesh a name of letters, digits, dots and dashes", host)
	}
	return host, nil
}
