package lbbench

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"anycastle/lab/keys"
)

// mailFronts is a site with an IMAP front end on each of mx1 and mx2, and the store on mx3. The balancer hears from the
// front ends' agents whether they drain.
type mailFronts struct {
	*site
	lb *process
}

func newMailFronts(t *testing.T) *mailFronts {
	t.Helper()
	m := &mailFronts{site: newSite(t, 1, 3)}
	certs := t.TempDir()
	check(t, keys.Make(certs, []keys.Host{{Name: "mx1"}, {Name: "mx2"}, {Name: "mx3"}}))
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
`, host, boxes, filepath.Join(certs, host), m.addr["mx3"])
	}
	m.role("mx3", "mail store", mail("mx3")+fmt.Sprintf("  store: {lun: lun-east, path: %s}\n", t.TempDir()))
	for _, host := range []string{"mx1", "mx2"} {
		node := nodeReal + mail(host) + "  imap: {tls_listen: [\":993\"], agent_listen: \":9707\", drain_lead: 2s}\n"
		m.role(host, "real", node)
		m.role(host, "mail imap", node)
	}
	const farm = "      transition: {time: 30s}\n      probes:\n" +
		"        - {type: tcp, port: 993, interval: 200ms, timeout: 200ms, fail: 5}\n" +
		"        - {type: agent-check, port: 9707, interval: 200ms, timeout: 200ms, fail: 5}\n"
	m.lb = m.role("lb1", "lb", strings.ReplaceAll(m.nodeLB(farm, "mx1", "mx2"), "port: 25,", "port: 993,"))
	m.expect("mx1 active", "mx2 active")
	m.route("lb1")
	return m
}

// expect waits until the balancer has the reals in these states, such as "mx1 active".
func (m *mailFronts) expect(want ...string) {
	m.t.Helper()
	eventually(m.t, strings.Join(want, ", "), func() bool {
		states := m.lb.states(m.t.Context())
		for _, w := range want {
			name, state, _ := strings.Cut(w, " ")
			if states[name] != state {
				return false
			}
		}
		return true
	})
}

// mailSession is a client's session through the VIP.
type mailSession struct {
	front string // the host that it is on
	conn  *tls.Conn
	br    *bufio.Reader
}

// login opens a session.
func (m *mailFronts) login() (*mailSession, error) {
	var s *mailSession
	var err error
	m.client.Do(func() error {
		d := dialer()
		s = &mailSession{}
		if s.conn, err = tls.DialWithDialer(&d, "tcp4", vip+":993", &tls.Config{InsecureSkipVerify: true}); err != nil {
			return nil
		}
		s.front, s.br = s.conn.ConnectionState().PeerCertificates[0].DNSNames[0], bufio.NewReader(s.conn)
		err = s.conn.SetDeadline(time.Now().Add(patience))
		return nil
	})
	if err != nil {
		return nil, err
	}
	_, err = s.say("l LOGIN "+mailbox+" "+mailboxPassword+"\r\n", "l OK")
	return s, err
}

// say sends something and reads up to a line that begins so.
func (s *mailSession) say(text, want string) (line string, err error) {
	if _, err = s.conn.Write([]byte(text)); err != nil {
		return "", err
	}
	for {
		line, err = s.br.ReadString('\n')
		if err != nil || strings.HasPrefix(line, want) {
			return line, err
		}
		if strings.HasPrefix(line, "* BYE") {
			return line, errors.New("session ended with " + line)
		}
	}
}

// on opens sessions until there are so many on each front end, and gives them by front end.
func (m *mailFronts) on(n int, fronts ...string) map[string][]*mailSession {
	m.t.Helper()
	all := map[string][]*mailSession{}
	eventually(m.t, fmt.Sprintf("%d sessions on each of %q", n, fronts), func() bool {
		s, err := m.login()
		check(m.t, err)
		m.t.Cleanup(func() { s.conn.Close() })
		all[s.front] = append(all[s.front], s)
		for _, f := range fronts {
			if len(all[f]) < n {
				return false
			}
		}
		return true
	})
	return all
}

// clients come and go until stop is called, which gives what went wrong for them and how many there were.
func (m *mailFronts) clients() (stop func() (errs []error, served int)) {
	done := make(chan struct{})
	var coming sync.WaitGroup
	var errs []error
	served := 0
	coming.Go(func() {
		for {
			select {
			case <-done:
				return
			default:
			}
			s, err := m.login()
			if err == nil {
				_, err = s.say("a NOOP\r\nb LOGOUT\r\n", "a OK")
				s.conn.Close()
			}
			served++
			if err != nil {
				errs = append(errs, err)
			}
		}
	})
	return func() ([]error, int) {
		close(done)
		coming.Wait()
		return errs, served
	}
}

// TestMailDrainReachesTheBalancer drains one of two IMAP front ends while clients come and go, and puts it back.
func TestMailDrainReachesTheBalancer(t *testing.T) {
	t.Parallel()
	m := newMailFronts(t)
	stop := m.clients()
	sessions := m.on(2, "mx1", "mx2")
	idle, busy, other := sessions["mx1"][0], sessions["mx1"][1], sessions["mx2"][0]
	_, err := idle.say("a SELECT INBOX\r\nb IDLE\r\n", "+ ")
	check(t, err)
	const mail = "Subject: sent during a drain\r\n\r\nx\r\n"
	_, err = busy.say(fmt.Sprintf("a APPEND INBOX {%d}\r\n", len(mail)), "+ ")
	check(t, err)

	drain := exec.CommandContext(t.Context(), binary, "drain", "mail", "imap", "--wait", "--why", "upgrade", "--run-dir", filepath.Join(m.dir, "mx1"))
	var said strings.Builder
	drain.Stdout, drain.Stderr = &said, &said
	check(t, drain.Start())
	ended := make(chan error, 1)
	go func() { ended <- drain.Wait() }()
	m.expect("mx1 draining", "mx2 active")
	if line, err := idle.br.ReadString('\n'); !strings.HasPrefix(line, "* BYE [UNAVAILABLE]") {
		t.Errorf("who idles on the front end that drains is told %q, %v", line, err)
	}
	if states := m.lb.states(t.Context()); states["mx1"] != "draining" {
		t.Errorf("mx1 is %s while a command is at work there", states["mx1"])
	}
	if _, err := busy.say(mail+"\r\n", "a OK [APPENDUID"); err != nil {
		t.Errorf("the command that is at work: %v", err)
	}
	if line, err := busy.br.ReadString('\n'); !strings.HasPrefix(line, "* BYE [UNAVAILABLE]") {
		t.Errorf("after its command the client is told %q, %v", line, err)
	}
	if err := <-ended; err != nil || !strings.Contains(said.String(), "mail imap: stopped: order by ") { // or when the test does
		t.Errorf("drain --wait ends with %v:\n%s", err, &said)
	}
	m.expect("mx1 suspended", "mx2 active")
	for range 10 {
		s, err := m.login()
		check(t, err)
		if s.conn.Close(); s.front != "mx2" {
			t.Errorf("a new session is on %s", s.front)
		}
	}
	if _, err := other.say("a NOOP\r\n", "a OK"); err != nil {
		t.Errorf("a session on the other front end: %v", err)
	}
	if out, err := exec.Command(binary, "activate", "mail", "imap", "--run-dir", filepath.Join(m.dir, "mx1")).CombinedOutput(); err != nil {
		t.Fatalf("activate: %v\n%s", err, out)
	}
	eventually(t, "mx1 takes flows again", func() bool {
		state := m.lb.states(t.Context())["mx1"]
		return state == "joining" || state == "active"
	})
	m.on(1, "mx1", "mx2")
	errs, served := stop()
	if len(errs) > 0 || served < 10 {
		t.Errorf("of %d clients that came meanwhile, %d had an error: %v", served, len(errs), errors.Join(errs...))
	}
	t.Logf("%d clients came meanwhile, and none had an error", served)
}
