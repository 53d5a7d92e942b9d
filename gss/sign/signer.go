package sign

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/sync/errgroup"
)

// Config is what a Signer is made with. The zero value of each field but Origin means its default.
type Config struct {
	Origin      string        // of the zone
	MaxTTL      time.Duration // of any record; greater ones are lowered in signed replies. 24h; an eighth of Validity at most
	NegativeTTL time.Duration // of NSEC records in replies without SOA record, which are referrals. 60s
	Validity    time.Duration // of signatures. 14 days
	Skew        time.Duration // how far back a signature begins, for validators whose clocks are late. 1h
	CacheSize   int           // signatures of sets that were not pre-signed. 65536
	Workers     int           // that sign at once, ahead of queries. As many as processors
}

// These shares of Validity decide when a signature is made again.
const (
	refreshShare = 4  // when less than a quarter is left
	useShare     = 8  // a pre-signed one is used until less than an eighth is left: Refresh makes the new one
	jitterShare  = 16 // by which signatures end earlier, so that they do not all end at once
)

func (c Config) withDefaults() Config {
	c.Origin = dns.CanonicalName(c.Origin)
	orDuration(&c.MaxTTL, 24*time.Hour)
	orDuration(&c.NegativeTTL, time.Minute)
	orDuration(&c.Validity, 14*24*time.Hour)
	orDuration(&c.Skew, time.Hour)
	if c.CacheSize == 0 {
		c.CacheSize = 1 << 16
	}
	if c.Workers == 0 {
		c.Workers = runtime.GOMAXPROCS(0)
	}
	return c
}

func orDuration(d *time.Duration, otherwise time.Duration) {
	if *d == 0 {
		*d = otherwise
	}
}

func (c *Config) check() error {
	switch {
	case c.Origin == ".":
		return errors.New("no origin; name the zone")
	case c.MaxTTL < time.Second || c.NegativeTTL < 0 || c.NegativeTTL > c.MaxTTL:
		return fmt.Errorf("TTLs of %v at most and %v of denials; the first is 1s or more, and the greater", c.MaxTTL, c.NegativeTTL)
	case c.MaxTTL > c.Validity/useShare:
		// else a cache could hold a record longer than its signature is valid
		return fmt.Errorf("signatures are valid for %v; with TTLs of %v, make it %d times those", c.Validity, c.MaxTTL, useShare)
	case c.Skew < 0 || c.CacheSize < 0 || c.Workers < 0:
		return errors.New("a negative skew, cache size or number of workers; leave it out for the default")
	}
	return nil
}

// Ring says which keys of a zone do what at one moment.
type Ring struct {
	Data   []*Key // sign the zone's data: one, or more while the algorithm changes; none: the zone is unsigned
	Apex   []*Key // are the DNSKEY set, and sign it, CDS and CDNSKEY
	Parent []*Key // those whose DS records the parent is asked for, by CDS and CDNSKEY
	Delete bool   // the parent is asked to remove the DS records (RFC 8078 section 4)
	TTL    uint32 // of the three sets, in seconds
}

// Records gives the DNSKEY, CDS and CDNSKEY sets, unsigned, which the zone is to answer at its apex.
func (r *Ring) Records(origin string) []dns.RR {
	origin = dns.CanonicalName(origin)
	var rrs, cdnskey []dns.RR
	for _, k := range r.Apex {
		rrs = append(rrs, k.DNSKEY(r.TTL))
	}
	for _, k := range r.Parent {
		record := k.DNSKEY(r.TTL)
		rrs = append(rrs, record.ToDS(dns.SHA256).ToCDS())
		cdnskey = append(cdnskey, record.ToCDNSKEY())
	}
	if r.Delete && len(r.Parent) == 0 {
		header := dns.RR_Header{Name: origin, Class: dns.ClassINET, Ttl: r.TTL}
		rrs = append(rrs, (&dns.DS{Hdr: header, Digest: "00"}).ToCDS())
		cdnskey = append(cdnskey, (&dns.DNSKEY{Hdr: header, Protocol: protocol, PublicKey: "AA=="}).ToCDNSKEY())
		for _, rr := range []dns.RR{rrs[len(rrs)-1], cdnskey[0]} {
			rr.Header().Name = origin
		}
	}
	return append(rrs, cdnskey...)
}

// Signer signs replies of one zone. Its methods are safe for concurrent use.
type Signer struct {
	cfg     Config
	state   atomic.Pointer[state]
	scratch sync.Pool // of *setKey
	signed  atomic.Uint64

	change sync.Mutex // one change of state at a time
}

// state is what queries use, never changed but for what is in online.
type state struct {
	origin string
	ring   Ring
	apex   []uint16 // types of the ring's records
	pinned map[string]*entry
	online *cache
}

// New makes a Signer. Until Use gives it keys it leaves all replies as they are.
func New(cfg Config) (*Signer, error) {
	cfg = cfg.withDefaults()
	if err := cfg.check(); err != nil {
		return nil, fmt.Errorf("sign %s: %w", cfg.Origin, err)
	}
	s := &Signer{cfg: cfg, scratch: sync.Pool{New: func() any { return new(setKey) }}}
	s.state.Store(&state{origin: cfg.Origin, online: newCache(cfg.CacheSize)})
	return s, nil
}

// Signed counts the signatures that were made.
func (s *Signer) Signed() uint64 { return s.signed.Load() }

