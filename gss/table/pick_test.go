package table

import (
	"fmt"
	"math"
	"net/netip"
	"testing"

	"github.com/miekg/dns"
)

// variants gives one for each weight; the i-th is known by its address 192.0.2.i.
func variants(t testing.TB, name string, weights ...uint32) (list []Variant) {
	t.Helper()
	for i, w := range weights {
		r := reply{answer: []string{fmt.Sprintf("%s 5 A 192.0.2.%d", name, i)}}
		list = append(list, Variant{Plain: r.wire(t, name, dns.TypeA), Weight: w, Key: fmt.Sprint("site", i)})
	}
	return list
}

// which gives the number of the variant in a reply.
func which(t testing.TB, m *dns.Msg) int {
	t.Helper()
	if m == nil || len(m.Answer) != 1 {
		t.Fatalf("reply is\n%v", m)
	}
	return int(m.Answer[0].(*dns.A).A.To4()[3])
}

func balancedTable(t testing.TB) (*Table, [][]byte) {
	t.Helper()
	classes, err := NewClasses([]ClassPrefix{{netip.MustParsePrefix("198.51.100.0/24"), 1}})
	check(t, err)
	b := newBuilder(t, Config{Classes: classes, Lanes: 2})
	var queries [][]byte
	for name, method := range map[string]Method{
		"rotate.example.org.": Rotate, "weighted.example.org.": Weighted, "hashed.example.org.": Hashed,
	} {
		check(t, b.Add(name, dns.TypeA, 0, Entry{method, variants(t, name, 1, 2, 3)}))
		check(t, b.Add(name, dns.TypeA, 1, Entry{method, variants(t, name, 1, 2, 3)}))
		queries = append(queries, question(t, name, dns.TypeA),
			question(t, name, dns.TypeA, edns(1232, true, subnetOption("198.51.100.0/24"))))
	}
	return build(t, b), queries
}

func TestRotateGoesRoundByLane(t *testing.T) {
	table, _ := balancedTable(t)
	query := question(t, "rotate.example.org.", dns.TypeA)
	a, b := client("192.0.2.53"), client("192.0.2.53")
	b.Lane = 1
	firstA, firstB := which(t, ask(t, table, a, query)), which(t, ask(t, table, b, query))
	for i := 1; i < 10; i++ {
		if got, want := which(t, ask(t, table, a, query)), (firstA+i)%3; got != want {
			t.Errorf("query %d: variant %d, want %d", i, got, want)
		}
		if i%2 == 0 { // at another pace
			if got, want := which(t, ask(t, table, b, query)), (firstB+i/2)%3; got != want {
				t.Errorf("query %d of the other lane: variant %d, want %d", i, got, want)
			}
		}
	}
}

func TestWeightedByChance(t *testing.T) {
	const name, queries = "w.example.org.", 60000
	weights := []uint32{3, 0, 1, 2}
	b := newBuilder(t, Config{})
	check(t, b.Add(name, dns.TypeA, 0, Entry{Weighted, variants(t, name, weights...)}))
	table, c, query := build(t, b), client("192.0.2.53"), question(t, name, dns.TypeA)
	var got [4]int
	for range queries {
		got[which(t, ask(t, table, c, query))]++
	}
	for i, w := range weights {
		share := float64(w) / 6
		// five standard deviations of a binomial distribution
		if slack := 5 * math.Sqrt(queries*share*(1-share)); math.Abs(float64(got[i])-queries*share) > slack {
			t.Errorf("variant %d of weight %d is in %d of %d replies", i, w, got[i], queries)
		}
	}
}

// hashedChoices gives the variant of each of many clients.
func hashedChoices(t testing.TB, list []Variant, addr func(i int) netip.Addr) (choices []string) {
	t.Helper()
	const name = "h.example.org."
	b := newBuilder(t, Config{Key: [16]byte{1, 2, 3}})
	check(t, b.Add(name, dns.TypeA, 0, Entry{Hashed, list}))
	table, c, query := build(t, b), client("192.0.2.53"), question(t, name, dns.TypeA)
	keys := map[int]string{}
	for _, v := range list {
		var m dns.Msg
		check(t, m.Unpack(v.Plain))
		keys[which(t, &m)] = v.Key
	}
	for i := range 6000 {
		c.Addr = addr(i)
		choices = append(choices, keys[which(t, ask(t, table, c, query))])
	}
	return choices
}

func TestHashedSticks(t *testing.T) {
	for family, addr := range map[string]func(i int) netip.Addr{
		"IPv4": func(i int) netip.Addr { return netip.AddrFrom4([4]byte{10, byte(i >> 8), byte(i), 53}) },
		"IPv6": func(i int) netip.Addr {
			return netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, 0, byte(i >> 8), byte(i), 7, 15: 53})
		},
	} {
		t.Run(family, func(t *testing.T) {
			list := variants(t, "h.example.org.", 1, 2, 3)
			all := hashedChoices(t, list, addr)
			counts := map[string]float64{}
			for _, c := range all {
				counts[c]++
			}
			for i, v := range list {
				share := float64(v.Weight) / 6
				if slack := 5 * math.Sqrt(6000*share*(1-share)); math.Abs(counts[v.Key]-6000*share) > slack {
					t.Errorf("variant %d of weight %d has %v of 6000 clients", i, v.Weight, counts[v.Key])
				}
			}
			// the order of variants is of no matter, and one that goes moves its own clients only
			for i, got := range hashedChoices(t, []Variant{list[2], list[0]}, addr) {
				if got != all[i] && all[i] != "site1" {
					t.Fatalf("client %d moved from %s to %s, both of which are there", i, all[i], got)
				}
			}
			heavier := variants(t, "h.example.org.", 1, 4, 3)
			for i, got := range hashedChoices(t, heavier, addr) {
				if got != all[i] && got != "site1" {
					t.Fatalf("client %d moved from %s to %s though site1 alone has gained", i, all[i], got)
				}
			}
			// neighbours in a subnet are one client
			near := func(i int) netip.Addr { a := addr(i); return a.Next() }
			for i, got := range hashedChoices(t, list, near) {
				if got != all[i] {
					t.Fatalf("neighbour of client %d is at %s instead of %s", i, got, all[i])
				}
			}
		})
	}
}

func TestHashedBySubnetOfClient(t *testing.T) {
	const name = "h.example.org."
	b := newBuilder(t, Config{Key: [16]byte{1, 2, 3}})
	check(t, b.Add(name, dns.TypeA, 0, Entry{Hashed, variants(t, name, 1, 1, 1)}))
	table, c := build(t, b), client("192.0.2.53")
	byResolver := which(t, ask(t, table, c, question(t, name, dns.TypeA)))
	differ := 0
	for i := range 50 {
		prefix := netip.PrefixFrom(netip.AddrFrom4([4]byte{203, 0, byte(i), 0}), 24)
		m := ask(t, table, c, question(t, name, dns.TypeA, edns(1232, false, subnetOption(prefix.String()))))
		direct := client(prefix.Addr().Next().String())
		if got, want := which(t, m), which(t, ask(t, table, direct, question(t, name, dns.TypeA))); got != want {
			t.Errorf("client of %v has variant %d by its resolver and %d by itself", prefix, got, want)
		} else if got != byResolver {
			differ++
		}
		if o := m.IsEdns0().Option[0].(*dns.EDNS0_SUBNET); o.SourceScope != 24 || o.SourceNetmask != 24 {
			t.Errorf("scope of %v is %d", prefix, o.SourceScope)
		}
	}
	if differ < 10 {
		t.Errorf("only %d of 50 clients have another variant than their resolver", differ)
	}
}
