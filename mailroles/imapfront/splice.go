package imapfront

import (
	"cmp"
	"crypto/tls"
	"errors"
	"io"
	"os"
	"sync"
	"syscall"
	"time"

	"anycastle/mailroles/directory"
)

const (
	// spliceIdle is Options.Idle when that is not given (RFC 3501 section 5.4 asks for 30 minutes).
	spliceIdle = 35 * time.Minute
	// spliceWrite bounds a write to a peer that does not read.
	spliceWrite = 5 * time.Minute
	// lineTime is how long a session that must end may wait for the end of a line.
	lineTime = 5 * time.Second
	// linger is how long a client that has been told BYE is listened to until it closes its side too.
	linger = 2 * time.Second
	// keen is how long a direction waits for more on the goroutine that has done the work, before it rests.
	keen = 50 * time.Millisecond
	// smallRoom is what one direction of a session reads first, in bytes.
	smallRoom = 256
	// bigRoom is what one direction of a busy session reads and writes at a time, in bytes.
	bigRoom = 32 << 10
)

// What a client is told at the end of its session.
const (
	byeEnding = "[UNAVAILABLE] Server is going away, log in again"
	byeMoved  = "[UNAVAILABLE] Mailbox has moved, log in again"
	byeLost   = "[UNAVAILABLE] Mailbox cannot be reached, log in again"
	byeIdle   = "Idle for too long"
	byeClosed = "Client has closed its side"
)

// errEnded says that the session is over for the client: what it says goes nowhere.
var errEnded = errors.New("imapfront: session has ended")

// errUnread says that a side does not take what it is sent.
var errUnread = errors.New("imapfront: peer does not read")

// joined is a session that is logged in. What is said is followed so far that a BYE can be put between two lines.
//
// It is made to be small, since thousands of clients idle. Two goroutines copy, one in each direction. While there is
// nothing to copy, each waits for its socket with a shallow stack: what TLS needs of stack is used, and given back, by a
// goroutine of its own for each time that there is something to do. Beside that an idle session holds little more than
// what TLS has for two connections.
type joined struct {
	address string // of the mailbox
	lun     string
	client  *tls.Conn
	store   *tls.Conn
	sockets [2]syscall.RawConn // theirs
	server  *Server

	small [2][smallRoom]byte // for what the client says, and for what the store does

	mu     sync.Mutex
	talk   talk
	ending string // why the session is to end; empty: it is not
	hasty  bool   // the end of a line is enough, a command may stay without its answer
	ended  bool   // nothing goes to the store any more
	shut   bool   // the store's side is closed for good
	hold   *hold  // nil while the session stays at its store
	left   int    // directions that are at work
	timer  *time.Timer
	until  time.Time // when it strikes
}

// newJoined makes a session of two connections that it closes in the end.
func (s *Server) newJoined(m directory.Mailbox, client *tls.Conn, store *storeConn) (*joined, error) {
	j := &joined{address: m.Address, lun: m.LUN, client: client, store: store.Conn, server: s}
	j.talk.moves = store.moves
	for i, conn := range []*tls.Conn{client, store.Conn} {
		var err error
		if j.sockets[i], err = socketOf(conn.NetConn()); err != nil {
			return nil, err
		}
	}
	return j, nil
}

// run copies in both directions, beginning with what each side has said already. Each direction is a goroutine that start
// starts; done is called when both have ended.
func (j *joined) run(start func(func()), client, store []byte, done func()) {
	j.left = 2
	start(func() { defer j.leave(done); j.up(client) })
	start(func() { defer j.leave(done); j.down(store) })
}

// leave ends a direction.
func (j *joined) leave(done func()) {
	j.mu.Lock()
	j.left--
	last := j.left == 0
	if last && j.timer != nil {
		j.timer.Stop()
	}
	if last {
		j.cut()
	}
	j.mu.Unlock()
	if last {
		done()
	}
}

// end asks for the session's end when no command is at work; after patience between any two lines of the store; and soon
// after that wherever it is. It is false when the end has been asked for before; then the sooner time counts.
func (j *joined) end(why string, patience time.Duration) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	until := time.Now().Add(patience)
	switch {
	case j.left == 0:
		return false
	case j.ending != "":
		if !j.hasty && until.Before(j.until) {
			j.until = until
			j.timer.Reset(patience)
		}
		return false
	}
	j.ending, j.until = why, until
	j.timer = time.AfterFunc(patience, j.hurry)
	j.wake()
	return true
}

// hurry ends the session between any two lines, and wherever it is the second time.
func (j *joined) hurry() {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.hasty {
		j.cut()
		return
	}
	j.hasty = true
	j.timer.Reset(lineTime)
	j.wake()
}

// wake has the store's direction look up from its reading, or from a move. The caller holds mu, as of the next two.
func (j *joined) wake() {
	j.hold.abort()
	// an error means that the connection is closed, which is what is wanted
	_ = j.store.SetReadDeadline(time.Unix(1, 0))
}

// cut ends the session at once. What is closed already stays so.
func (j *joined) cut() {
	j.client.NetConn().Close()
	j.drop()
}

