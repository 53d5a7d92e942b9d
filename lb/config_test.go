package lb

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"anycastle/internal/config"
	"anycastle/internal/probe"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

const valid = `lb:
  uplinks: [eth1]
  hash_key: "000102030405060708090a0b0c0d0e0f"
  farms:
    - name: smtp
      probe: {interval: 200ms, timeout: 150ms}
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

func TestDefaults(t *testing.T) {
	got := mustParse(t, valid)
	want := &Config{
		Uplinks: []string{"eth1"},
		HashKey: HashKey{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15},
		Farms: []Farm{{
			Name: "smtp",
			Probe: probe.Config{
				Type: "tcp", Interval: 200 * time.Millisecond, Timeout: 150 * time.Millisecond, Fail: 2, Pass: 2,
			},
			Reals: []Real{{Name: "mx1", Address: addr("198.51.100.9"), Weight: 1}, {Name: "mx2", Address: addr("198.51.100.10"), Weight: 3}},
		}},
		VIPs: []VIP{{Name: "smtp", Address: addr("203.0.113.10"), Protocol: "tcp", Port: 25, Farm: "smtp", MinReals: 1}},
	}
	if diff := cmp.Diff(want, got, cmpopts.EquateComparable(addr("0.0.0.0"))); diff != "" {
		t.Errorf("config (-want +got):\n%s", diff)
	}
}

// TestInvalid changes one thing of the valid file.
func TestInvalid(t *testing.T) {
	const vipLine = "    - {name: smtp, address: 203.0.113.10, port: 25, farm: smtp}\n"
	for _, tc := range []struct{ name, old, new, want string }{
		{"no uplink", "[eth1]", "[]", "node.yml:2: lb.uplinks: no uplink"},
		{"uplink twice", "[eth1]", "[eth1, eth1]", "node.yml:2: lb.uplinks[1]: uplink \"eth1\" is named twice"},
		{"uplink name", "[eth1]", "[an-interface-name]", "node.yml:2: lb.uplinks[0]: \"an-interface-name\" is no interface name"},
		{"hash key length", "0c0d0e0f", "0c0d0e", "node.yml:3: lb.hash_key: "},
		{"hash key digits", "0c0d0e0f", "0c0d0e0g", "node.yml:3: lb.hash_key: "},
		{"hash key missing", "  hash_key: \"000102030405060708090a0b0c0d0e0f\"\n", "", "lb.hash_key: missing"},
		{"weight 0", "weight: 3", "weight: 0", "node.yml:9: lb.farms[0].reals[1].weight: 0 must be from 1 to 1000"},
		{"weight too large", "weight: 3", "weight: 1001", "node.yml:9: lb.farms[0].reals[1].weight: 1001 must be"},
		{"real name twice", "name: mx2", "name: mx1", "node.yml:9: lb.farms[0].reals[1].name: another real is called \"mx1\""},
		{"real address twice", "198.51.100.10", "198.51.100.9", "node.yml:9: lb.farms[0].reals[1].address: 198.51.100.9 is the address of real \"mx1\" too"},
		{"real without address", ", address: 198.51.100.9", "", "node.yml:8: lb.farms[0].reals[0].address: missing"},
		{"real on ipv6", "198.51.100.9", "2001:db8::9", "node.yml:8: lb.farms[0].reals[0].address: 2001:db8::9 is IPv6, which this version does not balance"},
		{"real on loopback", "198.51.100.9", "127.0.0.1", "node.yml:8: lb.farms[0].reals[0].address: 127.0.0.1 is no address"},
		{"vip on ipv6", "203.0.113.10", "2001:db8::10", "node.yml:11: lb.vips[0].address: 2001:db8::10 is IPv6"},
		{"vip is a real", "203.0.113.10", "198.51.100.9", "node.yml:11: lb.vips[0].address: 198.51.100.9 is the address of a real"},
		{"dangling farm", "farm: smtp", "farm: smpt", "node.yml:11: lb.vips[0].farm: no farm is called \"smpt\"; did you mean \"smtp\"?"},
		{"port 0", "port: 25", "port: 0", "node.yml:11: lb.vips[0].port: missing or 0"},
		{"protocol", "port: 25", "port: 25, protocol: sctp", "node.yml:11: lb.vips[0].protocol: \"sctp\" is neither tcp nor udp"},
		{"min_reals more than reals", "port: 25", "port: 25, min_reals: 3", "node.yml:11: lb.vips[0].min_reals: 3 must be from 1 to 2"},
		{"min_reals 0", "port: 25", "port: 25, min_reals: 0", "node.yml:11: lb.vips[0].min_reals: 0 must be"},
		{"vip twice", vipLine, vipLine + strings.Replace(vipLine, "smtp", "again", 1), "node.yml:12: lb.vips[1]: VIP \"smtp\" has 203.0.113.10 tcp port 25 already"},
		{"vip name twice", vipLine, vipLine + strings.Replace(vipLine, "25", "26", 1), "node.yml:12: lb.vips[1].name: another vip is called"},
		{"which port to probe", vipLine, vipLine + "    - {name: tls, address: 203.0.113.10, port: 465, farm: smtp}\n", "lb.farms[0].probe.port: farm \"smtp\" is behind VIPs of several ports, [25 465]"},
		{"tcp probe of a udp vip", "port: 25", "port: 25, protocol: udp", "lb.farms[0].probe.port: farm \"smtp\" is behind a udp VIP"},
		{"farm without vip", "  vips:\n" + vipLine, "", "node.yml:5: lb.farms[0].name: no VIP uses farm \"smtp\""},
		{"probe", "timeout: 150ms", "timeout: 250ms", "node.yml:6: lb.farms[0].probe.timeout: 250ms must be"},
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
			cfg.farm(cfg.VIPs[i].Farm)
			if k := cfg.VIPs[i].key(); !k.addr.Is4() || k.port == 0 {
				t.Errorf("valid, and has VIP %v", k)
			}
		}
		for _, target := range cfg.targets() {
			if !target.Addr.IsValid() || target.Addr.Port() == 0 {
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
