package submission

import (
	"regexp"

	"anycastle/internal/config"
	"anycastle/mailroles/accept"
	"anycastle/mailroles/drain"
	"anycastle/mailroles/milter"
)

// Config is the submission role's part of a node file.
type Config struct {
	Listen          []config.ListenAddr `yaml:"listen"`            // with STARTTLS; default [":587"]
	TLSListen       []config.ListenAddr `yaml:"tls_listen"`        // TLS from the first byte; default [":465"]
	MaxSize         int64               `yaml:"max_size"`          // largest message in bytes; default 52428800
	MaxSessions     int                 `yaml:"max_sessions"`      // sessions at a time, more get 421; default 1000
	MaxRecipients   int                 `yaml:"max_recipients"`    // recipients of a message, more get 452; default 100
	MessagesPerHour int                 `yaml:"messages_per_hour"` // messages of an account in an hour, more get 450; default 200
	SCRAM           bool                `yaml:"scram"`             // offer SCRAM-SHA-256, where the directory has keys; default true
	Milters         []milter.Config     `yaml:"milters"`           // filters that each message passes, in order; default none
	DKIM            DKIM                `yaml:"dkim"`              // default: no message is signed
	Proxy           accept.Config       `yaml:",inline"`
	Drain           drain.Config        `yaml:",inline"`
}

// DKIM says which messages are signed.
type DKIM struct {
	Keys    []DKIMKey `yaml:"keys"`    // each domain may have several; each signs
	Require bool      `yaml:"require"` // refuse messages from domains without a key; default false: they go unsigned
}

// DKIMKey is one key, whose public part is in DNS at SELECTOR._domainkey.DOMAIN.
type DKIMKey struct {
	Domain   string `yaml:"domain"`   // of the address in From
	Selector string `yaml:"selector"` // name of the key
	File     string `yaml:"key"`      // PEM file with the private key, RSA or Ed25519; read at start and at reload
}

// mostRecipients is more than any client asks for; each costs memory.
const mostRecipients = 10_000

var (
	domainForm   = regexp.MustCompile(`^([a-z0-9]([a-z0-9-]*[a-z0-9])?\.)+[a-z0-9-]*[a-z0-9]$`)
	selectorForm = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?$`)
)

// SetDefaults implements config.Defaulter.
func (c *Config) SetDefaults() {
	*c = Config{
		Listen:          []config.ListenAddr{config.AnyAddr(587)},
		TLSListen:       []config.ListenAddr{config.AnyAddr(465)},
		MaxSize:         50 << 20,
		MaxSessions:     1000,
		MaxRecipients:   100,
		MessagesPerHour: 200,
		SCRAM:           true,
	}
	c.Drain.SetDefaults()
}

// Validate reports what is wrong with what is this package's own, and with the files that it names.
func (c *Config) Validate(at config.Cursor) {
	if c.MaxRecipients < 1 || c.MaxRecipients > mostRecipients {
		at.Key("max_recipients").Errorf("%d must be from 1 to %d", c.MaxRecipients, mostRecipients)
	}
	milter.Validate(c.Milters, at.Key("milters"))
	if c.MessagesPerHour < 1 || c.MessagesPerHour > 1_000_000 {
		at.Key("messages_per_hour").Errorf("%d must be from 1 to 1000000", c.MessagesPerHour)
	}
	c.Proxy.Validate(at)
	c.Drain.Validate(at)
	at = at.Key("dkim")
	if c.DKIM.Require && len(c.DKIM.Keys) == 0 {
		at.Key("require").Errorf("no message could be sent; add keys, or remove it")
	}
	seen := map[[2]string]bool{}
	for i, k := range c.DKIM.Keys {
		at := at.Key("keys").Index(i)
		if !domainForm.MatchString(k.Domain) {
			at.Key("domain").Errorf("%q is no domain in lower case; write one such as example.org", k.Domain)
		}
		if !selectorForm.MatchString(k.Selector) {
			at.Key("selector").Errorf("%q is no selector; write a word such as s2026", k.Selector)
		}
		if name := [2]string{k.Domain, k.Selector}; seen[name] {
			at.Key("selector").Errorf("%s has two keys of this name; keep one", k.Domain)
		} else {
			seen[name] = true
		}
		if _, err := k.load(); err != nil {
			at.Key("key").Errorf("%v", err)
		}
	}
}
