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
	"sync/atomic"
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

// rate has n workers do something again and again for benchTime, and gives how often it was done each second.
func rate(b *testing.B, n int, work func(worker, turn int) error) float64 {
	b.Helper()
	var done atomic.Int64
	var wg sync.WaitGroup
	start := time.Now()
	for w := range n {
		wg.Go(func() {
			for turn := 0; time.Since(start) < benchTime; turn++ {
				if err := work(w, turn); err != nil {
					b.Errorf("worker %d, turn %d: %v", w, turn, err)
					return
				}
				done.Add(1)
			}
		})
	}
	wg.Wait()
	return float64(done.Load()) / time.Since(start).Seconds()
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
	got := rate(b, senders, func(w, turn int) error {
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
	return got
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

// BenchmarkMailIMAP compares what 50 clients get done, each in a mailbox of its own, over TLS.
func BenchmarkMailIMAP(b *testing.B) {
	s := benchSite(b)
	rates := map[string]float64{}
	s.startRole("store-east")
	s.startRole("imap")
	s.dovecot("")
	for _, server := range []struct{ peer, address string }{{"", "127.0.0.1:993"}, {"/peer=dovecot", "127.0.0.1:2993"}} {
		clients := s.readersOf(b, server.address)
		for _, work := range imapWork {
			b.Run(work.name+server.peer, func(b *testing.B) {
				got := rate(b, readers, func(w, turn int) error { return work.do(clients[w], turn) })
				b.ReportMetric(got, "per_s")
				if server.peer == "" {
					rates[work.name] = got
				} else {
					b.ReportMetric(rates[work.name]/got, "x/ours")
				}
			})
		}
	}
}
