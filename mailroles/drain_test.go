package mailroles_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"anycastle/internal/config"
	"anycastle/internal/porttest"
	"anycastle/mailroles"
	"anycastle/mailroles/drain"
)

// order gives a role an order, as its socket would.
func order(t *testing.T, role mailroles.Role, verb string) drain.Status {
	t.Helper()
	w := httptest.NewRecorder()
	role.Handlers()["POST /v1/"+verb](w, httptest.NewRequest(http.MethodPost, "/v1/"+verb, strings.NewReader(`{"why": "upgrade"}`)))
	var s drain.Status
	if err := json.Unmarshal(w.Body.Bytes(), &s); err != nil || w.Code != http.StatusOK {
		t.Fatalf("order %s: %d %s, %v", verb, w.Code, w.Body, err)
	}
	return s
}

// agentOn gives a role an agent listener on a port of its own, and where that is.
func agentOn(t *testing.T, c *drain.Config) string {
	t.Helper()
	at := porttest.Free(t, "127.0.0.1")
	c.AgentListen = config.ListenAddr{Addr: at.Addr(), Port: at.Port()}
	c.Lead = 300 * time.Millisecond
	return at.String()
}

// told is all that is said to who connects, before the end.
func told(t *testing.T, addr string) string {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(15 * time.Second))
	text, _ := io.ReadAll(conn)
	return string(text)
}

func TestDrainOfIMAP(t *testing.T) {
	s := newSite(t)
	s.runStore("lun-east")
	cfg := s.base
	cfg.IMAP = &mailroles.IMAPConfig{}
	cfg.IMAP.SetDefaults()
	cfg.IMAP.Listen = []config.ListenAddr{s.at("imap")}
	cfg.IMAP.TLSListen = []config.ListenAddr{s.at("imaps")}
	agent := agentOn(t, &cfg.IMAP.Drain)
	role, err := mailroles.NewIMAP(cfg, s.options())
	s.run(role, err)
	waitFor(t, "the agent", func() bool { return told(t, agent) == "ready up\n" })

	idle, early, busy := s.loggedIn(), s.talk("imap"), s.loggedIn()
	idle.write("a SELECT INBOX\r\nb IDLE\r\n")
	idle.expect("+")
	busy.write(fmt.Sprintf("a APPEND INBOX {%d}\r\n", len(greeting)))
	busy.expect("+")
	if got := order(t, role, "drain"); got.Why != "order: upgrade" && got.State != drain.Serving {
		t.Errorf("the order is answered with %+v", got)
	}
	waitFor(t, "the agent", func() bool { return told(t, agent) == "up drain\n" })
	s.loggedIn().write("a NOOP\r\n") // until balancers have heard of it
	idle.expect("* BYE [UNAVAILABLE]")
	idle.ended()
	early.expect("* BYE [UNAVAILABLE]")
	early.ended()
	if got := told(t, s.addrs["imap"].String()); got != "* BYE [UNAVAILABLE] Server is going away, try another\r\n" {
		t.Errorf("who comes while the role drains is told %q", got)
	}
	if got := told(t, s.addrs["imaps"].String()); got != "" {
		t.Errorf("who comes for TLS is told %q", got)
	}
	waitFor(t, "one session to be left", func() bool { return role.Drain().Sessions == 1 })
	if got := role.Drain(); got.State != drain.Draining {
		t.Errorf("status is %+v", got)
	}
	busy.write(greeting + "\r\n") // the command that was at work comes to its end
	busy.expect("a OK [APPENDUID")
	busy.expect("* BYE [UNAVAILABLE]")
	busy.ended()
	waitFor(t, "the end of the drain", func() bool { return role.Drain().State == drain.Stopped })
	if got := told(t, agent); got != "up maint\n" || role.Healthy() == nil {
		t.Errorf("the agent says %q, health is %v", got, role.Healthy())
	}
	order(t, role, "activate")
	waitFor(t, "the role to serve", func() bool { return role.Healthy() == nil && role.Drain().State == drain.Serving })
	if got := s.mailIn(alice); len(got) != 1 || got[0] != greeting {
		t.Errorf("mailbox holds %q", got)
	}
}

func TestDrainOfSMTP(t *testing.T) {
	s := newSite(t)
	s.runStore("lun-east")
	role, _ := s.runSMTP()
	waiting, sending := s.dialog(false), s.dialog(false)
	waiting.say(250, "MAIL FROM:<x@example.org>")
	sending.envelope()
	sending.say(354, "DATA")
	order(t, role, "drain")
	waiting.expect(421)
	if got := told(t, s.addrs["smtp"].String()); got != "421 4.3.2 mx.example.org is going away, try another\r\n" {
		t.Errorf("who comes while the role drains is told %q", got)
	}
	if _, err := io.WriteString(sending.raw, greeting+".\r\n"); err != nil {
		t.Fatal(err)
	}
	sending.expect(250)
	sending.expect(421)
	waitFor(t, "the end of the drain", func() bool { return role.Drain().State == drain.Stopped })
	if st := role.Status().(mailroles.SMTPStatus).Drain; st.State != drain.Stopped || st.Why != "order: upgrade" {
		t.Errorf("the status tells of the drain %+v", st)
	}
	order(t, role, "activate")
	waitFor(t, "the role to serve", func() bool { return role.Drain().State == drain.Serving })
	s.dialog(false).say(221, "QUIT")
}

// TestDrainOfAStore has a session at a front end, whose client is told.
func TestDrainOfAStore(t *testing.T) {
	s := newSite(t)
	store, _ := s.runStore("lun-east")
	s.runIMAP()
	k := s.loggedIn()
	order(t, store, "drain")
	k.expect("* BYE")
	k.ended()
	waitFor(t, "the end of the drain", func() bool { return store.Drain().State == drain.Stopped })
	k = s.talk("imaps")
	k.write("a LOGIN " + alice + " " + quoted(password) + "\r\n")
	k.expect("a NO [UNAVAILABLE]")
	order(t, store, "activate")
	waitFor(t, "the store to serve", func() bool { return store.Drain().State == drain.Serving })
	k.write("b LOGIN " + alice + " " + quoted(password) + "\r\n")
	k.expect("b OK")
}

// TestSessionFollowsItsMailbox moves a mailbox to another LUN, by the mailboxes file, while its user is logged in.
func TestSessionFollowsItsMailbox(t *testing.T) {
	s := newSite(t)
	east, _ := s.runStore("lun-east")
	west, _ := s.runStore("lun-west")
	front, _ := s.runIMAP()
	k := s.loggedIn()
	k.write("a SELECT INBOX\r\nb IDLE\r\n")
	k.expect("+")
	text, err := os.ReadFile(s.base.Directory.File)
	if err != nil {
		t.Fatal(err)
	}
	text = bytes.ReplaceAll(text, []byte("lun-east"), []byte("lun-west"))
	if err := os.WriteFile(s.base.Directory.File, text, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, role := range []mailroles.Role{east, west, front} { // the front end last: by then the store knows
		if err := role.Directory().Reload(); err != nil {
			t.Fatal(err)
		}
	}
	if line := k.expect("* BYE"); line != "* BYE [UNAVAILABLE] Mailbox has moved, log in again" {
		t.Errorf("the session ends with %q", line)
	}
	k.ended()
	k = s.loggedIn()
	k.write("a NOOP\r\n")
	k.expect("a OK")
	if on := west.Status().(mailroles.StoreStatus).IMAP.Sessions; on != 1 {
		t.Errorf("%d sessions at the store that has the mailbox now, want 1", on)
	}
}
