package mesh

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"anycastle/internal/config"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

const validConfig = `lb:
  mesh:
    listen: 198.51.100.1:7946
    key: "000102030405060708090a0b0c0d0e0f"
    join:
      - 198.51.100.1:7946
      - 198.51.100.3:7946
    name: lb1
`

type section struct {
	Mesh *Config `yaml:"mesh"`
}

func parseConfig(t *testing.T, text string) (Config, error) {
	t.Helper()
	doc, err := config.Parse("node.yml", []byte(text))
	check(t, err)
	var s section
	at := doc.Decode("lb", &s)
	if s.Mesh == nil {
		t.Fatal("no mesh in the section")
	}
	s.Mesh.Validate(at.Key("mesh"))
	return *s.Mesh, doc.Err()
}

func TestConfig(t *testing.T) {
	got, err := parseConfig(t, validConfig)
	check(t, err)
	want := Config{
		Listen: addrPort("198.51.100.1:7946"), Name: "lb1", Key: Key{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15},
		Join: addrPorts("198.51.100.1:7946", "198.51.100.3:7946"),
	}
	if diff := cmp.Diff(want, got, cmpopts.EquateComparable(want.Listen)); diff != "" {
		t.Errorf("config (-want +got):\n%s", diff)
	}
	small := "lb:\n  mesh: {listen: '[2001:db8::1]:7946', key: \"" + strings.Repeat("5a", 32) + "\"}\n"
	got, err = parseConfig(t, small)
	check(t, err)
	if len(got.Key) != 32 || got.Join != nil || got.Name != "" {
		t.Errorf("got %+v", got)
	}
	if name, err := got.NodeName(); err == nil && !ValidName(name) {
		t.Errorf("the default name is %q", name)
	}
	if name, err := (&Config{Name: "lb1"}).NodeName(); name != "lb1" || err != nil {
		t.Errorf("the given name is %q, %v", name, err)
	}
	if _, err := (*Config)(nil).NodeName(); err != nil {
		t.Error(err)
	}
}

// TestConfigInvalid changes one thing of the valid file.
func TestConfigInvalid(t *testing.T) {
	const second = "      - 198.51.100.3:7946"
	for _, tc := range []struct{ name, old, new, want string }{
		{"no listen", "    listen: 198.51.100.1:7946\n", "", "node.yml:2: lb.mesh.listen: missing; give this machine's address"},
		{"listen anywhere", "listen: 198.51.100.1", "listen: 0.0.0.0", "node.yml:3: lb.mesh.listen: 0.0.0.0:7946 is no address that members"},
		{"listen multicast", "listen: 198.51.100.1", "listen: 224.0.0.1", "node.yml:3: lb.mesh.listen: 224.0.0.1:7946 is no address"},
		{"listen broadcast", "listen: 198.51.100.1", "listen: 255.255.255.255", "node.yml:3: lb.mesh.listen: 255.255.255.255:7946 is no address"},
		{"listen mapped", "listen: 198.51.100.1:7946", "listen: '[::ffff:198.51.100.1]:7946'", "node.yml:3: lb.mesh.listen: [::ffff:198.51.100.1]:7946 is an IPv4 address in IPv6 form; write 198.51.100.1:7946"},
		{"listen link-local", "listen: 198.51.100.1:7946", "listen: '[fe80::1%eth1]:7946'", "node.yml:3: lb.mesh.listen: [fe80::1%eth1]:7946 is good on one link only"},
		{"port 0", "listen: 198.51.100.1:7946", "listen: 198.51.100.1:0", "node.yml:3: lb.mesh.listen: 198.51.100.1:0 has port 0"},
		{"no port", "listen: 198.51.100.1:7946", "listen: 198.51.100.1", "node.yml:3: lb.mesh.listen: \"198.51.100.1\" is not an address and port"},
		{"no key", "    key: \"000102030405060708090a0b0c0d0e0f\"\n", "", "node.yml:2: lb.mesh.key: missing or all zeros; give 32 or 64 hex digits"},
		{"key of zeros", "000102030405060708090a0b0c0d0e0f", strings.Repeat("0", 32), "node.yml:4: lb.mesh.key: missing or all zeros"},
		{"key length", "0c0d0e0f", "0c0d0e", "node.yml:4: lb.mesh.key: \"000102030405060708090a0b0c0d0e\" is not 32 or 64 hex digits"},
		{"key of 24 bytes", "0c0d0e0f", "0c0d0e0f0001020304050607", "node.yml:4: lb.mesh.key: "},
		{"key digits", "0c0d0e0f", "0c0d0e0g", "node.yml:4: lb.mesh.key: "},
		{"join twice", second, second + "\n" + second, "node.yml:8: lb.mesh.join[2]: 198.51.100.3:7946 is named twice"},
		{"join version", second, "      - '[2001:db8::3]:7946'", "node.yml:7: lb.mesh.join[1]: [2001:db8::3]:7946 and listen, 198.51.100.1:7946, are not of one IP version"},
		{"join a name", second, "      - lb3:7946", "node.yml:7: lb.mesh.join[1]: \"lb3:7946\" is not an address and port"},
		{"join port 0", second, "      - 198.51.100.3:0", "node.yml:7: lb.mesh.join[1]: 198.51.100.3:0 has port 0"},
		{"name", "name: lb1", "name: lb/1", "node.yml:8: lb.mesh.name: \"lb/1\" is no name of a member"},
		{"long name", "name: lb1", "name: " + strings.Repeat("n", 65), "node.yml:8: lb.mesh.name: "},
		{"unknown key", "name: lb1", "nmae: lb1", "node.yml:8: lb.mesh.nmae: unknown key; did you mean \"name\"?"},
		{"too many", second, many(65), "lb.mesh.join: 66 members; at most 64"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			text := strings.Replace(validConfig, tc.old, tc.new, 1)
			if text == validConfig {
				t.Fatalf("%q is not in the valid file", tc.old)
			}
			_, err := parseConfig(t, text)
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v\nwant %s", err, tc.want)
			}
		})
	}
}

func many(n int) string {
	lines := make([]string, n)
	for i := range lines {
		lines[i] = fmt.Sprintf("      - 192.0.2.%d:7946", i+1)
	}
	return strings.Join(lines, "\n")
}

func TestKeyIsNotPrinted(t *testing.T) {
	k := Key(bytes.Repeat([]byte{0x5a}, 16))
	for _, format := range []string{"%v", "%+v", "%s"} {
		if text := fmt.Sprintf(format, Config{Key: k}); !strings.Contains(text, "a key of 16 bytes") {
			t.Errorf("%s gives %s", format, text)
		}
	}
}

func FuzzKey(f *testing.F) {
	f.Add("000102030405060708090a0b0c0d0e0f")
	f.Add(strings.Repeat("ab", 32))
	f.Add("0")
	f.Fuzz(func(t *testing.T, text string) {
		var k Key
		if err := k.UnmarshalText([]byte(text)); err == nil && (fmt.Sprintf("%x", []byte(k)) != strings.ToLower(text) || len(k) != 16 && len(k) != 32) {
			t.Errorf("%q became %x", text, []byte(k))
		}
	})
}
