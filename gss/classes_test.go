package gss

import (
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/maxmind/mmdbwriter"
	"github.com/maxmind/mmdbwriter/mmdbtype"
	"github.com/miekg/dns"

	"anycastle/gss/table"
)

// The class of an address says exactly which lists have it.
func TestClasses(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	randomPrefix := func() netip.Prefix {
		if rnd.IntN(2) == 0 {
			return netip.PrefixFrom(netip.AddrFrom4([4]byte{192, 0, byte(rnd.IntN(4)), byte(rnd.IntN(256))}), rnd.IntN(33)).Masked()
		}
		return netip.PrefixFrom(netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, 15: byte(rnd.IntN(256))}), 96+rnd.IntN(33)).Masked()
	}
	for range 50 {
		sources := make([]Sources, 1+rnd.IntN(5))
		for i := range sources {
			for range rnd.IntN(12) {
				if p := randomPrefix(); !slices.Contains(sources[i].Prefixes, p) {
					sources[i].Prefixes = append(sources[i].Prefixes, p)
				}
			}
		}
		c, err := newClasses(sources)
		if err != nil {
			t.Fatal(err)
		}
		for range 400 {
			addr := randomPrefix().Addr()
			want := make([]bool, len(sources))
			for i, s := range sources {
				want[i] = slices.ContainsFunc(s.Prefixes, func(p netip.Prefix) bool { return p.Contains(addr) })
			}
			class, bits := c.lookup(addr)
			if diff := cmp.Diff(want, c.lists[class]); diff != "" {
				t.Fatalf("%v, with lists %v (-want +got):\n%s", addr, sources, diff)
			}
			around := netip.PrefixFrom(addr, bits).Masked()
			for i, s := range sources { // all of the prefix that it was told by is alike
				if !want[i] && slices.ContainsFunc(s.Prefixes, around.Overlaps) {
					t.Fatalf("%v is told by %v, of which some is on list %d: %v", addr, around, i, s.Prefixes)
				}
			}
		}
	}
}

// writeMMDB writes a database with the country of networks.
// A name with more classes of clients than a table takes is answered one by one; others are as fast as ever.
func TestNameOfManyClasses(t *testing.T) {
	var lists, names strings.Builder
	for i := range 9 { // each combination is a class
		fmt.Fprintf(&lists, "    - {name: l%d, prefixes: [", i)
		for j := range 1 << 9 {
			if j&(1<<i) != 0 {
				fmt.Fprintf(&lists, "10.%d.%d.0/24, ", j>>8, j&255)
			}
		}
		fmt.Fprintf(&lists, "10.9.%d.0/24]}\n", i)
		fmt.Fprintf(&names, "l%d, ", i)
	}
	text := strings.Replace(nodeFile, "  rules:\n", lists.String()+"  rules:\n    - {name: many, domains: [many.mail.example.org], sources: ["+
		strings.TrimSuffix(names.String(), ", ")+"], clauses: [{group: west}]}\n    - {name: any, domains: [any.mail.example.org], clauses: [{group: west}]}\n", 1)
	d := newDeciding(t, text)
	if n := len(d.engine.serving().rules.classes.lists); n <= table.MaxEntries {
		t.Fatalf("there are only %d classes", n)
	}
	from := netip.MustParseAddrPort("10.1.7.9:53")
	if d.fast(packed(t, question("any.mail.example.org.", dns.TypeA)), from) == nil {
		t.Error("a name with one class is not answered fast")
	}
	want := "NOERROR aa\nmany.mail.example.org. 5 IN A 203.0.113.210"
	if got := d.ask("10.1.7.9", question("many.mail.example.org.", dns.TypeA)); got != want {
		t.Errorf("the reply is\n%s\nwant\n%s", got, want)
	}
}

func writeMMDB(t *testing.T, countries map[string]string) string {
	t.Helper()
	w, err := mmdbwriter.New(mmdbwriter.Options{DatabaseType: "test", RecordSize: 24, IncludeReservedNetworks: true})
	if err != nil {
		t.Fatal(err)
	}
	for network, country := range countries {
		_, n, err := net.ParseCIDR(network)
		if err == nil {
			err = w.Insert(n, mmdbtype.Map{
				"country": mmdbtype.Map{"iso_code": mmdbtype.String(country)}, "autonomous_system_number": mmdbtype.Uint32(64496),
			})
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	path := filepath.Join(t.TempDir(), "countries.mmdb")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := w.WriteTo(f); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestSourcesOutOfADatabase(t *testing.T) {
	path := writeMMDB(t, map[string]string{"192.0.2.0/25": "DE", "192.0.2.128/25": "AT", "203.0.113.0/24": "FR", "2001:db8:7::/48": "DE"})
	list := func(mmdb string) string {
		return strings.Replace(nodeFile, `{name: branch, prefixes: [192.0.2.0/24, "2001:db8:1::/48"]}`, "{name: branch, mmdb: "+mmdb+"}", 1)
	}
	d := newDeciding(t, list(fmt.Sprintf("{file: %s, path: [country, iso_code], values: [DE, AT]}", path)))
	for from, want := range map[string]string{
		"192.0.2.3": west, "203.0.113.3": east, "198.51.100.3": east, "2001:db8:7::1": west, "2001:db8:8::1": east,
	} {
		if got := d.ask(from, question("smtp.mail.example.org.", dns.TypeA)); !strings.HasSuffix(got, " IN A "+want) {
			t.Errorf("%s is answered\n%s\nwant %s", from, got, want)
		}
	}
	for name, tc := range map[string]struct{ mmdb, want string }{
		"no file":  {"{file: /nowhere.mmdb, path: [country, iso_code], values: [DE]}", "31: gss.sources[0].mmdb: open the database of networks: "},
		"no value": {fmt.Sprintf("{file: %s, path: [country, iso_code], values: [DE, XX]}", path), "31: gss.sources[0].mmdb: no network of " + path + " has XX at country.iso_code"},
		"no path":  {fmt.Sprintf("{file: %s, values: [DE]}", path), "31: gss.sources[0].mmdb.path: missing"},
		"no mmdb":  {fmt.Sprintf("{file: %s, path: [country], values: [DE]}", writeText(t)), "31: gss.sources[0].mmdb: open the database of networks: "},
		"a number": {fmt.Sprintf("{file: %s, path: [autonomous_system_number], values: [\"64497\"]}", path), "has 64497 at autonomous_system_number"},
	} {
		if _, err := decode(list(tc.mmdb)); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: complaint is\n%v\nwant\n%s", name, err, tc.want)
		}
	}
	if _, err := decode(list(fmt.Sprintf("{file: %s, path: [autonomous_system_number], values: [\"64496\"]}", path))); err != nil {
		t.Errorf("by number: %v", err)
	}
}

func writeText(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "text")
	if err := os.WriteFile(path, []byte("no database"), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
