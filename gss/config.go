package gss

import (
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"time"

	"anycastle/gss/balancer"
	"anycastle/gss/cookie"
	"anycastle/gss/decide"
	"anycastle/gss/limit"
	"anycastle/gss/message"
	"anycastle/gss/transfer"
	"anycastle/gss/zone"
	"anycastle/internal/config"
	"anycastle/internal/mesh"
	"anycastle/internal/mtls"
	"anycastle/internal/probe"
)

const maxTTL = time.Hour // of a rule; a longer one makes every failover last that long

// Config is the `gss:` section of a node file.
type Config struct {
	Name     string           `yaml:"name"`          // of this GSS among the others; default the host name
	Listen   []netip.AddrPort `yaml:"listen"`        // UDP and TCP on each; addresses of this node, never the wildcard
	StateDir string           `yaml:"state_dir"`     // orders and decisions survive a restart here; default /var/lib/anycastle/gss
	Zones    []Zone           `yaml:"zones"`         // what this node is authoritative for
	Answers  []Answer         `yaml:"answers"`       // the sites' VIPs
	Groups   []AnswerGroup    `yaml:"answer_groups"` // which answers stand for each other
	Sources  []Sources        `yaml:"sources"`       // lists of clients
	Rules    []Rule           `yaml:"rules"`         // which names are answered from which answer groups
	Load     Load             `yaml:"load"`          // when the load of an answer counts
	Mesh     *mesh.Config     `yaml:"mesh"`          // the GSSes of all sites, which share what they see, and orders; default none

	Balancers []balancer.Balancer `yaml:"balancers"` // ours, which tell how their VIPs stand; needs tls

	ListenTLS []netip.AddrPort `yaml:"listen_tls"`     // DNS over TLS (RFC 7858) on each; needs tls
	TLS       *mtls.Files      `yaml:"tls"`            // the certificate for that, and for balancers
	EDNS      message.Config   `yaml:"edns"`           // how this server presents itself to resolvers
	Cookies   string           `yaml:"cookie_secrets"` // file of secrets that all servers of the zones share; default one of this process
	Limits    limit.Config     `yaml:"limits"`         // what one source may ask for
	QueryLog  *QueryLog        `yaml:"query_log"`      // default none
	TSIGKeys  []TSIGKey        `yaml:"tsig_keys"`      // secrets shared with other servers, for transfers of zones

	checked *zone.Set // by Validate, which found nothing wrong: reading large zones takes time
}

// Zone is a zone, from a file, from records in the node file, or from primaries.
type Zone struct {
	Name    string        `yaml:"name"`    // such as mail.example.org
	File    string        `yaml:"file"`    // RFC 1035 section 5 zone file; instead of all that follows
	TTL     time.Duration `yaml:"ttl"`     // of negative answers and of records without their own; default 5s, 1s to 1h
	Primary string        `yaml:"primary"` // SOA MNAME
	Contact string        `yaml:"contact"` // SOA RNAME: the mailbox hostmaster@example.org is written hostmaster.example.org
	Serial  uint32        `yaml:"serial"`  // SOA SERIAL; default 1
	Records string        `yaml:"records"` // zone file lines without the SOA record, relative to the zone
	DNSSEC  *DNSSEC       `yaml:"dnssec"`  // with any of the above; default unsigned

	Primaries []Peer   `yaml:"primaries"` // where the zone is transferred from; instead of a file and records
	MaxSize   int      `yaml:"max_size"`  // bytes that its records may take if so, with names in full, up to 1 GiB; default 67108864
	Transfer  Transfer `yaml:"transfer"`  // who may have it transferred from here
	Notify    []Peer   `yaml:"notify"`    // who is told of new versions
}

// Answer is one thing that a name may be answered with: a site's VIP.
type Answer struct {
	Name      string         `yaml:"name"`
	Site      string         `yaml:"site"`      // default the answer's name
	Addresses []netip.Addr   `yaml:"addresses"` // IPv4 for A, IPv6 for AAAA
	Target    string         `yaml:"target"`    // host name, for the records of other types that rules make
	Weight    int            `yaml:"weight"`    // 1 to 1000; default 100
	Probes    []probe.Config `yaml:"probes"`    // all must pass, at each address; a type that needs a port must be given one
	FailBack  time.Duration  `yaml:"fail_back"` // healthy for so long before it serves again; default 10s
	Manual    bool           `yaml:"manual"`    // and then it waits for `anycastle activate answer`; default false
	VIP       string         `yaml:"vip"`       // at the balancers; default every VIP with one of the addresses
	Agent     *Agent         `yaml:"agent"`     // of another balancer, which tells how the answer stands; default none
}

