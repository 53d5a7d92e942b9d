package probe

import (
	"context"
	"fmt"
	"slices"
)

// typeNames are the types in the order in which they are named to people.
func typeNames() []string {
	return []string{"icmp", "tcp", "tls", "http", "https", "smtp", "lmtp", "imap", "dns", "exec", "agent-check"}
}

// compile gives the probe that a config asks for, with what it needs read from files.
func compile(c *Config) (Func, error) {
	if !slices.Contains(typeNames(), c.Type) {
		return nil, fmt.Errorf("no probe is of type %q", c.Type)
	}
	tls, err := c.tlsConfig()
	if err != nil {
		return nil, err
	}
	switch c.Type {
	case "icmp":
		return named(icmp), nil
	case "tls":
		return named(handshake(tls)), nil
	case "http", "https":
		return named((&httpProbe{c, tls}).probe), nil
	case "smtp", "lmtp":
		return named((&smtpProbe{c, tls}).probe), nil
	case "imap":
		p, err := newIMAP(c, tls)
		if err != nil {
			return nil, err
		}
		return named(p.probe), nil
	case "dns":
		p, err := newDNS(c)
		if err != nil {
			return nil, err
		}
		return named(p.probe), nil
	case "exec":
		return named(run), nil
	case "agent-check":
		return named(agentCheck), nil
	}
	return named(tcp), nil
}

// named makes a probe's errors say what was probed.
func named(f Func) Func {
	return func(ctx context.Context, t Target, said *Advice) error {
		err := f(ctx, t, said)
		switch {
		case err == nil:
			return nil
		case t.Config.Type == "icmp" || t.Addr.Port() == 0:
			return fmt.Errorf("%s %v: %w", t.Config.Type, t.Addr.Addr(), err)
		}
		return fmt.Errorf("%s %v: %w", t.Config.Type, t.Addr, err)
	}
}
