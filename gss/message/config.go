package message

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"anycastle/gss/cookie"
	"anycastle/internal/config"
)

const (
	plainSize   = 512  // bytes of a UDP reply without EDNS: RFC 1035 section 4.2.1
	defaultSize = 1232 // and with it: fits IPv6's smallest MTU, so no reply is ever a fragment
	streamSize  = 65535

	// maxID keeps the least reply to the longest name within plainSize, whatever else its OPT record carries.
	maxID = 64

	nameHere = "{name}" // in Config.ID
)

// Config is how the server presents itself to resolvers.
type Config struct {
	MaxUDP        int    `yaml:"max_udp"`        // bytes of the largest UDP reply, 512 to 1232; default 1232
	ID            string `yaml:"id"`             // what NSID, id.server and hostname.bind say, with {name} for the server's; default "{name}", "" for nothing
	Version       string `yaml:"version"`        // what version.server and version.bind say; default nothing
	ClientSubnet  bool   `yaml:"client_subnet"`  // believe RFC 7871's option; default true
	RequireCookie bool   `yaml:"require_cookie"` // answer over UDP only who has shown a valid cookie; default false
}

// SetDefaults implements config.Defaulter.
func (c *Config) SetDefaults() { *c = Config{MaxUDP: defaultSize, ID: nameHere, ClientSubnet: true} }

// Validate reports what is wrong with the section.
func (c *Config) Validate(at config.Cursor) {
	if c.MaxUDP < plainSize || c.MaxUDP > defaultSize {
		at.Key("max_udp").Errorf("%d bytes; use %d to %d, which every path carries whole", c.MaxUDP, plainSize, defaultSize)
	}
	checkText(at.Key("id"), strings.ReplaceAll(c.ID, nameHere, ""), maxID)
	checkText(at.Key("version"), c.Version, 255) // one string of a TXT record
}

// Named gives the config for a server of that name.
func (c Config) Named(name string) (Config, error) {
	c.ID = strings.ReplaceAll(c.ID, nameHere, name)
	if len(c.ID) > maxID {
		return c, fmt.Errorf("edns.id is %q here: %d bytes; at most %d", c.ID, len(c.ID), maxID)
	}
	return c, nil
}

// NSID is what that option says (RFC 5001), and of which version of its data a server speaks; 0: of none.
func (c *Config) NSID(version uint64) []byte {
	if c.ID == "" || version == 0 {
		return []byte(c.ID)
	}
	return fmt.Appendf(nil, "%s/%d", c.ID, version)
}

func checkText(at config.Cursor, s string, limit int) {
	switch {
	case len(s) > limit:
		at.Errorf("%d bytes; at most %d", len(s), limit)
	case !utf8.ValidString(s):
		at.Errorf("not UTF-8; write it as text")
	}
}

// Edge reads queries and finishes replies. It is safe for concurrent use.
type Edge struct {
	cfg     Config
	cookies *cookie.Server
}

// New gives an Edge. cookies may be nil: then queries' cookies are an option like any unknown one, and RequireCookie is
// without effect. The config must have passed Validate.
func New(cfg Config, cookies *cookie.Server) *Edge { return &Edge{cfg: cfg, cookies: cookies} }
