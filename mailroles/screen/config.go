package screen

import (
	"fmt"
	"net/netip"
	"regexp"
	"strings"
	"time"

	"anycastle/internal/config"
)

// Config is the `screen:` part of the smtp section. Without it there is no screen.
type Config struct {
	MaxSessions int            `yaml:"max_sessions"` // of one source at a time; default 20
	PerMinute   int            `yaml:"per_minute"`   // new sessions of one source each minute, as many at once; default 60
	GreetDelay  time.Duration  `yaml:"greet_delay"`  // how long a stranger waits for the banner; default 2s, 0s for no wait
	Remember    time.Duration  `yaml:"remember"`     // how long a source that was let in is no stranger; default 1h
	Exempt      []netip.Prefix `yaml:"exempt"`       // sources that are let in at once, such as a backup MX
	DNSBL       *DNSBL         `yaml:"dnsbl"`        // no list is asked without it
}

// DNSBL says which block lists are asked, and how.
type DNSBL struct {
	Resolver  netip.AddrPort `yaml:"resolver"`  // DNS server to ask; the machine's own by default. Lists refuse big public ones
	Timeout   time.Duration  `yaml:"timeout"`   // a list that takes longer has not listed the source; default 3s
	Threshold int            `yaml:"threshold"` // weights that make a refusal together; default 1
	Lists     []List         `yaml:"lists"`
}

// List is one block list.
type List struct {
	Zone    string  `yaml:"zone"`
	Weight  int     `yaml:"weight"`  // default 1; below 0 for a list of good sources
	Answers []Range `yaml:"answers"` // those that count; any by default
}

var zoneForm = regexp.MustCompile(`^[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63})+$`)

// Range is one IPv4 address, or a range "127.0.0.2-127.0.0.11".
type Range struct{ From, To netip.Addr }

// UnmarshalText implements encoding.TextUnmarshaler.
func (r *Range) UnmarshalText(text []byte) error {
	from, to, isRange := strings.Cut(string(text), "-")
	if !isRange {
		to = from
	}
	var err error
	if r.From, err = netip.ParseAddr(from); err != nil {
		return err
	}
	if r.To, err = netip.ParseAddr(to); err != nil {
		return err
	}
	if !r.From.Is4() || !r.To.Is4() || r.To.Less(r.From) {
		return fmt.Errorf("%q is no range of IPv4 addresses", text)
	}
	return nil
}

// Kind says what a value looks like, for complaints.
func (r *Range) Kind() string {
	return "an answer of the list, such as 127.0.0.2 or 127.0.0.2-127.0.0.11"
}

func (r Range) contains(a netip.Addr) bool { return !a.Less(r.From) && !r.To.Less(a) }

// SetDefaults implements config.Defaulter.
func (c *Config) SetDefaults() {
	*c = Config{MaxSessions: 20, PerMinute: 60, GreetDelay: 2 * time.Second, Remember: time.Hour}
}

// SetDefaults implements config.Defaulter.
func (d *DNSBL) SetDefaults() { *d = DNSBL{Timeout: 3 * time.Second, Threshold: 1} }

// SetDefaults implements config.Defaulter.
func (l *List) SetDefaults() { *l = List{Weight: 1} }

// Validate reports what is wrong with the section.
func (c *Config) Validate(at config.Cursor) {
	if c.MaxSessions < 1 || c.MaxSessions > 100_000 {
		at.Key("max_sessions").Errorf("%d must be from 1 to 100000", c.MaxSessions)
	}
	if c.PerMinute < 1 || c.PerMinute > 1_000_000 {
		at.Key("per_minute").Errorf("%d must be from 1 to 1000000", c.PerMinute)
	}
	if c.GreetDelay < 0 || c.GreetDelay > time.Minute {
		at.Key("greet_delay").Errorf("%v must be from 0s to 1m; clients give up after some minutes", c.GreetDelay)
	}
	if c.Remember < 0 || c.Remember > 30*24*time.Hour {
		at.Key("remember").Errorf("%v must be from 0s to 720h", c.Remember)
	}
	if c.DNSBL != nil {
		c.DNSBL.validate(at.Key("dnsbl"))
	}
}

func (d *DNSBL) validate(at config.Cursor) {
	if d.Timeout < 100*time.Millisecond || d.Timeout > 30*time.Second {
		at.Key("timeout").Errorf("%v must be from 100ms to 30s", d.Timeout)
	}
	if d.Threshold < 1 {
		at.Key("threshold").Errorf("%d must be at least 1", d.Threshold)
	}
	if len(d.Lists) == 0 {
		at.Key("lists").Errorf("no list; add one with its zone, or remove dnsbl")
	}
	seen, most := map[string]bool{}, 0
	for i, l := range d.Lists {
		at := at.Key("lists").Index(i)
		zone := strings.ToLower(strings.TrimSuffix(l.Zone, "."))
		// the name of an IPv6 source takes 64 bytes before it
		if !zoneForm.MatchString(zone) || len(zone) > 180 {
			at.Key("zone").Errorf("%q is no domain name; write one such as bl.example.org", l.Zone)
		} else if seen[zone] {
			at.Key("zone").Errorf("%s is there twice; keep one", zone)
		}
		seen[zone] = true
		if l.Weight == 0 {
			at.Key("weight").Errorf("0 counts nothing; write a number above or below it, or remove the list")
		}
		most += max(l.Weight, 0)
		for j, r := range l.Answers {
			if !r.may() {
				at.Key("answers").Index(j).Errorf("%s is no answer of a list; write such as 127.0.0.2 or 127.0.0.2-127.0.0.11", r.From)
			}
		}
	}
	if len(d.Lists) > 0 && most < d.Threshold {
		at.Key("threshold").Errorf("the weights of all lists make %d, so %d is never reached; lower it", most, d.Threshold)
	}
}

// may says whether a list may give an answer of the range: see meaning.
func (r Range) may() bool {
	return loopback.Contains(r.From) && loopback.Contains(r.To) && !errorCodes.Contains(r.From) && r.To != mustBeNot
}
