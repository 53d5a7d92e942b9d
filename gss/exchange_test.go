package gss

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"anycastle/gss/message"
)

const (
	peerSecret  = "YSBzZWNyZXQgdGhhdCBpcyBsb25nIGVub3VnaA=="
	wrongSecret = "YW5vdGhlciBzZWNyZXQsIGFzIGxvbmcgYXMgdGhhdA=="
)

// primaryFile is nodeFile with transfers of its zone to who has the key, and to 192.0.2.0/24 without one and what rules answer for.
func primaryFile() string {
	text := strings.Replace(nodeFile, keysHere, keyed("[{name: k, secret: "+peerSecret+"}]"), 1)
	return strings.Replace(text, "name: mail.example.org", "name: mail.example.org\n      serial: 2\n"+
		"      transfer: {to: [{prefix: 192.0.2.0/24, without_rules: true}, {key: k}]}", 1)
}

// primaryOf is primaryFile with the records in a zone file.
func primaryOf(path string) string {
	head, rest, _ := strings.Cut(primaryFile(), "      serial: 2\n")
	access, _, _ := strings.Cut(rest, "\n")
	_, rest, _ = strings.Cut(rest, "  tsig_keys")
	return head + "      file: " + path + "\n" + access + "\n  tsig_keys" + rest
}

// talk gives all messages of the reply to a query, which is signed if there is a secret.
func (d *deciding) talk(from string, via message.Transport, m *dns.Msg, secret string) (replies []*dns.Msg) {
	d.t.Helper()
	wire := packed(d.t, m)
	mac := ""
	if secret != "" {
		signed := m.Copy()
		signed.SetTsig("k.", "hmac-sha256.", 300, time.Now().Unix())
		var err error
		if wire, mac, err = dns.TsigGenerate(signed, secret, "", false); err != nil {
			d.t.Fatal(err)
		}
	}
	take := func(reply []byte) bool {
		d.t.Helper()
		var got dns.Msg
		if err := got.Unpack(reply); err != nil {
			d.t.Fatal(err)
		}
		if t := got.IsTsig(); t != nil && t.MACSize > 0 {
			if err := dns.TsigVerify(slices.Clone(reply), peerSecret, mac, len(replies) > 0); err != nil && secret == peerSecret {
				d.t.Errorf("message %d: %v", len(replies), err)
			}
			mac = t.MAC
		} else if secret == peerSecret {
			d.t.Errorf("message %d is not signed", len(replies))
		}
		replies = append(replies, &got)
		return true
	}
	more := take
	if via == message.UDP {
		more = nil
	}
	if reply := d.respondStream(wire, via, netip.AddrPortFrom(netip.MustParseAddr(from), 5353), more); reply != nil {
		take(reply)
	}
	return replies
}

// brief is the RCODE, the extended errors, and the records of all messages in short.
func brief(replies []*dns.Msg) string {
	if len(replies) == 0 {
		return "no reply"
	}
	text := dns.RcodeToString[replies[0].Rcode]
	if o := replies[0].IsEdns0(); o != nil {
		for _, option := range o.Option {
			if e, ok := option.(*dns.EDNS0_EDE); ok {
				text += " " + dns.ExtendedErrorCodeToString[e.InfoCode]
			}
		}
	}
	if t := replies[0].IsTsig(); t != nil && t.Error != 0 {
		text += " " + map[uint16]string{dns.RcodeBadKey: "BADKEY", dns.RcodeBadSig: "BADSIG"}[t.Error]
	}
	for _, m := range replies {
		for _, rr := range m.Answer {
			name, _, _ := strings.Cut(rr.Header().Name, ".")
			text += " " + name + "/" + dns.TypeToString[rr.Header().Rrtype]
			if soa, ok := rr.(*dns.SOA); ok {
				text += map[uint32]string{1: "1", 2: "2", 3: "3"}[soa.Serial]
			}
		}
	}
	return text
}

func ixfr(name string, serial uint32) *dns.Msg {
	m := question(name, dns.TypeIXFR)
	m.Ns = []dns.RR{&dns.SOA{Hdr: dns.RR_Header{Name: name, Rrtype: dns.TypeSOA, Class: dns.ClassINET}, Ns: ".", Mbox: ".", Serial: serial}}
	return m
}

func withEDNS(m *dns.Msg) *dns.Msg { return m.SetEdns0(1232, false) }

