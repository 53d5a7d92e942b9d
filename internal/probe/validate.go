package probe

import (
	"net/http"
	"net/url"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"time"

	"anycastle/internal/config"
)

// Validate reports what is wrong with the probe.
func (c *Config) Validate(at config.Cursor) {
	if !slices.Contains(typeNames(), c.Type) {
		at.Key("type").Errorf("no probe is of type %q; use one of %s", c.Type, strings.Join(typeNames(), ", "))
	} else {
		c.checkKeys(at)
		c.checkType(at)
	}
	c.checkTimes(at)
	c.checkCounts(at)
}

// checkKeys reports the keys that the type does not take.
func (c *Config) checkKeys(at config.Cursor) {
	v := reflect.ValueOf(c).Elem()
	for i := range v.NumField() {
		f := v.Type().Field(i)
		takers, limited := f.Tag.Lookup("takes")
		key := f.Tag.Get("yaml")
		if !limited || slices.Contains(strings.Fields(takers), c.Type) || v.Field(i).IsZero() && !at.Has(key) {
			continue
		}
		at.Key(key).Errorf("a probe of type %s does not take it, only %s; remove it", c.Type, strings.Join(strings.Fields(takers), ", "))
	}
}

// checkType reports what is wrong with the keys of the type alone.
func (c *Config) checkType(at config.Cursor) {
	switch c.Type {
	case "http", "https":
		c.checkHTTP(at)
	case "smtp", "lmtp":
		c.checkRcpt(at)
	case "imap":
		c.checkLogin(at)
	case "dns":
		c.checkDNS(at)
	case "exec":
		c.checkCommand(at)
	case "agent-check":
		if c.Port == 0 {
			at.Key("port").Errorf("missing; an agent has a port of its own, so say which")
		}
	}
	c.checkTLS(at)
}

func (c *Config) checkTLS(at config.Cursor) {
	if c.TLS != "" && c.TLS != "starttls" && c.TLS != "implicit" {
		at.Key("tls").Errorf("%q is no way to speak TLS; use starttls or implicit, or leave it out", c.TLS)
		return
	}
	if !c.secure() {
		c.checkNoTLS(at)
		return
	}
	switch {
	case c.Insecure && c.CA != "":
		at.Key("ca").Errorf("has no use when `insecure: true` believes every certificate; keep one of the two")
	case c.Insecure && c.ServerName != "":
		// sent to the server, which may have several certificates
	case !c.Insecure && c.serverName() == "":
		at.Key("server_name").Errorf("missing; give the name that the certificate must have, or `insecure: true` to believe any")
	}
	if c.CA != "" {
		if _, err := loadCA(c.CA); err != nil {
			at.Key("ca").Errorf("%v; give a PEM file with at least one certificate", err)
		}
	}
	if c.MinValidity < 0 {
		at.Key("min_validity").Errorf("%v is negative; give how long the certificate must be valid at least, such as 336h", c.MinValidity)
	}
}

// checkNoTLS reports keys of TLS in a probe whose type could speak it and does not.
func (c *Config) checkNoTLS(at config.Cursor) {
	if !slices.Contains([]string{"smtp", "lmtp", "imap"}, c.Type) {
		return // checkKeys has said so
	}
	for _, e := range []struct {
		key   string
		given bool
	}{
		{"ca", c.CA != ""}, {"server_name", c.ServerName != ""}, {"min_validity", c.MinValidity != 0},
		{"insecure", c.Insecure && c.User == ""},
	} {
		if e.given {
			at.Key(e.key).Errorf("without `tls:` there is no certificate to look at; add `tls: starttls` or `tls: implicit`")
		}
	}
}

func (c *Config) checkHTTP(at config.Cursor) {
	if strings.ContainsFunc(c.Method, func(r rune) bool { return r < 'A' || r > 'Z' }) || c.Method == http.MethodConnect {
		at.Key("method").Errorf("%q is no method of a probe; use GET, HEAD or OPTIONS", c.Method)
	}
	if c.Path != "" {
		_, err := url.ParseRequestURI(c.Path)
		if err != nil || c.Path[0] != '/' || strings.ContainsFunc(c.Path, func(r rune) bool { return r == ' ' || unprintable(r) }) {
			at.Key("path").Errorf("%q is no path; it begins with a slash, and a space is written %%20", c.Path)
		}
	}
	odd := func(r rune) bool { return unprintable(r) || strings.ContainsRune(" /@?#\\\"<>", r) }
	if c.Host != "" && (hostOf(c.Host) == "" || strings.ContainsFunc(c.Host, odd)) {
		at.Key("host").Errorf("%q is no host; give a name such as www.example.org", c.Host)
	}
	for i, s := range c.Status {
		if s < 200 || s > 599 {
			at.Key("status").Index(i).Errorf("%d is no final status; from 200 to 599", s)
		}
	}
	if len(c.Body) > maxBody/16 {
		at.Key("body").Errorf("%d bytes are too many to look for; at most %d", len(c.Body), maxBody/16)
	}
	if c.Body != "" && c.Method == http.MethodHead {
		at.Key("body").Errorf("a reply to HEAD has no body; use GET")
	}
}

