package mailroles

import (
	"math"
	"os"
	"strings"

	"anycastle/internal/config"
	"anycastle/internal/mtls"
	"anycastle/mailroles/accept"
	"anycastle/mailroles/directory"
	"anycastle/mailroles/drain"
	"anycastle/mailroles/judge"
	"anycastle/mailroles/milter"
	"anycastle/mailroles/monitor"
	"anycastle/mailroles/mtasts"
	"anycastle/mailroles/screen"
	"anycastle/mailroles/submission"
)

// Config is the `mail:` section of a node file. A node has only the subsections of the roles that it runs.
type Config struct {
	Hostname   string             `yaml:"hostname"`   // our name in banners and trace fields; the machine's own by default
	Directory  directory.Config   `yaml:"directory"`  // mailboxes file, default /etc/anycastle/mailboxes.yml; or LDAP
	TLS        mtls.Files         `yaml:"tls"`        // for the links between front ends and stores
	PublicTLS  *mtls.Pair         `yaml:"public_tls"` // what clients are shown, be it of a public CA; default that of tls
	LUNs       []LUN              `yaml:"luns"`       // all LUNs; the same on every node
	SMTP       *SMTPConfig        `yaml:"smtp"`
	Submission *submission.Config `yaml:"submission"`
	IMAP       *IMAPConfig        `yaml:"imap"`
	Store      *StoreConfig       `yaml:"store"`
	Witness    *WitnessConfig     `yaml:"witness"`
	Monitor    *monitor.Config    `yaml:"monitor"` // alone it needs no luns, and tls only to listen
}

// SMTPConfig is the MX front end.
type SMTPConfig struct {
	Listen      []config.ListenAddr `yaml:"listen"`       // default [":25"]
	MaxSize     int64               `yaml:"max_size"`     // largest message in bytes; default 52428800
	MaxSessions int                 `yaml:"max_sessions"` // sessions at a time, more get 421; default 1000
	Screen      *screen.Config      `yaml:"screen"`       // who is let in at all; default everybody
	Judge       *judge.Config       `yaml:"judge"`        // SPF, DKIM and DMARC; default none of them
	Milters     []milter.Config     `yaml:"milters"`      // filters that each message passes, in order; default none
	MTASTS      *mtasts.ServeConfig `yaml:"mta_sts"`      // policies that are served for our domains; default none
	Proxy       accept.Config       `yaml:",inline"`
	Drain       drain.Config        `yaml:",inline"`
}

// IMAPConfig is the IMAP front end.
type IMAPConfig struct {
	Listen      []config.ListenAddr `yaml:"listen"`       // with STARTTLS; default [":143"]
	TLSListen   []config.ListenAddr `yaml:"tls_listen"`   // TLS from the first byte; default none
	MaxSessions int                 `yaml:"max_sessions"` // sessions at a time, more are closed; default 10000
	Proxy       accept.Config       `yaml:",inline"`
	Drain       drain.Config        `yaml:",inline"`
}

const (
	defaultMaxSize = 50 << 20
	largestMaxSize = math.MaxUint32 / 2 // IMAP announces the limit in 32 bits
)

// SetDefaults implements config.Defaulter.
func (c *Config) SetDefaults() {
	c.Directory.File = "/etc/anycastle/mailboxes.yml"
	if name, err := os.Hostname(); err == nil {
		c.Hostname = name
	}
}

// SetDefaults implements config.Defaulter.
func (c *SMTPConfig) SetDefaults() {
	*c = SMTPConfig{Listen: []config.ListenAddr{config.AnyAddr(25)}, MaxSize: defaultMaxSize, MaxSessions: 1000}
	c.Drain.SetDefaults()
}

// SetDefaults implements config.Defaulter.
func (c *IMAPConfig) SetDefaults() {
	*c = IMAPConfig{Listen: []config.ListenAddr{config.AnyAddr(143)}, MaxSessions: 10000}
	c.Drain.SetDefaults()
}