func TestTransfersOut(t *testing.T) {
	d := newDeciding(t, primaryFile())
	cfg := mustDecode(t, strings.Replace(strings.Replace(primaryFile(), "serial: 2", "serial: 3", 1), "web      A     192.0.2.80", "new      A     192.0.2.81", 1))
	cfg.StateDir = d.engine.next.config.StateDir
	if err := d.Reload(cfg); err != nil {
		t.Fatal(err)
	}
	d.see()
	const zone, whole = "mail.example.org.", " mail/SOA3 mail/NS mail/NS alias/CNAME a/TXT new/A ns-east/A other/MX"
	const rules = " mail/SOA3 mail/NS mail/NS mail/MX mail/MX mail/SRV mail/SRV mail/HTTPS mail/HTTPS"
	const step = " mail/SOA3 mail/SOA2 web/A mail/SOA3 new/A mail/SOA3"
	key, other := "198.51.100.9", "192.0.2.9"
	for name, tc := range map[string]struct {
		from   string
		via    message.Transport
		query  *dns.Msg
		secret string
		want   string
	}{
		"whole without rules":     {other, message.TCP, question(zone, dns.TypeAXFR), "", "NOERROR" + whole + " mail/SOA3"},
		"over TLS":                {other, message.TLS, question(zone, dns.TypeAXFR), "", "NOERROR" + whole + " mail/SOA3"},
		"from nowhere":            {key, message.TCP, withEDNS(question(zone, dns.TypeAXFR)), "", "REFUSED Prohibited"},
		"IXFR from nowhere":       {key, message.UDP, withEDNS(ixfr(zone, 2)), "", "REFUSED Prohibited"},
		"other secret":            {key, message.TCP, question(zone, dns.TypeAXFR), wrongSecret, "NOTAUTH BADSIG"},
		"no such zone":            {other, message.TCP, withEDNS(question("example.net.", dns.TypeAXFR)), "", "NOTAUTH Not Authoritative"},
		"below the apex":          {other, message.TCP, question("web."+zone, dns.TypeAXFR), "", "NOTAUTH"},
		"above the apex":          {other, message.TCP, question("example.org.", dns.TypeAXFR), "", "NOTAUTH"},
		"over UDP":                {other, message.UDP, withEDNS(question(zone, dns.TypeAXFR)), "", "REFUSED Not Supported"},
		"what is new":             {other, message.TCP, ixfr(zone, 2), "", "NOERROR" + step},
		"what is new, with a key": {key, message.TCP, ixfr(zone, 2), peerSecret, "NOERROR" + step},
		"what is new, over UDP":   {key, message.UDP, ixfr(zone, 2), peerSecret, "NOERROR" + step},
		"nothing is new":          {key, message.TCP, ixfr(zone, 3), peerSecret, "NOERROR mail/SOA3"},
		"ahead of us":             {key, message.TCP, ixfr(zone, 4), peerSecret, "NOERROR mail/SOA3"},
		"unknown":                 {other, message.TCP, ixfr(zone, 1), "", "NOERROR" + whole + " mail/SOA3"},
		"unknown, over UDP":       {other, message.UDP, ixfr(zone, 1), "", "NOERROR mail/SOA3"},
		"IXFR that has nothing":   {other, message.TCP, question(zone, dns.TypeIXFR), "", "FORMERR"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := brief(d.talk(tc.from, tc.via, tc.query, tc.secret)); got != tc.want {
				t.Errorf("the reply is\n%s, want\n%s", got, tc.want)
			}
		})
	}
	got := brief(d.talk(key, message.TCP, question(zone, dns.TypeAXFR), peerSecret))
	for _, want := range []string{"NOERROR" + rules[:len(" mail/SOA3")], " smtp/A smtp/AAAA", " mail/MX mail/MX", " _submission/SRV", " mail/SOA3"} {
		if !strings.Contains(got, want) {
			t.Errorf("the zone with what rules answer is %s, without %s", got, want)
		}
	}
	for label, want := range map[[3]string]float64{{"axfr", "ok"}: 4, {"ixfr", "ok"}: 3, {"none", "refused"}: 2, {"none", "ok"}: 2} {
		if n := testutil.ToFloat64(d.metrics.transfers.WithLabelValues("mail.example.org", "out", label[0], label[1])); n != want {
			t.Errorf("%v transfers are counted as %v, want %v", n, label, want)
		}
	}
}

