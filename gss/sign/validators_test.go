package sign

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"anycastle/internal/netnstest"
)

// The validators of others, delv of BIND and Unbound, judge each kind of reply. They run in a namespace of the test and
// touch no resolver that the machine runs.

// eventually waits for a condition.
func eventually(t testing.TB, what string, within time.Duration, ok func() bool) {
	t.Helper()
	end := time.Now().Add(within)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		if time.Now().After(end) {
			t.Fatalf("not within %v: %s", within, what)
		}
		<-tick.C
	}
}

func needProgram(t testing.TB, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Fatalf("%v; install what .ci/packages lists (bind9-dnsutils, unbound)", err)
	}
	return path
}

// logWriter shows a child's log in the test's.
type logWriter struct {
	t    testing.TB
	name string
}

func (w *logWriter) Write(b []byte) (int, error) {
	w.t.Logf("%s: %s", w.name, strings.TrimSpace(string(b)))
	return len(b), nil
}

// unbound is a validating resolver in a namespace.
type unbound struct {
	t      testing.TB
	ns     *netnstest.NS
	client dns.Client
	conn   *dns.Conn
}

const unboundAddress = "127.0.0.53:53"

// newUnbound starts one that trusts the key of a zone, served at 127.0.0.1. Its clock stands at date, if that is not zero.
func newUnbound(t testing.TB, ns *netnstest.NS, anchor *Key, date time.Time) *unbound {
	t.Helper()
	dir := t.TempDir()
	zone := anchor.record.Hdr.Name
	override := ""
	if !date.IsZero() {
		override = "val-override-date: \"" + date.UTC().Format("20060102150405") + "\""
	}
	config := fmt.Sprintf(`server:
  directory: %q
  chroot: ""
  username: ""
  pidfile: ""
  use-syslog: no
  logfile: ""
  interface: 127.0.0.53
  access-control: 127.0.0.0/8 allow
  do-not-query-localhost: no
  num-threads: 1
  module-config: "validator iterator"
  trust-anchor: %q
  trust-anchor-signaling: no
  val-log-level: 2
  harden-algo-downgrade: yes
  harden-below-nxdomain: yes
  harden-referral-path: no
  aggressive-nsec: yes
  infra-host-ttl: 1
  val-bogus-ttl: 0
  %s
remote-control:
  control-enable: no
stub-zone:
  name: %q
  stub-addr: 127.0.0.1
`, dir, strings.ReplaceAll(anchor.DNSKEY(60).String(), "\t", " "), override, zone)
	path := filepath.Join(dir, "unbound.conf")
	if err := os.WriteFile(path, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	program := needProgram(t, "unbound")
	cmd := exec.Command(program, "-d", "-p", "-c", path)
	cmd.Stderr, cmd.Stdout = &logWriter{t, "unbound"}, &logWriter{t, "unbound"}
	ns.Do(cmd.Start)
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	u := &unbound{t: t, ns: ns, client: dns.Client{Timeout: 5 * time.Second}}
	eventually(t, "unbound answers", 10*time.Second, func() bool {
		u.dial()
		q := query("id.server.", dns.TypeTXT)
		q.Question[0].Qclass = dns.ClassCHAOS
		_, _, err := u.client.ExchangeWithConn(q, u.conn)
		return err == nil
	})
	return u
}

// dial makes a new socket in the namespace.
func (u *unbound) dial() {
	if u.conn != nil {
		u.conn.Close()
	}
	u.ns.Do(func() (err error) {
		u.conn, err = u.client.Dial(unboundAddress)
		return err
	})
	conn := u.conn
	u.t.Cleanup(func() { conn.Close() })
}

func (u *unbound) ask(name string, rrtype uint16) *dns.Msg {
	u.t.Helper()
	m, _, err := u.client.ExchangeWithConn(query(name, rrtype), u.conn)
	if err != nil {
		u.t.Fatalf("ask unbound for %s %s: %v", name, dns.Type(rrtype), err)
	}
	return m
}

// delv validates with a server that answers for all zones at 127.0.0.4.
type delv struct {
	t       testing.TB
	ns      *netnstest.NS
	program string
	anchor  string // file
	zone    string
}

func newDelv(t testing.TB, ns *netnstest.NS, anchor *Key) *delv {
	t.Helper()
	d := &delv{t: t, ns: ns, program: needProgram(t, "delv"), anchor: filepath.Join(t.TempDir(), "anchor")}
	r := anchor.record
	d.zone = r.Hdr.Name
	text := fmt.Sprintf("trust-anchors { %q static-key %d 3 %d %q; };\n", d.zone, r.Flags, r.Algorithm, r.PublicKey)
	if err := os.WriteFile(d.anchor, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return d
}

// ask gives what delv prints.
func (d *delv) ask(name string, rrtype uint16) string {
	d.t.Helper()
	cmd := exec.Command(d.program, "@127.0.0.4", "-a", d.anchor, "+root="+d.zone, name, dns.Type(rrtype).String())
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	d.ns.Do(cmd.Start)
	cmd.Wait() // its exit code does not tell
	return out.String()
}

// world is a signed zone with a signed and an unsigned zone below it, in a namespace.
type world struct {
	ns               *netnstest.NS
	key              *Key // of example.net
	top, zone, plain *testZone
	zoneKey          *Key
}

func newWorld(t testing.TB, algorithm uint8, cfg Config, now func() time.Time) *world {
	t.Helper()
	w := &world{ns: netnstest.New(t), key: newTestKey(t, "example.net.", algorithm)}
	w.zoneKey = newTestKey(t, "zone.example.net.", dns.ED25519)
	w.top = newTestZone(t, "example.net.", exampleNet)
	w.zone = newTestZone(t, "zone.example.net.", child("127.0.0.2"))
	w.plain = newTestZone(t, "plain.example.net.", child("127.0.0.3"))
	for z, k := range map[*testZone]*Key{w.top: w.key, w.zone: w.zoneKey} {
		cfg.Origin, z.now = z.origin, now
		z.signer = newTestSigner(t, cfg)
		z.use(t, oneKey(k))
	}
	ds := w.zoneKey.DS()
	ds.Hdr.Ttl = 300
	w.top.add(ds)
	testServer(t, w.ns.Do, "127.0.0.1:53", w.top)
	testServer(t, w.ns.Do, "127.0.0.2:53", w.zone)
	testServer(t, w.ns.Do, "127.0.0.3:53", w.plain)
	testServer(t, w.ns.Do, "127.0.0.4:53", w.top, w.zone, w.plain)
	return w
}

// kinds are questions for each kind of reply, and what a validator makes of it.
var kinds = []struct {
	name     string
	rrtype   uint16
	answers  int  // records but signatures
	insecure bool // validly so
}{
	{"www.example.net.", dns.TypeA, 3, false},
	{"www.example.net.", dns.TypeAAAA, 1, false},
	{"example.net.", dns.TypeSOA, 1, false},
	{"example.net.", dns.TypeNS, 1, false},
	{"example.net.", dns.TypeMX, 1, false},
	{"example.net.", dns.TypeTXT, 1, false},
	{"example.net.", dns.TypeDNSKEY, 1, false},
	{"example.net.", dns.TypeCDS, 1, false},
	{"example.net.", dns.TypeCDNSKEY, 1, false},
	{"_imaps._tcp.example.net.", dns.TypeSRV, 1, false},
	{"svc.example.net.", dns.TypeHTTPS, 1, false},
	{"alias.example.net.", dns.TypeA, 4, false},
	{"chain.example.net.", dns.TypeA, 5, false},
	{"chain.example.net.", dns.TypeAAAA, 3, false},
	{"chain.example.net.", dns.TypeCNAME, 1, false},
	{"*foo.example.net.", dns.TypeA, 1, false},
	{"escaped.example.net.", dns.TypeMX, 1, false},
	{"some.wild.example.net.", dns.TypeA, 1, false},
	{"deep.some.wild.example.net.", dns.TypeTXT, 1, false},
	{"*.wild.example.net.", dns.TypeA, 1, false},
	{"alias.wild.example.net.", dns.TypeA, 2, false},
	{"www.zone.example.net.", dns.TypeA, 1, false},
	{"x.w.zone.example.net.", dns.TypeA, 1, false},
	{"zone.example.net.", dns.TypeDS, 1, false},
	{"www.plain.example.net.", dns.TypeA, 1, true},
	// denied
	{"www.example.net.", dns.TypeTXT, 0, false},
	{"example.net.", dns.TypeA, 0, false},
	{"missing.example.net.", dns.TypeA, 0, false},
	{"a.missing.example.net.", dns.TypeMX, 0, false},
	{"nowhere.example.net.", dns.TypeA, 1, false},
	{"nodata.example.net.", dns.TypeAAAA, 1, false},
	{"ent.example.net.", dns.TypeA, 0, false},
	{"b.ent.example.net.", dns.TypeTXT, 0, false},
	{"some.wild.example.net.", dns.TypeAAAA, 0, false},
	{"plain.example.net.", dns.TypeDS, 0, false},
	{"missing.zone.example.net.", dns.TypeA, 0, false},
	{"zone.example.net.", dns.TypeTXT, 0, false},
	{"missing.plain.example.net.", dns.TypeA, 0, true},
	{longName, dns.TypeA, 0, false},
}

// longName has 255 octets, so there is no room for a label in front of it.
var longName = strings.Join([]string{
	strings.Repeat("x", 63), strings.Repeat("y", 63), strings.Repeat("z", 63), strings.Repeat("w", 49), "example.net.",
}, ".")

func TestUnboundValidatesEachKindOfReply(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name      string
		algorithm uint8
		date      time.Time
	}{
		{"ECDSA now", dns.ECDSAP256SHA256, time.Time{}},
		{"Ed25519 in 2031", dns.ED25519, time.Date(2031, 1, 1, 0, 0, 0, 0, time.UTC)},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			now := time.Now
			if !c.date.IsZero() {
				now = func() time.Time { return c.date }
			}
			w := newWorld(t, c.algorithm, Config{}, now)
			u := newUnbound(t, w.ns, w.key, c.date)
			for range 2 { // the second time from its cache
				for _, k := range kinds {
					m := u.ask(k.name, k.rrtype)
					answered := m.Rcode == dns.RcodeSuccess || m.Rcode == dns.RcodeNameError
					if !answered || m.AuthenticatedData == k.insecure || records(m.Answer) != k.answers {
						t.Errorf("%s %s: unbound says\n%v", k.name, dns.Type(k.rrtype), m)
					}
				}
			}
		})
	}
}