// Agent is where a balancer such as HAProxy's neighbour speaks the agent-check protocol.
type Agent struct {
	Address  netip.AddrPort `yaml:"address"`
	Interval time.Duration  `yaml:"interval"` // from one question to the next; default 1s
}

// AnswerGroup is a set of answers.
type AnswerGroup struct {
	Name    string   `yaml:"name"`
	Answers []string `yaml:"answers"` // names of answers, the most wanted first
}

// Sources is a list of clients, by the address that their query comes from or is for (RFC 7871).
type Sources struct {
	Name     string         `yaml:"name"`
	Prefixes []netip.Prefix `yaml:"prefixes"`
	MMDB     *MMDB          `yaml:"mmdb"` // and those out of a database
}

// Rule is a DNS rule: queries for its domains, from its sources, are answered by the first of its clauses that can. Of the
// rules for a name and type the first that fits the client counts.
type Rule struct {
	Name    string            `yaml:"name"`
	Domains []string          `yaml:"domains"` // names in the zones; *.example.org stands for all below it that are not there
	Sources []string          `yaml:"sources"` // names of lists; default any client
	Clauses []Clause          `yaml:"clauses"` // one to three
	Near    []Near            `yaml:"near"`    // for the balance method nearest
	Records map[string]string `yaml:"records"` // type: data, made of {target}, {order}, {weight}; default A and AAAA of the addresses
}

// Clause is one choice that a rule may make.
type Clause struct {
	Group    string        `yaml:"group"`
	Balance  decide.Method `yaml:"balance"`   // ordered (default), round-robin, weighted, least-loaded, hashed or nearest
	Count    int           `yaml:"count"`     // how many answers a client gets, at most; default 1
	TTL      time.Duration `yaml:"ttl"`       // default 5s, 1s to 1h
	ShortTTL time.Duration `yaml:"short_ttl"` // while an answer of the rule is not in service or in doubt; default half of ttl
}

// Near says which sites are near to some clients.
type Near struct {
	Sources string   `yaml:"sources"` // name of a list
	Sites   []string `yaml:"sites"`   // the nearest first; the others come after them
}

// Load says when an answer is too loaded to be given while another is there.
type Load struct {
	Enter int           `yaml:"enter"` // percent of the capacity from which on an answer is hot; default 90
	Leave int           `yaml:"leave"` // percent below which it no longer is; default 75
	Slew  int           `yaml:"slew"`  // percent of all shares of least-loaded that may move in the time of a TTL; default 20
	Fresh time.Duration `yaml:"fresh"` // how long a report of a balancer counts; default 3s
}

const defaultStateDir = "/var/lib/anycastle/gss"

// SetDefaults implements config.Defaulter.
func (c *Config) SetDefaults() {
	*c = Config{StateDir: defaultStateDir, Load: defaultLoad()}
	c.EDNS.SetDefaults()
	c.Limits.SetDefaults()
}

// SetDefaults implements config.Defaulter.
func (z *Zone) SetDefaults() {
	*z = Zone{TTL: 5 * time.Second, Serial: 1, MaxSize: transfer.DefaultMaxSize}
}

// SetDefaults implements config.Defaulter.
func (a *Answer) SetDefaults() { *a = Answer{Weight: 100, FailBack: 10 * time.Second} }

// SetDefaults implements config.Defaulter.
func (a *Agent) SetDefaults() { *a = Agent{Interval: time.Second} }

// SetDefaults implements config.Defaulter.
func (c *Clause) SetDefaults() { *c = Clause{Balance: decide.Ordered, Count: 1, TTL: 5 * time.Second} }

// SetDefaults implements config.Defaulter.
func (l *Load) SetDefaults() { *l = defaultLoad() }

func defaultLoad() Load {
	d := decide.DefaultLoad()
	return Load{Enter: int(100 * d.Enter), Leave: int(100 * d.Leave), Slew: int(100 * d.Slew), Fresh: d.Fresh}
}