// Validate reports what is wrong with the section, the files that it names and the mailboxes file.
func (c *Config) Validate(at config.Cursor) {
	if c.Hostname == "" || strings.ContainsFunc(c.Hostname, func(r rune) bool { return r <= ' ' || r > '~' }) {
		at.Key("hostname").Errorf("%q is no host name; write one such as mx1.example.org", c.Hostname)
	}
	onlyWatches := c.Monitor != nil && c.Witness == nil && !c.hasMailboxRole()
	if !onlyWatches || c.Monitor.Listen != nil {
		c.TLS.Validate(at.Key("tls"))
	}
	if c.PublicTLS != nil {
		c.PublicTLS.Validate(at.Key("public_tls"))
	}
	if !onlyWatches || len(c.LUNs) > 0 {
		c.validateLUNs(at.Key("luns"))
	}
	if c.Witness != nil {
		c.validateWitness(at.Key("witness"))
	}
	if c.Monitor != nil {
		c.Monitor.Validate(at.Key("monitor"))
	}
	if c.Witness == nil && c.Monitor == nil && !c.hasMailboxRole() {
		at.Errorf("no role; add smtp, submission, imap, store, witness or monitor, or remove the section")
	}
	if c.hasMailboxRole() || c.Witness == nil && c.Monitor == nil {
		c.Directory.Validate(at.Key("directory"), c.lunNames())
	}
	if c.SMTP != nil {
		validateListen(at.Key("smtp").Key("listen"), c.SMTP.Listen)
		validateLimits(at.Key("smtp"), c.SMTP.MaxSize, c.SMTP.MaxSessions)
		c.SMTP.validateFilters(at.Key("smtp"))
		c.SMTP.Proxy.Validate(at.Key("smtp"))
		c.SMTP.Drain.Validate(at.Key("smtp"))
	}
	if c.Submission != nil {
		c.validateSubmission(at)
	}
	if c.IMAP != nil {
		validateListen(at.Key("imap").Key("listen"), append(c.IMAP.Listen[:len(c.IMAP.Listen):len(c.IMAP.Listen)], c.IMAP.TLSListen...))
		validateLimits(at.Key("imap"), defaultMaxSize, c.IMAP.MaxSessions)
		c.IMAP.Proxy.Validate(at.Key("imap"))
		c.IMAP.Drain.Validate(at.Key("imap"))
	}
	if c.Store != nil {
		c.validateStore(at.Key("store"))
	}
}

// hasMailboxRole reports whether a role asks for mailboxes. A witness and a monitor do not.
func (c *Config) hasMailboxRole() bool {
	return c.SMTP != nil || c.Submission != nil || c.IMAP != nil || c.Store != nil
}

// validateFilters looks at what stands before the mailboxes.
func (c *SMTPConfig) validateFilters(at config.Cursor) {
	milter.Validate(c.Milters, at.Key("milters"))
	if c.Screen != nil {
		c.Screen.Validate(at.Key("screen"))
	}
	if c.Judge != nil {
		c.Judge.Validate(at.Key("judge"))
	}
	if c.MTASTS != nil {
		c.MTASTS.Validate(at.Key("mta_sts"))
	}
}

func (c *Config) validateSubmission(at config.Cursor) {
	for i, l := range c.LUNs {
		if !l.Queue.IsValid() {
			at.Key("luns").Index(i).Key("queue").Errorf("missing; write where the LUN's queue listens, such as 198.51.100.19:2425")
		}
	}
	at = at.Key("submission")
	s := c.Submission
	validateListen(at.Key("listen"), append(s.Listen[:len(s.Listen):len(s.Listen)], s.TLSListen...))
	validateLimits(at, s.MaxSize, s.MaxSessions)
	s.Validate(at)
}

func validateListen(at config.Cursor, list []config.ListenAddr) {
	if len(list) == 0 {
		at.Errorf("no address; write at least one such as \":25\"")
	}
	seen := map[config.ListenAddr]bool{}
	for _, l := range list {
		if seen[l] {
			at.Errorf("%s is there twice; keep one", l)
		}
		seen[l] = true
	}
}

func validateLimits(at config.Cursor, size int64, sessions int) {
	if size < 64<<10 || size > largestMaxSize {
		at.Key("max_size").Errorf("%d must be from 65536 to %d bytes", size, int64(largestMaxSize))
	}
	if sessions < 1 || sessions > 1_000_000 {
		at.Key("max_sessions").Errorf("%d must be from 1 to 1000000", sessions)
	}
}