func (c *Config) checkRcpt(at config.Cursor) {
	local, domain, _ := strings.Cut(c.Rcpt, "@")
	odd := func(r rune) bool { return r <= ' ' || r > '~' || strings.ContainsRune("<>,;:\\\"()", r) }
	if c.Rcpt != "" && (local == "" || domain == "" || len(c.Rcpt) > 254 || strings.ContainsFunc(c.Rcpt, odd)) {
		at.Key("rcpt").Errorf("%q is no plain address; give one such as postmaster@example.org", c.Rcpt)
	}
}

func (c *Config) checkLogin(at config.Cursor) {
	switch {
	case c.User == "" && c.Password != "":
		at.Key("password_file").Errorf("is of no use without `user:`; add one or remove it")
	case c.User == "" && c.Mailbox != "":
		at.Key("mailbox").Errorf("is selected by a user; add `user:` and `password_file:`, or remove it")
	case c.User == "":
		return
	case c.Password == "":
		at.Key("password_file").Errorf("missing; name a file with the password of %q alone", c.User)
	default:
		if _, err := loadPassword(c.Password); err != nil {
			at.Key("password_file").Errorf("%v; name a file with the password alone", err)
		}
	}
	if strings.ContainsAny(c.User, "\x00\r\n") || len(c.User) > 255 {
		at.Key("user").Errorf("%q is no user; at most 255 bytes in one line", c.User)
	}
	if strings.ContainsFunc(c.Mailbox, unprintable) || len(c.Mailbox) > 255 {
		at.Key("mailbox").Errorf("%q is no mailbox; write it in ASCII (modified UTF-7), in at most 255 bytes", c.Mailbox)
	}
	if c.TLS == "" && !c.Insecure {
		at.Key("tls").Errorf("missing, so the password would be sent in clear; add `tls: starttls` or `tls: implicit`, or `insecure: true` if that is meant")
	}
}

func (c *Config) checkCommand(at config.Cursor) {
	switch {
	case len(c.Command) == 0:
		at.Key("command").Errorf("missing; list a program and its arguments, such as [/usr/local/bin/check-queue, --fast]")
	case !filepath.IsAbs(c.Command[0]):
		at.Key("command").Index(0).Errorf("%q has no full path; give one such as /usr/local/bin/check-queue", c.Command[0])
	case slices.ContainsFunc(c.Command, func(s string) bool { return strings.ContainsRune(s, 0) }):
		at.Key("command").Errorf("a NUL is in it, which no argument can hold; remove it")
	}
}

func (c *Config) checkTimes(at config.Cursor) {
	if c.Interval < 10*time.Millisecond {
		at.Key("interval").Errorf("%v is too short; at least 10ms", c.Interval)
	}
	if c.SlowInterval != 0 && c.SlowInterval <= c.Interval {
		at.Key("slow_interval").Errorf("%v must be longer than the interval, %v, or be left out", c.SlowInterval, c.Interval)
	}
	if c.Timeout <= 0 || c.Timeout > c.Interval {
		at.Key("timeout").Errorf("%v must be more than 0 and at most the interval, %v", c.Timeout, c.Interval)
	}
}

func (c *Config) checkCounts(at config.Cursor) {
	if c.Fail < 1 || c.Fail > 100 {
		at.Key("fail").Errorf("%d must be from 1 to 100 results in a row", c.Fail)
	}
	if c.Pass < 1 || c.Pass > 100 {
		at.Key("pass").Errorf("%d must be from 1 to 100 results in a row", c.Pass)
	}
	if c.Window == (Window{}) {
		return
	}
	at = at.Key("window")
	if c.Window.Size < 2 || c.Window.Size > maxWindow {
		at.Key("size").Errorf("%d must be from 2 to %d results", c.Window.Size, maxWindow)
		return
	}
	if c.Window.Fail < 2 || c.Window.Fail > c.Window.Size {
		at.Key("fail").Errorf("%d must be from 2 to the window's size, %d", c.Window.Fail, c.Window.Size)
	}
}
