package smtpd

import (
	"context"
	"errors"
	"net/netip"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"
	"github.com/xdg-go/scram"
	"github.com/xdg-go/stringprep"

	"anycastle/mailroles/directory"
)

// Auth says who a client is. Its methods are called concurrently. An error that is neither directory.ErrLogin nor an
// *smtp.SMTPError means that it cannot be told now. They may take their time, but end with ctx.
type Auth interface {
	// Mechanisms names those that are offered, of PLAIN, LOGIN and SCRAM-SHA-256.
	Mechanisms() []string
	// Password gives the address of the mailbox of a user who knows its password. user is as Prepare gives it, as below;
	// password is as the client sent it, since a hash may be of either form.
	Password(ctx context.Context, client netip.Addr, user, password string) (address string, err error)
	// Keys gives what a user's SCRAM proof is checked with. For an unknown user it gives keys that no proof fits, always with
	// the same salt, so that one cannot be told from the other.
	Keys(ctx context.Context, user string) (Keys, error)
	// Prove has verify look at a user's proof. verify's error is directory.ErrLogin when it is wrong.
	Prove(ctx context.Context, client netip.Addr, user string, verify func() error) error
}

// Keys are what a server knows of a user for SCRAM-SHA-256 (RFC 5802 section 3, RFC 7677).
type Keys struct {
	Address              string // of the user's mailbox
	Salt                 []byte
	Iterations           int
	StoredKey, ServerKey []byte
}

// Mechanism names.
const (
	Plain = sasl.Plain
	Login = sasl.Login
	SCRAM = "SCRAM-SHA-256"
)

const (
	// maxLogins is how many logins of one session may fail.
	maxLogins = 3
	// maxSecret is the longest user name or password in bytes.
	maxSecret = 1024
)

// Replies to AUTH (RFC 4954 section 6).
var (
	errLogin      = &smtp.SMTPError{Code: 535, EnhancedCode: smtp.EnhancedCode{5, 7, 8}, Message: "Wrong user or password"}
	errLoginLater = &smtp.SMTPError{Code: 454, EnhancedCode: smtp.EnhancedCode{4, 7, 0}, Message: "Cannot check logins now"}
	errSASL       = &smtp.SMTPError{Code: 501, EnhancedCode: smtp.EnhancedCode{5, 5, 2}, Message: "Login exchange is malformed"}
	errMailFirst  = &smtp.SMTPError{Code: 503, EnhancedCode: smtp.EnhancedCode{5, 5, 1}, Message: "A message is on its way"}
	errManyLogins = &smtp.SMTPError{Code: 421, EnhancedCode: smtp.EnhancedCode{4, 7, 0}, Message: "Too many failed logins"}
)

// AuthMechanisms implements smtp.AuthSession. The library offers them over TLS only.
func (s *session) AuthMechanisms() []string {
	if s.server.opt.Auth == nil {
		return nil
	}
	return s.server.opt.Auth.Mechanisms()
}

// Auth implements smtp.AuthSession.
func (s *session) Auth(mechanism string) (sasl.Server, error) {
	switch {
	case s.server.opt.Auth == nil:
		return nil, smtp.ErrAuthUnsupported
	case s.env != nil: // RFC 4954 section 4
		return nil, errMailFirst
	case s.failedLogins >= maxLogins: // sent ahead of the reply to the last one
		return nil, errManyLogins
	}
	for _, offered := range s.AuthMechanisms() {
		if offered != mechanism {
			continue
		}
		switch mechanism {
		case Plain:
			return &exchange{s, sasl.NewPlainServer(s.plain)}, nil
		case Login:
			return &exchange{s, &loginServer{authenticate: s.plain}}, nil
		case SCRAM:
			return &exchange{s, &scramServer{session: s}}, nil
		}
	}
	return nil, smtp.ErrAuthUnknownMechanism
}

// exchange makes replies of the errors of a mechanism, and counts them. What an error says is not passed on: it may quote
// what the client sent.
type exchange struct {
	session *session
	server  sasl.Server
}

// Next implements sasl.Server.
func (e *exchange) Next(response []byte) (challenge []byte, done bool, err error) {
	challenge, done, err = e.server.Next(response)
	if err == nil {
		return challenge, done, nil
	}
	s := e.session
	var reply *smtp.SMTPError
	if !errors.As(err, &reply) {
		reply = errSASL
	}
	switch reply.Code {
	case errLogin.Code:
		s.server.opt.Tally.Reject("login")
		if s.failedLogins++; s.failedLogins >= maxLogins {
			s.guard.end()
		}
	case errLoginLater.Code:
		s.server.opt.Tally.Reject("login-later")
	default:
		s.server.opt.Tally.Reject("other")
	}
	s.server.opt.Log.Debug("login refused", "peer", s.guard.RemoteAddr().String(), "code", reply.Code)
	return nil, false, reply
}

