package gss

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"anycastle/gss/decide"
	"anycastle/gss/sign"
	"anycastle/internal/netnstest"
)

const signedZone = "      dnssec: {parent_ttl: 1s, key_ttl: 1s, propagation: 0s, parent_propagation: 0s, lifetime: 0s}\n      primary:"

// validator is delv of BIND, which trusts the zone's key, at a server in its network namespace.
type validator struct {
	t              *testing.T
	program        string
	anchor, server string
}

func newValidator(t *testing.T, server string) *validator {
	t.Helper()
	program, err := exec.LookPath("delv")
	if err != nil {
		if os.Getenv("ANYCASTLE_TEST_ROOT") != "" {
			t.Fatal("delv is not here; .ci/packages installs it")
		}
		t.Skip("delv is not here")
	}
	v := &validator{t, program, filepath.Join(t.TempDir(), "anchor"), server}
	m, _, err := (&dns.Client{Net: "tcp", Timeout: patience}).Exchange(question("mail.example.org.", dns.TypeDNSKEY), server)
	if err != nil || len(m.Answer) == 0 {
		t.Fatalf("DNSKEY: %v, %v", m, err)
	}
	key := m.Answer[0].(*dns.DNSKEY)
	text := fmt.Sprintf("trust-anchors { %q static-key %d 3 %d %q; };\n", "mail.example.org.", key.Flags, key.Algorithm, key.PublicKey)
	if err := os.WriteFile(v.anchor, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return v
}

// ask gives what delv says of a name and type.
func (v *validator) ask(name, rrtype string) string {
	v.t.Helper()
	host, port, err := net.SplitHostPort(v.server)
	if err != nil {
		v.t.Fatal(err)
	}
	out, _ := exec.CommandContext(v.t.Context(), v.program, "@"+host, "-p", port, "-a", v.anchor, "+root=mail.example.org", name, rrtype).CombinedOutput()
	return string(out)
}

// signedReply asks with DO by TCP, and gives how many signatures there are.
func signedReply(t *testing.T, server, name string, rrtype uint16) (n int) {
	t.Helper()
	m := question(name, rrtype)
	m.SetEdns0(1232, true)
	reply, _, err := (&dns.Client{Net: "tcp", Timeout: patience}).Exchange(m, server)
	if err != nil || reply.Rcode != dns.RcodeSuccess {
		t.Fatalf("%s %s: %v, %v", name, dns.Type(rrtype), reply, err)
	}
	for _, rr := range append(reply.Answer, reply.Ns...) {
		if _, ok := rr.(*dns.RRSIG); ok {
			n++
		}
	}
	return n
}

// A signed zone validates: records, rules, wildcards, aliases and what is not there; also after a failover, and whoever looks
// from outside sees that the fast path gave the signatures.
func TestSignedZoneValidates(t *testing.T) {
	netnstest.Root(t) // delv is there where root's tests run
	east, west := newSite(t, "127.0.0.1"), newSite(t, "127.0.0.2")
	r := startRunning(t, portOf(east), portOf(west), func(c *Config) {
		signed := mustDecode(t, strings.Replace(nodeFile, "      primary:", signedZone, 1))
		c.Zones, c.checked = signed.Zones, nil
		c.Limits.ResponsesPerSecond = 0
	})
	v := newValidator(t, r.addr)
	signer := r.engine.serving().signed["mail.example.org."].signer
	free := func(when string) { // all that can be known beforehand
		t.Helper()
		made := signer.Signed()
		for _, q := range []string{"smtp A", "smtp AAAA", "smtp TXT", "smtp NSEC", "web A", "web AAAA", "web MX", "ns-east A", "alias A", "alias CNAME", "other MX",
			"other A", "a.deep TXT", "a.deep A", "@ MX", "@ SOA", "@ NS", "@ DNSKEY", "@ CDS", "@ A", "@ NSEC", "_submission._tcp MX", "_submission._tcp A"} {
			name, rrtype, _ := strings.Cut(q, " ")
			if name = strings.TrimPrefix(name+".mail.example.org.", "@."); signedReply(t, r.addr, name, dns.StringToType[rrtype]) == 0 {
				t.Errorf("%s: %s has no signature", when, q)
			}
			if now := signer.Signed(); now != made {
				t.Errorf("%s: %s took %d signatures", when, q, now-made)
				made = now
			}
		}
	}
	free("at first")
	valid := func(name, rrtype, want string) {
		t.Helper()
		out := v.ask(name, rrtype)
		if !strings.Contains(out, "; fully validated") && !strings.Contains(out, "; negative response, fully validated") || !strings.Contains(out, want) {
			t.Errorf("%s %s: delv says\n%swant %s", name, rrtype, out, want)
		}
	}
	all := func(address string) {
		t.Helper()
		valid("smtp.mail.example.org", "A", address)
		valid("alias.mail.example.org", "A", address)
		valid("a.pop.mail.example.org", "A", address)
		valid("mail.example.org", "MX", "mx-")
		valid("smtp.mail.example.org", "TXT", "negative response")
		valid("nope.mail.example.org", "A", "negative response")
		valid("deep.mail.example.org", "A", "negative response")
		valid("web.mail.example.org", "A", "192.0.2.80")
		valid("web.mail.example.org", "AAAA", "negative response")
		valid("mail.example.org", "SOA", "hostmaster")
		valid("mail.example.org", "DNSKEY", "257 3 13")
	}
	all("127.0.0.1")
	made := signer.Signed()
	all("127.0.0.1")
	if again := signer.Signed(); again != made {
		t.Errorf("asked again, %d signatures were made", again-made)
	}
	for compact, want := range map[bool]string{false: "NOERROR co=false", true: "NXDOMAIN co=true"} {
		m := question("nope.mail.example.org.", dns.TypeA)
		o := m.SetEdns0(1232, true).IsEdns0()
		if compact {
			o.SetCo()
		}
		reply, _, err := (&dns.Client{Timeout: patience}).Exchange(m, r.addr)
		if err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprintf("%s co=%v", dns.RcodeToString[reply.Rcode], reply.IsEdns0().Co()); got != want || len(reply.Ns) != 4 {
			t.Errorf("a compact denial is %s, want %s:\n%v", got, want, reply)
		}
	}
	east.Close()
	waitFor(t, "the failover", func() bool { return r.ask(t, "udp") == "NOERROR 127.0.0.2" })
	free("after a failover")
	all("127.0.0.2")

	// the fast path signs what is asked for with DO, and only that
	l := r.Lane(0)
	l.Begin(time.Now())
	for _, do := range []bool{true, false} {
		m := question("smtp.mail.example.org.", dns.TypeA)
		m.SetEdns0(1232, do)
		dst := make([]byte, 1232)
		n, _ := l.Fast(dst, packed(t, m), r.engine.current.Load().config.Listen[0])
		var reply dns.Msg
		if err := reply.Unpack(dst[:n]); err != nil {
			t.Fatal(err)
		}
		if got := len(reply.Answer); got != map[bool]int{true: 2, false: 1}[do] {
			t.Errorf("with DO %v there are %d records:\n%v", do, got, &reply)
		}
	}
}

// The first key is published and waits for caches; orders that make no sense are refused, and so are keys that others can read.
func TestKeysOfAZone(t *testing.T) {
	east := newSite(t, "127.0.0.1")
	r := startRunning(t, portOf(east), portOf(east), func(c *Config) {
		signed := mustDecode(t, strings.Replace(nodeFile, "      primary:", signedZone, 1))
		c.Zones, c.checked = signed.Zones, nil
	})
	if k := r.Keys(); len(k) != 1 || k[0].Zone != "mail.example.org" || k[0].State != sign.Published || k[0].Until.IsZero() {
		t.Fatalf("keys are %+v", k)
	}
	is := r.engine.serving().signed["mail.example.org."]
	if _, err := r.OrderKeys(KeyOrder{Zone: "example.net", Kind: "roll"}); err == nil {
		t.Error("a zone that is not signed is ordered about")
	}
	if _, err := r.OrderKeys(KeyOrder{Zone: "mail.example.org", Kind: "confirm"}); err == nil {
		t.Error("what the parent was not asked for is confirmed")
	}
	x, err := r.Explain(Question{"mail.example.org", "DNSKEY", netip.MustParseAddr("192.0.2.3")})
	if err != nil || x.Why != "none: the keys of the zone make its DNSKEY records" {
		t.Errorf("its DNSKEY records are explained by %q, %v", x.Why, err)
	}
	first := r.Keys()[0]
	if _, err := r.OrderKeys(KeyOrder{Zone: "mail.example.org", Kind: "roll"}); err == nil ||
		!strings.Contains(err.Error(), "a roll is under way: key "+first.ID+" is published and waits for caches to have it, and signatures, until 2") {
		t.Errorf("a roll before the first key is in place: %v", err)
	}
	if _, err := r.OrderKeys(KeyOrder{Zone: "mail.example.org", Kind: "compromise", Key: "K"}); err == nil {
		t.Error("a key that does not exist is compromised")
	}
	// the directory of keys is the owner's alone
	dir := filepath.Join(r.engine.serving().config.StateDir, "keys")
	info, err := os.Stat(dir)
	if err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the directory of keys: %v, %v", info.Mode(), err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	other, err := newSigning(r.engine.serving().zones.Zones()[0], is.config, filepath.Dir(dir), is.log, func() {})
	if err != nil {
		t.Fatal(err)
	}
	if err := other.open(t.Context()); err == nil || !strings.Contains(err.Error(), "open to others; `chmod 700") {
		t.Errorf("a directory of keys that others can read is opened: %v", err)
	}
	if p := r.Answers()[0].Place; p != decide.Serving {
		t.Errorf("the answer is %s", p)
	}
}

// A key that is in place, or on its way out, is in the way of no roll.
func TestRollThatIsOver(t *testing.T) {
	d := sign.Decision{Keys: []sign.KeyStatus{{ID: "1", State: sign.Retired}, {ID: "2", State: sign.Active}, {ID: "3", State: sign.Gone}}}
	if err := underWay(d); err != nil {
		t.Error(err)
	}
	d.Keys = append(d.Keys, sign.KeyStatus{ID: "4", State: sign.Ready, Waits: "for the parent"})
	if err := underWay(d); err == nil || !strings.HasSuffix(err.Error(), "key 4 is ready and waits for the parent, until that is so") {
		t.Errorf("a roll under way: %v", err)
	}
}
