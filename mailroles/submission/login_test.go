package submission

import (
	"context"
	"encoding/base64"
	"errors"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"
	"github.com/xdg-go/scram"

	"anycastle/mailroles/directory"
	"anycastle/mailroles/smtpd"
	"anycastle/mailroles/throttle"
)

var (
	here  = netip.MustParseAddr("192.0.2.1")
	there = netip.MustParseAddr("198.51.100.1")
)

func newLogin(t *testing.T) *Login {
	return &Login{Directory: newPeople(t), Throttle: &throttle.Logins{}, SCRAM: true}
}

func TestGuessesAreDelayedAndThenRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLogin(t)
		start := time.Now()
		for i := range 10 {
			if _, err := l.Password(t.Context(), here, alice, "wrong"); !errors.Is(err, directory.ErrLogin) {
				t.Errorf("guess %d: %v", i+1, err)
			}
		}
		if took := time.Since(start); took != 31*time.Second {
			t.Errorf("10 guesses took %v, want 31s", took)
		}
		// refused even with the right password, or else the refusal would tell
		if _, err := l.Password(t.Context(), here, alice, password); !errors.Is(err, errThrottled) {
			t.Errorf("guess 11: %v, want a refusal", err)
		}
		look := func() error { t.Error("proof was looked at"); return nil }
		if err := l.Prove(t.Context(), here, alice, look); !errors.Is(err, errThrottled) {
			t.Errorf("SCRAM from there: %v, want a refusal", err)
		}
		start = time.Now()
		if address, err := l.Password(t.Context(), there, alice, password); err != nil || address != alice {
			t.Errorf("from elsewhere: %q, %v", address, err)
		}
		if took := time.Since(start); took != 0 {
			t.Errorf("from elsewhere it took %v", took)
		}
	})
}

func TestDelayEndsWithTheContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLogin(t)
		for range 8 {
			if _, err := l.Password(t.Context(), here, alice, "wrong"); !errors.Is(err, directory.ErrLogin) {
				t.Fatal(err)
			}
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		start := time.Now()
		if _, err := l.Password(ctx, here, alice, password); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("login that was cut: %v", err)
		}
		if took := time.Since(start); took != time.Second {
			t.Errorf("it took %v, want 1s", took)
		}
	})
}

func TestDirectoryThatIsAwayCountsAgainstNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLogin(t)
		away := errors.New("directory is away")
		l.Directory.(*people).err = away
		for range 100 {
			if _, err := l.Password(t.Context(), here, alice, password); !errors.Is(err, away) {
				t.Fatalf("got %v", err)
			}
			if _, err := l.Keys(t.Context(), alice); !errors.Is(err, away) {
				t.Fatalf("got %v", err)
			}
		}
		l.Directory.(*people).err = nil
		start := time.Now()
		if _, err := l.Password(t.Context(), here, alice, password); err != nil || time.Since(start) != 0 {
			t.Errorf("after it came back: %v after %v", err, time.Since(start))
		}
	})
}

func TestHashOfEitherFormWillDo(t *testing.T) {
	l := newLogin(t)
	const typed = "pass\u00b2 \u00bd"
	form, ok := smtpd.Prepare(typed)
	if !ok || form == typed {
		t.Fatalf("the form of %q is %q, want another", typed, form)
	}
	for _, hashed := range []string{typed, form} {
		l.Directory.(*people).hash = func(s string) bool { return s == hashed }
		if _, err := l.Password(t.Context(), here, alice, typed); err != nil {
			t.Errorf("hash of %q: %v", hashed, err)
		}
	}
	l.Directory.(*people).hash = func(s string) bool { return s == typed }
	if _, err := l.Password(t.Context(), here, alice, form); !errors.Is(err, directory.ErrLogin) {
		t.Errorf("another password: %v", err)
	}
}

func TestUnknownUserLooksLikeOthers(t *testing.T) {
	l := newLogin(t)
	known, err := l.Keys(t.Context(), alice)
	if err != nil || known.Address != alice {
		t.Fatal(known, err)
	}
	unknown, err := l.Keys(t.Context(), "nobody@example.org")
	if err != nil || unknown.Address != "" || len(unknown.Salt) != len(known.Salt) || unknown.Iterations != known.Iterations {
		t.Errorf("unknown: %+v, %v; known: %+v", unknown, err, known)
	}
	l.SCRAM = false
	if slices.Contains(l.Mechanisms(), smtpd.SCRAM) {
		t.Error("SCRAM is offered though it is switched off")
	}
}

