package remote

import (
	"bufio"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"net/textproto"
	"strings"
	"time"
)

// Times bound the steps of a conversation.
type Times struct {
	Dial, Greeting, Command, Block, Final time.Duration
}

// DefaultTimes are those of RFC 5321 section 4.5.3.2, except that nobody waits so long for a connection and a greeting while
// other hosts may answer at once.
func DefaultTimes() Times {
	return Times{
		Dial: 30 * time.Second, Greeting: time.Minute, Command: 5 * time.Minute, Block: 3 * time.Minute, Final: 10 * time.Minute,
	}
}

// Client sends messages. It is safe for concurrent use.
type Client struct {
	Hostname string // what we call ourselves
	Dial     func(ctx context.Context, addr netip.AddrPort) (net.Conn, error)
	Times    Times
	Log      *slog.Logger
}

// Host is a server.
type Host struct {
	Name           string // which its certificate must show, with Verify
	Addr           netip.AddrPort
	Verify         bool           // TLS with a valid certificate, or nothing is sent
	Implicit       bool           // TLS from the first byte
	Roots          *x509.CertPool // nil: the system's
	User, Password string         // nobody logs in when User is empty
}

// Message is what is sent.
type Message struct {
	From     string
	To       []Recipient
	Size     int64
	EightBit bool   // the body has bytes above 127
	UTF8     bool   // addresses or fields need SMTPUTF8
	Return   string // FULL, HDRS or empty (RFC 3461)
	EnvID    string // in xtext; empty for none
	Body     io.Reader
}

// Recipient is one of them.
type Recipient struct {
	Address string
	Notify  string // such as SUCCESS,FAILURE; empty for none given
	ORcpt   string // such as rfc822;alice@example.org, in xtext; empty for none given
}

// Stage is how far a conversation came.
type Stage string

// The stages.
const (
	Connect  Stage = "connect"
	Greeting Stage = "greeting"
	Hello    Stage = "hello"
	TLS      Stage = "tls"
	Login    Stage = "login"
	Envelope Stage = "envelope"
	Body     Stage = "body"
)

// Failure is why a conversation ended before its time. The cause may be a Reply.
type Failure struct {
	At  Stage
	Err error
}

func (f *Failure) Error() string { return string(f.At) + ": " + f.Err.Error() }

// Unwrap gives the cause.
func (f *Failure) Unwrap() error { return f.Err }

// Outcome is what a server said.
type Outcome struct {
	Replies []Reply // of each recipient in order; one without Code has no answer
	Err     error   // why some have none: a *Failure, or that the message could not be read
	Sent    bool    // the whole message was sent
	Unsure  bool    // it was, and no answer came
	DSN     bool    // the server took over the duty to report success
	State   string  // of TLS; empty: sent in clear
}

// Send hands a message to a server. Opportunistic TLS that cannot be had is done without, on another connection.
func (c *Client) Send(ctx context.Context, host Host, m *Message) Outcome {
	s, err := c.greet(ctx, host, false)
	if failed := (*Failure)(nil); !host.Verify && errors.As(err, &failed) && failed.At == TLS && ctx.Err() == nil {
		c.Log.Debug("send in clear, as TLS cannot be had", "host", host.Name, "err", err)
		s, err = c.greet(ctx, host, true)
	}
	if err != nil {
		return Outcome{Err: err, Replies: make([]Reply, len(m.To))}
	}
	defer s.close()
	defer context.AfterFunc(ctx, func() { s.net.Close() })()
	out := Outcome{Replies: make([]Reply, len(m.To)), State: s.state, DSN: s.offers("DSN")}
	s.send(m, &out)
	if out.Err == nil {
		// the answer is in; a server that does not wait for the end is in order
		_, _, _ = s.say(min(s.Times.Command, 5*time.Second), "QUIT")
	}
	return out
}

// send does the transaction.
func (s *conn) send(m *Message, out *Outcome) {
	if reply := s.cannot(m); reply.Code != 0 {
		fill(out.Replies, nil, reply)
		return
	}
	reply, _, err := s.say(s.Times.Command, "MAIL FROM:<%s>%s", m.From, s.mailOptions(m))
	if err == nil && reply.Permanent() && reply.Code != 521 {
		fill(out.Replies, nil, reply)
		return
	}
	if err == nil && !reply.Taken() {
		err = reply
	}
	var open []int
	for i := 0; i < len(m.To) && err == nil; i++ {
		reply, _, err = s.say(s.Times.Command, "RCPT TO:<%s>%s", m.To[i].Address, s.rcptOptions(m.To[i]))
		switch {
		case err != nil:
		case reply.Taken():
			open = append(open, i)
		case reply.Code == 421, reply.Code/100 == 3:
			err = reply
		default:
			out.Replies[i] = tooMany(reply, len(m.To))
		}
	}
	if err != nil {
		out.Err = &Failure{At: Envelope, Err: err}
		return
	}
	if len(open) > 0 {
		s.data(m, open, out)
	}
}

