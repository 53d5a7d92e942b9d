package mailtest

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"
	"github.com/emersion/go-smtp"

	"anycastle/internal/proctest"
)

const (
	senders   = 20
	readers   = 50
	benchTime = 10 * time.Second
	rounds    = 10 // that two servers take turns in: a disk has good minutes and bad ones
)

// tenKB is a message of 10,000 bytes, with an id of its own.
func tenKB(id string) string {
	head := "From: x@example.net\r\nTo: u@example.org\r\nSubject: bench\r\nMessage-ID: <" + id + "@example.net>\r\n\r\n"
	line := strings.Repeat("0123456789", 7) + "\r\n"
	return (head + strings.Repeat(line, 10000/len(line)+1))[:9998] + "\r\n"
}

// benchSite is a site whose users' mail is all on lun-east.
func benchSite(b *testing.B) *site {
	s := newSite(b)
	file, err := os.ReadFile(s.path("mailboxes.yml"))
	proctest.Check(b, err)
	entry, _, ok := strings.Cut(strings.TrimPrefix(string(file), "mailboxes:\n"), "  - address: "+bob)
	if !ok || !strings.Contains(entry, alice) {
		b.Fatalf("the mailboxes file is not as it is thought to be:\n%s", file)
	}
	text := "mailboxes:\n"
	for _, who := range people(readers) {
		text += strings.Replace(entry, alice, who, 1)
	}
	s.write("mailboxes.yml", text)
	return s
}

// dialIn opens connections in the namespace.
func (s *site) dialIn(address string) (conn net.Conn, err error) {
	s.ns.Do(func() error {
		conn, err = net.DialTimeout("tcp", address, 10*time.Second)
		return nil
	})
	return conn, err
}

// meter counts what workers get done. Each of them does one thing after another.
type meter struct {
	b     *testing.B
	turns []int // of each worker so far
	spent time.Duration
}

func newMeter(b *testing.B, workers int) *meter { return &meter{b: b, turns: make([]int, workers)} }

// run has all work for so long.
func (m *meter) run(d time.Duration, work func(worker, turn int) error) {
	m.b.Helper()
	var wg sync.WaitGroup
	start := time.Now()
	for w := range m.turns {
		wg.Go(func() {
			for time.Since(start) < d {
				if err := work(w, m.turns[w]); err != nil {
					m.b.Errorf("worker %d, turn %d: %v", w, m.turns[w], err)
					return
				}
				m.turns[w]++
			}
		})
	}
	wg.Wait()
	m.spent += time.Since(start)
}

// rate is how often something was done each second.
func (m *meter) rate() float64 {
	done := 0
	for _, n := range m.turns {
		done += n
	}
	return float64(done) / m.spent.Seconds()
}

// accept measures how many messages each second a server takes over 20 sessions. Each has a recipient of its own.
func (s *site) accept(b *testing.B, address string) float64 {
	b.Helper()
	var clients []*smtp.Client
	for range senders {
		conn, err := s.dialIn(address)
		proctest.Check(b, err)
		c := smtp.NewClient(conn)
		proctest.Check(b, c.Hello("client.example.net"))
		clients = append(clients, c)
	}
	salt := rand.Int()
	m := newMeter(b, senders)
	m.run(benchTime, func(w, turn int) error {
		c := clients[w]
		if err := c.Mail(stranger, nil); err != nil {
			return err
		}
		if err := c.Rcpt(people(senders)[w], nil); err != nil {
			return err
		}
		body, err := c.Data()
		if err != nil {
			return err
		}
		if _, err := io.WriteString(body, tenKB(fmt.Sprintf("%d.%d.%d", salt, w, turn))); err != nil {
			return err
		}
		return body.Close()
	})
	for _, c := range clients {
		_ = c.Close() // nothing is left to be said
	}
	return m.rate()
}

// count gives the messages that lie in new and cur below a folder.
func count(b *testing.B, root string) int {
	list, err := filepath.Glob(filepath.Join(root, "*", "new", "*"))
	proctest.Check(b, err)
	more, err := filepath.Glob(filepath.Join(root, "*", "cur", "*"))
	proctest.Check(b, err)
	return len(list) + len(more)
}

