package mtasts

import (
	"cmp"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"

	"anycastle/internal/wholefile"
)

const (
	// retryTime is how long nobody tries again to fetch a policy that could not be fetched (RFC 8461 section 3.3).
	retryTime = 5 * time.Minute
	// refreshEvery is how old a policy may be before Run fetches it again.
	refreshEvery = 24 * time.Hour
	// lookEvery is how often Run looks for such policies.
	lookEvery = 10 * time.Minute
	// unusedTime is how long a policy is refreshed that nobody asks for.
	unusedTime = 30 * 24 * time.Hour
	// maxDomains bounds the cache.
	maxDomains = 20_000
	// maxFile bounds a file of the cache, in bytes.
	maxFile = 256 << 10
)

// Options say how a Cache finds policies.
type Options struct {
	Dir  string                                                   // of the cache; it is made
	TXT  func(ctx context.Context, name string) ([]string, error) // asks DNS
	Dial func(ctx context.Context, host string) (net.Conn, error) // reaches HTTPS of a host
	// Absent says that an error of TXT means that there is no such record, not that nobody can tell.
	Absent func(error) bool
	Roots  *x509.CertPool // nil: the system's
	Log    *slog.Logger
	Now    func() time.Time // nil: time.Now
}

// Cache finds policies. It is safe for concurrent use.
type Cache struct {
	opt     Options
	fetches singleflight.Group

	mu      sync.Mutex
	domains map[string]*kept
}

// kept is what is known of a domain. It is also the form on disk.
type kept struct {
	Domain  string    `json:"domain"`
	ID      string    `json:"id"`
	Policy  Policy    `json:"policy"`
	Fetched time.Time `json:"fetched"` // zero: no policy is known
	tried   time.Time // when a fetch failed last
	used    time.Time
}

// Open makes a cache and reads what is in its folder. A file that cannot be read is left out, with a warning.
func Open(opt Options) (*Cache, error) {
	if opt.Now == nil {
		opt.Now = time.Now
	}
	c := &Cache{opt: opt, domains: map[string]*kept{}}
	if err := os.MkdirAll(opt.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the cache of MTA-STS policies: %w", err)
	}
	files, err := os.ReadDir(opt.Dir)
	if err != nil {
		return nil, fmt.Errorf("read the cache of MTA-STS policies: %w", err)
	}
	for _, f := range files {
		if strings.HasSuffix(f.Name(), ".new") || len(c.domains) == maxDomains {
			continue
		}
		k, err := readKept(filepath.Join(opt.Dir, f.Name()))
		if err != nil {
			opt.Log.Warn("leave out a cached MTA-STS policy", "file", f.Name(), "err", err)
			continue
		}
		k.used = k.Fetched
		c.domains[k.Domain] = k
	}
	return c, nil
}

