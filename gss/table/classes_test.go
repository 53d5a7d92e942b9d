package table

import (
	"errors"
	"math/rand/v2"
	"net/netip"
	"testing"

	"github.com/miekg/dns"
)

func prefixes(pairs map[string]int) (list []ClassPrefix) {
	for p, class := range pairs {
		list = append(list, ClassPrefix{netip.MustParsePrefix(p), class})
	}
	return list
}

func TestClassesLookup(t *testing.T) {
	c, err := NewClasses(prefixes(map[string]int{
		"192.0.2.0/24": 1, "192.0.2.128/25": 2, "192.0.2.192/26": 1, "198.51.100.7/32": 3, "2001:db8::/32": 4, "2001:db8:1::/48": 0,
	}))
	check(t, err)
	for _, tc := range []struct {
		addr  string
		class uint16
		bits  int
	}{
		{"192.0.2.1", 1, 25},        // not 24: the other half is another class
		{"192.0.2.129", 2, 26},      // nor 25
		{"192.0.2.255", 1, 26},      //
		{"198.51.100.7", 3, 32},     //
		{"198.51.100.6", 0, 32},     // its neighbour is of a class
		{"198.51.101.0", 0, 24},     //
		{"203.0.113.1", 0, 5},       // 200.0.0.0/5 has no prefix in it
		{"10.0.0.1", 0, 1},          // nor has 0.0.0.0/1
		{"::ffff:192.0.2.1", 1, 25}, // the same
		{"2001:db8::1", 4, 48},      //
		{"2001:db8:1::1", 0, 48},    //
		{"2001:db8:8000::", 4, 33},  //
		{"4000::", 0, 2},
		{"8000::", 0, 1},
	} {
		if class, bits := c.Lookup(netip.MustParseAddr(tc.addr)); class != tc.class || bits != tc.bits {
			t.Errorf("%s: class %d of %d bits, want %d of %d", tc.addr, class, bits, tc.class, tc.bits)
		}
	}
}

func TestClassesOfEverything(t *testing.T) {
	for name, c := range map[string]*Classes{"nil": nil, "zero": {}, "none": mustClasses(t, nil)} {
		if class, bits := c.Lookup(netip.MustParseAddr("192.0.2.1")); class != 0 || bits != 0 {
			t.Errorf("%s: class %d of %d bits", name, class, bits)
		}
	}
	c := mustClasses(t, map[string]int{"0.0.0.0/0": 7, "192.0.2.0/24": 7})
	if class, bits := c.Lookup(netip.MustParseAddr("192.0.2.1")); class != 7 || bits != 0 {
		t.Errorf("one class for all: class %d of %d bits", class, bits)
	}
}

func mustClasses(t testing.TB, pairs map[string]int) *Classes {
	t.Helper()
	c, err := NewClasses(prefixes(pairs))
	check(t, err)
	return c
}

