package main

import (
	"net/netip"
	"strings"
	"testing"

	"anycastle/bpf"
	"anycastle/lb/agent"
	"anycastle/lb/real"

	"github.com/google/go-cmp/cmp"
)

func TestHostRows(t *testing.T) {
	vip := netip.MustParseAddr("203.0.113.25")
	s := real.Status{
		VIPs: []netip.Addr{vip}, Addresses: []netip.Addr{netip.MustParseAddr("198.51.100.9")}, Uplinks: []bpf.Uplink{{Name: "eth1", Mode: bpf.Native}},
		Decapsulated: 7, Bytes: 700, PassedOn: 1, Drops: []real.DropStatus{{Reason: "not_vip", Packets: 2}, {Reason: "ecn"}},
	}
	host := "203.0.113.25|198.51.100.9|eth1 (native)|7|700|1|not_vip 2|"
	show := func() []string {
		var rows []string
		for _, r := range hostRows(s) {
			rows = append(rows, strings.Join(r, "|"))
		}
		return rows
	}
	if diff := cmp.Diff([]string{host + "-|-|-|-|-|-|-|-"}, show()); diff != "" {
		t.Errorf("without an agent (-want +got):\n%s", diff)
	}
	s.Uplinks = append(s.Uplinks, bpf.Uplink{Name: "br0", Mode: bpf.Generic, Why: "its driver does not"})
	host = strings.Replace(host, "(native)", "(native), br0 (generic: its driver does not)", 1)
	s.Agent = &real.AgentStatus{State: "ok", Readers: 2, Report: agent.Report{Load: 0.5, VIPs: []agent.Port{
		{Address: vip, Port: 25, Protocol: "tcp", Listening: true, Flows: 30, Refused: 3, Resets: 4, Overflows: 5},
		{Address: vip, Port: 53, Protocol: "udp"},
	}}}
	want := []string{
		host + "ok, read by 2|0.50|203.0.113.25:25|yes|30|3|4|5",
		"|||||||||203.0.113.25:53/udp|no|0|0|0|0",
	}
	if diff := cmp.Diff(want, show()); diff != "" {
		t.Errorf("with an agent (-want +got):\n%s", diff)
	}
}
