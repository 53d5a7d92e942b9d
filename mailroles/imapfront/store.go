package imapfront

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"

	"anycastle/mailroles/accept"
)

// storeTime bounds the way to a store, up to its answer to the login.
const storeTime = 10 * time.Second

// storeConn is a user's open session at a store.
type storeConn struct {
	*tls.Conn
	ahead   []byte // what the store has said behind its welcome
	welcome string // the store's reply to the login, without its tag
}

// link is how a session reaches its store.
type link struct {
	addr   netip.AddrPort
	config *tls.Config
	client net.Addr // who the session is for; the store is told
	local  net.Addr // where it connected to
}

// dial opens a session for a user. The client's address goes ahead of TLS, in a PROXY header.
func (l link) dial(ctx context.Context, user string) (*storeConn, error) {
	ctx, cancel := context.WithTimeout(ctx, storeTime)
	defer cancel()
	raw, err := (&net.Dialer{}).DialContext(ctx, "tcp", l.addr.String())
	if err != nil {
		return nil, fmt.Errorf("reach store: %w", err)
	}
	s := &storeConn{Conn: tls.Client(raw, l.config)}
	defer context.AfterFunc(ctx, func() { raw.SetDeadline(time.Unix(1, 0)) })()
	if err := l.greet(ctx, raw, s, user); err != nil {
		return nil, errors.Join(fmt.Errorf("open session at store: %w", err), raw.Close())
	}
	return s, nil
}

func (l link) greet(ctx context.Context, raw net.Conn, s *storeConn, user string) error {
	head, err := accept.Header(l.client, l.local)
	if err != nil {
		return err
	}
	if _, err := raw.Write(head); err != nil {
		return err
	}
	if err := s.HandshakeContext(ctx); err != nil {
		return err
	}
	return s.login(user)
}

// login reads the greeting and names the user; the client certificate has proved that we may.
func (s *storeConn) login(user string) error {
	br := bufio.NewReaderSize(s, maxLine)
	greeting, err := br.ReadString('\n')
	if err != nil {
		return err
	}
	if !strings.HasPrefix(greeting, "* OK") {
		return fmt.Errorf("imapfront: store is not ready: %q", greeting)
	}
	const tag = "front"
	if _, err := fmt.Fprintf(s, "%s AUTHENTICATE EXTERNAL %s\r\n", tag, base64.StdEncoding.EncodeToString([]byte(user))); err != nil {
		return err
	}
	for {
		line, err := br.ReadString('\n')
		if err != nil {
			return err
		}
		if rest, ok := strings.CutPrefix(line, tag+" "); ok {
			s.welcome = strings.TrimRight(rest, "\r\n")
			if !strings.HasPrefix(s.welcome, "OK") {
				return fmt.Errorf("imapfront: store refuses the user: %q", s.welcome)
			}
			ahead, _ := br.Peek(br.Buffered())
			s.ahead = bytes.Clone(ahead) // the buffer that it is in may go
			return nil
		}
	}
}
