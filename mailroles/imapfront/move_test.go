package imapfront

import (
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"anycastle/mailroles/link"
)

// offering greets as a store that can move sessions, and takes the login of a front end that knows how, with what the session
// brings along.
func offering(s *side) error {
	if _, err := io.WriteString(s.conn, "* OK [CAPABILITY ANYCASTLE-HOLD IMAP4rev1] store\r\n"); err != nil {
		return err
	}
	answers := ""
	for !strings.Contains(answers, "front OK") {
		line, err := s.br.ReadString('\n')
		if err != nil {
			return err
		}
		var n int
		if _, err := fmt.Sscanf(line, "attach ANYCASTLE-ATTACH {%d+}", &n); err == nil {
			text := make([]byte, n+2)
			if _, err := io.ReadFull(s.br, text); err != nil {
				return err
			}
			s.state = strings.TrimSuffix(string(text), "\r\n")
			continue
		}
		if strings.HasPrefix(line, "front AUTHENTICATE EXTERNAL ") {
			answers += "front OK [CAPABILITY IMAP4rev1] logged in\r\n"
		} else if line == "hold ANYCASTLE-HOLD\r\n" {
			answers += "hold OK\r\n"
		} else {
			return fmt.Errorf("login is %q", line)
		}
	}
	if s.state != "" {
		answers += "attach OK goes on\r\n"
	}
	s.from = s.conn.RemoteAddr().String()
	_, err := io.WriteString(s.conn, answers)
	return err
}

// handOver plays the store's part of a move, up to its end of the connection.
func (s *side) handOver(state string) {
	s.t.Helper()
	s.expect("front ANYCASTLE-DETACH\r\n")
	s.write(fmt.Sprintf("* ANYCASTLE-STATE {%d}\r\n%s\r\nfront OK yours\r\n", len(state), state))
	s.conn.Close()
}

func newOfferingRig(t *testing.T) *rig {
	return newRig(t, nil, offering)
}

func TestSessionIsTakenToAnotherStore(t *testing.T) {
	r := newOfferingRig(t)
	client, store := r.login("lun-east")
	store.write("* 3 EXISTS\r\n* OK [ANYCASTLE-HOLD] Session is to move\r\n* 4 EXISTS\r\n")
	client.expect("* 3 EXISTS\r\n* 4 EXISTS\r\n")
	store.handOver(`{"x":1}`)
	client.write("a NOOP\r\n")
	next := r.session("lun-east")
	next.expect("a NOOP\r\n")
	next.write("a OK done\r\n")
	client.expect("a OK done\r\n")
	if next.state != `{"x":1}` || next.from != client.conn.LocalAddr().String() {
		t.Errorf("the next store hears of %s, and gets %s", next.from, next.state)
	}
	client.silent()
}

func TestHoldLineInPieces(t *testing.T) {
	r := newOfferingRig(t)
	client, store := r.login("lun-east")
	for _, b := range []byte("* OK here\r\n" + link.HoldLine) {
		store.write(string(b))
	}
	client.expect("* OK here\r\n")
	store.handOver("{}")
	next := r.session("lun-east")
	next.write("* OK [ANYCASTLE-HOLE] no\r\n* 1 FETCH (BODY[] {" + fmt.Sprint(len(link.HoldLine)) + "}\r\n" + link.HoldLine + ")\r\n")
	client.expect("* OK [ANYCASTLE-HOLE] no\r\n* 1 FETCH (BODY[] {" + fmt.Sprint(len(link.HoldLine)) + "}\r\n" + link.HoldLine + ")\r\n")
	client.silent() // within a literal it is a text like others
}

// TestCommandsAreFinishedBeforeAMove has an APPEND half sent, and commands without answers.
func TestCommandsAreFinishedBeforeAMove(t *testing.T) {
	r := newOfferingRig(t)
	client, store := r.login("lun-east")
	client.write("a NOOP\r\nb APPEND INBOX {10}\r\n")
	store.expect("a NOOP\r\nb APPEND INBOX {10}\r\n")
	store.write(link.HoldLine + "a OK done\r\n+ go on\r\n")
	client.expect("a OK done\r\n+ go on\r\n")
	client.write("01234")
	store.expect("01234")
	client.write("56789\r\nc NOOP\r\nd APPEND INBOX {3+}\r\nabc\r\n")
	store.expect("56789\r\n")
	store.silent() // what comes later waits
	store.write("b OK done\r\n")
	client.expect("b OK done\r\n")
	store.handOver("{}")
	next := r.session("lun-east")
	next.expect("c NOOP\r\nd APPEND INBOX {3+}\r\nabc\r\n")
}

