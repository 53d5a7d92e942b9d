package lb

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"anycastle/bpf"
	"anycastle/internal/config"
	"anycastle/internal/mesh"
	"anycastle/internal/mtls"
	"anycastle/internal/mtlstest"
	"anycastle/internal/probe"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

const valid = `lb:
  uplinks: [eth1]
  hash_key: "000102030405060708090a0b0c0d0e0f"
  farms:
    - name: smtp
      probes: [{interval: 200ms, timeout: 150ms}]
      reals:
        - {name: mx1, address: 198.51.100.9}
        - {name: mx2, address: 198.51.100.10, weight: 3}
  vips:
    - {name: smtp, address: 203.0.113.10, port: 25, farm: smtp}
`

func parse(t testing.TB, text string) (Config, error) {
	t.Helper()
	var cfg Config
	doc, err := config.Parse("node.yml", []byte(text))
	if err != nil {
		return cfg, err
	}
	cfg.Validate(doc.Decode("lb", &cfg))
	return cfg, doc.Err()
}

func mustParse(t testing.TB, text string) *Config {
	t.Helper()
	cfg, err := parse(t, text)
	check(t, err)
	return &cfg
}

func addrPort(s string) netip.AddrPort { return netip.MustParseAddrPort(s) }

var comparable = cmpopts.EquateComparable(netip.Addr{})

func TestDefaults(t *testing.T) {
	got := mustParse(t, valid)
	want := &Config{
		Uplinks:  []string{"eth1"},
		HashKey:  HashKey{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15},
		StateDir: "/var/lib/anycastle/lb",
		Farms: []Farm{{
			Name: "smtp", Forward: "ipip", Transition: Transition{Method: "tracked", Time: time.Hour}, Weights: "config",
			Probes: []probe.Config{{
				Type: "tcp", Interval: 200 * time.Millisecond, Timeout: 150 * time.Millisecond, Fail: 2, Pass: 2,
			}},
			Reals: []Real{{Name: "mx1", Address: addr("198.51.100.9"), Weight: 1}, {Name: "mx2", Address: addr("198.51.100.10"), Weight: 3}},
		}},
		VIPs: []VIP{{Name: "smtp", Address: addr("203.0.113.10"), Protocol: "tcp", Port: Ports{25, 25}, Farm: "smtp", MinReals: 1, Hash: "flow"}},
	}
	if diff := cmp.Diff(want, got, comparable); diff != "" {
		t.Errorf("config (-want +got):\n%s", diff)
	}
}

// whole has every key.
const whole = `lb:
  uplinks: [eth1, eth2]
  hash_key: "000102030405060708090a0b0c0d0e0f"
  state_dir: /tmp/lb
  report: {listen: "198.51.100.1:6088", clients: [gss-east]}
  mesh: {listen: "198.51.100.1:7946", key: "000102030405060708090a0b0c0d0e0f", join: ["198.51.100.3:7946"]}
  farms:
    - name: mail
      forward: gue
      transition: {method: second-chance, time: 10m}
      agent: {port: 6088}
      weights: agent
      capacity: 20000
      probes:
        - {type: tcp, port: 25}
        - {type: tcp, port: 143, fail: 3}
      reals:
        - {name: mx1, address: 2001:db8::9, weight: 2, forward: gue}
  vips:
    - {name: smtp, address: 203.0.113.10, protocol: tcp, port: 25, farm: mail, min_reals: 1, hash: source, source_prefix: 24}
    - {name: some, address: 203.0.113.10, port: 1000-2000, farm: mail, hash: source, agent_check: ":5025"}
    - {name: all, address: 2001:db8::10, port: any, farm: mail}
`

// withTLS gives a file with an agent its certificate: Validate reads it.
func withTLS(t testing.TB, text string) string {
	t.Helper()
	f := mtlstest.NewCA(t).Node(t, "lb")
	return strings.Replace(text, "  farms:\n", fmt.Sprintf("  tls: {cert: %s, key: %s, ca: %s}\n  farms:\n", f.Cert, f.Key, f.CA), 1)
}

