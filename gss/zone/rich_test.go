package zone

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

// richZone has one of everything that a lookup can meet.
const richZone = "testdata/rich.zone"

// richTypes are asked of every name: all that the zone has, some that it has not, and those of no record.
var richTypes = []uint16{
	dns.TypeA, dns.TypeAAAA, dns.TypeNS, dns.TypeCNAME, dns.TypeSOA, dns.TypeMX, dns.TypeTXT, dns.TypeSRV, dns.TypeDS, dns.TypeDNAME,
	dns.TypePTR, dns.TypeHTTPS, dns.TypeSVCB, dns.TypeANY, dns.TypeCAA, dns.TypeTLSA, 65280, dns.TypeNSEC, dns.TypeRRSIG,
	dns.TypeDNSKEY, dns.TypeNone, dns.TypeOPT, dns.TypeMAILB, dns.TypeTSIG, dns.TypeNXNAME, 200,
}

// richNames are all names of the zone, and others beside, above and below each.
func richNames(z *Zone) []string {
	var names []string
	for i := range z.nodes {
		n := present(z.nodeKey(uint32(i)))
		names = append(names, n, strings.ToUpper(n), "nx."+n, "a.b.nx."+n, "*."+n, "x.*."+n, "zz"+n)
	}
	slices.Sort(names)
	names = slices.Compact(names)
	return append(names, ".", "example.", "other.example.")
}

// recordsOfFile reads a zone file without this package.
func recordsOfFile(t testing.TB, file string) func(func(dns.RR) bool) {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return func(yield func(dns.RR) bool) {
		zp := dns.NewZoneParser(f, "rich.example.", file)
		for rr, ok := zp.Next(); ok; rr, ok = zp.Next() {
			if !yield(rr) {
				return
			}
		}
		if err := zp.Err(); err != nil {
			t.Error(err)
		}
	}
}