// drop closes the store's side.
func (j *joined) drop() {
	j.shut = true
	j.hold.abort()
	j.store.NetConn().Close()
}

// up copies what the client says, until it ends.
func (j *joined) up(said []byte) {
	err := aside(func() error { return j.upBusy(said) })
	for err == nil {
		if !j.await(j.server.opt.Idle) {
			err = errEnded
			break
		}
		err = readable(j.sockets[0])
		if err == nil || errors.Is(err, os.ErrDeadlineExceeded) && j.busy() {
			err = aside(func() error { return j.upBusy(nil) })
		}
	}
	switch {
	case errors.Is(err, io.EOF):
		j.mu.Lock()
		_ = j.store.CloseWrite() // what is cut off must not wait for more
		j.mu.Unlock()
		j.end(byeClosed, spliceWrite)
		return // a client that is done may wait for answers
	case errors.Is(err, os.ErrDeadlineExceeded):
		j.end(byeIdle, 0)
	case !errors.Is(err, errEnded):
		j.mu.Lock()
		j.drop() // the client is lost: nothing more may be heard for it
		j.mu.Unlock()
	}
	// closing with something unread would reset the connection, and a BYE with it
	for err = j.client.SetReadDeadline(time.Now().Add(linger)); err == nil; {
		_, err = j.client.Read(j.small[0][:])
	}
}

// upBusy copies until the client says no more for now.
func (j *joined) upBusy(said []byte) error {
	err := j.forward(said)
	for err == nil {
		if !j.await(keen) {
			return errEnded
		}
		err = j.relay(j.client, &j.small[0], j.forward)
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return nil
	}
	return err
}

// await sets the deadline of the client's next words. It is false when they do not matter any more.
func (j *joined) await(d time.Duration) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return !j.ended && j.client.SetReadDeadline(time.Now().Add(d)) == nil
}

// busy says whether the client has to wait for an answer. A command that stalls is ended by the store.
func (j *joined) busy() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.talk.busy()
}

// forward hands on to the store what the client has said. While the session is to move to another, that is only the rest of
// the command that has been begun, and the others wait.
func (j *joined) forward(said []byte) error {
	for {
		j.mu.Lock()
		ended, store, hold := j.ended, j.store, j.hold
		n := len(said)
		if hold == nil {
			j.talk.sent(said)
		} else {
			n = j.talk.finish(said)
		}
		j.mu.Unlock()
		if ended {
			return errEnded
		}
		if err := write(store, said[:n]); err != nil {
			return err
		}
		if said = said[n:]; len(said) == 0 {
			return nil
		}
		<-hold.over // the session is at another store, or has ended
	}
}

// down copies what the store says, until it ends or the session is to end.
func (j *joined) down(said []byte) {
	err := aside(func() error { return j.downBusy(said) })
	for err == nil {
		// first the deadline: who asks for the end after that has been looked for sets it again
		if j.store.SetReadDeadline(time.Time{}) == nil && !j.over() {
			_ = readable(j.sockets[1]) // reading finds out what is wrong
		}
		err = aside(func() error { return j.downBusy(nil) })
	}
}

// downBusy copies until the store says no more for now. An error means that the session has ended.
func (j *joined) downBusy(said []byte) error {
	err := j.pass(said)
	for err == nil {
		if err = j.store.SetReadDeadline(time.Now().Add(keen)); err != nil {
			break
		}
		if j.over() {
			j.bye(j.why())
			return errEnded
		}
		if tag, ok := j.ready(); ok {
			err = j.move(tag)
			continue
		}
		err = j.relay(j.store, &j.small[1], j.pass)
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return nil
	}
	j.lost()
	return err
}

// pass hands on to the client what the store has said.
func (j *joined) pass(said []byte) error {
	j.mu.Lock()
	said = j.talk.heard(said)
	if j.talk.held && j.hold == nil {
		j.hold = newHold()
	}
	j.mu.Unlock()
	return write(j.client, said)
}

// over says whether the session ends here. If so, the store gets nothing any more.
func (j *joined) over() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.ending == "" || !j.talk.down.boundary() || j.talk.busy() && !j.hasty {
		return false
	}
	j.finish()
	return true
}

// why is what the client is told of the end.
func (j *joined) why() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return cmp.Or(j.ending, byeLost)
}

// lost ends a session whose store has ended it, or is gone. The client is told, unless the store has said so itself or has
// stopped in the middle of a line.
func (j *joined) lost() {
	j.mu.Lock()
	j.finish()
	told := j.talk.bye || !j.talk.down.boundary()
	j.mu.Unlock()
	if told {
		j.part()
	} else {
		j.bye(j.why())
	}
}

// bye tells the client that the session is over.
func (j *joined) bye(why string) {
	_ = write(j.client, []byte("* BYE "+why+"\r\n")) // a client that cannot be told sees the connection close
	j.part()
}

// part closes the store's side, and has the client's closed when it has closed its own, or after some time. Errors mean
// that the client is gone.
func (j *joined) part() {
	j.mu.Lock()
	j.drop()
	j.mu.Unlock()
	_ = j.client.CloseWrite()
	_ = j.client.SetReadDeadline(time.Now().Add(linger))
}
