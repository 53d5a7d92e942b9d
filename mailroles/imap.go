package mailroles

import (
	"cmp"
	"context"
	"errors"
	"net"
	"net/netip"

	"anycastle/internal/config"
	"anycastle/mailroles/drain"
	"anycastle/mailroles/imapfront"
	"anycastle/mailroles/tally"
	"anycastle/mailroles/throttle"
)

// IMAPStatus is the status of the imap role.
type IMAPStatus struct {
	Drain    drain.Status      `json:"drain"` // whether it serves
	Sessions int               `json:"sessions"`
	Logins   uint64            `json:"logins"`  // logins that reached their store
	Rejects  map[string]uint64 `json:"rejects"` // refusals by reason
	LUNs     []LUNStatus       `json:"luns"`
}

// IMAP is the IMAP front end.
type IMAP struct {
	base
	cfg    IMAPConfig
	stores map[string]netip.AddrPort // where the store of each LUN listens
	tally  tally.Tally
	logins throttle.Logins // outlives drains
	reach  *reach
}

var _ Role = (*IMAP)(nil)

// NewIMAP makes the imap role of a config that has one.
func NewIMAP(c Config, opt Options) (*IMAP, error) {
	if c.IMAP == nil {
		return nil, errors.New("mailroles: config has no imap section")
	}
	b, err := newBase(c, c.IMAP.Drain, opt)
	if err != nil {
		return nil, err
	}
	r := &IMAP{base: b, cfg: *c.IMAP}
	r.stores = map[string]netip.AddrPort{}
	for _, l := range c.LUNs {
		r.stores[l.Name] = l.IMAP
	}
	r.reach = newReach(b.Log, r.stores)
	return r, register(b.Registry, "imap", "logins", &r.tally)
}

// Run implements Role.
func (r *IMAP) Run(ctx context.Context) error {
	addrs := append(append([]config.ListenAddr{}, r.cfg.Listen...), r.cfg.TLSListen...)
	return r.reach.beside(ctx, func(ctx context.Context) error {
		return r.drainer.Run(ctx, drain.Service{
			Listen: func(ctx context.Context) ([]net.Listener, error) {
				return r.listen(ctx, addrs...)
			},
			Serve: r.serve,
			Farewell: func(i int) string {
				if i >= len(r.cfg.Listen) {
					return "" // TLS
				}
				return "* BYE [UNAVAILABLE] Server is going away, try another\r\n"
			},
			Healthy:  r.reach.healthy,
			Sessions: func() int { return r.tally.Counts().Sessions },
		})
	})
}

func (r *IMAP) serve(ctx context.Context, sockets []net.Listener) error {
	var listeners []imapfront.Listener
	for i, ln := range r.behind(r.cfg.Proxy, &r.tally, sockets) {
		listeners = append(listeners, imapfront.Listener{Listener: ln, TLS: i >= len(r.cfg.Listen)})
	}
	return imapfront.NewServer(imapfront.Options{
		Directory:   r.dir,
		Changed:     r.dir.Changed,
		LUNs:        r.stores,
		PublicTLS:   r.public.Public(),
		LinkTLS:     r.tls.ClientOfAny(),
		Throttle:    &r.logins,
		MaxSessions: r.cfg.MaxSessions,
		Grace:       r.cfg.Drain.Deadline,
		Log:         r.Log,
		Tally:       &r.tally,
	}).Run(ctx, listeners...)
}

// Healthy implements Role.
func (r *IMAP) Healthy() error { return cmp.Or(r.drainer.Healthy(), r.reach.healthy()) }

// Status implements Role.
func (r *IMAP) Status() any {
	c := r.tally.Counts()
	return IMAPStatus{Drain: r.Drain(), Sessions: c.Sessions, Logins: c.Done, Rejects: c.Rejects, LUNs: r.reach.status()}
}
