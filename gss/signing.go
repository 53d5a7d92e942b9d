package gss

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"

	"anycastle/gss/sign"
	"anycastle/gss/zone"
)

const (
	observeEvery = 10 * time.Minute // the parent's servers are asked
	refreshEvery = time.Hour        // signatures are made again that end soon
	stepEvery    = time.Hour        // keys are looked at, at least
	retryEvery   = time.Minute      // what did not work
	maxKeySecret = 0o077            // bits of the mode of the directory of keys that must be clear
)

// signing is the signing of one zone, for the life of the process.
type signing struct {
	origin  string
	folder  string // of keys that have none of their own
	signer  *sign.Signer
	log     *slog.Logger
	now     func() time.Time
	wake    chan struct{}            // an order was given; holds one
	change  func()                   // has replies be packed anew; does not wait
	shared  *keyShare                // with other site selectors; nil: with none
	least   uint64                   // serial that the state of the keys must have when they are opened: that of those in use before
	records atomic.Pointer[[]dns.RR] // of the ring; nil: none yet

	mu       sync.Mutex
	config   DNSSEC
	parent   *sign.Parent // nil: nobody is asked
	keeper   *sign.Keeper // nil: it follows, or is not open
	store    *sign.Store  // nil: it is not open
	ring     sign.Ring
	decision sign.Decision
	late     late   // other site selectors
	told     string // what others had said of the keys at the last step
	err      error  // of the last step
}

// apexTypes are what signing adds to the apex of a zone.
var apexTypes = []uint16{dns.TypeDNSKEY, dns.TypeCDS, dns.TypeCDNSKEY}

func newSigning(z *zone.Zone, cfg DNSSEC, stateDir string, log *slog.Logger, change func()) (*signing, error) {
	signer, err := sign.New(sign.Config{Origin: z.Origin(), CacheSize: max(1<<16, 4*z.Len())})
	if err != nil {
		return nil, err
	}
	return &signing{
		origin: z.Origin(), folder: keyFolder(stateDir), config: cfg, parent: cfg.parent(), signer: signer,
		log: log.With("zone", bare(z.Origin())), now: time.Now, wake: make(chan struct{}, 1), change: change,
	}, nil
}

// open opens the keys, and has the signer use them.
func (s *signing) open(ctx context.Context) error {
	s.mu.Lock()
	err := s.openStore()
	if err != nil {
		err = fmt.Errorf("open the keys of %s: %w", bare(s.origin), err)
	}
	s.err = err
	s.mu.Unlock()
	if err != nil {
		return err
	}
	if err := s.step(ctx, nil); err != nil {
		if !s.signs() {
			return errors.Join(err, s.close())
		}
		s.log.Error("keys stay as they are", "err", err)
	}
	return nil
}

// keys is the directory of keys by a config.
func (s *signing) keys(cfg *DNSSEC) string { return filepath.Clean(cmp.Or(cfg.Keys, s.folder)) }

// openStore opens the directory of keys. The caller holds mu.
func (s *signing) openStore() error {
	if s.store != nil {
		return nil
	}
	dir := s.keys(&s.config)
	if s.config.Keys == "" {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return fmt.Errorf("make their directory: %w; give another with dnssec.keys", err)
		}
	}
	info, err := os.Stat(dir)
	if err != nil {
		return err
	}
	if info.Mode().Perm()&maxKeySecret != 0 {
		return fmt.Errorf("their directory %s is open to others; `chmod 700 %s`", dir, dir)
	}
	store, err := sign.OpenStore(dir, s.origin)
	if err != nil {
		return err
	}
	if state, _, err := store.Load(); err == nil && state.Serial < s.least {
		return fmt.Errorf("those in %s are not those in use; copy the directory there first", dir)
	}
	if err := s.keep(store); err != nil {
		return err
	}
	s.store = store
	return nil
}

// keep begins to keep the keys, if that is what this server does. While another process does, which this one is perhaps to take the
// place of, they are followed. The caller holds mu.
func (s *signing) keep(store *sign.Store) error {
	if s.config.Follow || s.keeper != nil {
		return nil
	}
	keeper, err := sign.NewKeeper(store, s.config.policy())
	switch {
	case err == nil:
		s.keeper = keeper
	case !errors.Is(err, sign.ErrKept):
		return err
	case s.store == nil:
		s.log.Warn("another process keeps the keys of the zone; they are used as it left them until it ends", "err", err)
	}
	return nil
}

// signs says whether there are keys to sign with.
func (s *signing) signs() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.ring.Data)+len(s.ring.Apex) > 0
}

func (s *signing) isOpen() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.store != nil
}

func (s *signing) close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	keeper := s.keeper
	s.store, s.keeper = nil, nil
	if keeper == nil {
		return nil
	}
	return keeper.Close()
}

// failure is why the last step was none.
func (s *signing) failure() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// step goes on with the keys as far as is safe now.
func (s *signing) step(ctx context.Context, seen *sign.Observation) (err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	defer func() { s.err = err }()
	if s.store == nil {
		return fmt.Errorf("the keys of %s are closed", bare(s.origin))
	}
	now := s.now()
	s.listen()
	if err := s.keep(s.store); err != nil {
		return err
	}
	var ring sign.Ring
	var d sign.Decision
	if s.keeper != nil {
		s.hold(now)
		ring, d, err = s.keeper.Step(seen, now)
	} else {
		taken := s.follow()
		ring, d, err = sign.Follow(s.store, s.config.policy(), now)
		err = errors.Join(taken, err)
	}
	if err != nil && len(ring.Data) == 0 && s.keeper == nil {
		return err // nothing to use
	}
	alarm, shared := s.share(d.Serial)
	err = errors.Join(err, shared)
	d.Alarm = cmp.Or(alarm, d.Alarm)
	s.note(d)
	s.decision = d
	if !reflect.DeepEqual(ring, s.ring) {
		var use error
		calmly(func() { use = s.signer.Use(ctx, ring, now) })
		if use == nil || errors.Is(use, sign.ErrUnsigned) { // else the former keys are in use still, and it is tried again
			records := ring.Records(s.origin)
			s.ring = ring
			s.records.Store(&records)
		}
		err = errors.Join(err, use)
		s.change()
	}
	return err
}

