package accept

import (
	"net/netip"

	"anycastle/internal/config"
)

// Config is in the section of every front end.
type Config struct {
	ProxyFrom []netip.Prefix `yaml:"proxy_from"` // who may send a PROXY header, and then must; default nobody
}

// Validate reports what is wrong. at is the role's section.
func (c *Config) Validate(at config.Cursor) {
	for i, p := range c.ProxyFrom {
		switch {
		case p.Bits() == 0:
			at.Key("proxy_from").Index(i).Errorf("%v would let everybody say who they are; list the proxies", p)
		case p != p.Masked():
			at.Key("proxy_from").Index(i).Errorf("%v has bits behind its length; write %v", p, p.Masked())
		case p.Addr().Is4In6(): // peers are looked up as IPv4
			at.Key("proxy_from").Index(i).Errorf("%v matches nobody; write %v", p, netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96))
		}
	}
}
