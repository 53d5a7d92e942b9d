package lb

import (
	"anycastle/internal/config"
)

// validateReport checks where others are told how the VIPs stand.
func (c *Config) validateReport(at config.Cursor) {
	taken := map[config.ListenAddr]string{}
	take := func(at config.Cursor, l config.ListenAddr, by string) {
		if other, ok := taken[l]; ok {
			at.Errorf("%v is where %s listens; give it a port of its own", l, other)
		}
		taken[l] = by
	}
	if r := c.Report; r != nil {
		at := at.Key("report")
		if r.Listen.Port == 0 {
			at.Key("listen").Errorf("missing; give an address and port that site selectors reach, such as 198.51.100.1:6088")
		} else {
			take(at.Key("listen"), r.Listen, "report")
		}
		if c.TLS == nil {
			at.Errorf("site selectors listen over TLS with a certificate; give `tls: {cert: , key: , ca: }` in the lb section")
		}
		for i, name := range r.Clients {
			if name == "" || !validText(name, maxName) {
				at.Key("clients").Index(i).Errorf("%q is no name of a certificate; it has 1 to %d characters", name, maxName)
			}
		}
	}
	for i := range c.VIPs {
		if l := c.VIPs[i].AgentCheck; l != (config.ListenAddr{}) {
			at := at.Key("vips").Index(i).Key("agent_check")
			if l.Port == 0 {
				at.Errorf("port 0 is none; give one from 1 to 65535")
				continue
			}
			take(at, l, "vip "+c.VIPs[i].Name)
		}
	}
}

// tells says whether anybody is told how the VIPs stand.
func (c *Config) tells() bool { return c.Report != nil || len(c.agentChecks()) > 0 }

// agentChecks gives where VIPs answer an agent-check, by their names.
func (c *Config) agentChecks() map[string]config.ListenAddr {
	list := map[string]config.ListenAddr{}
	for i := range c.VIPs {
		if l := c.VIPs[i].AgentCheck; l.Port != 0 {
			list[c.VIPs[i].Name] = l
		}
	}
	return list
}