func TestEveryKey(t *testing.T) {
	got := mustParse(t, withTLS(t, whole))
	tcp := func(port uint16, fail int) probe.Config {
		return probe.Config{Type: "tcp", Port: port, Interval: time.Second, Timeout: 500 * time.Millisecond, Fail: fail, Pass: 2}
	}
	want := &Config{
		Uplinks: []string{"eth1", "eth2"}, HashKey: HashKey{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}, StateDir: "/tmp/lb",
		Mesh: &mesh.Config{Listen: addrPort("198.51.100.1:7946"), Key: mesh.Key{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15},
			Join: []netip.AddrPort{addrPort("198.51.100.3:7946")}},
		Report: &Report{config.ListenAddr{Addr: addr("198.51.100.1"), Port: 6088}, []string{"gss-east"}},
		Farms: []Farm{{
			Name: "mail", Capacity: 20000, Forward: "gue", Transition: Transition{Method: "second-chance", Time: 10 * time.Minute}, Agent: &Agent{6088},
			Weights: "agent", Probes: []probe.Config{tcp(25, 2), tcp(143, 3)},
			Reals: []Real{{Name: "mx1", Address: addr("2001:db8::9"), Weight: 2, Forward: "gue"}},
		}},
		VIPs: []VIP{
			{Name: "smtp", Address: addr("203.0.113.10"), Protocol: "tcp", Port: Ports{25, 25}, Farm: "mail", MinReals: 1, Hash: "source", SourcePrefix: 24},
			{Name: "some", Address: addr("203.0.113.10"), Protocol: "tcp", Port: Ports{1000, 2000}, Farm: "mail", MinReals: 1, Hash: "source",
				AgentCheck: config.AnyAddr(5025)},
			{Name: "all", Address: addr("2001:db8::10"), Protocol: "tcp", Port: anyPort, Farm: "mail", MinReals: 1, Hash: "flow"},
		},
	}
	if diff := cmp.Diff(want, got, comparable, cmpopts.EquateComparable(netip.AddrPort{}), cmpopts.IgnoreTypes(&mtls.Files{})); diff != "" {
		t.Errorf("config (-want +got):\n%s", diff)
	}
	for i, want := range []int{24, 32, 0} {
		if bits := got.VIPs[i].sourcePrefix(); bits != want {
			t.Errorf("VIP %d hashes %d bits of the source, want %d", i, bits, want)
		}
	}
}

const (
	vipLine  = "    - {name: smtp, address: 203.0.113.10, port: 25, farm: smtp}\n"
	realLine = "        - {name: mx1, address: 198.51.100.9}\n"
)

func another(name, rest string) string {
	return vipLine + fmt.Sprintf("    - {name: %s, address: 203.0.113.10, farm: smtp, %s}\n", name, rest)
}