func records(rrs []dns.RR) int {
	n := 0
	for _, rr := range rrs {
		if rr.Header().Rrtype != dns.TypeRRSIG {
			n++
		}
	}
	return n
}

func TestDelvValidatesEachKindOfReply(t *testing.T) {
	t.Parallel()
	w := newWorld(t, dns.ECDSAP256SHA256, Config{}, time.Now)
	d := newDelv(t, w.ns, w.key)
	for _, k := range kinds {
		out := d.ask(k.name, k.rrtype)
		want := "; fully validated"
		switch {
		case k.insecure:
			want = "; unsigned answer"
			if k.answers == 0 {
				want = "; negative response, unsigned answer"
			}
		case k.answers == 0:
			want = "; negative response, fully validated"
		}
		if !strings.Contains(out, want) {
			t.Errorf("%s %s: delv says\n%s\nwant %q", k.name, dns.Type(k.rrtype), out, want)
		}
	}
}

func TestValidatorsSeeWhatIsForged(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		rrtype uint16
		tamper func(*dns.Msg)
	}{
		{"www.example.net.", dns.TypeA, func(m *dns.Msg) {
			for i, rr := range m.Answer {
				if a, ok := rr.(*dns.A); ok {
					forged := *a
					forged.A = []byte{203, 0, 113, 66}
					m.Answer[i] = &forged
					return
				}
			}
		}},
		{"www.example.net.", dns.TypeTXT, func(m *dns.Msg) { m.Ns = without(m.Ns, dns.TypeNSEC) }},
		{"mail.example.net.", dns.TypeA, func(m *dns.Msg) { m.Answer = without(m.Answer, dns.TypeRRSIG) }},
	} {
		t.Run(fmt.Sprint(c.name, dns.Type(c.rrtype)), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, dns.ECDSAP256SHA256, Config{}, time.Now)
			w.top.mu.Lock()
			w.top.tamper = func(m *dns.Msg) {
				if m.Question[0].Name == c.name && m.Question[0].Qtype == c.rrtype {
					c.tamper(m)
				}
			}
			w.top.mu.Unlock()
			if m := newUnbound(t, w.ns, w.key, time.Time{}).ask(c.name, c.rrtype); m.Rcode != dns.RcodeServerFailure {
				t.Errorf("unbound took\n%v", m)
			}
			if out := newDelv(t, w.ns, w.key).ask(c.name, c.rrtype); strings.Contains(out, "validated") {
				t.Errorf("delv took\n%v", out)
			}
		})
	}
}
