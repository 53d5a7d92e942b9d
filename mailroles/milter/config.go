package milter

import (
	"net"
	"strconv"
	"strings"
	"time"

	"anycastle/internal/config"
)

// What becomes of mail that a milter cannot judge.
const (
	Tempfail = "tempfail" // 451: the client keeps it and tries again
	Accept   = "accept"   // it passes unseen
)

// Bounds of time-outs. A client waits 10 minutes for the reply to its message (RFC 5321 section 4.5.3.2.6).
const (
	defaultTimeout = time.Minute
	minTimeout     = time.Second
	maxTimeout     = 5 * time.Minute
	maxTimeouts    = 8 * time.Minute
)

// Config is one milter.
type Config struct {
	Name      string        `yaml:"name"`       // in status, metrics and the reasons of quarantine
	Addr      string        `yaml:"addr"`       // where it listens: 127.0.0.1:11332, or unix:/run/clamav/clamav-milter.ctl
	Timeout   time.Duration `yaml:"timeout"`    // for all it has to say to MAIL, to RCPT, and to a whole message; default 1m
	OnFailure string        `yaml:"on_failure"` // tempfail (451, default) or accept
}

// SetDefaults implements config.Defaulter.
func (c *Config) SetDefaults() {
	*c = Config{Timeout: defaultTimeout, OnFailure: Tempfail}
}

// Validate reports what is wrong with a list of milters.
func Validate(list []Config, at config.Cursor) {
	seen := map[string]bool{}
	var wait time.Duration
	for i, c := range list {
		at := at.Index(i)
		if !isName(c.Name) {
			at.Key("name").Errorf("%q is no name of a milter; write one of letters, digits and dashes such as rspamd", c.Name)
		} else if seen[c.Name] {
			at.Key("name").Errorf("two milters are called %q; rename one", c.Name)
		}
		seen[c.Name] = true
		if _, _, ok := c.target(); !ok {
			at.Key("addr").Errorf("%q is not where a milter listens, such as 127.0.0.1:11332 or unix:/run/clamav/clamav-milter.ctl", c.Addr)
		}
		if c.Timeout < minTimeout || c.Timeout > maxTimeout {
			at.Key("timeout").Errorf("%v must be from %v to %v", c.Timeout, minTimeout, maxTimeout)
		}
		if c.OnFailure != Tempfail && c.OnFailure != Accept {
			at.Key("on_failure").Errorf("%q must be %s or %s", c.OnFailure, Tempfail, Accept)
		}
		wait += c.Timeout
	}
	if wait > maxTimeouts {
		at.Errorf("the time-outs make %v together, a client waits 10 minutes; keep them within %v", wait, maxTimeouts)
	}
}

func isName(s string) bool {
	return s != "" && len(s) <= 64 && !strings.ContainsFunc(s, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-'
	})
}

// target gives what to dial.
func (c *Config) target() (network, addr string, ok bool) {
	if path, unix := strings.CutPrefix(c.Addr, "unix:"); unix {
		return "unix", path, strings.HasPrefix(path, "/")
	}
	host, port, err := net.SplitHostPort(c.Addr)
	n, perr := strconv.ParseUint(port, 10, 16)
	return "tcp", c.Addr, err == nil && perr == nil && n > 0 && host != "" && !strings.ContainsAny(host, "/ ")
}
