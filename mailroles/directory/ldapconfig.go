package directory

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"os"
	"regexp"
	"strings"
	"time"

	"github.com/go-ldap/ldap/v3"

	"anycastle/internal/config"
)

// LDAPConfig is the `ldap:` of a directory. The defaults suit entries of inetOrgPerson with the class inetLocalMailRecipient,
// and groups of groupOfNames with it; its mailHost names the LUN.
type LDAPConfig struct {
	URLs         []string      `yaml:"urls"`          // servers with the same entries; the first that answers is asked
	Base         string        `yaml:"base"`          // DN below which all entries are
	BindDN       string        `yaml:"bind_dn"`       // who searches; default nobody
	PasswordFile string        `yaml:"password_file"` // file with the password of bind_dn
	StartTLS     bool          `yaml:"starttls"`      // TLS on ldap:// servers
	CA           string        `yaml:"ca"`            // PEM file of who signs the servers' certificates; default the system's
	Domains      []string      `yaml:"domains"`       // all domains that are ours
	Timeout      time.Duration `yaml:"timeout"`       // for a connection, and for an answer; default 3s
	Connections  int           `yaml:"connections"`   // at most so many for searches, and as many for logins; default 8
	Cache        time.Duration `yaml:"cache"`         // for how long an address is not asked about again; default 1m
	CacheUnknown time.Duration `yaml:"cache_unknown"` // for how long one is not that is unknown; default 10s
	Stale        time.Duration `yaml:"stale"`         // for how long recipients are known that cannot be asked about; default 1h
	Filter       string        `yaml:"filter"`        // entries that are mailboxes or groups; default by object class
	Attributes   Attributes    `yaml:"attributes"`
}

// Attributes names the attributes of entries. An empty name is of none.
type Attributes struct {
	Address       string   `yaml:"address"`        // the mailbox's or group's address; default mail. A mailbox has one value
	Alias         []string `yaml:"alias"`          // further addresses; default [mailLocalAddress]
	LUN           string   `yaml:"lun"`            // the mailbox's LUN; default mailHost
	QuotaSize     string   `yaml:"quota_size"`     // bytes, or such as 5G; default none
	QuotaMessages string   `yaml:"quota_messages"` // default none
	SendAs        string   `yaml:"send_as"`        // addresses that it may send as; default none
	SCRAM         string   `yaml:"scram"`          // keys for SCRAM-SHA-256 (RFC 5803); default none, and then no SCRAM
	Member        string   `yaml:"member"`         // DNs of a group's members; default member. An entry that has it is a group
	MemberAddress string   `yaml:"member_address"` // addresses of a group's members; default rfc822MailMember, likewise
	From          string   `yaml:"from"`           // who may write to the group: anyone, members or domain; default none: anyone
}

// SetDefaults implements config.Defaulter.
func (c *LDAPConfig) SetDefaults() {
	*c = LDAPConfig{
		Timeout: 3 * time.Second, Connections: 8, Cache: time.Minute, CacheUnknown: 10 * time.Second, Stale: time.Hour,
		Filter: "(|(objectClass=inetOrgPerson)(objectClass=groupOfNames)(objectClass=nisMailAlias))",
	}
	c.Attributes.SetDefaults()
}

// SetDefaults implements config.Defaulter.
func (a *Attributes) SetDefaults() {
	*a = Attributes{
		Address: "mail", Alias: []string{"mailLocalAddress"}, LUN: "mailHost", Member: "member", MemberAddress: "rfc822MailMember",
	}
}

