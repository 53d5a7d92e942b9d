package message

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"

	"anycastle/internal/netnstest"
)

// BIND, Knot and NSD are authoritative servers of others, from Debian's packages. They run in a namespace of the test.

// peer is one of them.
type peer struct {
	name    string
	program string
	args    []string // %s is its folder
	config  string   // likewise
	addr    netip.AddrPort
}

const peerSecret = "e5e973e5a6b2a43f48e7dc849e37bfcf"

func peers() []*peer {
	return []*peer{
		{name: "bind", program: "/usr/sbin/named", args: []string{"-g", "-c", "%s/config"}, addr: netip.MustParseAddrPort("127.0.0.1:53"), config: `
options {
	directory "%[1]s"; pid-file none; lock-file none; session-keyfile "%[1]s/session.key";
	listen-on port 53 { 127.0.0.1; }; listen-on-v6 { none; };
	recursion no; notify no; dnssec-validation no; minimal-responses yes; max-udp-size 1232; edns-udp-size 1232;
	server-id "gss-east"; hostname "gss-east"; version "anycastle"; answer-cookie yes; cookie-secret "` + peerSecret + `";
};
controls { };
zone "example.org" { type primary; file "%[1]s/zone"; };
`},
		{name: "knot", program: "/usr/sbin/knotd", args: []string{"-c", "%s/config"}, addr: netip.MustParseAddrPort("127.0.0.2:53"), config: `
server:
    rundir: "%[1]s"
    listen: 127.0.0.2@53
    nsid: gss-east
    identity: gss-east
    version: anycastle
    edns-client-subnet: on
    udp-max-payload: 1232
    udp-workers: 1
    tcp-workers: 1
    background-workers: 1
log:
  - target: stderr
    any: warning
database:
    storage: "%[1]s"
mod-cookies:
  - id: default
    secret: 0x` + peerSecret + `
template:
  - id: default
    storage: "%[1]s"
    global-module: mod-cookies/default
zone:
  - domain: example.org
    file: zone
`},
		{name: "nsd", program: "/usr/sbin/nsd", args: []string{"-d", "-c", "%s/config"}, addr: netip.MustParseAddrPort("127.0.0.3:53"), config: `
server:
    server-count: 1
    ip-address: 127.0.0.3
    username: ""
    zonesdir: "%[1]s"
    database: ""
    pidfile: ""
    xfrdfile: ""
    zonelistfile: "%[1]s/zones"
    xfrdir: "%[1]s"
    nsid: "ascii_gss-east"
    identity: gss-east
    version: anycastle
    answer-cookie: yes
    cookie-secret: "` + peerSecret + `"
    ipv4-edns-size: 1232
    minimal-responses: yes
    refuse-any: no
remote-control:
    control-enable: no
zone:
    name: example.org
    zonefile: zone
`},
	}
}

