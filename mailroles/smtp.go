package mailroles

import (
	"cmp"
	"context"
	"errors"
	"net"
	"net/netip"

	"anycastle/mailroles/drain"
	"anycastle/mailroles/link"
	"anycastle/mailroles/milter"
	"anycastle/mailroles/smtpd"
	"anycastle/mailroles/tally"
)

// SMTPStatus is the status of the smtp role.
type SMTPStatus struct {
	Sessions   int               `json:"sessions"`
	Deliveries uint64            `json:"deliveries"` // messages that were answered with 250
	Rejects    map[string]uint64 `json:"rejects"`    // refusals by reason
	LUNs       []LUNStatus       `json:"luns"`
	Milters    []milter.Status   `json:"milters"` // in order
}

// SMTP is the MX front end.
type SMTP struct {
	base
	cfg     SMTPConfig
	dsn     bool                      // every LUN has a queue, which makes reports of deliveries
	stores  map[string]netip.AddrPort // where the store of each LUN listens
	host    string
	tally   tally.Tally
	reach   *reach
	milters *milter.Chain
}

var _ Role = (*SMTP)(nil)

// NewSMTP makes the smtp role of a config that has one.
func NewSMTP(c Config, opt Options) (*SMTP, error) {
	if c.SMTP == nil {
		return nil, errors.New("mailroles: config has no smtp section")
	}
	b, err := newBase(c, c.SMTP.Drain, opt)
	if err != nil {
		return nil, err
	}
	r := &SMTP{base: b, cfg: *c.SMTP, host: c.Hostname}
	r.stores = map[string]netip.AddrPort{}
	r.dsn = true
	for _, l := range c.LUNs {
		r.stores[l.Name] = l.LMTP
		r.dsn = r.dsn && l.Queue.IsValid()
	}
	r.reach = newReach(b.Log, r.stores)
	r.milters = milter.New(r.cfg.Milters, milter.Options{Hostname: r.host, Daemon: "smtp", MaxSize: r.cfg.MaxSize, Log: b.Log})
	return r, errors.Join(register(b.Registry, "smtp", "deliveries", &r.tally), r.milters.Register(b.Registry, "smtp"))
}

// Run implements Role.
func (r *SMTP) Run(ctx context.Context) error {
	return r.reach.beside(ctx, func(ctx context.Context) error {
		return r.drainer.Run(ctx, drain.Service{
			Listen: func(ctx context.Context) ([]net.Listener, error) {
				return r.listen(ctx, r.cfg.Listen...)
			},
			Serve:    r.serve,
			Farewell: func(int) string { return "421 4.3.2 " + r.host + " is going away, try another\r\n" },
			Healthy:  r.reach.healthy,
			Sessions: func() int { return r.tally.Counts().Sessions },
		})
	})
}

func (r *SMTP) serve(ctx context.Context, listeners []net.Listener) error {
	links := link.NewPool(r.host, r.tls.ClientOfAny(), r.Log)
	defer links.Close()
	return smtpd.NewServer(smtpd.Options{
		Hostname:    r.host,
		PublicTLS:   r.tls.Public(),
		MaxSize:     r.cfg.MaxSize,
		MaxSessions: r.cfg.MaxSessions,
		Grace:       r.cfg.Drain.Deadline,
		Handler:     &smtpd.Front{Hostname: r.host, Directory: r.dir, LUNs: r.stores, Links: links, Log: r.Log},
		Filters:     r.milters,
		DSN:         r.dsn,
		Log:         r.Log,
		Tally:       &r.tally,
	}).Run(ctx, r.behind(r.cfg.Proxy, &r.tally, listeners)...)
}

// Healthy implements Role.
func (r *SMTP) Healthy() error { return cmp.Or(r.drainer.Healthy(), r.reach.healthy()) }

// Status implements Role.
func (r *SMTP) Status() any {
	c := r.tally.Counts()
	return SMTPStatus{Sessions: c.Sessions, Deliveries: c.Done, Rejects: c.Rejects, LUNs: r.reach.status(), Milters: r.milters.Status()}
}