// An increment that fits no datagram, or has too many records to try, makes the secondary come over TCP.
func TestIncrementTooBigForADatagram(t *testing.T) {
	path := t.TempDir() + "/zone"
	zone := func(serial, hosts int) {
		t.Helper()
		text := manyHosts("mail.example.org.", serial)
		for i := range hosts {
			text += fmt.Sprintf("new%d-%d A 192.0.2.1\n", serial, i)
		}
		if err := writeFile(path, text); err != nil {
			t.Fatal(err)
		}
	}
	zone(1, 0)
	d := newDeciding(t, primaryOf(path))
	for _, tc := range []struct{ hosts, size, want int }{{5, 1232, 15}, {80, 1232, 1}, {5, 1232, 1}, {5, 1232, 20}, {5, 512, 1}, {200, 1232, 1}} {
		serial := d.Zones()[0].Serial
		zone(int(serial)+1, tc.hosts)
		cfg := mustDecode(t, primaryOf(path))
		cfg.StateDir = d.engine.next.config.StateDir
		if err := d.Reload(cfg); err != nil {
			t.Fatal(err)
		}
		d.see()
		m := ixfr("mail.example.org.", serial)
		m.SetEdns0(uint16(tc.size), false)
		replies := d.talk("198.51.100.9", message.UDP, m, peerSecret)
		if r := replies[0]; len(r.Answer) != tc.want || r.Truncated || r.Rcode != dns.RcodeSuccess || r.Len() > tc.size {
			t.Errorf("with %d more hosts and %d bytes the reply has %d records, want %d: %v", tc.hosts, tc.size, len(r.Answer), tc.want, r.MsgHdr)
		}
		if n := len(d.talk("198.51.100.9", message.TCP, ixfr("mail.example.org.", serial), peerSecret)[0].Answer); n < tc.hosts {
			t.Errorf("over TCP there are %d records", n)
		}
	}
}

// What rules answer for is transferred as it is at the moment.
func TestTransferHasTheAnswersOfTheMoment(t *testing.T) {
	d := newDeciding(t, primaryFile())
	smtp := func() (addrs string) {
		for _, m := range d.talk("198.51.100.9", message.TCP, question("mail.example.org.", dns.TypeAXFR), peerSecret) {
			for _, rr := range m.Answer {
				if a, ok := rr.(*dns.A); ok && a.Hdr.Name == "smtp.mail.example.org." {
					addrs += a.A.String() + " "
				}
			}
		}
		return addrs
	}
	if got := smtp(); got != "203.0.113.110 " {
		t.Errorf("the zone has %q", got)
	}
	d.see("smtp-east")
	if got := smtp(); got != "203.0.113.210 " {
		t.Errorf("with the east failed the zone has %q", got)
	}
}

// Any query may be signed, and then its reply is.
func TestSignedQueries(t *testing.T) {
	d := newDeciding(t, primaryFile())
	m := question("web.mail.example.org.", dns.TypeA)
	if d.fast(packed(t, m), netip.MustParseAddrPort("198.51.100.9:53")) == nil {
		t.Error("a query without a signature is not answered fast")
	}
	m.SetTsig("k.", "hmac-sha256.", 300, time.Now().Unix())
	if wire, _, err := dns.TsigGenerate(m, peerSecret, "", false); err != nil || d.fast(wire, netip.MustParseAddrPort("198.51.100.9:53")) != nil {
		t.Errorf("a signed query is answered fast, without a signature: %v", err)
	}
	for name, tc := range map[string]struct {
		secret, want string
	}{
		"right": {peerSecret, "NOERROR mail/SOA2"},
		"wrong": {wrongSecret, "NOTAUTH BADSIG"},
	} {
		for _, via := range []message.Transport{message.UDP, message.TCP} {
			if got := brief(d.talk("198.51.100.9", via, question("mail.example.org.", dns.TypeSOA), tc.secret)); got != tc.want {
				t.Errorf("%s over %v: the reply is %s, want %s", name, via, got, tc.want)
			}
		}
	}
	none := newDeciding(t, nodeFile)
	if got := brief(none.talk("198.51.100.9", message.UDP, question("mail.example.org.", dns.TypeSOA), wrongSecret)); got != "NOTAUTH BADKEY" {
		t.Errorf("without keys the reply is %s", got)
	}
}

func TestTransfersAreBounded(t *testing.T) {
	d := newDeciding(t, primaryFile())
	ask := func() string {
		return brief(d.talk("192.0.2.9", message.TCP, withEDNS(question("mail.example.org.", dns.TypeAXFR)), ""))
	}
	for range maxTransfers {
		d.moves.slots <- struct{}{}
	}
	if got := ask(); got != "SERVFAIL Not Ready" {
		t.Errorf("with all places taken the reply is %s", got)
	}
	<-d.moves.slots
	if got := ask(); !strings.HasPrefix(got, "NOERROR") {
		t.Errorf("with one free the reply is %s", got)
	}
	if len(d.moves.slots) != maxTransfers-1 {
		t.Error("the place is not given back")
	}
}