// plain checks a user's password, of PLAIN and LOGIN.
func (s *session) plain(identity, user, password string) error {
	auth := s.server.opt.Auth
	ctx, cancel := s.guard.untilEnd(s.server.deliver)
	defer cancel()
	name, ok := Prepare(user)
	if !ok || len(password) > maxSecret || !actsFor(identity, name) {
		return s.loginError(auth.Prove(ctx, s.client.Addr, name, func() error { return directory.ErrLogin }))
	}
	address, err := auth.Password(ctx, s.client.Addr, name, password)
	if err != nil {
		return s.loginError(err)
	}
	s.loggedIn(address)
	return nil
}

// loginError makes a reply of what Auth says.
func (s *session) loginError(err error) error {
	var reply *smtp.SMTPError
	switch {
	case errors.As(err, &reply):
		return reply
	case errors.Is(err, directory.ErrLogin):
		return errLogin
	case !errors.Is(err, context.Canceled): // which means that the server ends
		s.server.opt.Log.Warn("login cannot be checked", "err", err)
	}
	return errLoginLater
}

func (s *session) loggedIn(address string) {
	s.user, s.failedLogins = address, 0
	s.server.opt.Log.Debug("login", "peer", s.guard.RemoteAddr().String(), "mailbox", address)
}

// actsFor says whether a user who acts for an identity acts for himself, as all have to.
func actsFor(identity, user string) bool {
	id, ok := Prepare(identity)
	return identity == "" || ok && id == user
}

// Prepare gives the one form in which user names and passwords are compared (RFC 4013, as RFC 4616 and RFC 5802 ask). ok is
// false for what has no such form, and so is no user's.
func Prepare(s string) (form string, ok bool) {
	if len(s) > maxSecret {
		return "", false
	}
	form, err := stringprep.SASLprep.Prepare(s)
	return form, err == nil && form != ""
}

// loginServer is the server's side of LOGIN (draft-murchison-sasl-login), which has no identity.
type loginServer struct {
	authenticate sasl.PlainAuthenticator
	asked        bool // for the user
	user         *string
}

// Next implements sasl.Server. Clients look for just these challenges.
func (l *loginServer) Next(response []byte) (challenge []byte, done bool, err error) {
	switch {
	case response == nil && !l.asked:
		l.asked = true
		return []byte("Username:"), false, nil
	case l.user == nil:
		user := string(response)
		l.user = &user
		return []byte("Password:"), false, nil
	}
	if err := l.authenticate("", *l.user, string(response)); err != nil {
		return nil, false, err
	}
	return nil, true, nil
}

// scramServer is the server's side of SCRAM-SHA-256 without channel binding.
type scramServer struct {
	session *session
	talk    *scram.ServerConversation // nil before the client's first message
	keys    Keys
	proven  bool
}

// Next implements sasl.Server. SMTP has no room for the server's last message beside 235, so that it is one more challenge, to
// which the client has nothing to say (RFC 4954 section 4).
func (c *scramServer) Next(response []byte) (challenge []byte, done bool, err error) {
	switch {
	case c.talk == nil && response == nil:
		return []byte{}, false, nil
	case c.talk == nil:
		challenge, err = c.first(string(response))
	case !c.proven:
		challenge, err = c.final(string(response))
	case len(response) == 0:
		c.session.loggedIn(c.keys.Address)
		return nil, true, nil
	default:
		err = sasl.ErrUnexpectedClientResponse
	}
	return challenge, false, err
}

// first answers the client's first message with salt and iterations.
func (c *scramServer) first(message string) ([]byte, error) {
	s := c.session
	ctx, cancel := s.guard.untilEnd(s.server.deliver)
	defer cancel()
	var failed error
	server, err := scram.SHA256.NewServer(func(user string) (scram.StoredCredentials, error) {
		// a name that has no form is unknown, and gets the keys of one that is
		form, _ := Prepare(user)
		if c.keys, failed = s.server.opt.Auth.Keys(ctx, form); failed != nil {
			return scram.StoredCredentials{}, failed
		}
		return scram.StoredCredentials{
			KeyFactors: scram.KeyFactors{Salt: string(c.keys.Salt), Iters: c.keys.Iterations},
			StoredKey:  c.keys.StoredKey,
			ServerKey:  c.keys.ServerKey,
		}, nil
	})
	if err != nil {
		return nil, err
	}
	c.talk = server.NewConversation()
	reply, err := c.talk.Step(message)
	if failed != nil {
		return nil, s.loginError(failed)
	}
	return []byte(reply), err
}

// final checks the client's proof, and answers with the server's own.
func (c *scramServer) final(message string) ([]byte, error) {
	s := c.session
	ctx, cancel := s.guard.untilEnd(s.server.deliver)
	defer cancel()
	user, ok := Prepare(c.talk.Username())
	var reply string
	err := s.server.opt.Auth.Prove(ctx, s.client.Addr, user, func() error {
		var err error
		reply, err = c.talk.Step(message)
		if err != nil || !ok || c.keys.Address == "" || !actsFor(c.talk.AuthzID(), user) {
			return directory.ErrLogin
		}
		return nil
	})
	if err != nil {
		return nil, s.loginError(err)
	}
	c.proven = true
	return []byte(reply), nil
}
