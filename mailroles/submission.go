package mailroles

import (
	"cmp"
	"context"
	"errors"
	"net"
	"net/netip"
	"reflect"

	"anycastle/mailroles/drain"
	"anycastle/mailroles/link"
	"anycastle/mailroles/milter"
	"anycastle/mailroles/smtpd"
	"anycastle/mailroles/submission"
	"anycastle/mailroles/tally"
	"anycastle/mailroles/throttle"
)

// SubmissionStatus is the status of the submission role. Each LUN is there twice: its store, and its queue.
type SubmissionStatus struct {
	Drain      drain.Status      `json:"drain"` // whether it serves
	Sessions   int               `json:"sessions"`
	Deliveries uint64            `json:"deliveries"` // messages that were answered with 250
	Rejects    map[string]uint64 `json:"rejects"`    // refusals by reason
	LUNs       []LUNStatus       `json:"luns"`
	Milters    []milter.Status   `json:"milters"` // in order
}

// Submission takes mail from users who log in.
type Submission struct {
	base
	cfg     Config
	pool    *link.Pool
	handler *submission.Handler
	tally   tally.Tally
	logins  throttle.Logins // outlives drains
	reach   *reach
	milters *milter.Chain
}

var _ Role = (*Submission)(nil)

// NewSubmission makes the submission role of a config that has one. Run gives back what it holds.
func NewSubmission(c Config, opt Options) (*Submission, error) {
	if c.Submission == nil {
		return nil, errors.New("mailroles: config has no submission section")
	}
	b, err := newBase(c, c.Submission.Drain, opt)
	if err != nil {
		return nil, err
	}
	r := &Submission{base: b, cfg: c, pool: link.NewPool(c.Hostname, b.tls.ClientOfAny(), b.Log)}
	luns, probed := map[string]submission.LUN{}, map[string]netip.AddrPort{}
	for _, l := range c.LUNs {
		luns[l.Name] = submission.LUN{LMTP: l.LMTP, Queue: l.Queue}
		probed[l.Name], probed[l.Name+" queue"] = l.LMTP, l.Queue
	}
	r.reach = newReach(b.Log, probed)
	r.handler, err = submission.NewHandler(*c.Submission, submission.Options{
		Hostname: c.Hostname, Directory: b.dir, Store: r.pool, LUNs: luns, Log: b.Log,
	})
	if err != nil {
		return nil, err
	}
	r.milters = milter.New(c.Submission.Milters, milter.Options{
		Hostname: c.Hostname, Daemon: "submission", MaxSize: c.Submission.MaxSize, Log: b.Log,
	})
	return r, errors.Join(
		register(b.Registry, "submission", "deliveries", &r.tally),
		r.milters.Register(b.Registry, "submission"),
	)
}

// Run implements Role.
func (r *Submission) Run(ctx context.Context) error {
	defer r.pool.Close()
	c := r.cfg.Submission
	return r.reach.beside(ctx, func(ctx context.Context) error {
		return r.drainer.Run(ctx, drain.Service{
			Listen: func(ctx context.Context) ([]net.Listener, error) {
				return r.listen(ctx, append(c.Listen[:len(c.Listen):len(c.Listen)], c.TLSListen...)...)
			},
			Serve: r.serve,
			Farewell: func(i int) string {
				if i >= len(c.Listen) {
					return "" // TLS
				}
				return "421 4.3.2 " + r.cfg.Hostname + " is going away, try another\r\n"
			},
			Healthy:  r.reach.healthy,
			Sessions: func() int { return r.tally.Counts().Sessions },
		})
	})
}

func (r *Submission) serve(ctx context.Context, listeners []net.Listener) error {
	c := r.cfg.Submission
	listeners = r.behind(c.Proxy, &r.tally, listeners)
	for i := range c.TLSListen {
		secure := &listeners[len(c.Listen)+i]
		*secure = smtpd.ImplicitTLS(*secure)
	}
	return smtpd.NewServer(smtpd.Options{
		Hostname:    r.cfg.Hostname,
		PublicTLS:   r.public.Public(),
		MaxSize:     c.MaxSize,
		MaxSessions: c.MaxSessions,
		Grace:       c.Drain.Deadline,
		MaxRcpts:    c.MaxRecipients,
		Handler:     r.handler,
		Judge:       r.handler,
		Filters:     r.milters,
		Auth:        &submission.Login{Directory: r.dir, Throttle: &r.logins, SCRAM: c.SCRAM},
		DSN:         true,
		Log:         r.Log,
		Tally:       &r.tally,
	}).Run(ctx, listeners...)
}

// Reload takes DKIM keys and the messages that an account may send in an hour from a config, and reads the keys' files again.
// It refuses a config that differs in anything else. Messages under way are signed with the keys of before.
func (r *Submission) Reload(_ context.Context, c Config) error {
	if c.Submission == nil {
		return errors.New("the file has no submission section any more; stop the role instead")
	}
	if !reflect.DeepEqual(fixed(c), fixed(r.cfg)) {
		return errors.New("only dkim and messages_per_hour of submission can change while it runs; restart the role")
	}
	return r.handler.Reload(*c.Submission)
}

// fixed is the part of a submission role's config that does not change while it runs.
func fixed(c Config) Config {
	s := *c.Submission
	s.DKIM, s.MessagesPerHour = submission.DKIM{}, 0
	return Config{Hostname: c.Hostname, Directory: c.Directory, TLS: c.TLS, PublicTLS: c.PublicTLS, LUNs: c.LUNs, Submission: &s}
}

// Healthy implements Role.
func (r *Submission) Healthy() error { return cmp.Or(r.drainer.Healthy(), r.reach.healthy()) }

// Status implements Role.
func (r *Submission) Status() any {
	c := r.tally.Counts()
	return SubmissionStatus{
		Drain: r.Drain(), Sessions: c.Sessions, Deliveries: c.Done, Rejects: c.Rejects,
		LUNs: r.reach.status(), Milters: r.milters.Status(),
	}
}
