package zone

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"

	"anycastle/internal/netnstest"
)

// BIND, Knot and NSD serve the zone of the tests, from Debian's packages bind9, knot and nsd. Each runs in the test's own
// namespace, as the user who runs the test, and touches nothing of one that the machine runs.

// peer is a server of others.
type peer struct {
	name    string
	program string
	config  func(dir string, port int) string
	args    func(config string) []string
}

var peers = []peer{
	{"bind", "/usr/sbin/named", func(dir string, port int) string {
		return fmt.Sprintf(`options {
	directory "%[1]s"; pid-file none; session-keyfile none; managed-keys-directory "%[1]s";
	listen-on port %[2]d { 127.0.0.1; }; listen-on-v6 { none; };
	recursion no; minimal-responses no; minimal-any no; notify no; dnssec-validation no; empty-zones-enable no;
};
controls { };
zone "rich.example" {
	type primary; file "%[1]s/rich.zone";
	check-integrity no; check-names ignore; check-mx ignore; check-mx-cname ignore; check-srv-cname ignore; check-sibling no;
};
`, dir, port)
	}, func(config string) []string { return []string{"-g", "-n", "1", "-c", config} }},
	{"knot", "/usr/sbin/knotd", func(dir string, port int) string {
		return fmt.Sprintf(`server:
    rundir: "%[1]s"
    listen: 127.0.0.1@%[2]d
    udp-workers: 1
    tcp-workers: 1
    background-workers: 1
database:
    storage: "%[1]s"
    journal-db-max-size: 1M
    kasp-db-max-size: 5M
    timer-db-max-size: 5M
acl:
  - id: local
    address: 127.0.0.1
    action: transfer
template:
  - id: default
    acl: local
    storage: "%[1]s"
    journal-content: none
    zonefile-sync: -1
    zonefile-load: whole
zone:
  - domain: rich.example
    file: rich.zone
`, dir, port)
	}, func(config string) []string { return []string{"-c", config} }},
	{"nsd", "/usr/sbin/nsd", func(dir string, port int) string {
		return fmt.Sprintf(`server:
    username: ""
    chroot: ""
    zonesdir: "%[1]s"
    database: ""
    pidfile: "%[1]s/nsd.pid"
    xfrdfile: "%[1]s/xfrd.state"
    xfrdir: "%[1]s"
    zonelistfile: "%[1]s/zone.list"
    server-count: 1
    ip-address: 127.0.0.1@%[2]d
    refuse-any: no
    minimal-responses: no
    rrl-ratelimit: 0
remote-control:
    control-enable: no
zone:
    name: rich.example
    zonefile: rich.zone
    provide-xfr: 127.0.0.1 NOKEY
`, dir, port)
	}, func(config string) []string { return []string{"-d", "-c", config} }},
}

// start runs the server with the zone file and gives a connection to it.
func (p peer) start(t *testing.T, ns *netnstest.NS, zoneFile string, port int) *dns.Conn {
	t.Helper()
	dir := t.TempDir()
	text, err := os.ReadFile(zoneFile)
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "rich.zone"), text, 0o644)
	}
	config := filepath.Join(dir, "config")
	if err == nil {
		err = os.WriteFile(config, []byte(p.config(dir, port)), 0o644)
	}
	// a copy: AppArmor's profile of the packaged program would keep it out of our folder
	program := filepath.Join(dir, filepath.Base(p.program))
	if err == nil {
		var code []byte
		if code, err = os.ReadFile(p.program); err == nil {
			err = os.WriteFile(program, code, 0o755)
		}
	}
	if err != nil {
		t.Fatalf("%v; install what .ci/packages lists (bind9, knot, nsd)", err)
	}
	log := &lockedBuffer{}
	cmd := exec.Command(program, p.args(config)...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} // with its thread, so also when the test panics
	started, ended := make(chan error, 1), make(chan error, 1)
	go ns.Do(func() error {
		err := cmd.Start()
		if started <- err; err == nil {
			ended <- cmd.Wait()
		}
		return nil
	})
	if err := <-started; err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Signal(os.Interrupt)
		late := time.AfterFunc(10*time.Second, func() { cmd.Process.Kill() })
		<-ended
		late.Stop()
		if t.Failed() {
			t.Logf("%s says:\n%s", p.name, log.String())
		}
	})
	deadline := time.Now().Add(20 * time.Second)
	for {
		var c *dns.Conn
		if c, err = dial(t, ns, port); err == nil {
			if _, err = exchange(c, "rich.example.", dns.TypeSOA); err == nil {
				return c
			}
			c.Close()
		}
		select {
		case end := <-ended:
			ended <- end
			t.Fatalf("%s ends: %v\n%s", p.name, end, log.String())
		case <-time.After(50 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s does not serve the zone: %v\n%s", p.name, err, log.String())
		}
	}
}

