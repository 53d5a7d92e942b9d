package limit

import (
	"math/bits"
	"net/netip"
	"time"

	"anycastle/internal/config"
)

const (
	maxRate      = 100_000
	maxWindow    = 5 * time.Minute
	maxSlip      = 10
	minTableSize = 1 << 10
	maxTableSize = 1 << 26
	maxExempt    = 256
	maxConns     = 100_000
)

// Config is how much one source may ask for. A network is a source address cut to the prefix lengths.
type Config struct {
	// ResponsesPerSecond is how many equal replies go to a network over UDP; default 200, 0 for no limit.
	ResponsesPerSecond int `yaml:"responses_per_second"`
	// NetworkResponsesPerSecond is how many replies of any kind go to a network over UDP; default 0 for no limit, since a
	// large resolver may ask for every name at once. It bounds who spreads a flood over many names.
	NetworkResponsesPerSecond int `yaml:"network_responses_per_second"`
	// Window is for how long a network that flooded is still held back after it has stopped; default 15s, 1s to 5m.
	Window time.Duration `yaml:"window"`
	// Slip: of the replies that are held back each so many-th goes out truncated; default 1, 0 for none, at most 10.
	Slip int `yaml:"slip"`

	QueriesPerSecond    int `yaml:"queries_per_second"`     // of a network over UDP; default 0 for no limit
	TCPQueriesPerSecond int `yaml:"tcp_queries_per_second"` // of a network over TCP and TLS; default 2000, 0 for no limit
	Connections         int `yaml:"connections"`            // open at a time; default 1024
	NetworkConnections  int `yaml:"network_connections"`    // of these from a network; default 128

	IPv4Prefix int `yaml:"ipv4_prefix"` // default 24, 8 to 32
	IPv6Prefix int `yaml:"ipv6_prefix"` // default 56, 16 to 64
	// TableSize is how many networks, times the names that each asks for, are told apart at a time: a power of two, of 8
	// bytes each; default 524288.
	TableSize int            `yaml:"table_size"`
	Exempt    []netip.Prefix `yaml:"exempt"`   // sources that are not held back, such as monitoring; at most 256
	LogOnly   bool           `yaml:"log_only"` // count what would be held back, and hold back nothing; default false
}

// SetDefaults implements config.Defaulter.
func (c *Config) SetDefaults() {
	*c = Config{
		ResponsesPerSecond: 200, Window: 15 * time.Second, Slip: 1,
		TCPQueriesPerSecond: 2000, Connections: 1024, NetworkConnections: 128,
		IPv4Prefix: 24, IPv6Prefix: 56, TableSize: 1 << 19,
	}
}

// Validate reports what is wrong with the section.
func (c *Config) Validate(at config.Cursor) {
	for _, r := range []struct {
		key              string
		value, low, high int
	}{
		{"responses_per_second", c.ResponsesPerSecond, 0, maxRate},
		{"network_responses_per_second", c.NetworkResponsesPerSecond, 0, maxRate},
		{"slip", c.Slip, 0, maxSlip},
		{"queries_per_second", c.QueriesPerSecond, 0, maxRate},
		{"tcp_queries_per_second", c.TCPQueriesPerSecond, 0, maxRate},
		{"connections", c.Connections, 1, maxConns},
		{"network_connections", c.NetworkConnections, 1, maxConns},
		{"ipv4_prefix", c.IPv4Prefix, 8, 32},
		{"ipv6_prefix", c.IPv6Prefix, 16, 64},
		{"table_size", c.TableSize, minTableSize, maxTableSize},
	} {
		if r.value < r.low || r.value > r.high {
			at.Key(r.key).Errorf("%d; use %d to %d", r.value, r.low, r.high)
		}
	}
	if c.Window < time.Second || c.Window > maxWindow {
		at.Key("window").Errorf("%v; use 1s to %v", c.Window, maxWindow)
	}
	if c.TableSize >= minTableSize && bits.OnesCount(uint(c.TableSize)) != 1 {
		at.Key("table_size").Errorf("%d is no power of two; use %d", c.TableSize, 1<<bits.Len(uint(c.TableSize)))
	}
	if n := c.NetworkResponsesPerSecond; n > 0 && n < c.ResponsesPerSecond {
		at.Key("network_responses_per_second").Errorf("%d, which is less than the %d equal ones of responses_per_second; raise it",
			n, c.ResponsesPerSecond)
	}
	if c.NetworkConnections > c.Connections {
		at.Key("network_connections").Errorf("%d, which is more than the %d connections of all; lower it",
			c.NetworkConnections, c.Connections)
	}
	c.checkExempt(at.Key("exempt"))
}

func (c *Config) checkExempt(at config.Cursor) {
	if len(c.Exempt) > maxExempt {
		at.Errorf("%d prefixes; at most %d", len(c.Exempt), maxExempt)
	}
	for i, p := range c.Exempt {
		switch {
		case !p.IsValid():
			// the decoder has complained of it
		case p.Addr().Is4In6():
			at.Index(i).Errorf("%v is an IPv4 prefix in IPv6 form; write it as IPv4", p)
		case p != p.Masked():
			at.Index(i).Errorf("%v has bits beyond its length; write %v", p, p.Masked())
		case p.Bits() == 0:
			at.Index(i).Errorf("%v exempts everyone; set the limits to 0 instead", p)
		}
	}
}