func TestClassesRefused(t *testing.T) {
	for name, list := range map[string][]ClassPrefix{
		"no prefix":       {{netip.Prefix{}, 1}},
		"negative class":  {{netip.MustParsePrefix("192.0.2.0/24"), -1}},
		"class too large": {{netip.MustParsePrefix("192.0.2.0/24"), MaxClass + 1}},
		"twice":           {{netip.MustParsePrefix("192.0.2.0/24"), 1}, {netip.MustParsePrefix("192.0.2.1/24"), 2}},
		"IPv4 in IPv6":    {{netip.MustParsePrefix("::ffff:192.0.2.0/120"), 1}},
	} {
		if _, err := NewClasses(list); !errors.Is(err, ErrClass) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestClassesLikeASearch compares with a look at each prefix, and holds each scope to what it promises: one class within.
func TestClassesLikeASearch(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 20 {
		var list []ClassPrefix
		seen := map[netip.Prefix]bool{}
		for range 200 {
			p := netip.PrefixFrom(randomAddr(r), r.IntN(25)).Masked()
			if !seen[p] {
				seen[p] = true
				list = append(list, ClassPrefix{p, r.IntN(4)})
			}
		}
		c, err := NewClasses(list)
		check(t, err)
		search := func(a netip.Addr) (class, bits int) {
			bits = -1
			for _, p := range list {
				if p.Prefix.Contains(a) && p.Prefix.Bits() > bits {
					class, bits = p.Class, p.Prefix.Bits()
				}
			}
			return class, bits
		}
		for range 300 {
			a := randomAddr(r)
			class, bits := c.Lookup(a)
			if want, _ := search(a); int(class) != want {
				t.Fatalf("%v: class %d, want %d", a, class, want)
			}
			within := netip.PrefixFrom(a, bits).Masked()
			for _, p := range list {
				if within.Contains(p.Prefix.Addr()) && p.Prefix.Bits() >= bits {
					if other, _ := search(p.Prefix.Addr()); other != int(class) {
						t.Fatalf("%v: scope %d has %v in it, of class %d and not %d", a, bits, p.Prefix, other, class)
					}
				}
			}
		}
	}
}

// randomAddr gives addresses that are often near each other.
func randomAddr(r *rand.Rand) netip.Addr {
	return netip.AddrFrom4([4]byte{byte(r.IntN(4) * 64), byte(r.IntN(4) * 64), byte(r.Uint32()), byte(r.Uint32())})
}

func TestAnswerByClass(t *testing.T) {
	const name, plain = "mx.example.org.", "plain.example.org."
	classes := mustClasses(t, map[string]int{"198.51.100.0/24": 1, "198.51.100.128/25": 2, "2001:db8::/32": 1})
	b := newBuilder(t, Config{Classes: classes})
	for class := range 2 {
		check(t, b.Add(name, dns.TypeA, class, Entry{Variants: variants(t, name, 0, 0)[class : class+1]}))
	}
	check(t, b.Add(plain, dns.TypeA, 0, Entry{Variants: variants(t, plain, 0)}))
	check(t, b.Add("only.example.org.", dns.TypeA, 1, Entry{Variants: variants(t, "only.example.org.", 0)}))
	table := build(t, b)
	for _, tc := range []struct {
		name, asked, from, subnet string
		variant                   int // -1: none
		scope                     uint8
	}{
		{"by address", name, "198.51.100.1", "", 1, 0},
		{"by IPv6 address", name, "2001:db8::1", "", 1, 0},
		{"class without an entry", name, "198.51.100.129", "", 0, 0},
		{"no class", name, "203.0.113.1", "", 0, 0},
		{"by subnet", name, "203.0.113.1", "198.51.100.0/25", 1, 25},
		{"a subnet of two classes", name, "203.0.113.1", "198.51.100.0/24", 1, 25},
		{"subnet of a class without an entry", name, "198.51.100.1", "198.51.100.128/25", 0, 25},
		{"subnet without class", name, "198.51.100.1", "203.0.113.0/24", 0, 5},
		{"by IPv6 subnet", name, "203.0.113.1", "2001:db8::/56", 1, 32},
		{"no subnet, please", name, "198.51.100.1", "0.0.0.0/0", 1, 0},
		{"no class matters", plain, "203.0.113.1", "198.51.100.0/24", 0, 0},
		{"there is one for the class only", "only.example.org.", "198.51.100.1", "", 0, 0},
		{"there is none for the class", "only.example.org.", "203.0.113.1", "", -1, 0},
		{"there is none for the subnet's", "only.example.org.", "198.51.100.1", "203.0.113.0/24", -1, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var changes []func(*dns.Msg)
			if tc.subnet != "" {
				changes = append(changes, edns(1232, false, subnetOption(tc.subnet)))
			}
			m := ask(t, table, client(tc.from), question(t, tc.asked, dns.TypeA, changes...))
			if (m == nil) != (tc.variant < 0) {
				t.Fatalf("reply is\n%v", m)
			}
			if m == nil {
				return
			}
			if got := which(t, m); got != tc.variant {
				t.Errorf("variant %d, want %d", got, tc.variant)
			}
			if tc.subnet != "" {
				if got := m.IsEdns0().Option[0].(*dns.EDNS0_SUBNET).SourceScope; got != tc.scope {
					t.Errorf("scope is %d, want %d", got, tc.scope)
				}
			}
		})
	}
}
