package gss

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"

	"anycastle/gss/message"
	"anycastle/gss/transfer"
	"anycastle/gss/zone"
)

// secondaryZone is what a primary has of mail.example.org, without the names of rules.
func secondaryZone(t *testing.T, serial string, more string) *zone.Zone {
	t.Helper()
	z, err := zone.Parse("mail.example.org.", "zone", strings.NewReader("$TTL 60\n@ SOA ns h "+serial+" 3600 600 86400 5\n@ NS ns\nns A 192.0.2.53\nweb A 192.0.2.80\n"+more))
	if err != nil {
		t.Fatal(err)
	}
	return z
}

// A secondary zone is answered for while it is good. Names of rules are always.
func TestAbsentZone(t *testing.T) {
	d := newDeciding(t, secondaryFile("{address: 192.0.2.53:53}"))
	const web, smtp, origin = "web.mail.example.org.", "smtp.mail.example.org.", "mail.example.org."
	const gone = "SERVFAIL Invalid Data"
	asked := map[string]int{} // that the fast path answered
	want := func(state string, replies map[string]string) {
		t.Helper()
		for query, want := range replies {
			name, rrtype, _ := strings.Cut(query, " ")
			if got := brief(d.talk("198.51.100.9", message.UDP, withEDNS(question(name, dns.StringToType[rrtype])), "")); got != want {
				t.Errorf("%s: %s is answered with %s, want %s", state, query, got, want)
			}
			plain, from := packed(t, question(name, dns.StringToType[rrtype])), netip.MustParseAddrPort("198.51.100.9:53")
			if fast := d.fast(plain, from); fast != nil {
				asked[state]++
				if diff := cmp.Diff(unpacked(t, d.respond(plain, message.UDP, from)), unpacked(t, fast)); diff != "" {
					t.Errorf("%s: to %s (-slow +fast):\n%s", state, query, diff)
				}
			}
		}
		if got := brief(d.talk("127.0.0.1", message.TCP, withEDNS(question(origin, dns.TypeAXFR)), "")); (got == gone) != (state != "good") {
			t.Errorf("%s: the transfer gives %s", state, got)
		}
	}
	install := func(c transfer.Content) {
		t.Helper()
		if err := d.install(origin, c); err != nil {
			t.Fatal(err)
		}
		d.see()
	}
	absent := map[string]string{
		web + " A": gone, web + " AAAA": gone, "no." + origin + " A": gone, origin + " SOA": gone, origin + " NS": gone,
		smtp + " A": "NOERROR smtp/A", smtp + " TXT": "NOERROR", "x.pop." + origin + " A": "NOERROR x/A", origin + " MX": "NOERROR mail/MX mail/MX",
	}
	want("awaited", absent)
	if z := d.Zones()[0]; z.Role != "secondary" || !z.Absent || z.Records != 0 || z.Dynamic != 4 {
		t.Errorf("the status is %+v", z)
	}
	install(transfer.Content{Zone: secondaryZone(t, "7", ""), Good: true})
	want("good", map[string]string{
		web + " A": "NOERROR web/A", web + " AAAA": "NOERROR", "no." + origin + " A": "NXDOMAIN", smtp + " A": "NOERROR smtp/A",
	})
	if z := d.Zones()[0]; z.Absent || z.Serial != 7 || z.Records != 4 {
		t.Errorf("the status is %+v", z)
	}
	if err := d.install(origin, transfer.Content{Zone: secondaryZone(t, "8", "smtp A 192.0.2.1\n"), Good: true}); err == nil ||
		!strings.Contains(err.Error(), "smtp.mail.example.org. has A records in the zone file too") {
		t.Errorf("a version that has records of rules' names gives %v", err)
	}
	d.see()
	want("good", map[string]string{web + " A": "NOERROR web/A"})
	install(transfer.Content{Zone: secondaryZone(t, "7", ""), Good: false})
	want("expired", absent)
	if diff := cmp.Diff(map[string]int{"awaited": 1, "good": 4, "expired": 1}, asked); diff != "" {
		t.Errorf("queries answered by the fast path (-want +got):\n%s", diff)
	}
	if err := d.install("example.net.", transfer.Content{Zone: secondaryZone(t, "7", ""), Good: true}); err != nil {
		t.Errorf("a zone that the config has no more gives %v", err)
	}
}

// The keys of a zone that is signed here are there also while the zone is absent: what rules answer must validate.
func TestKeysOfAnAbsentZone(t *testing.T) {
	text := strings.Replace(secondaryFile("{address: 192.0.2.53:53}"), "primaries:", "dnssec: {}, primaries:", 1)
	text = strings.Replace(text, "domains: [mail.example.org, ", "domains: [mx.mail.example.org, ", 1) // no rule is in the way at the apex
	d := newDeciding(t, strings.Replace(text, ", transfer: {to: [{prefix: 127.0.0.0/8}]}", "", 1))
	d.engine.serving().config.StateDir = t.TempDir()
	if err := d.openKeys(t.Context()); err != nil {
		t.Fatal(err)
	}
	const origin, gone = "mail.example.org.", "SERVFAIL Invalid Data"
	want := func(state, web string) {
		t.Helper()
		d.see()
		for query, want := range map[string]string{
			origin + " DNSKEY": "NOERROR mail/DNSKEY mail/RRSIG", origin + " CDS": "NOERROR", origin + " MX": strings.Replace(web, "NOERROR web/A web/RRSIG", "NOERROR", 1), "smtp." + origin + " A": "NOERROR smtp/A smtp/RRSIG",
			"web." + origin + " A": web, "web." + origin + " DNSKEY": strings.Replace(web, "NOERROR web/A web/RRSIG", "NOERROR", 1),
		} {
			name, rrtype, _ := strings.Cut(query, " ")
			m := question(name, dns.StringToType[rrtype])
			m.SetEdns0(1232, true)
			if got := brief(d.talk("198.51.100.9", message.UDP, m, "")); got != want {
				t.Errorf("%s: %s is answered with %s, want %s", state, query, got, want)
			}
		}
	}
	want("awaited", gone)
	for good, web := range map[bool]string{true: "NOERROR web/A web/RRSIG", false: gone} {
		if err := d.install(origin, transfer.Content{Zone: secondaryZone(t, "7", ""), Good: good}); err != nil {
			t.Fatal(err)
		}
		want(fmt.Sprintf("good: %v", good), web)
	}
}