func dial(t *testing.T, ns *netnstest.NS, port int) (*dns.Conn, error) {
	t.Helper()
	var conn net.Conn
	var err error
	ns.Do(func() error {
		conn, err = net.DialTimeout("tcp", fmt.Sprintf("127.0.0.1:%d", port), time.Second)
		return nil
	})
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() { conn.Close() })
	return &dns.Conn{Conn: conn}, nil
}

// lockedBuffer is what a server says.
type lockedBuffer struct {
	mu   sync.Mutex
	text []byte
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.text = append(b.text, p...)
	return len(p), nil
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return string(b.text)
}

// exchange asks a server one question.
func exchange(c *dns.Conn, qname string, qtype uint16) (*dns.Msg, error) {
	q := new(dns.Msg)
	q.SetQuestion(qname, qtype)
	q.RecursionDesired = false
	c.SetDeadline(time.Now().Add(10 * time.Second))
	if err := c.WriteMsg(q); err != nil {
		return nil, err
	}
	r, err := c.ReadMsg()
	if err == nil && r.Id != q.Id {
		err = errors.New("a reply to another question")
	}
	if err == nil && r.Rcode != dns.RcodeSuccess && qname == "rich.example." && qtype == dns.TypeSOA {
		err = errors.New("not ready: " + dns.RcodeToString[r.Rcode])
	}
	return r, err
}

// reply is a reply as far as it is compared: the sections as sorted lines in lower case.
type reply struct {
	head, answer, authority, additional string
}

func (r reply) String() string {
	return fmt.Sprintf("%s\n  answer\n%s\n  authority\n%s\n  additional\n%s", r.head, r.answer, r.authority, r.additional)
}

func section(rrs []dns.RR) string {
	var out []string
	for _, l := range lines(rrs) {
		out = append(out, "    "+strings.ToLower(l))
	}
	slices.Sort(out)
	return strings.Join(out, "\n")
}

func newReply(rcode int, aa bool, answer, authority, additional []dns.RR) reply {
	return reply{fmt.Sprintf("%s aa=%v", dns.RcodeToString[rcode], aa), section(answer), section(authority), section(additional)}
}

// trim takes the zone's NS set, and the addresses that come only with it, out of a reply that answers. BIND and NSD add
// them and Knot does not, nor do we: no resolver needs them, and they make a small answer large.
func trim(m *dns.Msg) {
	ofApex := func(rr dns.RR) bool {
		return rr.Header().Rrtype == dns.TypeNS && strings.EqualFold(rr.Header().Name, "rich.example.")
	}
	if len(m.Answer) == 0 || !slices.ContainsFunc(m.Ns, ofApex) {
		return
	}
	var servers []string
	for _, rr := range m.Ns {
		servers = append(servers, strings.ToLower(target(rr)))
	}
	for _, rr := range m.Answer {
		servers = slices.DeleteFunc(servers, func(s string) bool { return strings.EqualFold(s, target(rr)) })
	}
	m.Ns = slices.DeleteFunc(m.Ns, ofApex)
	m.Extra = slices.DeleteFunc(m.Extra, func(rr dns.RR) bool { return slices.Contains(servers, strings.ToLower(rr.Header().Name)) })
}