// start runs the peer in the namespace until the test ends, and waits for its first answer.
func (p *peer) start(t *testing.T, ns *netnstest.NS) {
	t.Helper()
	dir, err := os.MkdirTemp("", p.name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	zone := "$ORIGIN example.org.\n"
	for line := range strings.Lines(zoneText) {
		if !strings.Contains(line, "DNSKEY") {
			zone += line
		}
	}
	text := strings.ReplaceAll(p.config, "%[1]s", dir)
	for name, content := range map[string]string{"config": text, "zone": zone} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	// a copy, since AppArmor's profiles keep the installed program out of the test's folder
	program, err := os.ReadFile(p.program)
	if err != nil {
		t.Fatalf("%v; install what .ci/packages lists (bind9, knot, nsd)", err)
	}
	path := filepath.Join(dir, filepath.Base(p.program))
	if err := os.WriteFile(path, program, 0o755); err != nil {
		t.Fatal(err)
	}
	log := &strings.Builder{}
	cmd := exec.Command(path)
	for _, a := range p.args {
		cmd.Args = append(cmd.Args, strings.ReplaceAll(a, "%s", dir))
	}
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // NSD has children
	stop := func() {
		syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		cmd.Wait()
	}
	ns.Do(cmd.Start)
	t.Cleanup(func() {
		stop()
		if t.Failed() {
			t.Logf("%s:\n%s", p.name, log)
		}
	})
	hello := wireOf(t, ask("example.org.", dns.TypeSOA))
	for end := time.Now().Add(20 * time.Second); ; {
		reply, err := p.exchange(ns, hello, UDP, 200*time.Millisecond)
		if err == nil && Rcode(reply) == dns.RcodeSuccess {
			return
		}
		if time.Now().After(end) {
			stop()
			t.Fatalf("%s does not answer: %v\n%s", p.name, err, log)
		}
	}
}

// exchange asks the peer; without a reply in time the error is a timeout, or the end of the connection.
func (p *peer) exchange(ns *netnstest.NS, query []byte, via Transport, wait time.Duration) (reply []byte, err error) {
	var conn net.Conn
	network := map[Transport]string{UDP: "udp", TCP: "tcp"}[via]
	ns.Do(func() error {
		conn, err = net.DialTimeout(network, p.addr.String(), wait)
		return nil
	})
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(wait)); err != nil {
		return nil, err
	}
	buf := make([]byte, streamSize)
	if via == UDP {
		if _, err := conn.Write(query); err != nil {
			return nil, err
		}
		n, err := conn.Read(buf)
		return buf[:n], err
	}
	if _, err := conn.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(query))), query...)); err != nil {
		return nil, err
	}
	if _, err := io.ReadFull(conn, buf[:2]); err != nil {
		return nil, err
	}
	_, err = io.ReadFull(conn, buf[2:2+int(binary.BigEndian.Uint16(buf))])
	return buf[2 : 2+int(binary.BigEndian.Uint16(buf))], err
}

// gist is what servers of several makes can agree on in a reply: RCODE, flags, how many records of each section, and the
// codes of the options. How they describe themselves, in records or in sizes, is theirs.
func gist(t *testing.T, wire []byte) string {
	t.Helper()
	if wire == nil {
		return "nothing"
	}
	var m dns.Msg
	if err := m.Unpack(wire); err != nil {
		return "malformed"
	}
	s := fmt.Sprintf("rcode %d", Rcode(wire))
	for i, name := range []string{"tc", "rd", "ra", "z", "ad", "cd"} {
		if binary.BigEndian.Uint16(wire[2:])&[...]uint16{1 << 9, 1 << 8, 1 << 7, 1 << 6, 1 << 5, 1 << 4}[i] != 0 {
			s += " " + name
		}
	}
	s += fmt.Sprintf(", %d %d", len(m.Question), len(m.Answer))
	if o := m.IsEdns0(); o != nil {
		s += fmt.Sprintf(", opt %d", o.Version())
		if o.Do() {
			s += " do"
		}
		var options []int
		for _, option := range o.Option {
			options = append(options, int(option.Option()))
		}
		slices.Sort(options)
		s += fmt.Sprint(" ", options)
	}
	return s
}

