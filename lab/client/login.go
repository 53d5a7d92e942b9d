package client

import (
	"errors"

	"github.com/emersion/go-sasl"
	"github.com/xdg-go/scram"
)

// The mechanisms by which users log in to submission.
const (
	authPlain = "PLAIN"
	authSCRAM = "SCRAM-SHA-256"
)

// login is how a user logs in.
type login struct {
	user      Account
	mechanism string
}

// newLogin takes the mechanisms in turns.
func newLogin(user Account, n int) *login {
	if n%2 == 0 {
		return &login{user, authPlain}
	}
	return &login{user, authSCRAM}
}

// client makes one for one login.
func (l *login) client() sasl.Client {
	if l.mechanism == authPlain {
		return sasl.NewPlainClient("", l.user.Address, l.user.Password)
	}
	return &scramClient{user: l.user}
}

// scramClient makes of the library's conversation what the SMTP library wants.
type scramClient struct {
	user Account
	talk *scram.ClientConversation
}

// Start implements sasl.Client.
func (s *scramClient) Start() (mechanism string, first []byte, err error) {
	c, err := scram.SHA256.NewClient(s.user.Address, s.user.Password, "")
	if err != nil {
		return "", nil, err
	}
	s.talk = c.NewConversation()
	step, err := s.talk.Step("")
	return authSCRAM, []byte(step), err
}

// Next implements sasl.Client.
func (s *scramClient) Next(challenge []byte) ([]byte, error) {
	step, err := s.talk.Step(string(challenge))
	if err == nil && s.talk.Done() && !s.talk.Valid() {
		err = errors.New("the server does not know the password") // it let us in all the same
	}
	return []byte(step), err
}
