package imapfront

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"strings"
	"time"

	"anycastle/mailroles/accept"
	"anycastle/mailroles/link"
)

const (
	// storeTime bounds the way to a store, up to its answer to the login.
	storeTime = 10 * time.Second
	// connectTime is what the first try to connect has, and maxConnect what the last ones have. An address that nobody has
	// for a moment may swallow the first packet, and the kernel sends its second a second later.
	connectTime = 300 * time.Millisecond
	maxConnect  = 2 * time.Second
	// handshakeTime is what the first TLS handshake has; later ones have more, since a store may be slow because many come.
	handshakeTime = 3 * time.Second
	// pauseTime is about what lies between two tries; after quickTries of them it is more.
	pauseTime  = 50 * time.Millisecond
	quickTries = 20
	// retryTime is Options.Retry when that is not given.
	retryTime = 8 * time.Second
)

// storeConn is a user's open session at a store.
type storeConn struct {
	*tls.Conn
	ahead   []byte // what the store has said behind its welcome
	welcome string // the store's reply to the login, without its tag
	moves   bool   // it may ask for the session to be taken away
}

// route is how a session reaches its store.
type route struct {
	addr   netip.AddrPort
	config *tls.Config
	client net.Addr // who the session is for; the store is told
	local  net.Addr // where it connected to
}

// errCannotMove is for a store that does not take a session over.
var errCannotMove = errors.New("imapfront: store does not take the session over")

// errRefused is for a store that has no such user.
var errRefused = errors.New("imapfront: store refuses the user")

// dial opens a session for a user, or goes on with the one that state is of. The client's address goes ahead of TLS, in a
// PROXY header. Each try has more time than the one before.
func (r route) dial(ctx context.Context, user string, state []byte, try int) (*storeConn, error) {
	ctx, cancel := context.WithTimeout(ctx, storeTime)
	defer cancel()
	raw, err := link.Dial(ctx, r.addr, min(connectTime<<min(try, 3), maxConnect))
	if err != nil {
		return nil, fmt.Errorf("reach store: %w", err)
	}
	s := &storeConn{Conn: tls.Client(raw, r.config)}
	defer context.AfterFunc(ctx, func() { raw.SetDeadline(time.Unix(1, 0)) })()
	if err := r.greet(ctx, raw, s, user, state, try); err != nil {
		return nil, errors.Join(fmt.Errorf("open session at store: %w", err), raw.Close())
	}
	return s, nil
}

func (r route) greet(ctx context.Context, raw net.Conn, s *storeConn, user string, state []byte, try int) error {
	head, err := accept.Header(r.client, r.local)
	if err != nil {
		return err
	}
	if _, err := raw.Write(head); err != nil {
		return err
	}
	// a store that hangs has a socket that does not
	shaking, cancel := context.WithTimeout(ctx, handshakeTime<<min(try, 3))
	defer cancel()
	if err := s.HandshakeContext(shaking); err != nil {
		return err
	}
	return s.login(user, state)
}

// login reads the greeting and names the user; the client certificate has proved that we may. A store that knows how to
// move sessions is told that we do too.
func (s *storeConn) login(user string, state []byte) error {
	br := bufio.NewReaderSize(s, maxLine)
	greeting, err := br.ReadString('\n')
	if err != nil {
		return err
	}
	if !strings.HasPrefix(greeting, "* OK") {
		return fmt.Errorf("imapfront: store is not ready: %q", greeting)
	}
	const tag = "front"
	var text []byte
	s.moves = strings.Contains(greeting, " "+link.HoldCommand+" ")
	switch {
	case s.moves:
		text = fmt.Appendf(text, "hold %s\r\n", link.HoldCommand)
	case state != nil:
		return errCannotMove
	}
	if state != nil {
		text = fmt.Appendf(text, "attach %s {%d+}\r\n%s\r\n", link.AttachCommand, len(state), state)
	}
	text = fmt.Appendf(text, "%s AUTHENTICATE EXTERNAL %s\r\n", tag, base64.StdEncoding.EncodeToString([]byte(user)))
	if _, err := s.Write(text); err != nil {
		return err
	}
	for attached := state == nil; s.welcome == "" || !attached; {
		line, err := br.ReadString('\n')
		if err != nil {
			return err
		}
		if rest, ok := strings.CutPrefix(line, "attach "); ok && state != nil {
			if !strings.HasPrefix(rest, "OK") {
				return fmt.Errorf("%w: %q", errCannotMove, rest)
			}
			attached = true
		}
		if rest, ok := strings.CutPrefix(line, tag+" "); ok {
			if s.welcome = strings.TrimRight(rest, "\r\n"); !strings.HasPrefix(rest, "OK") {
				return refusal(rest)
			}
		}
	}
	ahead, _ := br.Peek(br.Buffered())
	s.ahead = bytes.Clone(ahead) // the buffer that it is in may go
	return nil
}

// refusal makes an error of a store's answer to the login. With UNAVAILABLE it may be another one soon.
func refusal(answer string) error {
	if strings.Contains(answer, "[UNAVAILABLE]") {
		return fmt.Errorf("imapfront: store is not to be used now: %q", answer)
	}
	return fmt.Errorf("%w: %q", errRefused, answer)
}

// reach dials until it has a session, the store says that it gives none, or the time is over. While a LUN moves nobody has its
// address, or who has it is not the active store.
func (s *Server) reach(ctx context.Context, r route, user string, state []byte, within time.Duration) (*storeConn, error) {
	begun := time.Now()
	for try := 0; ; try++ {
		store, err := r.dial(ctx, user, state, try)
		if err == nil || errors.Is(err, errCannotMove) || errors.Is(err, errRefused) {
			return store, err
		}
		if _, stranger := errors.AsType[*tls.CertificateVerificationError](err); stranger {
			return nil, err
		}
		pause := pauseTime/2 + rand.N(pauseTime)
		if try > quickTries {
			pause *= 4
		}
		if time.Since(begun)+pause >= within || !wait(ctx, pause) {
			return nil, err
		}
	}
}

// wait is false when ctx ends first.
func wait(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