// alone names the cases in which none of the peers does as we do, and why we do. The peers are those of Debian 12.
var alone = map[string]string{
	"form: two questions and an OPT":          optInAll,
	"form: trailing byte after an OPT":        optInAll,
	"form: more additional than there are":    optInAll,
	"form: OPT twice":                         optInAll,
	"form: TSIG before OPT":                   optInAll,
	"EDNS: option's code cut":                 optInAll,
	"EDNS: option's content cut":              optInAll,
	"EDNS: subnet, scope":                     optInAll,
	"form: OPT's name is a pointer to a root": "RFC 6891 section 6.1.2: the name is 0; as NSD, but for the question",
	"form: TSIG with a TTL":                   "RFC 8945 section 4.2: it must be 0; as NSD, but for the question",
	"opcode: UPDATE":                          "it is not implemented, as in NSD, whose reply repeats flags that UPDATE has not",
	"opcode: 15, malformed":                   "what an unknown opcode's message looks like is unknown; as NSD, but for flags",
	"opcode: 15 with EDNS 1, malformed":       "the same",
	"opcode: NOTIFY with more":                "a NOTIFY carries one SOA",
	"opcode: NOTIFY of class CH":              "refused as any class but IN, as in NSD, but for the question",
	"class: ANY":                              "no record has this class; each of the three does something else",
	"class: type TKEY":                        "RFC 2930 is not implemented; BIND's FORMERR is for a query without the record",
	"class: type NXNAME with EDNS":            "RFC 9824 section 3.5 allows to say why; as BIND, but for that",
	"EDNS: cookie, the first of two counts":   "RFC 7873 section 4; the peers look at the second",
	"EDNS: subnet, the first of two counts":   "the same rule",
	"EDNS: subnet malformed, with a cookie":   "RFC 7873 section 5.2: a client cookie is answered with a cookie",
	"cookie: bad":                             "RFC 7873 section 5.4: BADCOOKIE",
}

const optInAll = "RFC 6891 section 6.1.1: a reply to a message with an OPT record has one; without it FORMERR means: no EDNS here"

// TestPeersAgree asks us and the peers all that the other tests ask, and wants one of the three at least to do as we do.
func TestPeersAgree(t *testing.T) {
	ns := netnstest.New(t)
	all := peers()
	for _, p := range all {
		p.start(t, ns)
	}
	s := newServer(t, newEdge(t, nil))
	s.unsigned = true
	agreed := map[string]int{}
	cases := peerCases(t)
	for _, tc := range cases {
		ours := gist(t, s.serve(t, tc.query, tc.via))
		var differ []string
		for _, p := range all {
			reply, err := p.exchange(ns, tc.query, tc.via, patience)
			theirs := gist(t, reply)
			var ne net.Error
			if err != nil && !errors.As(err, &ne) && !errors.Is(err, io.EOF) {
				t.Errorf("%s: ask %s: %v", tc.name, p.name, err)
			}
			if theirs == ours {
				agreed[p.name]++
				continue
			}
			differ = append(differ, fmt.Sprintf("%s: %s", p.name, theirs))
		}
		why, listed := alone[tc.name]
		switch {
		case len(differ) == len(all) && !listed:
			t.Errorf("%s: alone with %s; %s", tc.name, ours, strings.Join(differ, "; "))
		case len(differ) < len(all) && listed:
			t.Errorf("%s: not alone any more (%s); strike it from the list", tc.name, why)
		}
	}
	t.Logf("of %d cases agree %v", len(cases), agreed)
}

// patience is for a reply over loopback; some cases get none.
const patience = 300 * time.Millisecond

// peerCases gives the cases of the other tests that are about this package alone, and not about zones or transfers.
func peerCases(t *testing.T) (cases []compliance) {
	others := []string{"form: transfer", "form: TSIG", "class: type ANY",
		"opcode: NOTIFY", "opcode: NOTIFY with a SOA", "opcode: NOTIFY with four records"}
	for group, reads := range map[string][]read{
		"form": formReads(t), "opcode": opcodeReads(t), "class": classReads(t), "EDNS": ednsReads(t), "cookie": cookieReads(t),
	} {
		for _, r := range reads {
			if name := group + ": " + r.name; !slices.Contains(others, name) && len(r.wire) >= headerSize {
				cases = append(cases, compliance{name: name, query: r.wire, via: TCP})
			}
		}
	}
	for _, c := range complianceCases(t) {
		if q := c.query; !strings.Contains(c.want, "DNSKEY") { // the peers have no keys
			cases = append(cases, compliance{name: "ISC: " + c.name, query: q, via: c.via})
		}
	}
	return cases
}
