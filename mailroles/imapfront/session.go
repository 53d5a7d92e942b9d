package imapfront

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"anycastle/mailroles/directory"
)

// Bounds of a session before login.
const (
	loginTime  = 3 * time.Minute // from the connection to login
	idleTime   = time.Minute     // between two commands
	maxLogins  = 3               // wrong passwords
	maxMistake = 10              // commands that make no sense
)

// errEnd ends a session after its BYE has been sent.
var errEnd = errors.New("imapfront: session is over")

// session is a client's session before login.
type session struct {
	server *Server
	conn   net.Conn
	rd     *reader
	secure bool
	until  time.Time // login must be done by then

	logins, mistakes int

	mailbox directory.Mailbox // that has logged in
	sweeps  int               // the server's, when the directory was asked for it
}

func newSession(s *Server, conn net.Conn, secure bool) *session {
	c := &session{server: s, secure: secure, until: time.Now().Add(loginTime)}
	c.use(conn)
	return c
}

// use makes conn the session's connection, and forgets what was read ahead from the one before.
func (c *session) use(conn net.Conn) {
	c.conn = conn
	c.rd = newReader(conn, func() error { return c.write("+ go on\r\n") })
}

// untilLogin talks with the client until it has logged in. It gives the session at the store, or an error when the
// client is gone; neither when it left by LOGOUT.
func (c *session) untilLogin(ctx context.Context) (*storeConn, error) {
	// waking the reader with a deadline leaves the connection whole, so that BYE can be said
	first := c.conn // STARTTLS puts another on top of it
	defer context.AfterFunc(ctx, func() { first.SetReadDeadline(time.Unix(1, 0)) })()
	// the greeting may be behind a handshake, which waits for the client
	if err := c.await(ctx); err != nil {
		return nil, err
	}
	if err := c.write("* OK [CAPABILITY " + c.capabilities() + "] IMAP ready\r\n"); err != nil {
		return nil, err
	}
	for {
		if err := c.await(ctx); err != nil {
			return nil, c.bye(ctx, err)
		}
		cmd, err := c.rd.command()
		if errors.Is(err, errSyntax) {
			err = c.mistake(cmd.tag, "Syntax error")
		} else if err == nil {
			var store *storeConn
			store, err = c.do(ctx, cmd)
			if store != nil {
				return store, err
			}
		}
		if errors.Is(err, errEnd) {
			return nil, nil
		}
		if err != nil {
			return nil, c.bye(ctx, err)
		}
	}
}

// await sets the deadline of the next command.
func (c *session) await(ctx context.Context) error {
	deadline := time.Now().Add(idleTime)
	if c.until.Before(deadline) {
		deadline = c.until
	}
	if err := c.conn.SetReadDeadline(deadline); err != nil {
		return err
	}
	if ctx.Err() != nil { // the deadline that was to wake us has just been overwritten
		return os.ErrDeadlineExceeded
	}
	return nil
}

// bye tells the client why the session ends, where there is something to tell and someone to hear it.
func (c *session) bye(ctx context.Context, err error) error {
	text := ""
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		text = "[UNAVAILABLE] Time is up"
		if ctx.Err() != nil {
			text = byeEnding
		}
	case errors.Is(err, errLineTooLong):
		text = "Line is too long"
	case errors.Is(err, errLiteralSize):
		text = "[TOOBIG] Literal is too large"
	default:
		return err
	}
	return errors.Join(err, c.write("* BYE "+text+"\r\n"))
}

func (c *session) write(text string) error {
	if err := c.conn.SetWriteDeadline(time.Now().Add(writeTime)); err != nil {
		return err
	}
	_, err := c.conn.Write([]byte(text))
	return err
}

func (c *session) reply(tag, text string) error { return c.write(tag + " " + text + "\r\n") }

// mistake answers BAD, and ends the session of a client that makes too many.
func (c *session) mistake(tag, text string) error {
	if tag == "" {
		tag = "*"
	}
	if c.mistakes++; c.mistakes >= maxMistake {
		return errors.Join(c.write("* BYE Too many bad commands\r\n"), errEnd)
	}
	return c.reply(tag, "BAD "+text)
}

func (c *session) capabilities() string {
	common := "IMAP4rev1 ID SASL-IR LITERAL-"
	if c.secure {
		return common + " AUTH=PLAIN AUTH=LOGIN"
	}
	return common + " STARTTLS LOGINDISABLED"
}

// do carries out one command. It gives the store's session once the client has logged in.
func (c *session) do(ctx context.Context, cmd command) (*storeConn, error) {
	switch cmd.name {
	case "CAPABILITY":
		return nil, errors.Join(c.write("* CAPABILITY "+c.capabilities()+"\r\n"), c.reply(cmd.tag, "OK Done"))
	case "NOOP":
		return nil, c.reply(cmd.tag, "OK Done")
	case "ID":
		return nil, errors.Join(c.write("* ID (\"name\" \"anycastle\")\r\n"), c.reply(cmd.tag, "OK Done"))
	case "LOGOUT":
		return nil, errors.Join(c.write("* BYE Logging out\r\n"), c.reply(cmd.tag, "OK Done"), errEnd)
	case "STARTTLS":
		return nil, c.startTLS(cmd)
	case "LOGIN":
		if len(cmd.args) != 2 {
			return nil, c.mistake(cmd.tag, "LOGIN takes a user and a password")
		}
		return c.login(ctx, cmd.tag, credentials{cmd.args[0], cmd.args[1]})
	case "AUTHENTICATE":
		return c.authenticate(ctx, cmd)
	}
	return nil, c.mistake(cmd.tag, "No such command before login")
}

func (c *session) startTLS(cmd command) error {
	if c.secure {
		return c.mistake(cmd.tag, "TLS is on already")
	}
	// commands sent ahead in the clear may be another's than the client's, who thinks they went through TLS
	if c.rd.br.Buffered() > 0 {
		return errors.Join(c.write("* BYE Nothing may follow STARTTLS before TLS is on\r\n"), errEnd)
	}
	if err := c.reply(cmd.tag, "OK Begin TLS"); err != nil {
		return err
	}
	conn := tls.Server(c.conn, c.server.opt.PublicTLS)
	if err := conn.Handshake(); err != nil {
		return fmt.Errorf("start TLS: %w", err)
	}
	c.secure = true
	c.use(conn)
	return nil
}
