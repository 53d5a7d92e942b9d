package imapfront

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"anycastle/mailroles/directory"
)

// errResponse is a response that is not what the mechanism has there; errCancelled is "*" in its place.
var (
	errResponse  = errors.New("imapfront: malformed response")
	errCancelled = errors.New("imapfront: client cancelled")
)

// credentials are what a client logs in with.
type credentials struct{ user, password string }

// authenticate does AUTHENTICATE with PLAIN (RFC 4616) or LOGIN, with or without an initial response (RFC 4959).
func (c *session) authenticate(ctx context.Context, cmd command) (*storeConn, error) {
	if len(cmd.args) < 1 || len(cmd.args) > 2 {
		return nil, c.mistake(cmd.tag, "AUTHENTICATE takes a mechanism")
	}
	var mechanism func(initial []string) (credentials, error)
	switch strings.ToUpper(cmd.args[0]) {
	case "PLAIN":
		mechanism = c.plain
	case "LOGIN":
		mechanism = c.userThenPassword
	default:
		return nil, c.reply(cmd.tag, "NO No such mechanism")
	}
	if !c.secure {
		return nil, c.needTLS(cmd.tag)
	}
	who, err := mechanism(cmd.args[1:])
	switch {
	case errors.Is(err, errCancelled):
		return nil, c.reply(cmd.tag, "BAD Cancelled")
	case errors.Is(err, errResponse):
		return nil, c.mistake(cmd.tag, "Malformed response")
	case errors.Is(err, errOther):
		c.server.opt.Tally.Reject("authorization")
		return nil, c.reply(cmd.tag, "NO [AUTHORIZATIONFAILED] Nobody may act for another")
	case err != nil:
		return nil, err
	}
	return c.login(ctx, cmd.tag, who)
}

// errOther is a client that would act for another user.
var errOther = errors.New("imapfront: acting for another")

// ask gives the client's response to a challenge, or what it has sent ahead. An initial response of "=" is an empty one.
func (c *session) ask(challenge string, ahead []string) (string, error) {
	var text string
	if len(ahead) > 0 {
		if text = ahead[0]; text == "=" {
			text = ""
		}
	} else {
		err := c.write("+ " + base64.StdEncoding.EncodeToString([]byte(challenge)) + "\r\n")
		if err != nil {
			return "", err
		}
		if text, err = c.rd.line(); err != nil {
			return "", err
		}
	}
	if text == "*" {
		return "", errCancelled
	}
	raw, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return "", errResponse
	}
	return string(raw), nil
}

func (c *session) plain(initial []string) (credentials, error) {
	text, err := c.ask("", initial)
	if err != nil {
		return credentials{}, err
	}
	parts := strings.Split(text, "\x00")
	if len(parts) != 3 {
		return credentials{}, errResponse
	}
	if parts[0] != "" && parts[0] != parts[1] {
		return credentials{}, errOther
	}
	return credentials{parts[1], parts[2]}, nil
}

// userThenPassword is the mechanism LOGIN (draft-murchison-sasl-login), which some clients know beside the command.
func (c *session) userThenPassword(initial []string) (credentials, error) {
	user, err := c.ask("Username:", initial)
	if err != nil {
		return credentials{}, err
	}
	password, err := c.ask("Password:", nil)
	return credentials{user, password}, err
}

func (c *session) needTLS(tag string) error {
	c.server.opt.Tally.Reject("no-tls")
	return c.reply(tag, "NO [PRIVACYREQUIRED] Start TLS first")
}

// login checks a password, and opens the session at the store of the mailbox.
func (c *session) login(ctx context.Context, tag string, who credentials) (*storeConn, error) {
	if !c.secure {
		return nil, c.needTLS(tag)
	}
	source := c.source()
	if !c.mayTry(ctx, source, who.user) {
		if ctx.Err() != nil { // BYE comes next
			return nil, c.reply(tag, "NO "+byeEnding)
		}
		c.server.opt.Tally.Reject("throttled")
		return nil, c.reply(tag, "NO [UNAVAILABLE] Too many wrong passwords, try again later")
	}
	c.noteSweeps()
	start := time.Now()
	m, err := c.server.opt.Directory.Authenticate(ctx, who.user, who.password)
	c.server.opt.Tally.Observe("directory", time.Since(start))
	c.settle(source, who.user, err)
	switch {
	case errors.Is(err, directory.ErrLogin):
		return nil, c.wrongPassword(tag)
	case err != nil:
		return nil, c.unavailable(tag, err)
	}
	return c.open(ctx, tag, m)
}

// noteSweeps keeps how often the server had compared sessions with the directory before that is asked.
func (c *session) noteSweeps() {
	c.server.mu.Lock()
	defer c.server.mu.Unlock()
	c.sweeps = c.server.sweeps
}

// source is where the client connects from.
func (c *session) source() netip.Addr {
	at, err := netip.ParseAddrPort(c.conn.RemoteAddr().String())
	if err != nil {
		return netip.Addr{}
	}
	return at.Addr().Unmap()
}

// mayTry waits for as long as the throttle says, and says whether the login may be tried. If so, settle must follow.
func (c *session) mayTry(ctx context.Context, source netip.Addr, account string) bool {
	t := c.server.opt.Throttle
	if t == nil {
		return true
	}
	wait, ok := t.Check(source, account)
	if !ok {
		return false
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		t.Undecided(source, account)
		return false
	}
}

// settle tells the throttle how a login has ended.
func (c *session) settle(source netip.Addr, account string, err error) {
	t := c.server.opt.Throttle
	switch {
	case t == nil:
	case err == nil:
		t.Succeeded(source, account)
	case errors.Is(err, directory.ErrLogin):
		t.Failed(source, account)
	default:
		t.Undecided(source, account)
	}
}

func (c *session) wrongPassword(tag string) error {
	c.server.opt.Tally.Reject("password")
	if err := c.reply(tag, "NO [AUTHENTICATIONFAILED] Wrong user or password"); err != nil {
		return err
	}
	if c.logins++; c.logins >= maxLogins {
		return errors.Join(c.write("* BYE Too many wrong passwords\r\n"), errEnd)
	}
	return nil
}

func (c *session) unavailable(tag string, err error) error {
	c.server.opt.Log.Warn("login cannot be served", "err", err)
	c.server.opt.Tally.Reject("unavailable")
	return c.reply(tag, "NO [UNAVAILABLE] Mailbox cannot be reached, try again later")
}

// open opens the session at the mailbox's store, and tells the client what that says.
func (c *session) open(ctx context.Context, tag string, m directory.Mailbox) (*storeConn, error) {
	opt := &c.server.opt
	r := route{addr: opt.LUNs[m.LUN], config: opt.LinkTLS, client: c.conn.RemoteAddr(), local: c.conn.LocalAddr()}
	start := time.Now()
	store, err := c.server.reach(ctx, r, m.Address, nil, opt.Retry)
	opt.Tally.Observe("store", time.Since(start))
	if err != nil {
		return nil, c.unavailable(tag, fmt.Errorf("lun %s: %w", m.LUN, err))
	}
	c.mailbox = m
	opt.Tally.Done() // before the client knows, who may ask for the count
	if err := c.reply(tag, store.welcome); err != nil {
		store.NetConn().Close()
		return nil, err
	}
	return store, nil
}
