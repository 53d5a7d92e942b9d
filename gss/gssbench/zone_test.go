package gssbench

import (
	"fmt"
	"strings"

	"github.com/miekg/dns"
)

const zone = "example.org."

// hostName is the i-th name that is asked for.
func hostName(i int) string { return fmt.Sprintf("host%d.%s", i, zone) }

// address is the record of the i-th name.
func address(i int) *dns.A {
	return &dns.A{Hdr: dns.RR_Header{Name: hostName(i), Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 60},
		A: []byte{198, 51, 100, byte(i)}}
}

// zoneFile is the zone of so many names as master files have it.
func zoneFile(names int) string {
	var b strings.Builder
	fmt.Fprintf(&b, "$TTL 60\n@ SOA ns.%[1]s hostmaster.%[1]s 1 3600 600 86400 60\n@ NS ns.%[1]s\nns A 192.0.2.53\n", zone)
	for i := range names {
		fmt.Fprintf(&b, "%s\n", strings.ReplaceAll(address(i).String(), "\t", " "))
	}
	return b.String()
}
