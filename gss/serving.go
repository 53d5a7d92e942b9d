package gss

import (
	"errors"
	"fmt"
	"reflect"
	"runtime"
	"slices"
	"time"

	"anycastle/gss/cookie"
	"anycastle/gss/limit"
	"anycastle/gss/message"
	"anycastle/gss/table"
	"anycastle/gss/zone"
	"anycastle/internal/config"
)

// serving is what a config makes. It is never changed; a reload makes another.
type serving struct {
	config  Config
	zones   *zone.Set
	rules   *ruleSet
	edge    *message.Edge
	limiter *limit.Limiter
	tables  table.Config
	packed  *table.Table // replies of what the zones themselves have
	empty   *table.Table
}

// newServing makes what queries are answered from. Limits that stay as they were keep what they have counted.
func newServing(cfg Config, cookies *cookie.Server, was *serving) (*serving, error) {
	s := &serving{config: cfg, zones: cfg.checked}
	if s.config.checked = nil; s.zones == nil {
		if err := config.Check("gss", func(at config.Cursor) { s.zones = s.config.compile(at) }); err != nil {
			return nil, fmt.Errorf("gss config: %w", err)
		}
	}
	var err error
	if s.rules, err = newRuleSet(&s.config); err != nil {
		return nil, fmt.Errorf("gss config: %w", err)
	}
	s.edge = message.New(cfg.EDNS, cookies)
	if was != nil && reflect.DeepEqual(was.config.Limits, cfg.Limits) {
		s.limiter = was.limiter
	} else {
		s.limiter = limit.New(cfg.Limits, limit.Random(), time.Now())
	}
	s.tables = table.Config{
		Key: hashKey(), Cookies: tableCookies{cookies}, NoSubnet: !cfg.EDNS.ClientSubnet, Lanes: len(cfg.Listen) * runtime.GOMAXPROCS(0),
	}
	if s.packed, err = packStatic(s.zones, s.rules, s.tables.With(cfg.EDNS.NSID(0))); err != nil {
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

// Reload has another config count from now on, whole, or says why it cannot and leaves everything as it is. It reads the zones again.
// No query is lost. What is answered changes once each answer that is new, or probed in another way, has been probed.
func (g *GSS) Reload(cfg Config) error {
	g.reloading.Lock()
	defer g.reloading.Unlock()
	was := g.engine.serving()
	if !slices.Equal(was.config.Listen, cfg.Listen) || !slices.Equal(was.config.ListenTLS, cfg.ListenTLS) ||
		!reflect.DeepEqual(was.config.TLS, cfg.TLS) {
		return errors.New("gss.listen, gss.listen_tls and gss.tls are other than before; that takes a restart")
	}
	if was.config.Name != cfg.Name || was.config.StateDir != cfg.StateDir || !reflect.DeepEqual(was.config.Mesh, cfg.Mesh) {
		return errors.New("gss.name, gss.state_dir and gss.mesh are other than before; that takes a restart")
	}
	secrets, err := cfg.secrets()
	if err != nil {
		return err
	}
	next, err := newServing(cfg, g.cookies, was)
	if err != nil {
		return err
	}
	if err := g.engine.serve(next); err != nil {
		return err
	}
	if len(secrets) > 0 {
		g.cookies.Set(secrets[0], secrets[1:]...)
	}
	g.log.Info("reloaded", "zones", len(next.zones.Zones()), "rules", len(cfg.Rules), "answers", len(cfg.Answers))
	return nil
}