func TestNotifyIn(t *testing.T) {
	text := strings.Replace(secondaryFile("{address: 192.0.2.53:53}, {address: 192.0.2.54:53, key: k}"), keysHere, keyed("[{name: k, secret: "+peerSecret+"}]"), 1)
	d := newDeciding(t, text)
	notify := func(name string, rrtype uint16) *dns.Msg {
		m := withEDNS(question(name, rrtype))
		m.Opcode = dns.OpcodeNotify
		return m
	}
	const zone = "mail.example.org."
	for name, tc := range map[string]struct {
		from, secret string
		query        *dns.Msg
		want         string
	}{
		"from a primary":          {"192.0.2.53", "", notify(zone, dns.TypeSOA), "NOERROR"},
		"signed without need":     {"192.0.2.53", peerSecret, notify(zone, dns.TypeSOA), "NOERROR"},
		"signed":                  {"192.0.2.54", peerSecret, notify(zone, dns.TypeSOA), "NOERROR"},
		"should be signed":        {"192.0.2.54", "", notify(zone, dns.TypeSOA), "REFUSED Prohibited"},
		"signed wrongly":          {"192.0.2.54", wrongSecret, notify(zone, dns.TypeSOA), "NOTAUTH BADSIG"},
		"from elsewhere":          {"192.0.2.55", "", notify(zone, dns.TypeSOA), "REFUSED Prohibited"},
		"from elsewhere, signed":  {"192.0.2.55", peerSecret, notify(zone, dns.TypeSOA), "REFUSED Prohibited"},
		"of no zone":              {"192.0.2.53", "", notify("example.net.", dns.TypeSOA), "NOTAUTH"},
		"of a name in the zone":   {"192.0.2.53", "", notify("web."+zone, dns.TypeSOA), "NOTAUTH"},
		"of another type":         {"192.0.2.53", "", notify(zone, dns.TypeA), "NOTAUTH"},
		"spelt with capitals":     {"192.0.2.53", "", notify("MAIL.example.org.", dns.TypeSOA), "NOERROR"},
		"from a primary's mapped": {"::ffff:192.0.2.53", "", notify(zone, dns.TypeSOA), "NOERROR"},
	} {
		replies := d.talk(tc.from, message.UDP, tc.query, tc.secret)
		if got := brief(replies); got != tc.want {
			t.Errorf("%s: the reply is %s, want %s", name, got, tc.want)
		}
		if tc.want == "NOERROR" && (!replies[0].Authoritative || replies[0].Opcode != dns.OpcodeNotify) {
			t.Errorf("%s: the reply's header is %+v", name, replies[0].MsgHdr)
		}
	}
	primary := newDeciding(t, nodeFile)
	if got := brief(primary.talk("192.0.2.53", message.UDP, notify(zone, dns.TypeSOA), "")); got != "NOTAUTH" {
		t.Errorf("a primary replies %s", got)
	}
}

// A zone that comes from primaries from a reload on is answered for as before until one of them has given it.
func TestFormerContents(t *testing.T) {
	d := newDeciding(t, nodeFile)
	reload := func(text string) error {
		t.Helper()
		cfg := mustDecode(t, text)
		cfg.StateDir = d.engine.serving().config.StateDir
		err := d.Reload(cfg)
		d.see()
		return err
	}
	want := func(state, reply string, former, absent bool) {
		t.Helper()
		if got := brief(d.talk("198.51.100.9", message.UDP, question("web.mail.example.org.", dns.TypeA), "")); got != reply {
			t.Errorf("%s: web is answered with %s, want %s", state, got, reply)
		}
		if z := d.Zones()[0]; z.Role != "secondary" || z.Former != former || z.Absent != absent {
			t.Errorf("%s: the status is %+v", state, z)
		}
	}
	secondary := secondaryFile("{address: 192.0.2.53:53}")
	for _, state := range []string{"at once", "after another reload"} {
		if err := reload(secondary); err != nil {
			t.Fatal(err)
		}
		want(state, "NOERROR web/A", true, false)
		if got := d.moves.expire(d.engine.serving().zones.Zones()[0], time.Now()); got != soaExpire {
			t.Errorf("%s: it stays good for %d s", state, got)
		}
	}
	taken := strings.Replace(secondary, "domains: [smtp.mail.example.org, ", "domains: [web.mail.example.org, smtp.mail.example.org, ", 1)
	if err := reload(taken); err == nil || !strings.Contains(err.Error(), "as it is served now, does not go with the rules: web.mail.example.org. has A records") {
		t.Errorf("a rule for a name that it has records of gives %v", err)
	}
	for _, good := range []bool{true, false} {
		if err := d.install("mail.example.org.", transfer.Content{Zone: secondaryZone(t, "7", ""), Good: good}); err != nil {
			t.Fatal(err)
		}
		d.see()
		want("transferred", map[bool]string{true: "NOERROR web/A", false: "SERVFAIL"}[good], false, !good)
	}
	if err := reload(secondary); err != nil {
		t.Fatal(err)
	}
	want("expired, after a reload", "SERVFAIL", false, true)
}