// BenchmarkMailSMTP compares how fast mail is taken. Ours is in its Maildir when it is acknowledged; Postfix's is on disk in
// its queue then, and delivered at the same time: what was accepted and what was delivered are both told.
func BenchmarkMailSMTP(b *testing.B) {
	s := benchSite(b)
	var ours, theirs float64
	b.Run("smtp-accept", func(b *testing.B) {
		s.t = b
		s.startRole("store-east")
		s.startRole("smtp")
		ours = s.accept(b, "127.0.0.1:25")
		b.ReportMetric(ours, "per_s")
	})
	b.Run("smtp-accept/peer=postfix-dovecot-lmtp", func(b *testing.B) {
		s.t = b
		dir := s.dovecot("")
		s.postfix(dir + "/lmtp")
		start := time.Now()
		theirs = s.accept(b, "127.0.0.1:2525")
		b.ReportMetric(theirs, "per_s")
		accepted := int(theirs * benchTime.Seconds()) // or a few more
		proctest.Eventually(b, "postfix has delivered", func() bool { return count(b, dir+"/mail") >= accepted })
		b.ReportMetric(float64(accepted)/time.Since(start).Seconds(), "delivered_per_s")
		b.ReportMetric(ours/theirs, "x/ours")
	})
}

// readersOf logs all users in at an IMAP server with TLS.
func (s *site) readersOf(b *testing.B, address string) (list []*imapclient.Client) {
	b.Helper()
	pem, err := os.ReadFile(s.tls.CA)
	proctest.Check(b, err)
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	for _, who := range people(readers) {
		conn, err := s.dialIn(address)
		proctest.Check(b, err)
		c := imapclient.New(tls.Client(conn, &tls.Config{RootCAs: roots, ServerName: host}), nil)
		b.Cleanup(func() { c.Close() })
		proctest.Check(b, c.Login(who, password).Wait())
		_, err = c.Select("INBOX", nil).Wait()
		proctest.Check(b, err)
		list = append(list, c)
	}
	return list
}

// imapWork is what 50 clients do, in this order: later work is with the messages of the first.
var imapWork = []struct {
	name string
	do   func(c *imapclient.Client, turn int) error
}{
	{"imap-append", func(c *imapclient.Client, turn int) error {
		body := tenKB(fmt.Sprint(turn))
		cmd := c.Append("INBOX", int64(len(body)), nil)
		if _, err := io.WriteString(cmd, body); err != nil {
			return err
		}
		if err := cmd.Close(); err != nil {
			return err
		}
		_, err := cmd.Wait()
		return err
	}},
	{"imap-fetch", func(c *imapclient.Client, turn int) error {
		whole := &imap.FetchOptions{BodySection: []*imap.FetchItemBodySection{{Peek: true}}}
		got, err := c.Fetch(imap.SeqSetNum(uint32(turn%20)+1), whole).Collect()
		if err == nil && (len(got) != 1 || len(got[0].BodySection) != 1 || len(got[0].BodySection[0].Bytes) != 10000) {
			return fmt.Errorf("fetched %d messages, or of another size", len(got))
		}
		return err
	}},
	{"imap-store", func(c *imapclient.Client, turn int) error {
		op := imap.StoreFlagsAdd
		if turn/20%2 == 1 {
			op = imap.StoreFlagsDel
		}
		flags := &imap.StoreFlags{Op: op, Flags: []imap.Flag{imap.FlagFlagged}}
		_, err := c.Store(imap.SeqSetNum(uint32(turn%20)+1), flags, nil).Collect()
		return err
	}},
}

// BenchmarkMailIMAP compares what 50 clients get done, each in a mailbox of its own, over TLS. The servers take turns.
func BenchmarkMailIMAP(b *testing.B) {
	s := benchSite(b)
	s.startRole("store-east")
	s.startRole("imap")
	s.dovecot("")
	ours, theirs := s.readersOf(b, "127.0.0.1:993"), s.readersOf(b, "127.0.0.1:2993")
	for _, work := range imapWork {
		here, there := newMeter(b, readers), newMeter(b, readers)
		for range rounds {
			here.run(benchTime/rounds, func(w, turn int) error { return work.do(ours[w], turn) })
			there.run(benchTime/rounds, func(w, turn int) error { return work.do(theirs[w], turn) })
		}
		b.Run(work.name, func(b *testing.B) { b.ReportMetric(here.rate(), "per_s") })
		b.Run(work.name+"/peer=dovecot", func(b *testing.B) {
			b.ReportMetric(there.rate(), "per_s")
			b.ReportMetric(here.rate()/there.rate(), "x/ours")
		})
	}
}