// Use has further replies signed by these keys. All that is pre-signed is signed by them first; it blocks that long, while
// queries are still answered with the signatures of before. An error (ErrUnsigned) says what could not be signed; the keys
// are in use nevertheless, as validators expect them, and such sets are tried again when they are asked for.
func (s *Signer) Use(ctx context.Context, ring Ring, now time.Time) error {
	s.change.Lock()
	defer s.change.Unlock()
	old := s.state.Load()
	sets := make([][]byte, 0, len(old.pinned))
	for key := range old.pinned {
		if !old.isApex([]byte(key)) {
			sets = append(sets, []byte(key))
		}
	}
	st := &state{origin: s.cfg.Origin, ring: ring, online: newCache(s.cfg.CacheSize)}
	return s.install(ctx, st, nil, sets, old.pinned, now)
}

// Presign signs the sets which replies will be made of, so that those cost no crypto: it is called at each change of state
// with all sets that may be asked for then. Signatures of sets that were known before are kept; those of sets that are not
// among these any more are forgotten. Sets are whole RRsets, each with its full TTL.
func (s *Signer) Presign(ctx context.Context, sets [][]dns.RR, now time.Time) error {
	s.change.Lock()
	defer s.change.Unlock()
	old := s.state.Load()
	st := &state{origin: s.cfg.Origin, ring: old.ring, online: old.online}
	keys := make([][]byte, 0, len(sets))
	ttls := make(map[string]uint32, len(sets))
	var b setKey
	var errs []error
	for _, set := range sets {
		if len(set) == 0 || !within(s.cfg.Origin, set[0].Header().Name) {
			continue
		}
		key, err := b.build(set)
		if err != nil {
			errs = append(errs, fmt.Errorf("%w: %w", ErrUnsigned, err))
			continue
		}
		if _, twice := ttls[string(key)]; !twice {
			keys = append(keys, slices.Clone(key))
		}
		ttls[string(key)] = max(ttls[string(key)], s.ttl(set))
	}
	return errors.Join(append(errs, s.install(ctx, st, ttls, keys, old.pinned, now))...)
}

// Refresh signs again what is pre-signed and has less than a quarter of its time left. It is to be called every hour or so:
// an eighth of Config.Validity at most.
func (s *Signer) Refresh(ctx context.Context, now time.Time) error {
	s.change.Lock()
	defer s.change.Unlock()
	old := s.state.Load()
	st := &state{origin: s.cfg.Origin, ring: old.ring, online: old.online}
	keys := make([][]byte, 0, len(old.pinned))
	for key := range old.pinned {
		if !old.isApex([]byte(key)) {
			keys = append(keys, []byte(key))
		}
	}
	return s.install(ctx, st, nil, keys, old.pinned, now)
}

// install fills st.pinned with signatures of these sets and of the ring's own, and has queries use st. Of sets that were
// pinned before it takes the signature, if the ring would still make it, and otherwise the TTL at least.
func (s *Signer) install(
	ctx context.Context, st *state, ttls map[string]uint32, keys [][]byte, old map[string]*entry, now time.Time,
) error {
	if ttls == nil {
		ttls = map[string]uint32{}
	}
	keys, err := s.addApex(st, ttls, keys)
	if err != nil {
		return err
	}
	entries := make([]*entry, len(keys))
	var next atomic.Int64
	var workers errgroup.Group
	var mu sync.Mutex
	var errs []error
	for range min(s.cfg.Workers, len(keys)) {
		workers.Go(func() error {
			for i := int(next.Add(1)) - 1; i < len(keys); i = int(next.Add(1)) - 1 {
				if err := ctx.Err(); err != nil {
					return err
				}
				e, err := s.renew(st, keys[i], ttls[string(keys[i])], old[string(keys[i])], now)
				entries[i] = e
				if err != nil {
					mu.Lock()
					errs = append(errs, err)
					mu.Unlock()
				}
			}
			return nil
		})
	}
	if err := workers.Wait(); err != nil {
		return fmt.Errorf("sign ahead: %w", err) // nothing has changed
	}
	st.pinned = make(map[string]*entry, len(keys))
	for i, e := range entries {
		if e != nil {
			st.pinned[string(keys[i])] = e
		}
	}
	s.state.Store(st)
	return summary(errs)
}

// summary keeps an error short when every set fails for the same reason.
func summary(errs []error) error {
	if len(errs) > 3 {
		return fmt.Errorf("%w, and %d sets more", errors.Join(errs[:3]...), len(errs)-3)
	}
	return errors.Join(errs...)
}

// addApex adds the ring's own sets.
func (s *Signer) addApex(st *state, ttls map[string]uint32, keys [][]byte) ([][]byte, error) {
	records := st.ring.Records(s.cfg.Origin)
	for len(records) > 0 {
		n := 1
		for n < len(records) && sameSet(records[0], records[n]) {
			n++
		}
		var b setKey
		key, err := b.build(records[:n])
		if err != nil {
			return nil, fmt.Errorf("sign the keys: %w", err)
		}
		st.apex = append(st.apex, records[0].Header().Rrtype)
		ttls[string(key)] = st.ring.TTL
		keys = append(keys, slices.Clone(key))
		records = records[n:]
	}
	return keys, nil
}

// renew gives the entry of a set under the ring of st: the old one if it will do.
func (s *Signer) renew(st *state, key []byte, ttl uint32, old *entry, now time.Time) (*entry, error) {
	if old == nil {
		old = st.online.get(key)
	}
	if old != nil {
		ttl = max(ttl, old.ttl)
	}
	signers := st.signers(key)
	if old.madeBy(signers) && ttl <= old.ttl && old.left(now) >= s.cfg.Validity/refreshShare {
		return old, nil
	}
	e, err := s.make(signers, key, ttl, now)
	if err != nil && old.madeBy(signers) && old.left(now) > 0 {
		return old, err // the last good one
	}
	return e, err
}