func (c *LDAPConfig) validate(at config.Cursor) {
	if len(c.URLs) == 0 {
		at.Key("urls").Errorf("no server; list at least one, such as ldaps://ldap.example.org")
	}
	for i, s := range c.URLs {
		if err := c.checkURL(s); err != nil {
			at.Key("urls").Index(i).Errorf("%v", err)
		}
	}
	if dn, err := ldap.ParseDN(c.Base); err != nil || len(dn.RDNs) == 0 {
		at.Key("base").Errorf("%q is no DN; write one such as dc=example,dc=org", c.Base)
	}
	c.validateBind(at)
	if _, err := c.tls("server"); err != nil {
		at.Key("ca").Errorf("%v", err)
	}
	if len(c.Domains) == 0 {
		at.Key("domains").Errorf("no domain; list all that are ours, such as example.org")
	}
	for i, d := range c.Domains {
		if _, ok := normalDomain(d); !ok {
			at.Key("domains").Index(i).Errorf("%q is no domain; write one such as example.org", d)
		}
	}
	if c.Connections < 1 || c.Connections > 1000 {
		at.Key("connections").Errorf("%d must be from 1 to 1000", c.Connections)
	}
	for key, d := range map[string]time.Duration{
		"timeout": c.Timeout, "cache": c.Cache, "cache_unknown": c.CacheUnknown, "stale": c.Stale,
	} {
		if d < 0 || d > 30*24*time.Hour || key == "timeout" && (d < 10*time.Millisecond || d > time.Minute) {
			at.Key(key).Errorf("%v is out of bounds; a timeout is from 10ms to 1m, any other from 0 to 720h", d)
		}
	}
	if _, err := ldap.CompileFilter(c.Filter); err != nil {
		at.Key("filter").Errorf("%q is no filter; write one such as (objectClass=inetOrgPerson)", c.Filter)
	}
	c.Attributes.validate(at.Key("attributes"))
}

func (c *LDAPConfig) validateBind(at config.Cursor) {
	if c.BindDN == "" && c.PasswordFile == "" {
		return
	}
	if _, err := ldap.ParseDN(c.BindDN); err != nil || c.BindDN == "" {
		at.Key("bind_dn").Errorf("%q is no DN; write one such as cn=anycastle,dc=example,dc=org", c.BindDN)
	}
	if _, err := c.password(); err != nil {
		at.Key("password_file").Errorf("%v; make the file, with the password of bind_dn on one line", err)
	}
}

// attributeForm is that of RFC 4512 section 1.4, without options.
var attributeForm = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9-]*$`)

func (a *Attributes) validate(at config.Cursor) {
	for key, name := range map[string]string{
		"address": a.Address, "lun": a.LUN, "quota_size": a.QuotaSize, "quota_messages": a.QuotaMessages, "send_as": a.SendAs,
		"scram": a.SCRAM, "member": a.Member, "member_address": a.MemberAddress, "from": a.From,
	} {
		if !attributeForm.MatchString(name) && (name != "" || key == "address" || key == "lun") {
			at.Key(key).Errorf("%q is no attribute; write one such as mail", name)
		}
	}
	for i, name := range a.Alias {
		if !attributeForm.MatchString(name) {
			at.Key("alias").Index(i).Errorf("%q is no attribute; write one such as mailLocalAddress", name)
		}
	}
}

// checkURL refuses what is no server, and what would show passwords to the network.
func (c *LDAPConfig) checkURL(s string) error {
	u, err := url.Parse(s)
	if err != nil || u.Scheme == "ldapi" && (u.Path == "" || u.Host != "") || u.Scheme != "ldapi" && u.Hostname() == "" {
		return fmt.Errorf("%q is no LDAP server; write one such as ldaps://ldap.example.org", s)
	}
	switch u.Scheme {
	case "ldaps", "ldapi":
		return nil
	case "ldap":
		if ip, err := netip.ParseAddr(u.Hostname()); c.StartTLS || err == nil && ip.IsLoopback() {
			return nil
		}
		return fmt.Errorf("%s would show passwords to the network; use ldaps://, or set starttls", s)
	}
	return fmt.Errorf("%q is of no scheme of LDAP; write ldaps://, ldap:// with starttls, or ldapi:///PATH", s)
}

// password reads the password of BindDN.
func (c *LDAPConfig) password() (string, error) {
	if c.PasswordFile == "" {
		return "", errors.New("missing")
	}
	text, err := os.ReadFile(c.PasswordFile)
	if err != nil {
		return "", err
	}
	password := strings.TrimRight(string(text), "\r\n")
	if password == "" {
		return "", fmt.Errorf("%s is empty", c.PasswordFile)
	}
	return password, nil
}

// tls gives the settings towards a server of the name.
func (c *LDAPConfig) tls(server string) (*tls.Config, error) {
	t := &tls.Config{ServerName: server, MinVersion: tls.VersionTLS12}
	if c.CA == "" {
		return t, nil
	}
	text, err := os.ReadFile(c.CA)
	if err != nil {
		return nil, err
	}
	t.RootCAs = x509.NewCertPool()
	if !t.RootCAs.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("%s holds no certificate", c.CA)
	}
	return t, nil
}