func TestClientIdlesThroughAMove(t *testing.T) {
	r := newOfferingRig(t)
	client, store := r.login("lun-east")
	client.write("tag-of-some-length-0123456789 IDLE\r\n")
	store.expect("tag-of-some-length-0123456789 IDLE\r\n")
	store.write(link.HoldLine)
	store.silent() // the store has not begun to idle
	store.write("+ idling\r\n* 1 EXISTS\r\n")
	client.expect("+ idling\r\n* 1 EXISTS\r\n")
	store.expect("DONE\r\n")
	store.write("* 2 EXISTS\r\ntag-of-some-length-0123456789 OK done\r\n")
	client.expect("* 2 EXISTS\r\n")
	store.handOver("{}")
	client.write("DONE\r\nb NOOP\r\n")
	next := r.session("lun-east")
	next.expect("tag-of-some-length-0123456789 IDLE\r\n")
	next.silent() // DONE waits too
	next.write("* 3 EXISTS\r\n+ idling\r\n* 4 EXISTS\r\n")
	client.expect("* 3 EXISTS\r\n* 4 EXISTS\r\n")
	next.expect("DONE\r\nb NOOP\r\n")
	next.write("tag-of-some-length-0123456789 OK done\r\nb OK done\r\n")
	client.expect("tag-of-some-length-0123456789 OK done\r\nb OK done\r\n")
}

// TestClientEndsIdleDuringAMove has DONE on its way when the store asks for the session.
func TestClientEndsIdleDuringAMove(t *testing.T) {
	r := newOfferingRig(t)
	client, store := r.login("lun-east")
	client.write("a IDLE\r\n")
	store.expect("a IDLE\r\n")
	store.write("+ idling\r\n")
	client.expect("+ idling\r\n")
	client.write("DONE\r\n")
	store.expect("DONE\r\n")
	store.write(link.HoldLine)
	store.silent()
	store.write("a OK done\r\n")
	client.expect("a OK done\r\n")
	store.handOver("{}")
	client.write("b NOOP\r\n")
	r.session("lun-east").expect("b NOOP\r\n")
}

func TestSessionMovesAgainAndAgain(t *testing.T) {
	r := newOfferingRig(t)
	client, store := r.login("lun-east")
	client.write("a IDLE\r\n")
	for i := range 5 {
		store.expect("a IDLE\r\n")
		// the next move is asked for before the store idles
		store.write(link.HoldLine + "+ idling\r\n")
		if i == 0 {
			client.expect("+ idling\r\n")
		}
		store.expect("DONE\r\n")
		store.write("a OK done\r\n")
		store.handOver(fmt.Sprint(i))
		store = r.session("lun-east")
		if store.state != fmt.Sprint(i) {
			t.Errorf("move %d brings %s", i, store.state)
		}
	}
	store.expect("a IDLE\r\n")
	client.silent()
}

func TestMovesThatFail(t *testing.T) {
	for name, hand := range map[string]func(*side){
		"refused":      func(s *side) { s.write("front NO no\r\n") },
		"not known":    func(s *side) { s.write("front BAD what\r\n") },
		"too large":    func(s *side) { s.write("* ANYCASTLE-STATE {999999999999}\r\n") },
		"cut off":      func(s *side) { s.write("* ANYCASTLE-STATE {10}\r\n01234"); s.conn.Close() },
		"not let go":   func(s *side) { s.write("* ANYCASTLE-STATE {2}\r\n{}\r\nfront NO\r\n") },
		"no more than": func(s *side) { s.conn.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			r := newOfferingRig(t)
			client, store := r.login("lun-east")
			store.write(link.HoldLine)
			store.expect("front ANYCASTLE-DETACH\r\n")
			hand(store)
			client.write("a NOOP\r\n")
			if got := client.over(); got != lost {
				t.Errorf("the client is told %q", got)
			}
			waitFor(t, func() bool { return r.tally.Counts().Sessions == 0 })
			if c := r.tally.Counts(); c.Rejects["not-moved"] != 1 {
				t.Errorf("counts are %v", c.Rejects)
			}
		})
	}
}