// Validate reports what is wrong with the section.
func (c *Config) Validate(at config.Cursor) {
	if c.checked = c.compile(at); at.Failed() {
		c.checked = nil
	}
}

// nodeName is the name of this GSS.
func (c *Config) nodeName() (string, error) {
	if c.Name != "" {
		return c.Name, nil
	}
	return c.Mesh.NodeName()
}

// checkServer reports what is wrong with how queries come in.
func (c *Config) checkServer(at config.Cursor) {
	if len(c.Listen) == 0 {
		at.Key("listen").Errorf("no address to answer on; give at least one, such as [198.51.100.7:53]")
	}
	checkListen(at.Key("listen"), c.Listen)
	checkListen(at.Key("listen_tls"), c.ListenTLS)
	if len(c.ListenTLS) > 0 && c.TLS == nil {
		at.Key("listen_tls").Errorf("needs a certificate; give tls: {cert: FILE, key: FILE, ca: FILE}")
	}
	if c.TLS != nil {
		c.TLS.Validate(at.Key("tls"))
	}
	c.EDNS.Validate(at.Key("edns"))
	c.Limits.Validate(at.Key("limits"))
	if c.QueryLog != nil {
		c.QueryLog.validate(at.Key("query_log"))
	}
	if c.Cookies != "" {
		if _, err := cookie.Load(c.Cookies); err != nil {
			at.Key("cookie_secrets").Errorf("%v", err)
		}
	}
}

func checkListen(at config.Cursor, listen []netip.AddrPort) {
	for i, a := range listen {
		at := at.Index(i)
		switch {
		case !a.IsValid():
			// the decoder has complained of it
		case a.Addr().IsUnspecified() || a.Addr().IsMulticast():
			at.Errorf("%v is no address of this node; name each one, so that a reply leaves from the address that was asked", a.Addr())
		case a.Port() == 0:
			at.Errorf("port 0 is none; use 53")
		case slices.Contains(listen[:i], a):
			at.Errorf("%v is listed twice; keep one", a)
		}
	}
}

func (c *Config) checkLoad(at config.Cursor) {
	l := c.Load
	if l.Enter < 1 || l.Enter > 100 {
		at.Key("enter").Errorf("%d is no percentage from 1 to 100; 90 suits most", l.Enter)
	}
	if l.Leave < 1 || l.Leave > l.Enter {
		at.Key("leave").Errorf("%d is not from 1 to enter, which is %d; leave a distance, or an answer at the edge is hot now and then", l.Leave, l.Enter)
	}
	if l.Slew < 1 || l.Slew > 100 {
		at.Key("slew").Errorf("%d is no percentage from 1 to 100; 20 suits most", l.Slew)
	}
	if l.Fresh < time.Second {
		at.Key("fresh").Errorf("%v is too short for reports that come every second; 3s suits most", l.Fresh)
	}
}

func (l Load) decide() decide.Load {
	return decide.Load{Enter: float64(l.Enter) / 100, Leave: float64(l.Leave) / 100, Slew: float64(l.Slew) / 100, Fresh: l.Fresh}
}

var objectName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$`)

// checkName reports a name that is bad or taken, and takes it.
func checkName(at config.Cursor, what, name string, taken map[string]bool) {
	switch {
	case name == "":
		at.Key("name").Errorf("missing; give the %s a name", what)
	case !objectName.MatchString(name):
		at.Key("name").Errorf("%q is no name; use up to 63 letters, digits, dots, dashes and underscores, a letter or digit first", name)
	case taken[name]:
		at.Key("name").Errorf("another %s is called %q; rename one", what, name)
	}
	taken[name] = true
}

// suggest ends a complaint about a dangling reference.
func suggest(name string, known []string) string {
	if near := config.Nearest(name, known); near != "" {
		return "; did you mean " + near + "?"
	}
	if len(known) == 0 {
		return "; there is none yet, so define it"
	}
	return "; known here: " + strings.Join(known, ", ")
}

// find gives the object of that name, or reports that there is none.
func find[T any](at config.Cursor, what string, list []T, nameOf func(*T) string, name string) *T {
	var known []string
	for i := range list {
		if nameOf(&list[i]) == name {
			return &list[i]
		}
		known = append(known, nameOf(&list[i]))
	}
	at.Errorf("no %s is called %q%s", what, name, suggest(name, known))
	return nil
}