func readKept(path string) (*kept, error) {
	st, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if st.Size() > maxFile {
		return nil, errors.New("it is too large")
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	k := &kept{}
	if err := json.Unmarshal(text, k); err != nil {
		return nil, err
	}
	if fileOf(k.Domain) != filepath.Base(path) || k.Policy.MaxAge > maxAge || len(k.Policy.MX) > maxPatterns {
		return nil, errors.New("it is not what was written")
	}
	return k, nil
}

func fileOf(domain string) string {
	sum := sha256.Sum256([]byte(domain))
	return hex.EncodeToString(sum[:16])
}

// Policy gives the policy of a domain in force now; ok is false when there is none, and then the domain is reached as without
// MTA-STS. A policy that was found before stays in force until its max_age ends, whatever DNS and HTTPS say meanwhile, unless
// a newer one takes its place.
func (c *Cache) Policy(ctx context.Context, domain string) (p Policy, ok bool) {
	domain = strings.ToLower(strings.TrimSuffix(domain, "."))
	if !isName(domain) {
		return Policy{}, false
	}
	now := c.opt.Now()
	c.mu.Lock()
	var before kept
	if k := c.domains[domain]; k != nil {
		k.used = now
		before = *k
	}
	c.mu.Unlock()
	after, err := c.renew(ctx, domain, before, false)
	if err != nil && !errors.Is(err, ErrNoRecord) {
		c.opt.Log.Debug("no newer MTA-STS policy", "domain", domain, "err", err)
	}
	if !after.inForce(now) || after.Policy.Mode == None {
		return Policy{}, false
	}
	return after.Policy, true
}

func (k *kept) inForce(now time.Time) bool {
	return !k.Fetched.IsZero() && now.Before(k.Fetched.Add(k.Policy.MaxAge))
}

// renew asks whether there is a newer policy than that of before, and gives the one that counts. anyway fetches it even if its
// id is the same.
func (c *Cache) renew(ctx context.Context, domain string, before kept, anyway bool) (kept, error) {
	texts, err := c.opt.TXT(ctx, "_mta-sts."+domain)
	if err != nil && c.opt.Absent(err) {
		err = ErrNoRecord
	}
	if err != nil {
		return before, err
	}
	id, err := ParseRecord(texts)
	if err != nil {
		return before, err
	}
	now := c.opt.Now()
	if before.inForce(now) && id == before.ID && !anyway {
		return before, nil
	}
	if now.Before(before.tried.Add(retryTime)) {
		return before, nil
	}
	got, err, _ := c.fetches.Do(domain, func() (any, error) { return c.fetched(ctx, domain, id) })
	if err != nil {
		return before, err
	}
	return got.(kept), nil
}

// fetched fetches a policy and keeps it.
func (c *Cache) fetched(ctx context.Context, domain, id string) (kept, error) {
	policy, err := c.fetch(ctx, domain)
	now := c.opt.Now()
	c.mu.Lock()
	k := c.domains[domain]
	if k == nil {
		k = &kept{Domain: domain}
		c.makeRoom()
		c.domains[domain] = k
	}
	k.used = now
	if err != nil {
		k.tried = now
		c.mu.Unlock()
		return kept{}, err
	}
	k.ID, k.Policy, k.Fetched, k.tried = id, policy, now, time.Time{}
	is := *k
	c.mu.Unlock()
	text, err := json.Marshal(is)
	if err != nil {
		return is, fmt.Errorf("keep MTA-STS policy: %w", err)
	}
	if err := wholefile.Put(filepath.Join(c.opt.Dir, fileOf(domain)), text); err != nil {
		c.opt.Log.Warn("MTA-STS policy is not kept on disk", "domain", domain, "err", err)
	}
	return is, nil
}

// makeRoom forgets the domain that was not used for longest when the cache is full. The caller holds the lock.
func (c *Cache) makeRoom() {
	if len(c.domains) < maxDomains {
		return
	}
	var oldest *kept
	for _, k := range c.domains {
		if oldest == nil || cmp.Compare(k.used.UnixNano(), oldest.used.UnixNano()) < 0 {
			oldest = k
		}
	}
	c.forget(oldest.Domain)
}

// forget removes a domain. The caller holds the lock.
func (c *Cache) forget(domain string) {
	delete(c.domains, domain)
	if err := os.Remove(filepath.Join(c.opt.Dir, fileOf(domain))); err != nil && !errors.Is(err, os.ErrNotExist) {
		c.opt.Log.Warn("forget an MTA-STS policy", "domain", domain, "err", err)
	}
}

// Run refreshes policies every day, as RFC 8461 section 10.2 asks, so that they are fresh even when a domain is blocked later.
// It forgets those that have expired. It returns when ctx is done.
func (c *Cache) Run(ctx context.Context) {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		c.refresh(ctx)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (c *Cache) refresh(ctx context.Context) {
	now := c.opt.Now()
	var due []kept
	c.mu.Lock()
	for domain, k := range c.domains {
		switch {
		case !k.inForce(now) && now.After(k.tried.Add(retryTime)):
			c.forget(domain)
		case k.inForce(now) && now.Before(k.used.Add(unusedTime)) && !now.Before(k.Fetched.Add(min(refreshEvery, k.Policy.MaxAge/2))):
			due = append(due, *k)
		}
	}
	c.mu.Unlock()
	for _, k := range due {
		used := k.used
		if _, err := c.renew(ctx, k.Domain, k, true); err != nil {
			c.opt.Log.Debug("MTA-STS policy is not refreshed", "domain", k.Domain, "err", err)
		}
		c.mu.Lock()
		if is := c.domains[k.Domain]; is != nil && is.used.After(used) && !is.used.After(c.opt.Now()) {
			is.used = used // a refresh is no use
		}
		c.mu.Unlock()
		if ctx.Err() != nil {
			return
		}
	}
}