// TestInvalid changes one thing of the valid file.
func TestInvalid(t *testing.T) {
	ranges := vipLine
	for i := range bpf.MaxRanges + 1 {
		ranges += fmt.Sprintf("    - {name: r%d, address: 203.0.113.10, port: %d-%d, farm: smtp}\n", i, 1000+10*i, 1005+10*i)
	}
	for _, tc := range []struct{ name, old, new, want string }{
		{"no uplink", "[eth1]", "[]", "node.yml:2: lb.uplinks: no uplink"},
		{"uplink twice", "[eth1]", "[eth1, eth1]", "node.yml:2: lb.uplinks[1]: uplink \"eth1\" is named twice"},
		{"uplink name", "[eth1]", "[an-interface-name]", "node.yml:2: lb.uplinks[0]: \"an-interface-name\" is no interface name"},
		{"hash key length", "0c0d0e0f", "0c0d0e", "node.yml:3: lb.hash_key: "},
		{"hash key digits", "0c0d0e0f", "0c0d0e0g", "node.yml:3: lb.hash_key: "},
		{"hash key missing", "  hash_key: \"000102030405060708090a0b0c0d0e0f\"\n", "", "lb.hash_key: missing"},
		{"state_dir", "  farms:", "  state_dir: lb\n  farms:", "node.yml:4: lb.state_dir: \"lb\" is no absolute path; give one such as /var/lib/anycastle/lb"},

		{"mesh", "  farms:", "  mesh: {key: \"000102030405060708090a0b0c0d0e0f\"}\n  farms:", "node.yml:4: lb.mesh.listen: missing"},
		{"tls without files", "  farms:", "  tls: {cert: /nowhere/a.pem}\n  farms:", "node.yml:4: lb.tls.key: missing"},

		{"farm without vip", "  vips:\n" + vipLine, "", "node.yml:5: lb.farms[0].name: no VIP uses farm \"smtp\""},
		{"farm name", "name: smtp\n", "name: a/b\n", "node.yml:5: lb.farms[0].name: \"a/b\" has a slash or a control character"},
		{"farm forward", "    - name: smtp\n", "    - name: smtp\n      forward: gre\n", "node.yml:6: lb.farms[0].forward: \"gre\" is no way of forwarding; there are [\"ipip\" \"gue\" \"l2\"]"},
		{"real forward", "198.51.100.9}", "198.51.100.9, forward: gre}", "node.yml:8: lb.farms[0].reals[0].forward: \"gre\" is no way"},
		{"transition method", "    - name: smtp\n", "    - name: smtp\n      transition: {method: sticky}\n", "node.yml:6: lb.farms[0].transition.method: \"sticky\" is no method; use tracked or second-chance"},
		{"transition time", "    - name: smtp\n", "    - name: smtp\n      transition: {time: 500ms}\n", "node.yml:6: lb.farms[0].transition.time: 500ms must be from 1s to 168h0m0s"},
		{"second chance without agent", "    - name: smtp\n", "    - name: smtp\n      transition: {method: second-chance}\n      forward: gue\n", "node.yml:6: lb.farms[0].transition.method: second-chance needs `anycastle real` on each real; give the farm an agent"},
		{"second chance without gue", "    - name: smtp\n", "    - name: smtp\n      transition: {method: second-chance}\n      agent: {}\n", "node.yml:6: lb.farms[0].transition.method: second-chance needs forward gue, and real \"mx1\" has ipip"},
		{"second chance of two IP versions", "      reals:\n" + realLine, "      transition: {method: second-chance}\n      agent: {}\n      forward: gue\n      reals:\n        - {name: mx1, address: 2001:db8::9}\n", "node.yml:7: lb.farms[0].transition.method: second-chance needs reals of one IP version"},
		{"agent without tls", "    - name: smtp\n", "    - name: smtp\n      agent: {}\n", "node.yml:6: lb.farms[0].agent: agents are called over TLS with a certificate; give `tls:"},
		{"agent port", "    - name: smtp\n", "    - name: smtp\n      agent: {port: 0}\n", "node.yml:6: lb.farms[0].agent.port: 0 is no port"},
		{"weights", "    - name: smtp\n", "    - name: smtp\n      weights: snmp\n", "node.yml:6: lb.farms[0].weights: \"snmp\" is no source of weights; use config, agent or agent-check"},
		{"weights of no agent", "    - name: smtp\n", "    - name: smtp\n      weights: agent\n", "node.yml:6: lb.farms[0].weights: agent is the load that agents report; give the farm an agent"},
		{"weights of no agent-check", "    - name: smtp\n", "    - name: smtp\n      weights: agent-check\n", "node.yml:6: lb.farms[0].weights: agent-check needs a probe of that type"},
		{"two agent-checks", "[{interval: 200ms, timeout: 150ms}]", "[{type: agent-check, port: 1}, {type: agent-check, port: 2}]", "node.yml:6: lb.farms[0].probes: 2 probes of type agent-check, which may contradict each other"},

		{"capacity", "    - name: smtp\n", "    - name: smtp\n      agent: {}\n      capacity: -1\n", "node.yml:7: lb.farms[0].capacity: -1 is no number of flows from 1 to 1000000000"},
		{"capacity without agent", "    - name: smtp\n", "    - name: smtp\n      capacity: 100\n", "node.yml:6: lb.farms[0].capacity: it is held against the flows that agents count; give the farm an agent"},
		{"report without tls", "  farms:", "  report: {listen: \":6088\"}\n  farms:", "node.yml:4: lb.report: site selectors listen over TLS with a certificate; give `tls:"},
		{"report without listen", "  farms:", "  report: {}\n  farms:", "node.yml:4: lb.report.listen: missing; give an address and port"},
		{"report client", "  farms:", "  report: {listen: \":6088\", clients: [\"\"]}\n  farms:", "node.yml:4: lb.report.clients[0]: \"\" is no name of a certificate"},
		{"agent_check", "port: 25", "port: 25, agent_check: 198.51.100.1", "node.yml:11: lb.vips[0].agent_check: \"198.51.100.1\" is not where to listen"},
		{"agent_check port", "port: 25", "port: 25, agent_check: \"198.51.100.1:0\"", "node.yml:11: lb.vips[0].agent_check: port 0 is none"},
		{"agent_check twice", vipLine, strings.Replace(another("tls", "port: 465, agent_check: \":5025\""), "25,", "25, agent_check: \":5025\",", 1), "node.yml:12: lb.vips[1].agent_check: :5025 is where vip smtp listens; give it a port of its own"},

		{"no probe", "[{interval: 200ms, timeout: 150ms}]", "[]", "node.yml:6: lb.farms[0].probes: no probe; give at least one"},
		{"probe", "timeout: 150ms", "timeout: 250ms", "node.yml:6: lb.farms[0].probes[0].timeout: 250ms must be"},
		{"second probe", "150ms}]", "150ms}, {type: carrier-pigeon}]", "node.yml:6: lb.farms[0].probes[1].type: "},
		{"which port to probe", vipLine, another("tls", "port: 465"), "lb.farms[0].probes[0].port: farm \"smtp\" is behind VIPs of several ports, [25 465]"},
		{"which port of many", "port: 25", "port: any", "lb.farms[0].probes[0].port: farm \"smtp\" is behind a VIP of many ports, any; say which one to probe"},
		{"tcp probe of a udp vip", "port: 25", "port: 25, protocol: udp", "lb.farms[0].probes[0].port: farm \"smtp\" is behind a udp VIP, whose port no tcp probe can ask"},
		{"port of an agent-check", "[{interval: 200ms, timeout: 150ms}]", "[{type: agent-check}]", "node.yml:6: lb.farms[0].probes[0].port: missing; give the port of the agent"},

		{"weight 0", "weight: 3", "weight: 0", "node.yml:9: lb.farms[0].reals[1].weight: 0 must be from 1 to 1000"},
		{"weight too large", "weight: 3", "weight: 1001", "node.yml:9: lb.farms[0].reals[1].weight: 1001 must be"},
		{"real name twice", "name: mx2", "name: mx1", "node.yml:9: lb.farms[0].reals[1].name: another real is called \"mx1\""},
		{"real name too long", "name: mx2", "name: " + strings.Repeat("m", 65), "node.yml:9: lb.farms[0].reals[1].name: \"" + strings.Repeat("m", 65) + "\" has 65 bytes; at most 64"},
		{"real address twice", "198.51.100.10", "198.51.100.9", "node.yml:9: lb.farms[0].reals[1].address: 198.51.100.9 is the address of real \"mx1\" too"},
		{"real without address", ", address: 198.51.100.9", "", "node.yml:8: lb.farms[0].reals[0].address: missing"},
		{"real in ipv6 form", "198.51.100.9", "'::ffff:198.51.100.9'", "node.yml:8: lb.farms[0].reals[0].address: ::ffff:198.51.100.9 is an IPv4 address in IPv6 form; write 198.51.100.9"},
		{"real on one link", "198.51.100.9", "fe80::9", "node.yml:8: lb.farms[0].reals[0].address: fe80::9 is good on one link only"},
		{"real on loopback", "198.51.100.9", "127.0.0.1", "node.yml:8: lb.farms[0].reals[0].address: 127.0.0.1 is no address"},
		{"real on ipv6 multicast", "198.51.100.9", "ff0e::9", "node.yml:8: lb.farms[0].reals[0].address: ff0e::9 is no address"},

		{"vip in a zone", "203.0.113.10", "'2001:db8::10%eth0'", "node.yml:11: lb.vips[0].address: 2001:db8::10%eth0 is good on one link only"},
		{"vip is a real", "203.0.113.10", "198.51.100.9", "node.yml:11: lb.vips[0].address: 198.51.100.9 is the address of a real"},
		{"dangling farm", "farm: smtp", "farm: smpt", "node.yml:11: lb.vips[0].farm: no farm is called \"smpt\"; did you mean \"smtp\"?"},
		{"port missing", "port: 25, ", "", "node.yml:11: lb.vips[0].port: missing; give a port from 1 to 65535, a range such as 1000-2000, or any"},
		{"port 0", "port: 25", "port: 0", "node.yml:11: lb.vips[0].port: \"0\" is not a port from 1 to 65535"},
		{"port of a range", "port: 25", "port: 30-20", "node.yml:11: lb.vips[0].port: \"30-20\" is not a port"},
		{"protocol", "port: 25", "port: 25, protocol: sctp", "node.yml:11: lb.vips[0].protocol: \"sctp\" is neither tcp nor udp"},
		{"min_reals more than reals", "port: 25", "port: 25, min_reals: 3", "node.yml:11: lb.vips[0].min_reals: 3 must be from 1 to 2"},
		{"full_reals more than reals", "port: 25", "port: 25, full_reals: 3", "node.yml:11: lb.vips[0].full_reals: 3 must be from 0 to 2"},
		{"min_share", "port: 25", "port: 25, min_share: 101", "node.yml:11: lb.vips[0].min_share: 101 is no share of the farm's weight; use 0 to 100, in percent"},
		{"full_share", "port: 25", "port: 25, full_share: -1", "node.yml:11: lb.vips[0].full_share: -1 is no share"},
		{"min_reals 0", "port: 25", "port: 25, min_reals: 0", "node.yml:11: lb.vips[0].min_reals: 0 must be"},
		{"hash", "port: 25", "port: 25, hash: url", "node.yml:11: lb.vips[0].hash: \"url\" is no hash; use flow or source"},
		{"prefix of a flow", "port: 25", "port: 25, source_prefix: 24", "node.yml:11: lb.vips[0].source_prefix: it is of no use with hash flow"},
		{"prefix too long", "port: 25", "port: 25, hash: source, source_prefix: 33", "node.yml:11: lb.vips[0].source_prefix: 33 must be from 1 to 32"},
		{"prefix too short", "port: 25", "port: 25, hash: source, source_prefix: -1", "node.yml:11: lb.vips[0].source_prefix: -1 must be from 1 to 32"},
		{"prefix too long for IPv6", "203.0.113.10, port: 25", "'2001:db8::10', port: 25, hash: source, source_prefix: 129", "node.yml:11: lb.vips[0].source_prefix: 129 must be from 1 to 128"},
		{"vip twice", vipLine, another("again", "port: 25"), "node.yml:12: lb.vips[1]: VIP \"smtp\" has 203.0.113.10 tcp port 25 already"},
		{"any twice", "port: 25, farm: smtp}\n", "port: any, farm: smtp}\n    - {name: again, address: 203.0.113.10, farm: smtp, port: any}\n", "node.yml:12: lb.vips[1]: VIP \"smtp\" has 203.0.113.10 tcp port any already"},
		{"ranges of one width", "port: 25, farm: smtp}\n", "port: 20-30, farm: smtp}\n    - {name: again, address: 203.0.113.10, farm: smtp, port: 30-40}\n", "node.yml:12: lb.vips[1].port: 30-40 overlaps 20-30 of VIP \"smtp\", and neither is narrower"},
		{"too many ranges", vipLine, ranges, fmt.Sprintf("node.yml:%d: lb.vips[33].port: 203.0.113.10 has 32 VIPs of many ports already", 12+bpf.MaxRanges)},
		{"vip name twice", vipLine, another("smtp", "port: 26"), "node.yml:12: lb.vips[1].name: another vip is called"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			text := strings.Replace(valid, tc.old, tc.new, 1)
			if text == valid {
				t.Fatalf("%q is not in the valid file", tc.old)
			}
			_, err := parse(t, text)
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v\nwant %s", err, tc.want)
			}
		})
	}
}