// TestStoreThatCannotTakeOver has an old one at the LUN's address.
func TestStoreThatCannotTakeOver(t *testing.T) {
	var logins atomic.Int32
	r := newRig(t, nil, func(s *side) error {
		if logins.Add(1) == 1 {
			return offering(s)
		}
		return greet(s)
	})
	client, store := r.login("lun-east")
	store.write(link.HoldLine)
	store.handOver("{}")
	if got := client.over(); got != lost {
		t.Errorf("the client is told %q", got)
	}
}

// TestOldStoresHearNothingNew: what greet takes is a login without anything before it.
func TestOldStoresHearNothingNew(t *testing.T) {
	r := newRig(t, nil)
	client, store := r.login("lun-east")
	store.write(link.HoldLine)
	client.expect(link.HoldLine) // it means nothing from such a store
}

// awayRig has a store that is away, or not.
func awayRig(t *testing.T, change func(*Options)) (r *rig, away *atomic.Bool) {
	away = &atomic.Bool{}
	return newRig(t, change, func(s *side) error {
		if away.Load() {
			return errors.Join(net.ErrClosed, s.conn.NetConn().Close())
		}
		return offering(s)
	}), away
}

// TestEndDuringAMove ends a session, and loses a client, while no store is there.
func TestEndDuringAMove(t *testing.T) {
	r, away := awayRig(t, nil)
	told, first := r.login("lun-east")
	gone, second := r.login("lun-east")
	away.Store(true)
	for _, store := range []*side{first, second} {
		store.write(link.HoldLine)
		store.handOver("{}")
	}
	gone.conn.NetConn().Close()
	waitFor(t, func() bool { return r.tally.Counts().Sessions == 1 })
	told.write("a NOOP\r\n")
	begun := time.Now()
	r.stop()
	if got := told.over(); got != ending {
		t.Errorf("who moves is told %q", got)
	}
	r.ended()
	if took := time.Since(begun); took > 5*time.Second {
		t.Errorf("the end took %v", took)
	}
}

func TestLoginWaitsForAStore(t *testing.T) {
	r, away := awayRig(t, func(o *Options) { o.Retry = time.Second })
	away.Store(true)
	client := r.connect()
	client.write("l LOGIN " + alice + " " + secret + "\r\n")
	client.silent()
	away.Store(false)
	client.expect("l OK [CAPABILITY IMAP4rev1] logged in\r\n")
	r.session("lun-east")

	away.Store(true)
	client = r.connect()
	begun := time.Now()
	client.write("l LOGIN " + alice + " " + secret + "\r\n")
	client.expect("l NO [UNAVAILABLE] Mailbox cannot be reached, try again later\r\n")
	if took := time.Since(begun); took < 500*time.Millisecond || took > 10*time.Second {
		t.Errorf("a login without a store took %v, want about a second", took)
	}
}

// TestDeadStoreIsNoticed looks at what the kernel has been told, of a store whose host goes away without a word.
func TestDeadStoreIsNoticed(t *testing.T) {
	r := newOfferingRig(t)
	r.login("lun-east")
	r.server.mu.Lock()
	defer r.server.mu.Unlock()
	for j := range r.server.joined {
		err := j.sockets[1].Control(func(fd uintptr) {
			for option, most := range map[int]int{unix.TCP_USER_TIMEOUT: 4000, unix.TCP_KEEPIDLE: 2, unix.TCP_KEEPINTVL: 1, unix.TCP_KEEPCNT: 2} {
				if got, err := unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, option); err != nil || got == 0 || got > most {
					t.Errorf("option %d is %d, %v; want %d", option, got, err, most)
				}
			}
			if on, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_KEEPALIVE); err != nil || on == 0 {
				t.Errorf("no probes are sent: %v", err)
			}
		})
		if err != nil {
			t.Error(err)
		}
	}
}