// exchange speaks a login by hand, and gives all that the client sent.
func (s *service) exchange(t *testing.T, lines ...string) {
	t.Helper()
	conn, err := net.Dial("tcp", s.plain)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(conn, strings.Join(lines, "\r\n")+"\r\nQUIT\r\n"); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(conn); err != nil {
		t.Fatal(err)
	}
}

// proofClient is a SCRAM client that notes what it sends.
type proofClient struct {
	talk *scram.ClientConversation
	sent []string
}

func newProofClient(t *testing.T, user, password string) *proofClient {
	t.Helper()
	client, err := scram.SHA256.NewClient(user, password, "")
	if err != nil {
		t.Fatal(err)
	}
	return &proofClient{talk: client.NewConversation()}
}

func (p *proofClient) Start() (string, []byte, error) {
	first, err := p.talk.Step("")
	p.sent = append(p.sent, first)
	return smtpd.SCRAM, []byte(first), err
}

func (p *proofClient) Next(challenge []byte) ([]byte, error) {
	response, err := p.talk.Step(string(challenge))
	p.sent = append(p.sent, response)
	return []byte(response), err
}

func b64(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }

// Everything that can go wrong at a login does, and all is logged that can be.
func TestNoCredentialIsLogged(t *testing.T) {
	s := newService(t, nil)
	const wrong = "sesame-open-wrong"
	secrets := []string{
		password, b64(password), b64("\x00" + alice + "\x00" + password),
		wrong, b64(wrong), b64("\x00" + alice + "\x00" + wrong), b64(wrong + "\x00\x00"),
	}
	// what is thrown at it in clear, and what no mechanism takes
	s.exchange(t, "EHLO x", "AUTH PLAIN "+b64("\x00"+alice+"\x00"+password), "AUTH LOGIN", b64(alice), b64(password), password)
	bad, good := newProofClient(t, alice, wrong), newProofClient(t, alice, password)
	away := errors.New("directory is away")
	for _, tc := range []struct {
		what   string
		client sasl.Client
		away   error
		code   int
	}{
		{"plain", sasl.NewPlainClient("", alice, wrong), nil, 535},
		{"login", sasl.NewLoginClient(alice, wrong), nil, 535},
		{"user and password mixed up", sasl.NewLoginClient(wrong, alice), nil, 535},
		{"password as identity", sasl.NewPlainClient(wrong, alice, password), nil, 535},
		{"password as user", &words{"PLAIN", wrong + "\x00\x00"}, nil, 535},
		{"malformed plain", &words{"PLAIN", wrong}, nil, 501},
		{"malformed scram", &words{"SCRAM-SHA-256", wrong}, nil, 501},
		{"no such mechanism", &words{wrong, password}, nil, 504},
		{"scram", bad, nil, 535},
		{"plain, directory is away", sasl.NewPlainClient("", alice, password), away, 454},
		{"scram, directory is away", newProofClient(t, alice, password), away, 454},
		{"scram, right", good, nil, 0},
		{"plain, right", sasl.NewPlainClient("", alice, password), nil, 0},
	} {
		s.people.err = tc.away
		err := s.dial().Auth(tc.client)
		var reply *smtp.SMTPError
		if (err != nil) != (tc.code != 0) || err != nil && (!errors.As(err, &reply) || reply.Code != tc.code) {
			t.Errorf("%s: %v, want %d", tc.what, err, tc.code)
		}
	}
	for _, p := range []*proofClient{bad, good} {
		_, proof, _ := strings.Cut(p.sent[1], ",p=")
		secrets = append(secrets, p.sent[1], b64(p.sent[1]), proof, b64(p.sent[0]))
	}
	for range 10 {
		s.login.Throttle.Failed(netip.MustParseAddr("127.0.0.1"), bob)
	}
	expect(t, "throttled", s.dial().Auth(sasl.NewPlainClient("", bob, password)), 454, smtp.EnhancedCode{4, 7, 0})
	log := s.log.String()
	for _, want := range []string{"login refused", "login cannot be checked", "msg=login "} {
		if !strings.Contains(log, want) {
			t.Errorf("%q is not in the log: not all is logged", want)
		}
	}
	for _, secret := range secrets {
		if len(secret) < 8 {
			t.Fatalf("%q is too short to look for", secret)
		}
		if strings.Contains(log, secret) {
			t.Errorf("%q is in the log", secret)
		}
	}
	if log := s.log.String(); strings.Contains(log, "sesame") || strings.Contains(log, "battery") {
		t.Errorf("a part of a password is in the log:\n%s", log)
	}
}

// words is a client that says what it is told.
type words struct {
	mechanism, response string
}

func (w *words) Start() (string, []byte, error) { return w.mechanism, []byte(w.response), nil }

func (w *words) Next([]byte) ([]byte, error) { return nil, errors.New("nothing more to say") }
