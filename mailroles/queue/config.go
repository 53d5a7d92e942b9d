package queue

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"time"

	"anycastle/internal/config"
)

// Config says how a queue sends. The zero value of a field is none of its defaults: use SetDefaults.
type Config struct {
	Resolvers      []netip.AddrPort `yaml:"resolvers"`       // that DNS is asked of; default those of /etc/resolv.conf
	RetryMin       time.Duration    `yaml:"retry_min"`       // until the second attempt; default 5m. Each wait doubles
	RetryMax       time.Duration    `yaml:"retry_max"`       // the longest wait; default 4h
	Life           time.Duration    `yaml:"life"`            // after which the sender gets the message back; default 120h
	DelayNotice    time.Duration    `yaml:"delay_notice"`    // after which the sender is told of it; default 4h, 0s for never
	MaxRecipients  int              `yaml:"max_recipients"`  // waiting at a time, more are refused for now; default 200000
	Sessions       int              `yaml:"sessions"`        // to all destinations at a time; default 50
	PerDestination int              `yaml:"per_destination"` // to one destination at a time; default 5
	Smarthost      *Smarthost       `yaml:"smarthost"`       // that takes all mail, instead of the recipients' own hosts
}

// Smarthost is a server that takes all mail. It is reached by verified TLS only.
type Smarthost struct {
	Host         string `yaml:"host"`          // such as relay.example.net:587; at port 465 TLS begins with the first byte
	User         string `yaml:"user"`          // to log in as; default nobody
	PasswordFile string `yaml:"password_file"` // whose first line is the user's password
	CA           string `yaml:"ca"`            // certificates that its own is checked by; default the system's
}

// SetDefaults implements config.Defaulter.
func (c *Config) SetDefaults() {
	*c = Config{
		RetryMin: 5 * time.Minute, RetryMax: 4 * time.Hour, Life: 5 * 24 * time.Hour, DelayNotice: 4 * time.Hour,
		MaxRecipients: 200_000, Sessions: 50, PerDestination: 5,
	}
}

// Validate reports what is wrong with the section, and the files that it names.
func (c *Config) Validate(at config.Cursor) {
	for i, r := range c.Resolvers {
		if !r.IsValid() || r.Port() == 0 {
			at.Key("resolvers").Index(i).Errorf("%s is no resolver; write one such as 192.0.2.53:53", r)
		}
	}
	if c.RetryMin < time.Second || c.RetryMin > 24*time.Hour {
		at.Key("retry_min").Errorf("%v must be from 1s to 24h", c.RetryMin)
	}
	if c.RetryMax < c.RetryMin || c.RetryMax > 24*time.Hour {
		at.Key("retry_max").Errorf("%v must be from retry_min to 24h", c.RetryMax)
	}
	if c.Life < c.RetryMin || c.Life > 30*24*time.Hour {
		at.Key("life").Errorf("%v must be from retry_min to 720h", c.Life)
	}
	if c.DelayNotice < 0 || c.DelayNotice > c.Life {
		at.Key("delay_notice").Errorf("%v must be from 0s to life", c.DelayNotice)
	}
	if c.MaxRecipients < 100 || c.MaxRecipients > 10_000_000 {
		at.Key("max_recipients").Errorf("%d must be from 100 to 10000000", c.MaxRecipients)
	}
	if c.Sessions < 1 || c.Sessions > 10_000 {
		at.Key("sessions").Errorf("%d must be from 1 to 10000", c.Sessions)
	}
	if c.PerDestination < 1 || c.PerDestination > c.Sessions {
		at.Key("per_destination").Errorf("%d must be from 1 to sessions", c.PerDestination)
	}
	if c.Smarthost != nil {
		c.Smarthost.validate(at.Key("smarthost"))
	}
}

func (s *Smarthost) validate(at config.Cursor) {
	if host, port, err := s.split(); err != nil || host == "" || port == 0 {
		at.Key("host").Errorf("%q is no server; write one such as relay.example.net:587", s.Host)
	}
	if (s.User == "") != (s.PasswordFile == "") {
		at.Key("user").Errorf("user and password_file go together; write both or none")
	} else if _, err := s.password(); err != nil {
		at.Key("password_file").Errorf("%v", err)
	}
	if _, err := s.roots(); err != nil {
		at.Key("ca").Errorf("%v", err)
	}
}

func (s *Smarthost) split() (host string, port uint16, err error) {
	host, text, err := net.SplitHostPort(s.Host)
	if err != nil {
		return "", 0, err
	}
	n, err := strconv.ParseUint(text, 10, 16)
	return host, uint16(n), err
}

// password reads the file's first line. It is read for each session, so that it can be changed.
func (s *Smarthost) password() (string, error) {
	if s.PasswordFile == "" {
		return "", nil
	}
	text, err := os.ReadFile(s.PasswordFile)
	if err != nil {
		return "", err
	}
	line, _, _ := strings.Cut(string(text), "\n")
	if line = strings.TrimRight(line, "\r"); line == "" {
		return "", errors.New("its first line is empty")
	}
	return line, nil
}

// roots gives nil for the system's.
func (s *Smarthost) roots() (*x509.CertPool, error) {
	if s.CA == "" {
		return nil, nil
	}
	text, err := os.ReadFile(s.CA)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("%s holds no certificate", s.CA)
	}
	return pool, nil
}
