package remote

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"
)

// conn is one conversation.
type conn struct {
	*Client
	host  Host
	net   net.Conn
	r     *bufio.Reader
	ext   map[string]string // what EHLO offered: parameters by the keyword in upper case
	state string            // of TLS; empty: none
}

// greet connects, waits for the greeting and says EHLO, with TLS if clear is false and the server offers it.
func (c *Client) greet(ctx context.Context, host Host, clear bool) (*conn, error) {
	dialCtx, cancel := context.WithTimeout(ctx, c.Times.Dial)
	defer cancel()
	raw, err := c.Dial(dialCtx, host.Addr)
	if err != nil {
		return nil, &Failure{At: Connect, Err: err}
	}
	s := &conn{Client: c, host: host, net: raw}
	s.r = bufio.NewReaderSize(raw, maxReplyLine)
	stop := context.AfterFunc(ctx, func() { raw.Close() })
	err = s.open(ctx, clear)
	if err != nil || !stop() {
		return nil, errors.Join(err, ctx.Err(), s.close())
	}
	return s, nil
}

func (s *conn) close() error {
	if err := s.net.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		s.Log.Debug("close connection", "host", s.host.Name, "err", err)
	}
	return nil
}

func (s *conn) open(ctx context.Context, clear bool) error {
	if s.host.Implicit {
		if err := s.secure(ctx); err != nil {
			return err
		}
	}
	reply, _, err := s.wait(s.Times.Greeting)
	if err == nil && !reply.Taken() {
		err = reply
	}
	if err != nil {
		return &Failure{At: Greeting, Err: err}
	}
	if err := s.hello(); err != nil {
		return err
	}
	_, offered := s.ext["STARTTLS"]
	switch {
	case s.state != "" || clear:
	case offered:
		if err := s.startTLS(ctx); err != nil {
			return err
		}
	case s.host.Verify:
		return &Failure{At: TLS, Err: errors.New("it does not offer STARTTLS, which is required")}
	}
	return s.login()
}

// hello says EHLO, and HELO to a server that does not know it.
func (s *conn) hello() error {
	reply, lines, err := s.say(s.Times.Command, "EHLO %s", s.Hostname)
	if err == nil && reply.Permanent() && reply.Code != 521 && reply.Code != 554 {
		lines = nil
		reply, _, err = s.say(s.Times.Command, "HELO %s", s.Hostname)
	}
	if err == nil && !reply.Taken() {
		err = reply
	}
	if err != nil {
		return &Failure{At: Hello, Err: err}
	}
	s.ext = map[string]string{}
	for _, line := range lines[min(1, len(lines)):] {
		key, value, _ := strings.Cut(line, " ")
		s.ext[strings.ToUpper(key)] = value
	}
	return nil
}

// startTLS turns the conversation into one by TLS, and begins anew (RFC 3207 section 4.2).
func (s *conn) startTLS(ctx context.Context) error {
	reply, _, err := s.say(s.Times.Command, "STARTTLS")
	if err == nil && !reply.Taken() {
		err = reply
	}
	if err == nil && s.r.Buffered() > 0 { // somebody on the way may have put words into its mouth
		err = errors.New("it said more in clear than that TLS begins")
	}
	if err != nil {
		return &Failure{At: TLS, Err: err}
	}
	if err := s.secure(ctx); err != nil {
		return err
	}
	return s.hello()
}

// secure does the handshake. Without Verify any certificate and any version are better than none.
func (s *conn) secure(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, s.Times.Command)
	defer cancel()
	config := &tls.Config{ServerName: s.host.Name, RootCAs: s.host.Roots, MinVersion: tls.VersionTLS12}
	if !s.host.Verify {
		config.InsecureSkipVerify = true
		config.MinVersion = tls.VersionTLS10
	}
	secured := tls.Client(s.net, config)
	if err := secured.HandshakeContext(ctx); err != nil {
		return &Failure{At: TLS, Err: fmt.Errorf("handshake: %w", err)}
	}
	s.net, s.r = secured, bufio.NewReaderSize(secured, maxReplyLine)
	s.state = tls.VersionName(secured.ConnectionState().Version)
	if s.host.Verify {
		s.state += ", verified"
	}
	return nil
}

// login says who we are, where that is wanted.
func (s *conn) login() error {
	if s.host.User == "" {
		return nil
	}
	if !s.host.Verify || s.state == "" {
		return &Failure{At: Login, Err: errors.New("a password goes by verified TLS only")}
	}
	secret := base64.StdEncoding.EncodeToString([]byte("\x00" + s.host.User + "\x00" + s.host.Password))
	reply, _, err := s.say(s.Times.Command, "AUTH PLAIN %s", secret)
	if err == nil && !reply.Taken() {
		err = reply
	}
	if err != nil {
		return &Failure{At: Login, Err: err}
	}
	return nil
}

// say sends a command and waits for its reply.
func (s *conn) say(limit time.Duration, format string, args ...any) (Reply, []string, error) {
	line := fmt.Sprintf(format, args...)
	if strings.ContainsAny(line, "\r\n") {
		return Reply{}, nil, errors.New("a command has a line break")
	}
	if err := s.net.SetDeadline(time.Now().Add(limit)); err != nil {
		return Reply{}, nil, err
	}
	if _, err := io.WriteString(s.net, line+"\r\n"); err != nil {
		return Reply{}, nil, err
	}
	return s.wait(limit)
}

func (s *conn) wait(limit time.Duration) (Reply, []string, error) {
	if err := s.net.SetDeadline(time.Now().Add(limit)); err != nil {
		return Reply{}, nil, err
	}
	return readReply(s.r)
}

// maxSize gives the size that the server says is its largest; 0 for none.
func (s *conn) maxSize() int64 {
	n, err := strconv.ParseInt(strings.TrimSpace(s.ext["SIZE"]), 10, 64)
	if err != nil {
		return 0
	}
	return n
}

func (s *conn) offers(extension string) bool {
	_, ok := s.ext[extension]
	return ok
}
