package sign

import (
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"
)

// Config is what a Signer is made with. The zero value of each field but Origin means its default.
type Config struct {
	Origin      string        // of the zone
	MaxTTL      time.Duration // of any record; greater ones are lowered in signed replies. 24h; an eighth of Validity at most
	NegativeTTL time.Duration // of NSEC records in replies without SOA record, which are referrals. 60s, or MaxTTL
	Validity    time.Duration // of signatures. 14 days
	Skew        time.Duration // how far back a signature begins, for validators whose clocks are late. 1h
	CacheSize   int           // signatures of sets that were not pre-signed. 65536
	Workers     int           // that sign at once what Add is given. As many as processors
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
	orDuration(&c.NegativeTTL, min(time.Minute, c.MaxTTL))
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

// same says whether two rings make the same replies.
func (r *Ring) same(other *Ring) bool {
	equal := func(a, b []*Key) bool { return slices.EqualFunc(a, b, (*Key).same) }
	return r.Delete == other.Delete && r.TTL == other.TTL &&
		equal(r.Data, other.Data) && equal(r.Apex, other.Apex) && equal(r.Parent, other.Parent)
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
	renewed atomic.Uint64

	slow   sync.Mutex // one change of all that is pre-signed at a time; taken before change
	change sync.Mutex // one change of state at a time
}

// state is what queries use, never changed but for what is in online.
type state struct {
	origin string
	ring   Ring
	apex   []uint16          // types of the ring's records
	pinned map[string]*entry // by Presign
	added  map[string]*entry // by Add
	online *cache
}

// ahead gives what was signed ahead of queries.
func (st *state) ahead(key []byte) *entry {
	if e := st.added[string(key)]; e != nil {
		return e
	}
	return st.pinned[string(key)]
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

// Generation grows when signatures that replies had before are out of use: by Use, and by a Refresh that signed something. Who
// keeps whole replies makes them anew then.
func (s *Signer) Generation() uint64 { return s.renewed.Load() }

// Signed counts the signatures that were made.
func (s *Signer) Signed() uint64 { return s.signed.Load() }
