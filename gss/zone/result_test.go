package zone

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"
)

// TestResultForSigner has what an online signer takes from a result besides the sections.
func TestResultForSigner(t *testing.T) {
	t.Parallel()
	z, err := Build("rich.example.", recordsOfFile(t, richZone))
	if err != nil {
		t.Fatal(err)
	}
	type forSigner struct {
		Kind      Kind
		Name      string
		Types     []string
		DS, Glue  int
		Wildcards []Wildcard
	}
	for _, tc := range []struct {
		qname string
		qtype uint16
		want  forSigner
	}{
		{"WEB.rich.example.", dns.TypeA, forSigner{Kind: Answer, Name: "WEB.rich.example."}},
		{"web.rich.example.", dns.TypeMX, forSigner{Kind: NoData, Name: "web.rich.example.", Types: []string{"A", "AAAA"}}},
		{"ent.rich.example.", dns.TypeA, forSigner{Kind: NoData, Name: "ent.rich.example."}},
		{"c1.rich.example.", dns.TypeMX, forSigner{Kind: NoData, Name: "web.rich.example.", Types: []string{"A", "AAAA"}}},
		{"www.rich.example.", dns.TypeNSEC, forSigner{Kind: NoData, Name: "www.rich.example.", Types: []string{"CNAME"}}},
		{"dangling.rich.example.", dns.TypeA, forSigner{Kind: NXDomain, Name: "missing.rich.example."}},
		{"x.y.dn.rich.example.", dns.TypeA, forSigner{Kind: NXDomain, Name: "x.y.target.rich.example."}},
		{"x.y.wild.rich.example.", dns.TypeA, forSigner{Kind: Answer, Name: "x.y.wild.rich.example.",
			Wildcards: []Wildcard{{"x.y.wild.rich.example.", "*.wild.rich.example."}}}},
		{"x.wild.rich.example.", dns.TypeAAAA, forSigner{Kind: NoData, Name: "x.wild.rich.example.", Types: []string{"A", "MX", "TXT"},
			Wildcards: []Wildcard{{"x.wild.rich.example.", "*.wild.rich.example."}}}},
		{"towildcname.rich.example.", dns.TypeA, forSigner{Kind: Answer, Name: "web.rich.example.",
			Wildcards: []Wildcard{{"any.cwild.rich.example.", "*.cwild.rich.example."}}}},
		{"x.sub.rich.example.", dns.TypeA, forSigner{Kind: Delegation, Name: "sub.rich.example.", Types: []string{"NS"}, Glue: 2}},
		{"x.signed.rich.example.", dns.TypeDS, forSigner{Kind: Delegation, Name: "signed.rich.example.", Types: []string{"NS", "DS"}, DS: 1, Glue: 1}},
		{"signed.rich.example.", dns.TypeDS, forSigner{Kind: Answer, Name: "signed.rich.example."}},
		{"sub.rich.example.", dns.TypeDS, forSigner{Kind: NoData, Name: "sub.rich.example.", Types: []string{"NS"}}},
		{"self.rich.example.", dns.TypeDS, forSigner{Kind: NoData, Name: "self.rich.example.", Types: []string{"NS"}}},
		{"rich.example.", dns.TypeDS, forSigner{Kind: NoData, Name: "rich.example.",
			Types: []string{"A", "NS", "SOA", "MX", "TXT", "HTTPS", "CAA"}}},
		{"example.", dns.TypeA, forSigner{Kind: Refused, Name: "example."}},
		{"a..b", dns.TypeA, forSigner{Kind: Refused, Name: "a..b."}},
	} {
		t.Run(tc.qname+"/"+dns.Type(tc.qtype).String(), func(t *testing.T) {
			r := z.Lookup(tc.qname, tc.qtype, nil)
			got := forSigner{Kind: r.Kind, Name: r.Name, DS: len(r.DS), Glue: r.Glue, Wildcards: r.Wildcards}
			for _, t := range r.Types {
				got.Types = append(got.Types, dns.Type(t).String())
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// TestNegativeTTL has RFC 2308 section 5: a denial is kept for the SOA record's TTL or its minimum, whichever is less.
func TestNegativeTTL(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name         string
		ttl, minimum uint32
		want         uint32
	}{
		{"minimum", 300, 60, 60},
		{"TTL", 60, 300, 60},
		{"zero", 300, 0, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			z := parseText(t, "example.org", fmt.Sprintf("@ %d SOA ns1 h 1 1 1 1 %d\n@ 60 NS ns1\n", tc.ttl, tc.minimum))
			for _, qname := range []string{"nx.example.org.", "example.org."} {
				r := z.Lookup(qname, dns.TypeAAAA, nil)
				if got := r.Authority[0].Header().Ttl; got != tc.want {
					t.Errorf("%s is denied for %ds, want %d", qname, got, tc.want)
				}
			}
			if r := z.Lookup("example.org.", dns.TypeSOA, nil); r.Answer[0].Header().Ttl != tc.ttl {
				t.Errorf("the record itself has TTL %d", r.Answer[0].Header().Ttl)
			}
		})
	}
}

func TestRefusedTypes(t *testing.T) {
	t.Parallel()
	z := parseText(t, "example.org", head)
	for qtype, want := range map[uint16]int{
		dns.TypeAXFR: dns.RcodeRefused, dns.TypeIXFR: dns.RcodeRefused, dns.TypeMAILA: dns.RcodeNotImplemented,
		dns.TypeMAILB: dns.RcodeNotImplemented, dns.TypeOPT: dns.RcodeFormatError, dns.TypeTKEY: dns.RcodeFormatError,
		dns.TypeNone: dns.RcodeSuccess, dns.TypeANY: dns.RcodeSuccess,
	} {
		if r := z.Lookup("example.org.", qtype, nil); r.Rcode != want || (r.Kind == Refused) != (want != dns.RcodeSuccess) {
			t.Errorf("%s: %v %s", dns.Type(qtype), r.Kind, dns.RcodeToString[r.Rcode])
		}
	}
}

// TestChainIsBounded follows a chain that is longer than any that Parse takes.
func TestChainIsBounded(t *testing.T) {
	t.Parallel()
	var rrs []dns.RR
	soa, _ := dns.NewRR("a. 60 SOA n. h. 1 1 1 1 1")
	ns, _ := dns.NewRR("a. 60 NS n.")
	rrs = append(rrs, soa, ns)
	for i := range 100 {
		cname, err := dns.NewRR("c" + string(rune('A'+i%26)) + string(rune('a'+i/26)) + ".a. 60 CNAME c" + string(rune('A'+(i+1)%26)) + string(rune('a'+(i+1)/26)) + ".a.")
		if err != nil {
			t.Fatal(err)
		}
		rrs = append(rrs, cname)
	}
	z, err := Build("a.", func(yield func(dns.RR) bool) {
		for _, rr := range rrs {
			if !yield(rr) {
				return
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	if r := z.Lookup("caa.a.", dns.TypeA, nil); r.Kind != Answer || len(r.Answer) != maxChain+1 || !r.Authoritative {
		t.Errorf("%v with %d records; want an answer with %d", r.Kind, len(r.Answer), maxChain+1)
	}
}

func TestSet(t *testing.T) {
	t.Parallel()
	parse := func(origin string) *Zone { return parseText(t, origin, head) }
	root, org, child := parse("."), parse("example.org"), parse("sub.Example.org")
	replaced, other := parse("example.net"), parse("example.net.")
	all := NewSet(root, org, child, replaced, other)
	few := NewSet(child, other)
	for _, tc := range []struct {
		set   *Set
		qname string
		qtype uint16
		want  *Zone
	}{
		{all, "example.org.", dns.TypeA, org},
		{all, "WWW.EXAMPLE.ORG", dns.TypeA, org},
		{all, "x.y.sub.example.org.", dns.TypeA, child},
		{all, "sub.example.org.", dns.TypeA, child},
		{all, "sub.example.org.", dns.TypeDS, org}, // belongs to the parent
		{all, "x.sub.example.org.", dns.TypeDS, child},
		{all, "example.org.", dns.TypeDS, root},
		{all, ".", dns.TypeDS, root},
		{all, "ample.org.", dns.TypeA, root},
		{all, "example.net.", dns.TypeA, other},
		{few, "sub.example.org.", dns.TypeDS, child}, // has no parent here
		{few, "example.org.", dns.TypeA, nil},
		{few, "a..b.", dns.TypeA, nil},
		{NewSet(), "example.org.", dns.TypeDS, nil},
	} {
		if got := tc.set.Find(tc.qname, tc.qtype); got != tc.want {
			t.Errorf("%s %s goes to %v", tc.qname, dns.Type(tc.qtype), got)
		}
	}
	if got := len(all.Zones()); got != 4 {
		t.Errorf("%d zones, want 4", got)
	}
}
