package rhi

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"anycastle/rhi/decide"
)

const gatesNode = `
rhi:
  asn: 65011
  router_id: 198.51.100.3
  site: east
  role: backup
  gates: {learn: 2s, fail_back: 5s, manual: true, withdrawals: 7, damping: {half_life: 10m, park: 2000}}
  mesh: {listen: "198.51.100.3:7947", key: "000102030405060708090a0b0c0d0e0f", name: east-lb1}
  groups:
    isp: {ladder: [{med: 100}, {prepend: 3}, {gshut: true}], degraded: 1, parked: 2}
    plain: {ladder: []}
  neighbors:
    - {name: isp a, address: 192.0.2.1, asn: 64496, group: isp}
    - {name: core, address: 192.0.2.5, asn: 65001}
    - {name: spine, address: 192.0.2.7, asn: 65002, group: plain}
`

func TestGates(t *testing.T) {
	t.Parallel()
	cfg, err := decode("node.yml", []byte(gatesNode))
	if err != nil {
		t.Fatal(err)
	}
	want := decide.Defaults(
		decide.Group{Name: "default", Rungs: 2, Backup: 1, Degraded: 2, Draining: 2, Parked: 2},
		decide.Group{Name: "isp", Rungs: 3, Backup: 1, Degraded: 1, Draining: 3, Parked: 2},
		decide.Group{Name: "plain"},
	)
	want.Damping.HalfLife, want.Damping.Park = 10*time.Minute, 2000
	want.Learn, want.Failback, want.ManualFailback, want.Cap = 2*time.Second, 5*time.Second, true, 7
	if diff := cmp.Diff(want, cfg.Decide()); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	if cfg.Site != "east" || cfg.Role != decide.Backup {
		t.Errorf("site %q, role %s", cfg.Site, cfg.Role)
	}
}

func TestGatesComplaints(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, old, new, complaint string }{
		{"role", "role: backup", "role: standby", `node.yml:6: rhi.role: "standby" is no role of a site; use primary or backup`},
		{"site", "site: east", "site: east side", `rhi.site: "east side" is no name of a site`},
		{"lease", "learn: 2s", "lease: 1s", "rhi.gates.lease: 1s is less than 2s; the balancer renews it every second"},
		{"learn", "learn: 2s", "learn: 0s", "rhi.gates: learn is 0s; use more than 0"},
		{"hold-down", "learn: 2s", "hold_down: 10m", "rhi.gates: hold-down ends at 5m0s, which is less than the 10m0s"},
		{"damping", "park: 2000", "park: 900", "rhi.gates: parks at 900, moves again at 750: one withdraw, and one change after it moves again, must stay below the first; raise it"},
		{"alone in company", "learn: 2s", "alone: true", "rhi.gates.alone: there is a mesh, so there are others to ask"},
		{"no such rung", "parked: 2", "parked: 4", "rhi.groups.isp.parked: there is no rung 4; its ladder has rungs 0 (announced) to 3"},
		{"mesh without key", `key: "000102030405060708090a0b0c0d0e0f", `, "", "rhi.mesh.key: missing"},
	} {
		text := strings.ReplaceAll(gatesNode, c.old, c.new)
		if text == gatesNode {
			t.Errorf("%s: the case changes nothing", c.name)
		}
		if _, err := decode("node.yml", []byte(text)); err == nil || !strings.Contains(err.Error(), c.complaint) {
			t.Errorf("%s: got %v, want %q in it", c.name, err, c.complaint)
		}
	}
}