// note logs what moves. The caller holds mu.
func (s *signing) note(d sign.Decision) {
	was := map[string]sign.KeyState{}
	for _, k := range s.decision.Keys {
		was[k.ID] = k.State
	}
	for _, k := range d.Keys {
		if was[k.ID] != k.State {
			s.log.Info("key moved", "key", k.ID, "old", was[k.ID], "new", k.State, "waits", k.Waits, "until", k.Until)
		}
	}
	if d.Alarm != s.decision.Alarm && d.Alarm != "" {
		s.log.Error("zone needs a look", "cause", d.Alarm)
	}
}

// run goes on with the keys, and makes signatures again in time, until ctx is done.
func (s *signing) run(ctx context.Context) {
	var observed, refreshed time.Time
	var clock wallClock
	for {
		now := s.now()
		if clock.wasSet(now) {
			s.log.Warn("the clock was set; signatures are looked at", "now", now)
			observed, refreshed = time.Time{}, time.Time{}
		}
		clock.note(now)
		var seen *sign.Observation
		if parent, keys := s.asks(); parent != nil && now.Sub(observed) >= observeEvery {
			observed = now
			seen = s.observe(ctx, parent, keys)
		}
		s.goOn(ctx, seen)
		if now.Sub(refreshed) >= refreshEvery {
			refreshed = now
			s.refresh(ctx, now)
		}
		if !s.wait(ctx, &clock) {
			return
		}
	}
}

// wait waits until there may be something to do; false: ctx is done.
func (s *signing) wait(ctx context.Context, clock *wallClock) bool {
	for left := s.pause(); left > 0 && !clock.wasSet(s.now()); left -= clockLook {
		select {
		case <-ctx.Done():
			return false
		case <-s.wake:
			return true
		case <-time.After(min(left, clockLook)):
		}
	}
	return true
}

// refresh makes signatures again that end soon.
func (s *signing) refresh(ctx context.Context, now time.Time) {
	was := s.signer.Generation()
	var err error
	calmly(func() { err = s.signer.Refresh(ctx, now) })
	if err != nil && ctx.Err() == nil {
		s.log.Error("make signatures again", "err", err)
	}
	if s.signer.Generation() != was {
		s.change()
	}
}

// goOn opens the keys if that could not be done before, and goes on with them.
func (s *signing) goOn(ctx context.Context, seen *sign.Observation) {
	was := s.failure()
	var err error
	if s.isOpen() {
		err = s.step(ctx, seen)
	} else if err = s.open(ctx); err == nil {
		s.log.Info("keys are open now")
	}
	if err != nil && ctx.Err() == nil && (was == nil || was.Error() != err.Error()) { // once is enough
		s.log.Error("go on with the keys", "err", err)
	}
}

// asks gives how the parent's servers are asked, and about which keys; nil: they are not.
func (s *signing) asks() (*sign.Parent, map[string]*sign.Key) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.parent == nil || s.keeper == nil {
		return nil, nil
	}
	return s.parent, s.keeper.Keys()
}

// observe asks the parent's servers; nil if that is of no use.
func (s *signing) observe(ctx context.Context, parent *sign.Parent, keys map[string]*sign.Key) *sign.Observation {
	o, err := parent.Observe(ctx, s.origin, keys, s.now)
	if err == nil {
		return &o
	}
	if ctx.Err() == nil {
		s.log.Warn("the parent's servers do not say what DS records they have", "err", err)
	}
	return nil
}

// pause is how long nothing has to be done.
func (s *signing) pause() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	pause := stepEvery
	switch {
	case s.store != nil && s.keeper == nil && !s.config.Follow:
		return time.Second // for the other process to end
	case s.store == nil || s.err != nil:
		return retryEvery
	case s.config.Follow:
		pause = min(pause, max(time.Second, s.config.Propagation/4))
	case s.parent != nil:
		pause = observeEvery
	}
	if len(s.late.names) > 0 {
		pause = min(pause, max(time.Second, s.config.Propagation/4))
	}
	if next := s.decision.Next; !next.IsZero() {
		pause = min(pause, max(next.Sub(s.now()), time.Second))
	}
	return pause
}

// apex gives the records that signing adds to the apex. Queries need it, so it waits for nothing.
func (s *signing) apex(rrtype uint16) (rrs []dns.RR) {
	records := s.records.Load()
	if records == nil {
		return nil
	}
	for _, rr := range *records {
		if rr.Header().Rrtype == rrtype {
			rrs = append(rrs, rr)
		}
	}
	return rrs
}

// secure signs a reply that a zone's lookup gave. compact is set if who asks takes NXDOMAIN together with a compact denial.
func (s *signing) secure(m *dns.Msg, r zone.Result, qtype uint16, compact bool) error {
	f := sign.Facts{Name: r.Name, Type: qtype, CompactOK: compact}
	switch r.Kind {
	case zone.NoData:
		f.Kind = sign.NoData
		f.Types = slices.DeleteFunc(slices.Clone(r.Types), func(t uint16) bool { return slices.Contains(apexTypes, t) })
	case zone.NXDomain:
		f.Kind = sign.NXDomain
	case zone.Delegation:
		f.Kind = sign.Referral
		m.Ns = append(m.Ns, r.DS...)
	}
	return s.signer.Secure(m, f, s.now())
}