func FuzzConfig(f *testing.F) {
	f.Add(valid)
	f.Add(whole)
	f.Add(nodeLB)
	f.Add("lb: {vips: [{}], farms: [{reals: [{}]}], hash_key: 0g}")
	f.Add("lb:\n  vips:\n    - {name: a, address: '::ffff:192.0.2.1', port: 1, farm: b}\n")
	f.Fuzz(func(t *testing.T, text string) {
		cfg, err := parse(t, text)
		if err != nil || len(cfg.VIPs) == 0 {
			return
		}
		// what Validate lets through must not trip what relies on it
		for i := range cfg.VIPs {
			v := &cfg.VIPs[i]
			cfg.farm(v.Farm)
			if k := v.key(); !k.addr.IsValid() || k.addr.Is4In6() || k.ports == (Ports{}) || v.sourcePrefix() > k.addr.BitLen() {
				t.Errorf("valid, and has VIP %v", k)
			}
		}
		in := newInputs(&cfg)
		for _, target := range in.targets(nil, in.all()) {
			if !target.Addr.IsValid() || target.Addr.Port() == 0 && target.Config.NeedsPort() {
				t.Errorf("valid, and probes %v", target.Addr)
			}
		}
	})
}

func FuzzHashKey(f *testing.F) {
	f.Add("000102030405060708090a0b0c0d0e0f")
	f.Add("0")
	f.Fuzz(func(t *testing.T, text string) {
		var k HashKey
		if err := k.UnmarshalText([]byte(text)); err == nil && fmt.Sprintf("%x", k) != strings.ToLower(text) {
			t.Errorf("%q became %x", text, k)
		}
	})
}

func FuzzPorts(f *testing.F) {
	for _, s := range []string{"25", "1000-2000", "any", "0", "65536", "1-", "-1", "1-1", "2-1", "025", "1-2-3", "+5", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		var p Ports
		if err := p.UnmarshalText([]byte(text)); err != nil {
			if p != (Ports{}) {
				t.Errorf("%q is refused and gives %+v", text, p)
			}
			return
		}
		if p.String() != text || p.High < p.Low || p.High == 0 {
			t.Errorf("%q became %+v", text, p)
		}
	})
}