// A secondary that goes away ends its transfer, which is no fault of the server.
func TestTransferBreaksOff(t *testing.T) {
	path := t.TempDir() + "/zone"
	if err := writeFile(path, manyHosts("mail.example.org.", 2)); err != nil {
		t.Fatal(err)
	}
	d := newDeciding(t, primaryOf(path))
	sent := 0
	reply := d.respondStream(packed(t, question("mail.example.org.", dns.TypeAXFR)), message.TCP, netip.MustParseAddrPort("192.0.2.9:5353"),
		func([]byte) bool { sent++; return sent < 3 })
	if reply != nil || sent != 3 || testutil.ToFloat64(d.metrics.faults) != 0 {
		t.Errorf("%d messages were sent before %x, and %v faults counted", sent, reply, testutil.ToFloat64(d.metrics.faults))
	}
	if n := testutil.ToFloat64(d.metrics.transfers.WithLabelValues("mail.example.org", "out", "axfr", "failed")); n != 1 {
		t.Errorf("%v failed transfers are counted", n)
	}
}

// Who asks is told for how long a zone stays good (RFC 7314).
func TestExpireOption(t *testing.T) {
	expire := func(d *deciding, m *dns.Msg) uint32 {
		t.Helper()
		m.SetEdns0(1232, false)
		m.IsEdns0().Option = []dns.EDNS0{&dns.EDNS0_EXPIRE{Code: dns.EDNS0EXPIRE, Empty: true}}
		replies := d.talk("192.0.2.9", message.TCP, m, "")
		for _, o := range replies[0].IsEdns0().Option {
			if e, ok := o.(*dns.EDNS0_EXPIRE); ok {
				return e.Expire
			}
		}
		return 0
	}
	d := newDeciding(t, primaryFile())
	for _, m := range []*dns.Msg{
		question("mail.example.org.", dns.TypeSOA), question("mail.example.org.", dns.TypeAXFR), ixfr("mail.example.org.", 1),
	} {
		if got := expire(d, m); got != soaExpire {
			t.Errorf("%s: it says %d, want %d", dns.TypeToString[m.Question[0].Qtype], got, soaExpire)
		}
	}
	if got := expire(d, question("mail.example.org.", dns.TypeNS)); got != 0 {
		t.Errorf("for another type it says %d", got)
	}
}

// manyHosts is a zone file of several messages; each serial changes a few of its records.
func manyHosts(origin string, serial int) string {
	var b strings.Builder
	fmt.Fprintf(&b, "$ORIGIN %s\n$TTL 60\n@ SOA ns h %d 3600 600 86400 5\n@ NS ns\nns A 198.51.100.7\nserial TXT \"%d\"\n", origin, serial, serial)
	for i := range 2000 {
		fmt.Fprintf(&b, "host%d A 192.0.2.%d\n", i, i%250+1)
	}
	fmt.Fprintf(&b, "only%d MX %d host1\n*.wild%d A 192.0.2.9\n", serial, serial, serial)
	return b.String()
}

func writeFile(path, text string) error { return os.WriteFile(path, []byte(text), 0o600) }

// The largest record that a zone may have goes into a message of a transfer, beside a signature and what EDNS asks for.
func TestTransferOfALargeRecord(t *testing.T) {
	path := filepath.Join(t.TempDir(), "zone")
	text := manyHosts("mail.example.org.", 1) + "big TXT" + strings.Repeat(` "`+strings.Repeat("x", 255)+`"`, 222) + "\n"
	if err := writeFile(path, text); err != nil {
		t.Fatal(err)
	}
	d := newDeciding(t, primaryOf(path))
	records := 0
	for i, m := range d.talk("198.51.100.9", message.TCP, withEDNS(question("mail.example.org.", dns.TypeAXFR)), peerSecret) {
		if records += len(m.Answer); m.Truncated || len(m.Answer) == 0 {
			t.Errorf("message %d has %d records, truncated: %v", i, len(m.Answer), m.Truncated)
		}
	}
	if z := d.Zones()[0]; records < z.Records+1 {
		t.Errorf("%d records are sent of %d", records, z.Records)
	}
	if err := writeFile(path, text+"big TXT"+strings.Repeat(` "`+strings.Repeat("y", 255)+`"`, 2)+"\n"); err != nil {
		t.Fatal(err)
	}
	if err := d.Reload(d.engine.serving().config); err == nil || !strings.Contains(err.Error(), "too many for one message; remove some") {
		t.Errorf("with more than that the zone gives %v", err)
	}
}
