package zone

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"
)

// TestDynamicIsLikeStatic takes sets out of the zone file, makes them dynamic, and wants the same results.
func TestDynamicIsLikeStatic(t *testing.T) {
	t.Parallel()
	static, err := Build("rich.example.", recordsOfFile(t, richZone))
	if err != nil {
		t.Fatal(err)
	}
	types := map[string][]uint16{}
	records := map[string][]dns.RR{}
	var left []dns.RR
	for rr := range static.All(nil) {
		h := rr.Header()
		name := new(name)
		name.parse(h.Name)
		shapes := slices.Contains([]uint16{dns.TypeSOA, dns.TypeNS, dns.TypeCNAME, dns.TypeDNAME, dns.TypeDS}, h.Rrtype)
		if i := static.find(name.key(name.labels)); shapes || static.cutOf(i) != none {
			left = append(left, rr)
			continue
		}
		if !slices.Contains(types[h.Name], h.Rrtype) {
			types[h.Name] = append(types[h.Name], h.Rrtype)
		}
		records[h.Name+dns.Type(h.Rrtype).String()] = append(records[h.Name+dns.Type(h.Rrtype).String()], rr)
	}
	if len(types) < 30 {
		t.Fatalf("only %d names can be dynamic", len(types))
	}
	z, err := Build("rich.example.", slices.Values(left))
	if err == nil {
		z, err = z.WithDynamic(types)
	}
	if err != nil {
		t.Fatal(err)
	}
	live := func(name string, t uint16) []dns.RR { return records[name+dns.Type(t).String()] }
	asText := cmp.Transformer("line", func(rr dns.RR) string { return rr.String() })
	for _, qname := range richNames(static) {
		for _, qtype := range richTypes {
			if diff := cmp.Diff(static.Lookup(qname, qtype, nil), z.Lookup(qname, qtype, live), asText); diff != "" {
				t.Errorf("%s %s (-static +dynamic):\n%s", qname, dns.Type(qtype), diff)
			}
		}
	}
	// what is dynamic is transferred as it is now
	again, err := Build("rich.example.", z.All(live))
	if err != nil {
		t.Fatal(err)
	}
	if del, add := Diff(static, again); len(del)+len(add) > 0 {
		t.Errorf("transferred, %v is missing and %v is new", lines(del), lines(add))
	}
	// a label of a name that nobody has asked for keeps nothing of the zone before
	if plain, err := z.WithDynamic(nil); err != nil || plain.Lookup("web.rich.example.", dns.TypeA, live).Kind != NXDomain {
		t.Errorf("without dynamic names: %v", err)
	}
}

