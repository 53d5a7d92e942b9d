package imapfront

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"time"
)

const (
	// storeTime bounds the way to a store, up to its answer to the login.
	storeTime = 10 * time.Second
	// spliceIdle ends a session in which the client says nothing (RFC 3501 section 5.4 asks for 30 minutes).
	spliceIdle = 35 * time.Minute
	// spliceWrite bounds a write to a peer that does not read.
	spliceWrite = 5 * time.Minute
)

// storeConn is a user's open session at a store.
type storeConn struct {
	*tls.Conn
	br      *bufio.Reader // what the store says; may hold bytes that were read ahead
	welcome string        // the store's reply to the login, without its tag
}

// dialStore opens a session for the user.
func dialStore(ctx context.Context, addr netip.AddrPort, config *tls.Config, user string) (*storeConn, error) {
	ctx, cancel := context.WithTimeout(ctx, storeTime)
	defer cancel()
	conn, err := (&tls.Dialer{Config: config}).DialContext(ctx, "tcp", addr.String())
	if err != nil {
		return nil, fmt.Errorf("reach store: %w", err)
	}
	s := &storeConn{Conn: conn.(*tls.Conn), br: bufio.NewReaderSize(conn, maxLine)}
	defer context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })()
	if err := s.login(user); err != nil {
		return nil, errors.Join(fmt.Errorf("open session at store: %w", err), conn.Close())
	}
	return s, nil
}

// login reads the greeting and names the user; the client certificate has proved that we may.
func (s *storeConn) login(user string) error {
	greeting, err := s.br.ReadString('\n')
	if err != nil {
		return err
	}
	if !strings.HasPrefix(greeting, "* OK") {
		return errors.New("imapfront: store is not ready")
	}
	const tag = "front"
	if _, err := fmt.Fprintf(s, "%s AUTHENTICATE EXTERNAL %s\r\n", tag, base64.StdEncoding.EncodeToString([]byte(user))); err != nil {
		return err
	}
	for {
		line, err := s.br.ReadString('\n')
		if err != nil {
			return err
		}
		if rest, ok := strings.CutPrefix(line, tag+" "); ok {
			s.welcome = strings.TrimRight(rest, "\r\n")
			if !strings.HasPrefix(s.welcome, "OK") {
				return errors.New("imapfront: store refuses the user")
			}
			return nil
		}
	}
}

// splice copies bytes both ways until both directions have ended. from holds what the client sent behind its login.
func splice(client net.Conn, from io.Reader, store *storeConn) {
	var both sync.WaitGroup
	both.Go(func() {
		if copyIdle(store, from, client.SetReadDeadline) != nil || store.CloseWrite() != nil {
			store.Close() // the client is lost, not done: nothing more may be heard for it
		}
	})
	both.Go(func() {
		// the store says when a session ends, and the client may be in the midst of sending
		_ = copyIdle(client, store.br, store.SetReadDeadline)
		client.Close()
	})
	both.Wait()
}

// copyIdle copies until r ends, or says nothing for spliceIdle.
func copyIdle(w net.Conn, r io.Reader, deadline func(time.Time) error) error {
	buf := make([]byte, 16<<10)
	for {
		if err := deadline(time.Now().Add(spliceIdle)); err != nil {
			return err
		}
		n, err := r.Read(buf)
		if n > 0 {
			if derr := w.SetWriteDeadline(time.Now().Add(spliceWrite)); derr != nil {
				return derr
			}
			if _, werr := w.Write(buf[:n]); werr != nil {
				return werr
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}
