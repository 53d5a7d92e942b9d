package lbbench

import (
	"bytes"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"anycastle/lab/keys"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"
	"github.com/emersion/go-smtp"
	"golang.org/x/sys/unix"
)

const (
	mailbox         = "alice@example.org"
	mailboxPassword = "alice-lab"
	mailboxFile     = "../topo/two-site-light/mailboxes.yml"
	largeMail       = 50_000_000
	// mailTime bounds one mail's way in one direction.
	mailTime = 2 * time.Minute
)

// mailPath is one way for a client's packets to the front ends on mx1.
type mailPath struct {
	name    string
	vip     string
	real    string // which of mx1's addresses
	forward string
	mtu     int // what is left of 1500 bytes for the client
}

var mailPaths = []mailPath{
	{"ipv4", "203.0.113.10", "mx1", "ipip", 1480},
	{"ipv6", "2001:db8:1::10", "mx1/6", "ipip", 1460},
	{"ipv4 in ipv6", "203.0.113.11", "mx1/6", "ipip", 1460},
	{"ipv6 in ipv4", "2001:db8:1::11", "mx1", "ipip", 1480},
	{"ipv4 in gue", "203.0.113.12", "mx1", "gue", 1468},
	{"ipv6 in gue", "2001:db8:1::12", "mx1/6", "gue", 1448},
}

// mailSite is a site where every link takes 1500 bytes, with the mail front ends on mx1 and the store on mx2.
type mailSite struct {
	*site
	tls *tls.Config
}

func newMailSite(t testing.TB, paths []mailPath) *mailSite {
	t.Helper()
	m := &mailSite{site: newSite(t, 1, 2)}
	m.addIPv6()
	m.setMTU(1500)
	certs := t.TempDir()
	check(t, keys.Make(certs, []keys.Host{{Name: "mx1"}, {Name: "mx2"}}))
	pem, err := os.ReadFile(filepath.Join(certs, "mx1", "ca.pem"))
	check(t, err)
	m.tls = &tls.Config{RootCAs: x509.NewCertPool(), ServerName: "mx1"}
	if !m.tls.RootCAs.AppendCertsFromPEM(pem) {
		t.Fatal("no certificate of the authority")
	}
	boxes, err := filepath.Abs(mailboxFile)
	check(t, err)
	mail := func(host string) string {
		return fmt.Sprintf(`mail:
  hostname: %[1]s
  directory: %[2]s
  tls: {cert: %[3]s/node.pem, key: %[3]s/node.key, ca: %[3]s/ca.pem}
  luns:
    - {name: lun-east, lmtp: "%[4]v:2424", imap: "%[4]v:1993"}
    - {name: lun-west, lmtp: "%[4]v:2424", imap: "%[4]v:1993"}
`, host, boxes, filepath.Join(certs, host), m.addr["mx2"])
	}
	m.role("mx2", "mail store", mail("mx2")+fmt.Sprintf("  store: {lun: lun-east, path: %s}\n", t.TempDir()))
	vips, lb := "", ""
	for _, p := range paths {
		vips += fmt.Sprintf("    - '%s'\n", p.vip)
	}
	front := "real:\n  uplinks: [eth1]\n  vips:\n" + vips + mail("mx1") + "  smtp: {listen: [\":25\"]}\n  imap: {listen: [\":143\"]}\n"
	for _, role := range []string{"real", "mail smtp", "mail imap"} {
		m.role("mx1", role, front)
	}
	lb = fmt.Sprintf("lb:\n  uplinks: [eth1]\n  hash_key: %q\n  state_dir: %s\n  farms:\n", hashKey, t.TempDir())
	for _, p := range paths {
		lb += fmt.Sprintf("    - name: %[1]s\n      forward: %[2]s\n      probes: [{type: smtp, port: 25}, {type: imap, port: 143}]\n"+
			"      reals: [{name: %[1]s, address: '%[3]v'}]\n", p.name, p.forward, m.addr[p.real])
	}
	lb += "  vips:\n"
	for _, p := range paths {
		for name, port := range map[string]int{"smtp": 25, "imap": 143} {
			lb += fmt.Sprintf("    - {name: %s %s, address: '%s', port: %d, farm: %s}\n", name, p.name, p.vip, port, p.name)
		}
		m.routeTo(p.vip, "lb1")
	}
	balancer := m.role("lb1", "lb", lb)
	eventually(t, "front ends active by every way", func() bool {
		st := balancer.states(t.Context())
		for _, p := range paths {
			if st[p.name] != "active" {
				return false
			}
		}
		return true
	})
	return m
}

// transfer is what became of one mail.
type transfer struct {
	took time.Duration // to the server's 250, and back from the store
	mtu  int           // of the way, as the client's kernel knew it at the end of the mail
}

// roundTrip submits a mail to SMTP at an address, reads it back from IMAP there, and compares.
func (m *mailSite) roundTrip(host string, size int) transfer {
	m.t.Helper()
	msg := composeMail(size)
	start := time.Now()
	mtu, err := m.submit(net.JoinHostPort(host, "25"), msg)
	if err != nil {
		m.t.Fatalf("submit %d bytes to %s: %v", len(msg), host, err)
	}
	got, err := m.readLast(net.JoinHostPort(host, "143"))
	took := time.Since(start)
	if err != nil {
		m.t.Fatalf("read %d bytes from %s: %v", len(msg), host, err)
	}
	if !bytes.HasSuffix(got, msg) { // the front end and the store write their trace in front
		m.t.Errorf("of %d bytes sent to %s %d came back, and others", len(msg), host, len(got))
	}
	return transfer{took, mtu}
}