func TestDynamicErrors(t *testing.T) {
	t.Parallel()
	z := parseText(t, "example.org", head+`
mail	A	192.0.2.1
www	CNAME	mail
sub	NS	ns.sub
ns.sub	A	192.0.2.2
old	DNAME	new
x.ent	TXT	x
`)
	for _, tc := range []struct {
		name, owner string
		rrtype      uint16
		want        string
	}{
		{"outside", "mail.example.net", dns.TypeA, "mail.example.net. is outside the zone example.org.; a rule's name is inside it"},
		{"no name", "a..example.org", dns.TypeA, `"a..example.org" is no domain name; labels have 1 to 63 bytes, and names up to 255`},
		{"below a delegation", "x.sub.example.org", dns.TypeA,
			"x.sub.example.org. is below the delegation of sub.example.org., whose servers answer for it; remove the one or the other"},
		{"glue", "NS.sub.example.org", dns.TypeAAAA,
			"ns.sub.example.org. is below the delegation of sub.example.org., whose servers answer for it; remove the one or the other"},
		{"delegation", "sub.example.org", dns.TypeA,
			"sub.example.org. is below the delegation of sub.example.org., whose servers answer for it; remove the one or the other"},
		{"below a DNAME", "a.b.old.example.org", dns.TypeA, "a.b.old.example.org. is below a DNAME, which answers for it; remove the one or the other"},
		{"alias", "www.example.org", dns.TypeA,
			"www.example.org. is an alias in the zone file (RFC 1034 section 3.6.2); remove its CNAME record or the rule"},
		{"in the file too", "Mail.example.org", dns.TypeA, "mail.example.org. has A records in the zone file too; remove them or the rule"},
		{"SOA", "example.org", dns.TypeSOA, "example.org. has the type SOA, which shapes the zone and stands in its file"},
		{"alias that is dynamic", "x.example.org", dns.TypeCNAME, "x.example.org. has the type CNAME, which shapes the zone and stands in its file"},
		{"any", "x.example.org", dns.TypeANY, "x.example.org. cannot have records of type ANY"},
		{"beside others", "mail.example.org", dns.TypeAAAA, ""},
		{"at the apex", "example.org", dns.TypeDNSKEY, ""},
		{"beside a DNAME", "old.example.org", dns.TypeA, ""},
		{"a name between others", "ent.example.org", dns.TypeA, ""},
		{"wildcard", "*.w.example.org", dns.TypeA, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := z.WithDynamic(map[string][]uint16{tc.owner: {tc.rrtype}})
			if got := errorText(err); got != tc.want {
				t.Errorf("got  %s\nwant %s", got, tc.want)
			}
		})
	}
	_, err := z.WithDynamic(map[string][]uint16{"a.example.net": {dns.TypeA}, "b.example.net": {dns.TypeA}})
	if strings.Count(errorText(err), "\n") != 1 {
		t.Errorf("two names are wrong: %v", err)
	}
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// TestDynamicEmpty has a set that is empty at the moment: the name exists still.
func TestDynamicEmpty(t *testing.T) {
	t.Parallel()
	z, err := parseText(t, "example.org", head).WithDynamic(map[string][]uint16{
		"mail.example.org": {dns.TypeAAAA, dns.TypeA}, "*.w.example.org": {dns.TypeA}})
	if err != nil {
		t.Fatal(err)
	}
	live := func(name string, t uint16) []dns.RR {
		if t == dns.TypeA && name == "mail.example.org." {
			return liveOf(name, t)
		}
		return nil
	}
	for _, tc := range []struct {
		name  string
		qtype uint16
		kind  Kind
		types []uint16
	}{
		{"mail.example.org.", dns.TypeAAAA, NoData, []uint16{dns.TypeA}},
		{"mail.example.org.", dns.TypeA, Answer, nil},
		{"mail.example.org.", dns.TypeANY, Answer, nil},
		{"mail.example.org.", dns.TypeMX, NoData, []uint16{dns.TypeA, dns.TypeAAAA}},
		{"x.w.example.org.", dns.TypeA, NoData, []uint16{}},
		{"x.w.example.org.", dns.TypeANY, NoData, []uint16{}},
		{"w.example.org.", dns.TypeA, NoData, nil},
	} {
		r := z.Lookup(tc.name, tc.qtype, live)
		if r.Kind != tc.kind || !slices.Equal(r.Types, tc.types) {
			t.Errorf("%s %s: %v with the types %v, want %v with %v", tc.name, dns.Type(tc.qtype), r.Kind, r.Types, tc.kind, tc.types)
		}
	}
	if r := z.Lookup("mail.example.org.", dns.TypeA, nil); r.Kind != NoData {
		t.Errorf("without live: %v", r.Kind)
	}
}

// TestLiveIsLeftAlone spells a name otherwise than the rule does: the records of the rule keep their owner.
func TestLiveIsLeftAlone(t *testing.T) {
	t.Parallel()
	z, err := parseText(t, "example.org", head).WithDynamic(map[string][]uint16{"*.example.org": {dns.TypeA}})
	if err != nil {
		t.Fatal(err)
	}
	kept := liveOf("*.example.org.", dns.TypeA)
	r := z.Lookup("MaiL.example.ORG.", dns.TypeA, func(name string, _ uint16) []dns.RR {
		if name != "*.example.org." {
			t.Errorf("live is asked for %s", name)
		}
		return kept
	})
	if got := say(r); got != "answer NOERROR aa\nan MaiL.example.ORG. 5 IN A 203.0.113.1" {
		t.Error(got)
	}
	if diff := cmp.Diff([]Wildcard{{"MaiL.example.ORG.", "*.example.org."}}, r.Wildcards); diff != "" {
		t.Errorf("wildcards (-want +got):\n%s", diff)
	}
	if kept[0].Header().Name != "*.example.org." {
		t.Errorf("the owner of live's record is now %s", kept[0].Header().Name)
	}
}

