package mailtest

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"

	"anycastle/internal/proctest"
)

const (
	idleSessions = 5000
	settleTime   = 15 * time.Second // how long they have been idle when they are measured; most clients are for hours
)

// resident gives the memory of a process in kB.
func resident(b *testing.B, p *proctest.Process) int {
	b.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.PID()))
	proctest.Check(b, err)
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kb, err := strconv.Atoi(strings.Fields(rest)[0])
			proctest.Check(b, err)
			return kb
		}
	}
	b.Fatal("the process has no VmRSS")
	return 0
}

// logIn opens a session over TLS and stays in IDLE.
func (s *site) logIn(who string) (*tls.Conn, error) {
	conn, err := s.dialIn("127.0.0.1:993")
	if err != nil {
		return nil, err
	}
	c := tls.Client(conn, &tls.Config{InsecureSkipVerify: true}) // it is ours, and thousands are to be checked
	in := bufio.NewReaderSize(c, 512)
	for _, step := range []struct{ say, want string }{
		{"", "* OK"},
		{fmt.Sprintf("a LOGIN %s %s\r\n", who, password), "a OK"},
		{"b SELECT INBOX\r\n", "b OK"},
		{"c IDLE\r\n", "+ "},
	} {
		if _, err := c.Write([]byte(step.say)); err != nil {
			return nil, err
		}
		for {
			line, err := in.ReadString('\n')
			if err != nil {
				return nil, err
			}
			if strings.HasPrefix(line, step.want) {
				break
			}
			if !strings.HasPrefix(line, "* ") {
				return nil, fmt.Errorf("%q is answered with %q", step.say, line)
			}
		}
	}
	return c, nil
}

// BenchmarkMailIdle measures what idle sessions cost the front end: the growth of its resident memory, by session. Each has
// TLS to the client and mutual TLS to the store, and waits in IDLE.
func BenchmarkMailIdle(b *testing.B) {
	s := benchSite(b)
	hash, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.MinCost) // thousands log in
	proctest.Check(b, err)
	text := "mailboxes:\n"
	for _, who := range people(readers) {
		text += fmt.Sprintf("  - {address: %s, password: %q, lun: lun-east}\n", who, hash)
	}
	s.write("mailboxes.yml", text)
	s.startRole("store-east")
	s.startRole("imap")
	b.Run(fmt.Sprintf("imap-idle-%d", idleSessions), func(b *testing.B) {
		before := resident(b, s.roles["imap"])
		conns := make([]*tls.Conn, idleSessions)
		var wg sync.WaitGroup
		for w := range senders {
			wg.Go(func() {
				for i := w; i < idleSessions; i += senders {
					c, err := s.logIn(people(readers)[i%readers])
					if err != nil {
						b.Errorf("session %d: %v", i, err)
						return
					}
					conns[i] = c
				}
			})
		}
		wg.Wait()
		burst := resident(b, s.roles["imap"])
		time.Sleep(settleTime)
		idle := resident(b, s.roles["imap"])
		b.ReportMetric(float64(idle-before)/idleSessions, "kB_per_session")
		b.ReportMetric(float64(burst-before)/idleSessions, "kB_per_session_at_login")
		for _, c := range conns {
			if c != nil {
				c.Close()
			}
		}
	})
}
