package main

import (
	"log/slog"
	"testing"

	"anycastle/internal/config"
	"anycastle/lb"
	"anycastle/rhi"

	"github.com/prometheus/client_golang/prometheus"
)

// The balancer learns of routes through an interface that it looks for, so nothing else would miss it.
func TestAnnouncerKnowsRoutes(t *testing.T) {
	doc, err := config.Parse("node.yml", []byte("rhi:\n  asn: 65011\n  router_id: 198.51.100.1\n  neighbors: [{name: core, address: 198.51.100.0, asn: 65001}]\n"))
	if err != nil {
		t.Fatal(err)
	}
	var cfg rhi.Config
	cfg.Validate(doc.Decode("rhi", &cfg))
	if err := doc.Err(); err != nil {
		t.Fatal(err)
	}
	a, err := newAnnouncer(cfg, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	a.moved() // nobody watches
	var router lb.Router = a
	told := 0
	stop := router.Watch(func() { told++ })
	a.moved()
	stop()
	a.moved()
	if told != 1 || len(router.Routes()) != 0 {
		t.Errorf("told %d times of a change, and of the routes %v", told, router.Routes())
	}
}
