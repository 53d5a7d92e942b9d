package zone

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"
)

// say is a result as text: the kind, the rcode, AA, and each section's records after its letter.
func say(r Result) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%v %s", r.Kind, dns.RcodeToString[r.Rcode])
	if r.Authoritative {
		b.WriteString(" aa")
	}
	for _, section := range []struct {
		letter string
		rrs    []dns.RR
	}{{"an", r.Answer}, {"ns", r.Authority}, {"ar", r.Additional}} {
		for _, l := range lines(section.rrs) {
			fmt.Fprintf(&b, "\n%s %s", section.letter, l)
		}
	}
	return b.String()
}

// query is one row of a table: what is asked and what say gives.
type query struct {
	name  string
	qtype uint16
	want  string
}

func askAll(t *testing.T, z *Zone, live Live, queries []query) {
	t.Helper()
	for _, q := range queries {
		t.Run(q.name+"/"+dns.Type(q.qtype).String(), func(t *testing.T) {
			got := say(z.Lookup(q.name, q.qtype, live))
			want := strings.TrimSpace(strings.ReplaceAll(q.want, "\t", ""))
			if diff := cmp.Diff(strings.Split(want, "\n"), strings.Split(got, "\n")); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// rootZone is the root zone of RFC 1034 section 6.1, with the TTLs it has there, and the MX set of section 6.2.2.
const rootZone = `
$TTL 86400
.       IN SOA SRI-NIC.ARPA. HOSTMASTER.SRI-NIC.ARPA. 870611 1800 300 604800 86400
        NS A.ISI.EDU.
        NS C.ISI.EDU.
        NS SRI-NIC.ARPA.
MIL.    NS SRI-NIC.ARPA.
        NS A.ISI.EDU.
EDU.    NS SRI-NIC.ARPA.
        NS C.ISI.EDU.
SRI-NIC.ARPA. A 26.0.0.73
              A 10.0.0.51
              MX 0 SRI-NIC.ARPA.
              HINFO DEC-2060 TOPS20
ACC.ARPA. A 26.6.0.65
          HINFO PDP-11/70 UNIX
          MX 10 ACC.ARPA.
USC-ISIC.ARPA. CNAME C.ISI.EDU.
73.0.0.26.IN-ADDR.ARPA. PTR SRI-NIC.ARPA.
65.0.6.26.IN-ADDR.ARPA. PTR ACC.ARPA.
51.0.0.10.IN-ADDR.ARPA. PTR SRI-NIC.ARPA.
52.0.0.10.IN-ADDR.ARPA. PTR C.ISI.EDU.
103.0.3.26.IN-ADDR.ARPA. PTR A.ISI.EDU.
A.ISI.EDU. 172800 A 26.3.0.103
C.ISI.EDU. 172800 A 10.0.0.52
`

// TestRFC1034 asks what section 6.2 asks C.ISI.EDU for. What differs from 1987: a query for all gets one set (RFC 8482),
// a denial keeps to the SOA's minimum (RFC 2308), and names come in lower case where the query does not spell them.
func TestRFC1034(t *testing.T) {
	t.Parallel()
	z := parseText(t, ".", rootZone)
	const soa = ". 86400 IN SOA SRI-NIC.ARPA. HOSTMASTER.SRI-NIC.ARPA. 870611 1800 300 604800 86400"
	askAll(t, z, nil, []query{
		{"SRI-NIC.ARPA.", dns.TypeA, `answer NOERROR aa
			an SRI-NIC.ARPA. 86400 IN A 26.0.0.73
			an SRI-NIC.ARPA. 86400 IN A 10.0.0.51`}, // 6.2.1
		{"SRI-NIC.ARPA.", dns.TypeANY, `answer NOERROR aa
			an SRI-NIC.ARPA. 86400 IN A 26.0.0.73
			an SRI-NIC.ARPA. 86400 IN A 10.0.0.51`}, // 6.2.2
		{"SRI-NIC.ARPA.", dns.TypeMX, `answer NOERROR aa
			an SRI-NIC.ARPA. 86400 IN MX 0 SRI-NIC.ARPA.
			ar SRI-NIC.ARPA. 86400 IN A 26.0.0.73
			ar SRI-NIC.ARPA. 86400 IN A 10.0.0.51`}, // 6.2.3
		{"SRI-NIC.ARPA.", dns.TypeNS, "no data NOERROR aa\nns " + soa},      // 6.2.4
		{"SIR-NIC.ARPA.", dns.TypeA, "no such name NXDOMAIN aa\nns " + soa}, // 6.2.5
		{"BRL.MIL.", dns.TypeA, `delegation NOERROR
			ns mil. 86400 IN NS SRI-NIC.ARPA.
			ns mil. 86400 IN NS A.ISI.EDU.
			ar SRI-NIC.ARPA. 86400 IN A 26.0.0.73
			ar SRI-NIC.ARPA. 86400 IN A 10.0.0.51
			ar A.ISI.EDU. 172800 IN A 26.3.0.103`}, // 6.2.6
		{"USC-ISIC.ARPA.", dns.TypeA, `delegation NOERROR aa
			an USC-ISIC.ARPA. 86400 IN CNAME C.ISI.EDU.
			ns edu. 86400 IN NS SRI-NIC.ARPA.
			ns edu. 86400 IN NS C.ISI.EDU.
			ar C.ISI.EDU. 172800 IN A 10.0.0.52
			ar SRI-NIC.ARPA. 86400 IN A 26.0.0.73
			ar SRI-NIC.ARPA. 86400 IN A 10.0.0.51`}, // 6.2.7, asked of a server without EDU
		{"USC-ISIC.ARPA.", dns.TypeCNAME, `answer NOERROR aa
			an USC-ISIC.ARPA. 86400 IN CNAME C.ISI.EDU.`}, // 6.2.8
	})
}

// TestRFC4592 asks the queries of section 2.2.1 of its zone.
func TestRFC4592(t *testing.T) {
	t.Parallel()
	z := parseText(t, "example.", `
$ORIGIN example.
example.                 3600 IN  SOA   ns.example.com. hostmaster.example.com. 1 3600 600 86400 300
example.                 3600     NS    ns.example.com.
example.                 3600     NS    ns.example.net.
*.example.               3600     TXT   "this is a wildcard"
*.example.               3600     MX    10 host1.example.
sub.*.example.           3600     TXT   "this is not a wildcard"
host1.example.           3600     A     192.0.2.1
_ssh._tcp.host1.example. 3600     SRV   0 0 22 host1.example.
_ssh._tcp.host2.example. 3600     SRV   0 0 22 host2.example.
subdel.example.          3600     NS    ns.example.com.
subdel.example.          3600     NS    ns.example.net.
`)
	const soa = "ns example. 300 IN SOA ns.example.com. hostmaster.example.com. 1 3600 600 86400 300"
	askAll(t, z, nil, []query{
		{"host3.example.", dns.TypeMX, `answer NOERROR aa
			an host3.example. 3600 IN MX 10 host1.example.
			ar host1.example. 3600 IN A 192.0.2.1`},
		{"host3.example.", dns.TypeA, "no data NOERROR aa\n" + soa},
		{"foo.bar.example.", dns.TypeTXT, `answer NOERROR aa
			an foo.bar.example. 3600 IN TXT "this is a wildcard"`},
		{"host1.example.", dns.TypeMX, "no data NOERROR aa\n" + soa},
		{"sub.*.example.", dns.TypeMX, "no data NOERROR aa\n" + soa},
		{"_telnet._tcp.host1.example.", dns.TypeSRV, "no such name NXDOMAIN aa\n" + soa},
		{"host.subdel.example.", dns.TypeA, `delegation NOERROR
			ns subdel.example. 3600 IN NS ns.example.com.
			ns subdel.example. 3600 IN NS ns.example.net.`},
		{"ghost.*.example.", dns.TypeMX, "no such name NXDOMAIN aa\n" + soa},
		// section 2.2.2: names between others exist and have no records
		{"_tcp.host2.example.", dns.TypeTXT, "no data NOERROR aa\n" + soa},
		{"host2.example.", dns.TypeTXT, "no data NOERROR aa\n" + soa},
		// section 3.2: an asterisk that is asked for is answered from its own records
		{"*.example.", dns.TypeTXT, `answer NOERROR aa
			an *.example. 3600 IN TXT "this is a wildcard"`},
	})
}

// TestRFC6672 has the table of section 2.2, the owner that is not rewritten, and that which gets too long.
func TestRFC6672(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ qname, owner, target, want string }{
		{"com.", "example.com.", "example.net.", ""},
		{"example.com.", "example.com.", "example.net.", ""},
		{"a.example.com.", "example.com.", "example.net.", "a.example.net."},
		{"a.b.example.com.", "example.com.", "example.net.", "a.b.example.net."},
		{"ab.example.com.", "b.example.com.", "example.net.", ""},
		{"foo.example.com.", "example.com.", "example.net.", "foo.example.net."},
		{"a.x.example.com.", "x.example.com.", "example.net.", "a.example.net."},
		{"a.example.com.", "example.com.", "y.example.net.", "a.y.example.net."},
		{"cyc.example.com.", "example.com.", "example.com.", "cyc.example.com."},
		{"cyc.example.com.", "example.com.", "c.example.com.", "cyc.c.example.com."},
		{"shortloop.x.x.", "x.", ".", "shortloop.x."},
		{"shortloop.x.", "x.", ".", "shortloop."},
	} {
		t.Run(tc.qname+" by "+tc.owner+" to "+tc.target, func(t *testing.T) {
			z := parseText(t, ".", fmt.Sprintf(". 60 SOA ns. host. 1 1 1 1 1\n. 60 NS ns.\n%s 60 DNAME %s\n", tc.owner, tc.target))
			r := z.Lookup(tc.qname, dns.TypeA, nil)
			got := ""
			if len(r.Answer) > 1 {
				got = r.Answer[1].(*dns.CNAME).Target
				if r.Answer[0].Header().Rrtype != dns.TypeDNAME || r.Answer[0].Header().Name != tc.owner {
					t.Errorf("the DNAME does not come first: %v", r.Answer)
				}
			}
			if got != tc.want {
				t.Errorf("rewritten to %q, want %q", got, tc.want)
			}
		})
	}
	z := parseText(t, "example.", fmt.Sprintf(`
@ 60 SOA ns host 1 1 1 1 60
@ 60 NS ns.example.net.
d 60 DNAME %s.example.net.
`, strings.Repeat("a", 63)))
	long := strings.Repeat(strings.Repeat("b", 58)+".", 3) + "d.example." // becomes a name of 254 bytes
	askAll(t, z, nil, []query{
		{long, dns.TypeA, fmt.Sprintf(`answer NOERROR aa
			an d.example. 60 IN DNAME %[1]s.example.net.
			an %[2]s 60 IN CNAME %[3]s%[1]s.example.net.`, strings.Repeat("a", 63), long, strings.TrimSuffix(long, "d.example."))},
		{"a." + long, dns.TypeA, "name too long YXDOMAIN aa\nan d.example. 60 IN DNAME " + strings.Repeat("a", 63) + ".example.net."},
	})
}
