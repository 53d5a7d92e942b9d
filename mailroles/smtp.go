package mailroles

import (
	"cmp"
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"

	"golang.org/x/sync/errgroup"

	"anycastle/internal/config"
	"anycastle/mailroles/drain"
	"anycastle/mailroles/judge"
	"anycastle/mailroles/link"
	"anycastle/mailroles/milter"
	"anycastle/mailroles/mtasts"
	"anycastle/mailroles/screen"
	"anycastle/mailroles/smtpd"
	"anycastle/mailroles/tally"
)

// SMTPStatus is the status of the smtp role.
type SMTPStatus struct {
	Drain      drain.Status      `json:"drain"` // whether it serves
	Sessions   int               `json:"sessions"`
	Deliveries uint64            `json:"deliveries"` // messages that were answered with 250
	Rejects    map[string]uint64 `json:"rejects"`    // refusals by reason
	LUNs       []LUNStatus       `json:"luns"`
	Milters    []milter.Status   `json:"milters"` // in order

	Screen     map[string]uint64   `json:"screen,omitempty"`      // verdicts on clients
	BlockLists []screen.ListStatus `json:"block_lists,omitempty"` // in order
	DMARC      map[string]uint64   `json:"dmarc,omitempty"`       // results of messages
	MTASTS     []mtasts.Record     `json:"mta_sts,omitempty"`     // what has to stand in DNS
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

	screen   *screen.Screen // nil for none, as the next two
	judge    *judge.Judge
	policies *mtasts.Server
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
	return r, errors.Join(
		register(b.Registry, "smtp", "deliveries", &r.tally),
		r.milters.Register(b.Registry, "smtp"),
		r.addOptional(),
	)
}

// addOptional makes what the config may leave out.
func (r *SMTP) addOptional() (err error) {
	if c := r.cfg.Screen; c != nil {
		r.screen = screen.New(*c, r.Log)
		err = registerCounts(r.Registry, "smtp_screen", "Verdicts on clients since the start.", "verdict", r.screen.Counts)
	}
	if c := r.cfg.Judge; c != nil {
		r.judge = judge.New(*c, r.host, r.Log)
		err = errors.Join(err, registerCounts(r.Registry, "smtp_dmarc", "DMARC results since the start.", "result", r.judge.Counts))
	}
	if c := r.cfg.MTASTS; c != nil {
		r.policies = mtasts.NewServer(*c, r.public.Public(), r.Log)
	}
	return err
}

// Run implements Role.
func (r *SMTP) Run(ctx context.Context) error {
	return r.reach.beside(ctx, func(ctx context.Context) error {
		return r.drainer.Run(ctx, drain.Service{
			Listen: func(ctx context.Context) ([]net.Listener, error) {
				return r.listen(ctx, r.addrs()...)
			},
			Serve: r.serve,
			Farewell: func(i int) string {
				if i >= len(r.cfg.Listen) {
					return "" // HTTPS
				}
				return "421 4.3.2 " + r.host + " is going away, try another\r\n"
			},
			Healthy:  r.reach.healthy,
			Sessions: func() int { return r.tally.Counts().Sessions },
		})
	})
}

// addrs are where the role listens: for mail, and then for who asks for policies.
func (r *SMTP) addrs() []config.ListenAddr {
	list := slices.Clone(r.cfg.Listen)
	if r.policies != nil {
		list = append(list, r.cfg.MTASTS.Listen)
	}
	return list
}

func (r *SMTP) serve(ctx context.Context, listeners []net.Listener) error {
	links := link.NewPool(r.host, r.tls.ClientOfAny(), r.Log)
	defer links.Close()
	g, ctx := errgroup.WithContext(ctx)
	mail := listeners[:len(r.cfg.Listen)]
	g.Go(func() error { return r.server(links).Run(ctx, r.behind(r.cfg.Proxy, &r.tally, mail)...) })
	if r.screen != nil {
		g.Go(func() error { return r.screen.Run(ctx) })
	}
	if r.policies != nil {
		g.Go(func() error { return r.policies.Run(ctx, listeners[len(mail)]) })
	}
	return g.Wait()
}

func (r *SMTP) server(links *link.Pool) *smtpd.Server {
	opt := smtpd.Options{
		Hostname:    r.host,
		PublicTLS:   r.public.Public(),
		MaxSize:     r.cfg.MaxSize,
		MaxSessions: r.cfg.MaxSessions,
		Grace:       r.cfg.Drain.Deadline,
		Handler:     &smtpd.Front{Hostname: r.host, Directory: r.dir, LUNs: r.stores, Links: links, Log: r.Log},
		Filters:     r.milters,
		DSN:         r.dsn,
		Log:         r.Log,
		Tally:       &r.tally,
	}
	if r.screen != nil {
		opt.Screen = r.screen
	}
	if r.judge != nil {
		opt.Judge = r.judge
	}
	return smtpd.NewServer(opt)
}

// Healthy implements Role.
func (r *SMTP) Healthy() error { return cmp.Or(r.drainer.Healthy(), r.reach.healthy()) }

// Status implements Role.
func (r *SMTP) Status() any {
	c := r.tally.Counts()
	st := SMTPStatus{
		Drain: r.Drain(), Sessions: c.Sessions, Deliveries: c.Done, Rejects: c.Rejects,
		LUNs: r.reach.status(), Milters: r.milters.Status(),
	}
	if r.screen != nil {
		st.Screen, st.BlockLists = r.screen.Counts(), r.screen.Lists()
	}
	if r.judge != nil {
		st.DMARC = r.judge.Counts()
	}
	if r.policies != nil {
		st.MTASTS = r.policies.Records()
	}
	return st
}
