package milter

import (
	"context"
	"log/slog"
	"net"

	"anycastle/mailroles/smtpd"
)

// Options are what a Chain is given by the role that it works for.
type Options struct {
	Hostname string       // our name, for milters that write it into fields
	Daemon   string       // which of our services: smtp or submission
	MaxSize  int64        // largest body in bytes that a milter may put in a message's place
	Log      *slog.Logger // nil: silent

	dial dialFunc // of tests; nil: net.Dialer's
}

// Chain is the milters of a role, in order. It is safe for concurrent use, and holds nothing that must be closed.
type Chain struct {
	opt     Options
	filters []*filter
}

var _ smtpd.Filters = (*Chain)(nil)

// filter is one milter, for all sessions.
type filter struct {
	Config
	counts
	log  *slog.Logger
	dial dialFunc
}

// New makes a chain of milters whose config is valid.
func New(list []Config, opt Options) *Chain {
	if opt.Log == nil {
		opt.Log = slog.New(slog.DiscardHandler)
	}
	if opt.dial == nil {
		opt.dial = (&net.Dialer{}).DialContext
	}
	c := &Chain{opt: opt}
	for _, m := range list {
		c.filters = append(c.filters, &filter{Config: m, log: opt.Log.With("milter", m.Name), dial: opt.dial})
	}
	return c
}

// Open implements smtpd.Filters. No milter is connected to before the client names a sender, so that probes and clients
// that only look cost nothing, and a milter that is dead refuses mail and not EHLO.
func (c *Chain) Open(_ context.Context, client smtpd.Client) (smtpd.Filtering, error) {
	s := &session{chain: c, client: client}
	for _, f := range c.filters {
		s.links = append(s.links, &link{filter: f})
	}
	return s, nil
}