// cannot says why a server cannot take a message, as it told before.
func (s *conn) cannot(m *Message) Reply {
	switch limit := s.maxSize(); {
	case limit > 0 && m.Size > limit:
		return incapable(552, "5.3.4", fmt.Sprintf("%d bytes are more than the %d that %s takes", m.Size, limit, s.host.Name))
	case m.UTF8 && !s.offers("SMTPUTF8"):
		return incapable(550, "5.6.7", s.host.Name+" takes no addresses and header fields beyond ASCII")
	case m.EightBit && !s.offers("8BITMIME"):
		return incapable(554, "5.6.3", s.host.Name+" takes no 8-bit message, and it is not converted")
	}
	return Reply{}
}

func incapable(code int, status, text string) Reply {
	return Reply{Code: code, Status: status, Text: text, Local: true}
}

func (s *conn) mailOptions(m *Message) string {
	var b strings.Builder
	if s.offers("SIZE") {
		fmt.Fprintf(&b, " SIZE=%d", m.Size)
	}
	if m.EightBit {
		b.WriteString(" BODY=8BITMIME")
	}
	if m.UTF8 {
		b.WriteString(" SMTPUTF8")
	}
	if s.offers("DSN") && m.Return != "" {
		b.WriteString(" RET=" + m.Return)
	}
	if s.offers("DSN") && m.EnvID != "" {
		b.WriteString(" ENVID=" + m.EnvID)
	}
	return b.String()
}

func (s *conn) rcptOptions(to Recipient) string {
	var b strings.Builder
	if s.offers("DSN") && to.Notify != "" {
		b.WriteString(" NOTIFY=" + to.Notify)
	}
	if s.offers("DSN") && to.ORcpt != "" {
		b.WriteString(" ORCPT=" + to.ORcpt)
	}
	return b.String()
}

// tooMany turns the 552 of an old server that wants fewer recipients into 452 (RFC 5321 section 4.5.3.1.10).
func tooMany(r Reply, recipients int) Reply {
	if r.Code == 552 && recipients > 1 && (r.Status == "" || r.Status == "5.5.3") {
		r.Code, r.Status = 452, "4.5.3"
	}
	return r
}

// data sends the body and gives each open recipient the answer to it.
func (s *conn) data(m *Message, open []int, out *Outcome) {
	reply, _, err := s.say(s.Times.Command, "DATA")
	switch {
	case err == nil && (reply.Permanent() || reply.Taken()) && reply.Code != 521:
		if reply.Taken() { // nothing has been sent that it could have taken
			reply = Reply{Code: 451, Status: "4.5.0", Text: "It answers DATA with " + reply.String()}
		}
		fill(out.Replies, open, reply)
		return
	case err == nil && reply.Code != 354:
		err = reply
	}
	if err != nil {
		out.Err = &Failure{At: Envelope, Err: err}
		return
	}
	if err := s.body(m.Body); err != nil {
		out.Err = &Failure{At: Body, Err: err}
		if refusal, ok := s.refusal(err); ok {
			out.Err = nil
			fill(out.Replies, open, refusal)
		}
		return
	}
	out.Sent = true // from here on it may be taken, whatever comes back
	reply, _, err = s.wait(s.Times.Final)
	if err == nil && reply.Code/100 == 3 {
		err = errNotSMTP
	}
	if err != nil {
		out.Err, out.Unsure = &Failure{At: Body, Err: fmt.Errorf("wait for the answer to the message: %w", err)}, true
		return
	}
	fill(out.Replies, open, reply)
}

// body sends a body with its dots doubled and a dot alone at its end. If it cannot be read to its end, no dot follows, so that
// no part of it is taken for the whole.
func (s *conn) body(r io.Reader) error {
	w := bufio.NewWriterSize(&paced{s}, 32<<10)
	dots := textproto.NewWriter(w).DotWriter()
	if _, err := io.Copy(dots, r); err != nil {
		return err
	}
	return dots.Close()
}

// errWrite marks that the server stopped taking the body.
var errWrite = errors.New("it takes no more of the message")

// refusal gives the reply of a server that refused a body before its end.
func (s *conn) refusal(err error) (Reply, bool) {
	if !errors.Is(err, errWrite) {
		return Reply{}, false
	}
	reply, _, err := s.wait(min(s.Times.Command, 5*time.Second))
	return reply, err == nil && (reply.Permanent() || reply.Temporary())
}

// paced gives each block its time.
type paced struct{ s *conn }

// Write implements io.Writer.
func (p *paced) Write(b []byte) (int, error) {
	if err := p.s.net.SetDeadline(time.Now().Add(p.s.Times.Block)); err != nil {
		return 0, err
	}
	n, err := p.s.net.Write(b)
	if err != nil {
		err = fmt.Errorf("%w: %w", errWrite, err)
	}
	return n, err
}

// fill gives a reply to the recipients at some places, to all when there are none.
func fill(replies []Reply, places []int, reply Reply) {
	if places == nil {
		for i := range replies {
			replies[i] = reply
		}
	}
	for _, i := range places {
		replies[i] = reply
	}
}
