package real

import (
	"log/slog"
	"net/netip"
	"strings"
	"testing"

	"anycastle/bpf"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// TestMetrics has an agent that counted two ports of one VIP.
func TestMetrics(t *testing.T) {
	reg := prometheus.NewPedanticRegistry()
	role, err := New(Config{VIPs: []netip.Addr{vip1, vip6}}, Options{Registry: reg})
	if err != nil {
		t.Fatal(err)
	}
	sampler := newTestSampler(&fakeCounters{tallies: map[bpf.Endpoint]bpf.Tally{
		endpoint(vip1, 25): {Refused: 3, Resets: 1}, endpoint(vip1, 143): {Refused: 4}, endpoint(vip6, 0): {Refused: 99},
	}})
	sampler.overflows.ports = map[bpf.Endpoint]uint64{endpoint(vip1, 25): 5}
	collect := collector{role}
	role.agent = &agentRun{sampler: sampler, server: &server{log: slog.New(slog.DiscardHandler), healthy: func() error { return nil }}}
	want := `
# HELP anycastle_real_agent_readers Load balancers that read reports.
# TYPE anycastle_real_agent_readers gauge
anycastle_real_agent_readers 0
# HELP anycastle_real_vip_flows Flows of the VIP on this server, all ports together.
# TYPE anycastle_real_vip_flows gauge
anycastle_real_vip_flows{vip="2001:db8:0:25::10"} 0
anycastle_real_vip_flows{vip="203.0.113.10"} 0
# HELP anycastle_real_vip_overflows_total Connections dropped by a listening socket of the VIP: its queue was full.
# TYPE anycastle_real_vip_overflows_total counter
anycastle_real_vip_overflows_total{vip="2001:db8:0:25::10"} 0
anycastle_real_vip_overflows_total{vip="203.0.113.10"} 5
# HELP anycastle_real_vip_refused_connections_total Connections refused: RST in answer to a SYN, or ICMP port unreachable.
# TYPE anycastle_real_vip_refused_connections_total counter
anycastle_real_vip_refused_connections_total{vip="2001:db8:0:25::10"} 0
anycastle_real_vip_refused_connections_total{vip="203.0.113.10"} 7
# HELP anycastle_real_vip_resets_total Other RST sent.
# TYPE anycastle_real_vip_resets_total counter
anycastle_real_vip_resets_total{vip="2001:db8:0:25::10"} 0
anycastle_real_vip_resets_total{vip="203.0.113.10"} 1
`
	names := []string{"anycastle_real_agent_readers", "anycastle_real_vip_flows", "anycastle_real_vip_overflows_total",
		"anycastle_real_vip_refused_connections_total", "anycastle_real_vip_resets_total"}
	if err := testutil.CollectAndCompare(agentOnly{collect}, strings.NewReader(want), names...); err != nil {
		t.Error(err)
	}
}

// agentOnly leaves out what a program that is not loaded would have counted.
type agentOnly struct{ collector }

// Collect implements prometheus.Collector.
func (c agentOnly) Collect(ch chan<- prometheus.Metric) { c.collectAgent(ch, c.role.agent.status()) }
