package gss

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"runtime"
	"runtime/debug"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"anycastle/gss/cookie"
	"anycastle/gss/limit"
	"anycastle/gss/message"
	"anycastle/gss/table"
	"anycastle/gss/transfer"
	"anycastle/gss/zone"
	"anycastle/internal/config"
)

// serving is what a config makes. It is never changed; a reload makes another.
type serving struct {
	name    string // of this GSS
	config  Config
	zones   *zone.Set
	rules   *ruleSet
	edge    *message.Edge
	limiter *limit.Limiter
	tables  table.Config
	packed  *table.Table // replies of what the zones themselves have
	empty   *table.Table
	packs   prometheus.Counter  // how often it was packed
	signed  map[string]*signing // by origin

	moves    *transfers
	keys     transfer.Keys
	shared   map[string]*sharing         // by origin
	contents map[string]transfer.Content // of secondary zones, by origin
	absent   map[string]bool             // secondary zones that there is nothing good of, by origin
}

// newServing makes what queries are answered from. Limits that stay as they were keep what they have counted.
func newServing(cfg Config, g *GSS, was *serving) (*serving, error) {
	s := &serving{config: cfg, zones: cfg.checked, packs: g.metrics.packs, signed: map[string]*signing{}}
	if s.config.checked = nil; s.zones == nil {
		if err := config.Check("gss", func(at config.Cursor) { s.zones = s.config.compile(at) }); err != nil {
			return nil, fmt.Errorf("gss config: %w", err)
		}
	}
	var err error
	if s.name, err = cfg.nodeName(); err != nil {
		return nil, fmt.Errorf("find a name for this GSS: %w; give it one with gss.name", err)
	}
	if s.config.EDNS, err = cfg.EDNS.Named(s.name); err != nil {
		return nil, fmt.Errorf("gss config: %w", err)
	}
	if s.rules, err = newRuleSet(&s.config); err != nil {
		return nil, fmt.Errorf("gss config: %w", err)
	}
	if err := s.share(was); err != nil {
		return nil, err
	}
	if err := s.newSignings(g, was); err != nil {
		return nil, err
	}
	s.edge = message.New(s.config.EDNS, g.cookies)
	if was != nil && reflect.DeepEqual(was.config.Limits, cfg.Limits) {
		s.limiter = was.limiter
	} else {
		s.limiter = limit.New(cfg.Limits, limit.Random(), time.Now())
		if was != nil {
			s.limiter.Succeed(was.limiter)
		}
	}
	s.tables = table.Config{
		Key: hashKey(), Cookies: tableCookies{g.cookies}, NoSubnets: !cfg.EDNS.ClientSubnet,
		MaxUDP: cfg.EDNS.MaxUDP, RequireCookie: cfg.EDNS.RequireCookie, Lanes: cfg.Sockets(),
	}
	if s.packed, err = s.packStatic(); err != nil {
		return nil, fmt.Errorf("gss: %w", err)
	}
	b, err := table.NewBuilder(s.tables)
	if err == nil {
		s.empty, err = b.Build()
	}
	if err != nil {
		return nil, fmt.Errorf("gss: %w", err)
	}
	return s, nil
}

// digest stands for all that the replies of rules are made of beside decisions.
func (s *serving) digest() string {
	type answer struct {
		Name, Target string
		Addresses    []netip.Addr
		Weight       int
	}
	made := struct {
		Answers []answer
		Groups  []AnswerGroup
		Rules   []Rule
		Sources []Sources
		Classes uint64
	}{Groups: s.config.Groups, Rules: s.config.Rules, Sources: s.config.Sources, Classes: s.rules.classes.digest}
	for _, a := range s.config.Answers {
		made.Answers = append(made.Answers, answer{a.Name, a.Target, a.Addresses, a.Weight})
	}
	h := sha256.New()
	json.NewEncoder(h).Encode(made) // it cannot fail: JSON has all that is in it
	return hex.EncodeToString(h.Sum(nil)[:8])
}

// Sockets is how many sockets take UDP queries: one a processor for each address. Each has a goroutine that blocks in the
// kernel, so the process wants some more processors of Go (GOMAXPROCS) than these.
func (c *Config) Sockets() int { return len(c.Listen) * runtime.NumCPU() }

// secrets gives the secrets of cookies that a config asks for; none: those that there are.
func (c *Config) secrets() ([]cookie.Secret, error) {
	if c.Cookies == "" {
		return nil, nil
	}
	list, err := cookie.Load(c.Cookies)
	if err != nil {
		return nil, fmt.Errorf("gss config: %w", err)
	}
	return list, nil
}

// manyRecords is from where on the memory that loading took is worth giving back at once.
const manyRecords = 10_000

// giveBack returns the memory that loading zones took and nobody needs any more. Go would keep it for the next time.
func (s *serving) giveBack() {
	n := 0
	for _, z := range s.zones.Zones() {
		n += z.Len()
	}
	if n >= manyRecords {
		debug.FreeOSMemory()
	}
}

// repack has replies be packed anew, as signatures are others than before. It does not wait.
func (g *GSS) repack() {
	select {
	case g.stale <- struct{}{}:
	default: // it will be done already
	}
}

// pack packs replies anew when that is asked for, until ctx is done.
func (g *GSS) pack(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-g.stale:
		}
		if err := g.packAnew(); err != nil {
			g.log.Error("replies cannot be packed anew", "err", err)
		}
	}
}

// packAnew packs the replies of what is served. It keeps reloads out: one that had begun before would go on to serve replies that
// it packed with the signatures of then.
func (g *GSS) packAnew() error {
	g.reloading.Lock()
	defer g.reloading.Unlock()
	was := g.engine.serving()
	next := *was
	var err error
	if next.packed, err = next.packStatic(); err != nil {
		return err
	}
	g.engine.replace(was, &next)
	next.giveBack()
	return nil
}

// Reload has another config count from now on, whole, or says why it cannot and leaves everything as it is. It reads the zones
// again. No query is lost. Until each answer that is new, or has another address, has been probed, or that was awaited for too
// long, the former config is answered by.
func (g *GSS) Reload(cfg Config) error {
	g.reloading.Lock()
	defer g.reloading.Unlock()
	was := g.engine.serving()
	if err := was.config.lasting(&cfg); err != nil {
		return err
	}
	secrets, err := cfg.secrets()
	if err != nil {
		return err
	}
	next, err := newServing(cfg, g, was)
	if err != nil {
		return err
	}
	opened, err := next.openKeys(context.Background(), false)
	if err != nil {
		return err
	}
	g.moves.remember(next)
	if err := g.engine.serve(next); err != nil {
		return errors.Join(err, closeKeys(opened))
	}
	g.resign(next)
	g.moves.follower.Set(next.secondaries())
	if len(secrets) > 0 {
		g.cookies.Set(secrets[0], secrets[1:]...)
	}
	if g.queries != nil {
		select {
		case g.queries.reopen <- struct{}{}:
		default: // it will be done already
		}
	}
	next.giveBack()
	g.log.Info("config taken", "zones", len(next.zones.Zones()), "rules", len(cfg.Rules), "answers", len(cfg.Answers))
	return nil
}