// exceptions are the queries for which we side with one server against two that agree, and why.
var exceptions = []struct {
	why   string
	with  string
	types []uint16
}{
	{"types of messages and transfers are no types of data (RFC 6895 section 3.1, RFC 9824 section 2.2)", "bind",
		[]uint16{dns.TypeOPT, dns.TypeMAILB, dns.TypeTSIG, dns.TypeNXNAME, 200}},
	{"a service whose target is its owner needs the owner's addresses next (RFC 9460 section 4.1)", "bind", []uint16{dns.TypeHTTPS}},
	{"a service that a query for ANY found has addresses as if its type had been asked", "knot", []uint16{dns.TypeANY}},
}

// TestPeers asks BIND, Knot and NSD for every name and type, and others beside them, and wants each of our replies to be
// theirs: the same rcode, AA bit and three sections. If two of them agree they are right, but for the exceptions; if all
// three differ, any will do.
func TestPeers(t *testing.T) {
	t.Parallel()
	ns := netnstest.New(t)
	z, err := Load("rich.example.", richZone)
	if err != nil {
		t.Fatal(err)
	}
	conns := make([]*dns.Conn, len(peers))
	for i, p := range peers {
		conns[i] = p.start(t, ns, richZone, 5300+i)
		sameTransfer(t, ns, p.name, 5300+i, z)
	}
	asked, excepted := 0, make([]int, len(exceptions))
	for _, qname := range richNames(z) {
		for _, qtype := range richTypes {
			r := z.Lookup(qname, qtype, nil)
			ours := newReply(r.Rcode, r.Authoritative, r.Answer, r.Authority, r.Additional)
			theirs := make([]reply, len(peers))
			for i, c := range conns {
				m, err := exchange(c, qname, qtype)
				if err != nil {
					t.Fatalf("ask %s for %s %s: %v", peers[i].name, qname, dns.Type(qtype), err)
				}
				trim(m)
				theirs[i] = newReply(m.Rcode, m.Authoritative, m.Answer, m.Ns, m.Extra)
			}
			asked++
			if !agrees(ours, theirs, qtype, excepted) {
				t.Errorf("%s %s:\nours %v\nbind %v\nknot %v\nnsd %v", qname, dns.Type(qtype), ours, theirs[0], theirs[1], theirs[2])
			}
		}
	}
	for i, e := range exceptions {
		if excepted[i] == 0 {
			t.Errorf("no query needs the exception that %s", e.why)
		}
	}
	t.Logf("%d replies agree, %v of them by an exception", asked, excepted)
}

// agrees says whether our reply is right if theirs are, and counts which exception it needs.
func agrees(ours reply, theirs []reply, qtype uint16, excepted []int) bool {
	votes := map[reply]int{}
	for _, r := range theirs {
		votes[r]++
	}
	if votes[ours] > 1 || votes[ours] == 1 && len(votes) == len(theirs) {
		return true
	}
	for i, e := range exceptions {
		of := slices.IndexFunc(peers, func(p peer) bool { return p.name == e.with })
		if slices.Contains(e.types, qtype) && theirs[of] == ours {
			excepted[i]++
			return true
		}
	}
	return false
}

// sameTransfer wants a server to have read the same records from the zone file; names in rdata may have lost their
// capitals. A zone made of its transfer is then ours.
func sameTransfer(t *testing.T, ns *netnstest.NS, name string, port int, z *Zone) {
	t.Helper()
	conn, err := dial(t, ns, port)
	if err != nil {
		t.Fatal(err)
	}
	q := new(dns.Msg)
	q.SetAxfr("rich.example.")
	envelopes, err := (&dns.Transfer{Conn: conn}).In(q, "")
	if err != nil {
		t.Fatalf("transfer from %s: %v", name, err)
	}
	var rrs []dns.RR
	for e := range envelopes {
		if e.Error != nil {
			t.Fatalf("transfer from %s: %v", name, e.Error)
		}
		rrs = append(rrs, e.RR...)
	}
	theirs, err := Build("rich.example.", slices.Values(rrs))
	if err != nil {
		t.Fatalf("the zone that %s sends: %v", name, err)
	}
	if diff := cmp.Diff(section(slices.Collect(theirs.All(nil))), section(slices.Collect(z.All(nil)))); diff != "" {
		t.Errorf("records (-%s +ours):\n%s", name, diff)
	}
}