// composeMail makes a mail of exactly this size, no two lines of which are the same.
func composeMail(size int) []byte {
	const half, line = 38, 78 // of a line: random bytes, and what they are as text
	msg := fmt.Appendf(make([]byte, 0, size), "From: <bob@example.org>\r\nTo: <%s>\r\nSubject: %s\r\n\r\n", mailbox, rand.Text())
	random := make([]byte, half*(size/line))
	rand.Read(random) // never fails
	for len(msg)+line <= size-2 {
		msg = append(hex.AppendEncode(msg, random[:half]), '\r', '\n')
		random = random[half:]
	}
	msg = append(msg, bytes.Repeat([]byte{'x'}, size-2-len(msg))...)
	return append(msg, '\r', '\n')
}

// dial connects from the client; the connection ends after mailTime.
func (m *mailSite) dial(target string) (conn net.Conn, err error) {
	m.client.Do(func() error {
		d := dialer()
		conn, err = d.Dial("tcp", target)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return conn, conn.SetDeadline(time.Now().Add(mailTime))
}

func (m *mailSite) submit(target string, msg []byte) (mtu int, err error) {
	conn, err := m.dial(target)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	c, err := smtp.NewClientStartTLS(conn, m.tls)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	c.SubmissionTimeout, c.CommandTimeout = mailTime, mailTime
	if err := c.SendMail("bob@example.org", []string{mailbox}, bytes.NewReader(msg)); err != nil {
		return 0, err
	}
	raw, err := conn.(*net.TCPConn).SyscallConn()
	if err != nil {
		return 0, err
	}
	var info *unix.TCPInfo
	if e := raw.Control(func(fd uintptr) { info, err = unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO) }); e != nil {
		return 0, e
	}
	if err != nil {
		return 0, err
	}
	return int(info.Pmtu), c.Quit()
}

// readLast reads the last mail of the mailbox.
func (m *mailSite) readLast(target string) (msg []byte, err error) {
	conn, err := m.dial(target)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	c, err := imapclient.NewStartTLS(conn, &imapclient.Options{TLSConfig: m.tls})
	if err != nil {
		return nil, err
	}
	defer c.Close()
	if err := c.Login(mailbox, mailboxPassword).Wait(); err != nil {
		return nil, err
	}
	box, err := c.Select("INBOX", &imap.SelectOptions{ReadOnly: true}).Wait()
	if err != nil {
		return nil, err
	}
	fetch := c.Fetch(imap.SeqSetNum(box.NumMessages), &imap.FetchOptions{BodySection: []*imap.FetchItemBodySection{{Peek: true}}})
	defer fetch.Close()
	for item := fetch.Next(); item != nil; item = fetch.Next() {
		for data := item.Next(); data != nil; data = item.Next() {
			if body, ok := data.(imapclient.FetchItemDataBodySection); ok {
				msg = make([]byte, body.Literal.Size())
				if _, err = io.ReadFull(body.Literal, msg); err != nil {
					return nil, err
				}
			}
		}
	}
	return msg, fetch.Close()
}

// TestLargeMail takes a mail through VIPs where no link takes more than 1500 bytes: the client's full segments do not fit
// once they are encapsulated, and the balancer says what does.
func TestLargeMail(t *testing.T) {
	m := newMailSite(t, mailPaths)
	for _, p := range mailPaths {
		t.Run(p.name, func(t *testing.T) {
			size := largeMail
			if p.name != "ipv4" && p.name != "ipv6" {
				size /= 10
			}
			before := m.tooBig()
			got := m.roundTrip(p.vip, size)
			told := m.tooBig() - before
			t.Logf("%d bytes there and back in %v; the client was told %d times, and sends no more than %d bytes", size, got.took, told, got.mtu)
			if told == 0 || got.mtu != p.mtu {
				t.Errorf("the client was told %d times that a packet is too big, and sends no more than %d bytes; want %d", told, got.mtu, p.mtu)
			}
		})
	}
}

// BenchmarkMail takes mails of 50 MB through a VIP, and for each another one past the balancer.
func BenchmarkMail(b *testing.B) {
	for _, p := range mailPaths[:2] {
		b.Run("mail50/"+p.name, func(b *testing.B) {
			m := newMailSite(b, []mailPath{p})
			var through, direct time.Duration
			before := m.tooBig()
			for b.Loop() {
				through += m.roundTrip(p.vip, largeMail).took
				direct += m.roundTrip(m.addr[p.real].String(), largeMail).took
			}
			b.ReportMetric(float64(b.N), "mails")
			b.ReportMetric(largeMail, "bytes")
			b.ReportMetric(through.Seconds()/float64(b.N), "seconds")
			b.ReportMetric(direct.Seconds()/float64(b.N), "direct_seconds")
			b.ReportMetric(through.Seconds()/direct.Seconds(), "x/direct")
			b.ReportMetric(float64(m.tooBig()-before), "too_big")
		})
	}
}
