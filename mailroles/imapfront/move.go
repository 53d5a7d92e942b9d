package imapfront

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"anycastle/mailroles/link"
)

const (
	// handOver is what a store has to hand a session over.
	handOver = 5 * time.Second
	// redialTime is for how long another store is looked for.
	redialTime = 10 * time.Second
	// maxRedials is how many sessions of a LUN are taken to its store at a time.
	maxRedials = 64
)

// hold is a session that is to move to another store of its LUN.
type hold struct {
	over   chan struct{} // closed when the session goes on, or has ended
	done   bool          // that is so; guarded by the session's mu
	cancel func()        // of the move; nil before it. Guarded by the session's mu
}

func newHold() *hold { return &hold{over: make(chan struct{})} }

// abort ends a move that is at work. The caller holds the session's mu.
func (h *hold) abort() {
	if h != nil && h.cancel != nil {
		h.cancel()
	}
}

// release has the client's direction go on. The caller holds the session's mu.
func (h *hold) release() {
	if h != nil && !h.done {
		h.done = true
		close(h.over)
	}
}

// finish lets nothing go to the store any more. The caller holds mu.
func (j *joined) finish() {
	j.ended = true
	j.hold.release()
}

// ready says whether the session can be taken away from its store: that has asked for it, and no command but IDLE is without
// its answer, or half sent. It gives the tag of the IDLE; without one the client does not idle. Once it is ready nothing of the
// client's goes to the store.
func (j *joined) ready() (idle string, ok bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	t := &j.talk
	if !t.held || j.ended || t.part > 0 || !t.down.boundary() || !t.up.boundary() {
		return "", false
	}
	if t.open == 1 && t.idling && t.idled {
		return t.idle, t.idle != ""
	}
	return "", t.open == 0
}

// move takes the session to the store that the LUN's address leads to then. The client waits meanwhile, and hears of it only
// what another session may have changed. It is the store's direction that does it.
func (j *joined) move(idle string) error {
	begun := time.Now()
	ctx, cancel := context.WithTimeout(context.Background(), redialTime)
	defer cancel()
	j.mu.Lock()
	j.hold.cancel = cancel
	aborted := j.shut || j.ending != ""
	j.mu.Unlock()
	if aborted {
		return errEnded
	}
	err := j.moveIn(ctx, idle)
	if err != nil {
		j.server.opt.Tally.Reject("not-moved")
		j.server.opt.Log.Warn("session does not move", "lun", j.lun, "err", err)
		return fmt.Errorf("%w: %v", errEnded, err) // whose cause may be a time, which is no rest here
	}
	j.server.opt.Log.Debug("session has moved", "lun", j.lun, "took", time.Since(begun))
	return nil
}

func (j *joined) moveIn(ctx context.Context, idle string) error {
	state, idle, err := j.leaveStore(idle)
	if err != nil {
		return fmt.Errorf("take session from its store: %w", err)
	}
	r := route{
		addr: j.server.opt.LUNs[j.lun], config: j.server.opt.LinkTLS,
		client: j.client.RemoteAddr(), local: j.client.LocalAddr(),
	}
	store, err := j.redial(ctx, r, state)
	if err != nil {
		return fmt.Errorf("take session to its store: %w", err)
	}
	if err := j.use(store); err != nil {
		return err
	}
	br := bufio.NewReader(io.MultiReader(bytes.NewReader(store.ahead), store))
	if idle != "" {
		if err := j.idleAgain(br, idle); err != nil {
			return fmt.Errorf("idle again: %w", err)
		}
	}
	if br.Buffered() == 0 && len(store.ahead) > 0 {
		_, _ = br.Peek(1) // which takes them in
	}
	ahead, _ := br.Peek(br.Buffered())
	err = j.pass(bytes.Clone(ahead))
	j.mu.Lock()
	defer j.mu.Unlock()
	j.hold.release()
	if j.hold = nil; j.talk.held { // again
		j.hold = newHold()
	}
	return err
}

// leaveStore ends IDLE, if the client idles, and gives the session as its store hands it over. It gives the IDLE back unless the
// client has had an answer to it.
func (j *joined) leaveStore(idle string) (state []byte, still string, err error) {
	if err := j.store.SetReadDeadline(time.Now().Add(handOver)); err != nil {
		return nil, "", err
	}
	br := bufio.NewReader(j.store)
	if idle != "" {
		if err := write(j.store, []byte("DONE\r\n")); err != nil {
			return nil, "", err
		}
		answer, err := j.readTo(br, idle+" ")
		if err != nil {
			return nil, "", err
		}
		if !strings.HasPrefix(answer, idle+" OK") {
			idle = ""
			if err := j.pass([]byte(answer)); err != nil {
				return nil, "", err
			}
		}
	}
	if err := write(j.store, []byte("front "+link.DetachCommand+"\r\n")); err != nil {
		return nil, "", err
	}
	const head = "* " + link.StateResponse + " {"
	line, err := j.readTo(br, head, "front ")
	if err != nil {
		return nil, "", err
	}
	size, err := strconv.Atoi(strings.TrimSuffix(strings.TrimPrefix(line, head), "}\r\n"))
	if err != nil || size < 0 || size > link.MaxState {
		return nil, "", fmt.Errorf("imapfront: store does not hand the session over: %q", line)
	}
	state = make([]byte, size)
	if _, err := io.ReadFull(br, state); err != nil {
		return nil, "", err
	}
	if line, err = br.ReadString('\n'); err == nil && line == "\r\n" {
		line, err = br.ReadString('\n')
	}
	if err == nil && !strings.HasPrefix(line, "front OK") {
		err = fmt.Errorf("imapfront: store does not let the session go: %q", line)
	}
	return state, idle, errors.Join(err, j.store.NetConn().Close())
}

// readTo reads lines up to one that begins in one of some ways, and hands on those before.
func (j *joined) readTo(br *bufio.Reader, heads ...string) (string, error) {
	for {
		line, err := br.ReadString('\n')
		if err != nil {
			return "", err
		}
		if j.atLine() {
			for _, head := range heads {
				if strings.HasPrefix(line, head) {
					return line, nil
				}
			}
		}
		if err := j.pass([]byte(line)); err != nil {
			return "", err
		}
	}
}

// atLine says whether the store begins a line of its own.
func (j *joined) atLine() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.talk.down.boundary()
}

// redial opens the session at another store, or at the same one.
func (j *joined) redial(ctx context.Context, r route, state []byte) (*storeConn, error) {
	turns := j.server.redials[j.lun]
	select {
	case turns <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	defer func() { <-turns }()
	return j.server.reach(ctx, r, j.address, state, redialTime)
}

// use goes on with another connection to a store. Nothing has been read from it.
func (j *joined) use(store *storeConn) error {
	socket, err := socketOf(store.NetConn())
	if err != nil {
		return errors.Join(err, store.NetConn().Close())
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.shut || j.ending != "" {
		return errors.Join(errEnded, store.NetConn().Close())
	}
	j.store, j.sockets[1] = store.Conn, socket
	j.talk.down, j.talk.held, j.talk.moves = lines{}, false, store.moves
	return nil
}

// idleAgain has the store tell of changes as the one before did.
func (j *joined) idleAgain(br *bufio.Reader, tag string) error {
	if err := j.store.SetReadDeadline(time.Now().Add(handOver)); err != nil {
		return err
	}
	if err := write(j.store, []byte(tag+" IDLE\r\n")); err != nil {
		return err
	}
	line, err := j.readTo(br, "+", tag+" ")
	if err == nil && line[0] != '+' {
		err = j.pass([]byte(line)) // it does not idle any more
	}
	return err
}