// TestDanglingByWildcard has aliases that a wildcard makes, which a rule for the name itself takes away.
func TestDanglingByWildcard(t *testing.T) {
	t.Parallel()
	z := parseText(t, "example.org", head+`ns1 A 192.0.2.1
*.w CNAME main.w
*.x CNAME ns1
@ MX 10 mail.x
_imaps._tcp SRV 0 1 993 imap.x
www CNAME a.w
`)
	want := []string{
		"test.zone:5: the alias *.w.example.org. leads over more than 16 others or in a circle; name what it stands for",
		"test.zone:7: the MX record of example.org. names mail.x.example.org., which is an alias (RFC 2181 section 10.3); name what it stands for",
		"test.zone:8: the SRV record of _imaps._tcp.example.org. names imap.x.example.org., which is an alias (RFC 2181 section 10.3); name what it stands for",
		"test.zone:9: the alias www.example.org. leads over more than 16 others or in a circle; name what it stands for",
	}
	if diff := cmp.Diff(want, strings.Split(errorText(z.Dangling()), "\n")); diff != "" {
		t.Errorf("without rules (-want +got):\n%s", diff)
	}
	z, err := z.WithDynamic(map[string][]uint16{"main.w.example.org": {dns.TypeA}, "mail.x.example.org": {dns.TypeA}})
	if err != nil {
		t.Fatal(err)
	}
	if got := errorText(z.Dangling()); got != want[2] {
		t.Errorf("with rules: %s", got)
	}
}

func TestDangling(t *testing.T) {
	t.Parallel()
	z := parseText(t, "example.org", head+`ns1 A 192.0.2.1
@ MX 10 mail
@ MX 20 old-mail
_imaps._tcp SRV 0 1 993 imap.w
_none._tcp SRV 0 0 0 .
www CNAME web
@ HTTPS 1 svc
lame NS ns9
sub NS ns.sub
ns.sub A 192.0.2.2
x MX 1 host.sub
y MX 1 host.example.net.
moved DNAME other
z CNAME a.moved
v CNAME _tcp
`)
	rules := map[string][]uint16{"mail.example.org": {dns.TypeA}, "*.w.example.org": {dns.TypeAAAA}, "web.example.org": {dns.TypeTXT}}
	got := errorText(z.Dangling())
	want := []string{
		"test.zone:5: the MX record of example.org. names mail.example.org., which has no address; add its A or AAAA record, or a rule for it",
		"test.zone:5: the MX record of example.org. names old-mail.example.org., which has no address; add its A or AAAA record, or a rule for it",
		"test.zone:7: the SRV record of _imaps._tcp.example.org. names imap.w.example.org., which has no address; add its A or AAAA record, or a rule for it",
		"test.zone:9: the CNAME record of www.example.org. leads to web.example.org., which does not exist; add records or a rule for it, or mend the name",
		"test.zone:10: the HTTPS record of example.org. leads to svc.example.org., which does not exist; add records or a rule for it, or mend the name",
		"test.zone:11: the NS record of lame.example.org. names ns9.example.org., which has no address; add its A or AAAA record, or a rule for it",
	}
	if diff := cmp.Diff(want, strings.Split(got, "\n")); diff != "" {
		t.Errorf("without rules (-want +got):\n%s", diff)
	}
	z, err := z.WithDynamic(rules)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{want[1], want[4], want[5]}, strings.Split(errorText(z.Dangling()), "\n")); diff != "" {
		t.Errorf("with rules (-want +got):\n%s", diff)
	}
}
