package imapfront

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"anycastle/internal/mtls"
	"anycastle/internal/mtlstest"
	"anycastle/mailroles/directory"
)

const (
	ending = "* BYE [UNAVAILABLE] Server is going away, log in again\r\n"
	moved  = "* BYE [UNAVAILABLE] Mailbox has moved, log in again\r\n"
	lost   = "* BYE [UNAVAILABLE] Mailbox cannot be reached, log in again\r\n"
)

func TestStoreHearsWhoTheClientIs(t *testing.T) {
	r := newRig(t, nil)
	client, store := r.login("lun-east")
	if want := client.conn.LocalAddr().String(); store.from != want {
		t.Errorf("the store hears of %s, the client is %s", store.from, want)
	}
}

// TestWhyAStoreRefuses has a store that greets, or answers the login, with something else than OK.
func TestWhyAStoreRefuses(t *testing.T) {
	material, err := mtls.Load(mtlstest.NewCA(t).Node(t, "node"), nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, said := range []string{"* BYE no disk\r\n", "* OK store\r\nfront NO [UNAVAILABLE] no disk\r\n"} {
		raw, conn := net.Pipe()
		var serving sync.WaitGroup
		serving.Go(func() {
			defer conn.Close()
			store := tls.Server(conn, material.Server())
			if _, err := io.WriteString(store, said); err == nil {
				_, _ = io.Copy(io.Discard, store) // the login, and then the end
			}
		})
		front := &storeConn{Conn: tls.Client(raw, material.ClientOfAny())}
		if err := front.login(alice, nil); err == nil || !strings.Contains(err.Error(), "no disk") {
			t.Errorf("%q: error is %v", said, err)
		}
		raw.Close()
		serving.Wait()
	}
}

func TestWordsSentAheadAreNotLost(t *testing.T) {
	r := newRig(t, nil)
	client := r.connect()
	client.write("l LOGIN " + alice + " " + secret + "\r\na NOOP\r\n")
	client.expect("l OK [CAPABILITY IMAP4rev1] logged in\r\n")
	store := r.session("lun-east")
	store.expect("a NOOP\r\n")
	store.write("a OK done\r\n")
	client.expect("a OK done\r\n")
}

// TestEverythingArrives copies much in both directions at once, in pieces of all sizes.
func TestEverythingArrives(t *testing.T) {
	r := newRig(t, nil)
	client, store := r.login("lun-east")
	const size = 3 << 20
	var both sync.WaitGroup
	carry := func(from, to *side) {
		text := make([]byte, size)
		rand.Read(text) // never fails
		both.Go(func() {
			for i, n := 0, 1; i < size; n = n*3 + 1 {
				n = min(n%70_000, size-i)
				if _, err := from.conn.Write(text[i : i+n]); err != nil {
					t.Error(err)
					return
				}
				i += n
			}
		})
		both.Go(func() {
			got := make([]byte, size)
			if _, err := io.ReadFull(to.br, got); err != nil || !bytes.Equal(got, text) {
				t.Errorf("what came differs from what was sent: %v", err)
			}
		})
	}
	carry(client, store)
	carry(store, client)
	both.Wait()
}

func TestSessionOfAMailboxThatMovesEnds(t *testing.T) {
	r := newRig(t, nil)
	client, store := r.login("lun-east")
	other, otherStore := r.login("lun-east")
	otherStore.write("* 1 FETCH (BODY[] {10}\r\n01234")
	other.expect("* 1 FETCH (BODY[] {10}\r\n01234")
	third, thirdStore := r.login("lun-east")
	third.write("a APPEND INBOX {3+}\r\nabc\r\n")
	thirdStore.expect("a APPEND INBOX {3+}\r\nabc\r\n")

	r.book.set(func() { r.book.err = errors.New("out of order") })
	client.silent()
	r.book.set(func() { r.book.err, r.book.luns[alice] = nil, "lun-west" })
	if got := client.over(); got != moved {
		t.Errorf("who idles is told %q", got)
	}
	store.over()

	other.silent() // in the middle of a literal
	otherStore.write("56789)\r\n")
	if got := other.over(); got != "56789)\r\n"+moved {
		t.Errorf("who reads a mail is told %q", got)
	}
	third.silent() // a command is at work
	thirdStore.write("a OK [APPENDUID 1 1] done\r\n")
	if got := third.over(); got != "a OK [APPENDUID 1 1] done\r\n"+moved {
		t.Errorf("who stores a mail is told %q", got)
	}
	r.login("lun-west")
	if c := r.tally.Counts(); c.Rejects["moved"] != 3 {
		t.Errorf("counts are %+v", c)
	}
}

func TestSessionOfAMailboxThatGoesEnds(t *testing.T) {
	r := newRig(t, nil)
	client, _ := r.login("lun-east")
	client.write("a IDLE\r\n")
	r.book.set(func() { delete(r.book.luns, alice) })
	if got := client.over(); got != moved {
		t.Errorf("the client is told %q", got)
	}
}

// slowBook has mailboxes move while a login is at work.
type slowBook struct {
	*book
	after func()
}

func (b slowBook) Authenticate(ctx context.Context, user, password string) (m directory.Mailbox, err error) {
	m, err = b.book.Authenticate(ctx, user, password)
	b.after()
	return m, err
}

// TestMoveDuringLogin moves a mailbox when the directory has said where it is, and the session is not there yet.
func TestMoveDuringLogin(t *testing.T) {
	var r *rig
	sweeps := func() int {
		r.server.mu.Lock()
		defer r.server.mu.Unlock()
		return r.server.sweeps
	}
	move := sync.OnceFunc(func() {
		before := sweeps()
		r.book.set(func() { r.book.luns[alice] = "lun-west" })
		waitFor(t, func() bool { return sweeps() > before }) // the sweep finds no session yet
	})
	r = newRig(t, func(o *Options) { o.Directory = slowBook{o.Directory.(*book), move} })
	client, _ := r.login("lun-east")
	if got := client.over(); got != moved {
		t.Errorf("the client is told %q", got)
	}
	r.login("lun-west")
}

func TestStoreGoesAway(t *testing.T) {
	r := newRig(t, nil)
	client, store := r.login("lun-east")
	store.conn.NetConn().(interface{ Close() error }).Close()
	if got := client.over(); got != lost {
		t.Errorf("who idles is told %q", got)
	}
	client, store = r.login("lun-east")
	store.write("* 1 FETCH (BODY[] {10}\r\n01234")
	client.expect("* 1 FETCH (BODY[] {10}\r\n01234")
	store.conn.Close()
	if got := client.over(); got != "" {
		t.Errorf("in the middle of a literal comes %q", got)
	}
	client, store = r.login("lun-east")
	store.write("* BYE in my own words\r\n")
	store.conn.Close()
	if got := client.over(); got != "* BYE in my own words\r\n" {
		t.Errorf("a store that says BYE itself ends in %q", got)
	}
}

func TestClientGoesAway(t *testing.T) {
	r := newRig(t, nil)
	client, store := r.login("lun-east")
	client.write("a NOOP\r\n")
	if err := client.conn.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if got := store.over(); got != "a NOOP\r\n" {
		t.Errorf("the store gets %q", got)
	}
	store.write("a OK done\r\n") // a client that has said all still gets its answer
	client.expect("a OK done\r\n")
	store.conn.Close()
	client.over()

	client, store = r.login("lun-east")
	client.conn.NetConn().Close()
	store.over()
	waitFor(t, func() bool { return r.tally.Counts().Sessions == 0 })
}

// TestIdleClient has one client say nothing, and another wait for an answer that takes long.
func TestIdleClient(t *testing.T) {
	const idle = time.Second
	r := newRig(t, func(o *Options) { o.Idle = idle })
	busy, busyStore := r.login("lun-east")
	busy.write("a FETCH 1:* BODY[]\r\n")
	busyStore.expect("a FETCH 1:* BODY[]\r\n")
	for range 2 { // by then the other has waited for longer than that
		silent, _ := r.login("lun-east")
		if got := silent.over(); got != "* BYE "+byeIdle+"\r\n" {
			t.Errorf("who says nothing is told %q", got)
		}
	}
	busyStore.write("* 1 FETCH (BODY[] {0}\r\n)\r\n")
	busy.expect("* 1 FETCH (BODY[] {0}\r\n)\r\n")
	busyStore.write("a OK done\r\n")
	busy.expect("a OK done\r\n")
	if got := busy.over(); got != "* BYE "+byeIdle+"\r\n" {
		t.Errorf("who says nothing after an answer is told %q", got)
	}
}

func TestEndOfTheRole(t *testing.T) {
	r := newRig(t, nil)
	idle, _ := r.login("lun-east")
	idle.write("a IDLE\r\n")
	early := r.connect()
	busy, busyStore := r.login("lun-east")
	busy.write("a APPEND INBOX {10}\r\n")
	busyStore.expect("a APPEND INBOX {10}\r\n")
	busyStore.write("+ go on\r\n")
	busy.expect("+ go on\r\n")
	r.stop()
	for name, s := range map[string]*side{"idles": idle, "has not logged in": early} {
		if got := s.over(); !strings.HasPrefix(got, "* BYE [UNAVAILABLE]") || strings.Count(got, "\n") != 1 {
			t.Errorf("who %s is told %q", name, got)
		}
	}
	if conn, err := net.Dial("tcp", r.addr); err == nil {
		conn.Close()
		t.Error("somebody is let in after the end")
	}
	busy.write("0123456789\r\n")
	busyStore.expect("0123456789\r\n")
	busyStore.write("a OK done\r\n")
	if got := busy.over(); got != "a OK done\r\n"+ending {
		t.Errorf("who stores a mail is told %q", got)
	}
	r.ended()
}

// TestDeadlineOfTheRole has one command, and one literal, take for ever.
func TestDeadlineOfTheRole(t *testing.T) {
	r := newRig(t, func(o *Options) { o.Grace = time.Second })
	busy, busyStore := r.login("lun-east")
	busy.write("a NOOP\r\n")
	busyStore.expect("a NOOP\r\n")
	stuck, stuckStore := r.login("lun-east")
	stuckStore.write("* 1 FETCH (BODY[] {10}\r\n01234")
	stuck.expect("* 1 FETCH (BODY[] {10}\r\n01234")
	start := time.Now()
	r.stop()
	if got := busy.over(); got != ending {
		t.Errorf("who waits for an answer is told %q", got)
	}
	if got := stuck.over(); got != "" {
		t.Errorf("in the middle of a literal comes %q", got)
	}
	r.ended()
	if took := time.Since(start); took > lineTime+5*time.Second {
		t.Errorf("the end took %v", took)
	}
}

func waitFor(t *testing.T, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(patience)
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatal("waited in vain")
		}
	}
}
