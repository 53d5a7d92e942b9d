package chaos

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/smtp"
	"net/textproto"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const stranger = "x@example.net"

const password = "correct-horse-battery"

// load is the clients: some who send, and one who works in each mailbox.
type load struct {
	h          *History
	from       *host
	smtp       []string // front ends, those of both sites
	imap       []string
	submission []string
	mailboxes  []string
	pause      time.Duration // between two operations of one client

	sent    atomic.Uint64 // Message-IDs so far
	mu      sync.Mutex
	stale   []string       // what a client was shown that is older than what was acknowledged to it
	refused map[string]int // for good, by what was said
}

// run works until ctx ends, and until all that was begun has ended.
func (l *load) run(ctx context.Context, senders int, seed uint64) {
	var wg sync.WaitGroup
	for n := range senders {
		wg.Go(func() { l.send(ctx, n, rand.New(rand.NewPCG(seed, uint64(n)))) })
	}
	wg.Go(func() { l.submit(ctx, rand.New(rand.NewPCG(seed, 999))) })
	for n, mailbox := range l.mailboxes {
		wg.Go(func() {
			r := &reader{load: l, mailbox: mailbox, rnd: rand.New(rand.NewPCG(seed, uint64(1000+n))), home: n % len(l.imap)}
			r.run(ctx)
		})
	}
	wg.Wait()
}

// message makes one that nobody has sent before.
func (l *load) message(from, to string, rnd *rand.Rand) (id string, text []byte) {
	id = fmt.Sprintf("<%d@chaos.example>", l.sent.Add(1))
	line := strings.Repeat(fmt.Sprintf("%08x", rnd.Uint32()), 9) + "\r\n"
	return id, Seal(id, from, to, strings.Repeat(line, 1+rnd.IntN(100)))
}

// rest waits between two operations, a little at random; false: it is over.
func rest(ctx context.Context, d time.Duration, rnd *rand.Rand) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d/2 + time.Duration(rnd.Int64N(int64(d)))):
		return true
	}
}

func (l *load) refuse(said string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.refused[said]++
}

// send sends one message after the other, each until it is acknowledged, or five times.
func (l *load) send(ctx context.Context, n int, rnd *rand.Rand) {
	for rest(ctx, l.pause, rnd) {
		to := l.mailboxes[rnd.IntN(len(l.mailboxes))]
		id, text := l.message(stranger, to, rnd)
		for try := range 5 {
			end := l.h.Begin(Op{Kind: Deliver, Mailbox: to, Folder: "INBOX", ID: id})
			err := l.deliver(l.smtp[(n+try)%len(l.smtp)], to, text)
			out, said := delivered(err)
			end(out, Place{}, said)
			if permanent, ok := errors.AsType[*textproto.Error](err); ok && permanent.Code >= 500 {
				l.refuse(said)
				break
			}
			if out == Acknowledged || !rest(ctx, l.pause, rnd) {
				break
			}
		}
	}
}

// submit has users send to each other, a message after the other.
func (l *load) submit(ctx context.Context, rnd *rand.Rand) {
	for rest(ctx, 2*l.pause, rnd) {
		from, to := l.mailboxes[rnd.IntN(len(l.mailboxes))], l.mailboxes[rnd.IntN(len(l.mailboxes))]
		id, text := l.message(from, to, rnd)
		for try := range 5 {
			end := l.h.Begin(Op{Kind: Submit, Mailbox: to, Folder: "INBOX", ID: id})
			_, err := l.session(l.submission[try%len(l.submission)], from, to, text, func(c *smtp.Client) error {
				if err := c.StartTLS(&tls.Config{InsecureSkipVerify: true, ServerName: frontName}); err != nil { // it is ours
					return err
				}
				return c.Auth(smtp.PlainAuth("", from, password, frontName))
			})
			out, said := delivered(err)
			end(out, Place{}, said)
			if permanent, ok := errors.AsType[*textproto.Error](err); ok && permanent.Code >= 500 {
				l.refuse(said)
				break
			}
			if out == Acknowledged || !rest(ctx, l.pause, rnd) {
				break
			}
		}
	}
}

// errUnsent is a delivery that ended before the message was on its way.
var errUnsent = errors.New("not sent")

// deliver sends one message in a session of its own.
func (l *load) deliver(address, to string, text []byte) error {
	_, err := l.timed(address, to, text)
	return err
}

// timed is deliver that tells how long it took from the end of the message to its acknowledgement.
func (l *load) timed(address, to string, text []byte) (took time.Duration, err error) {
	return l.session(address, stranger, to, text, func(*smtp.Client) error { return nil })
}

// frontName is what front ends are called.
const frontName = "mx.example.org"

// session sends one message, after what makes its sender known.
func (l *load) session(address, from, to string, text []byte, login func(*smtp.Client) error) (took time.Duration, err error) {
	conn, err := l.from.dial(net.Dialer{Timeout: 2 * time.Second}, address)
	if err != nil {
		return 0, errors.Join(errUnsent, err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return 0, errors.Join(errUnsent, err)
	}
	c, err := smtp.NewClient(conn, frontName)
	if err == nil {
		err = c.Hello("client.example.net")
	}
	if err == nil {
		err = login(c)
	}
	if err == nil {
		err = c.Mail(from)
	}
	if err == nil {
		err = c.Rcpt(to)
	}
	if err != nil {
		return 0, errors.Join(errUnsent, err)
	}
	w, err := c.Data()
	if err != nil {
		return 0, errors.Join(errUnsent, err)
	}
	if _, err := w.Write(text); err != nil {
		return 0, err
	}
	begun := time.Now()
	if err := w.Close(); err != nil {
		return 0, err
	}
	took = time.Since(begun)
	_ = c.Quit() // it is acknowledged already
	return took, nil
}

// delivered gives what a sender knows of a delivery that ended so.
func delivered(err error) (out Outcome, said string) {
	if err == nil {
		return Acknowledged, ""
	}
	said = strings.ReplaceAll(err.Error(), "\n", ": ")
	if answer, ok := errors.AsType[*textproto.Error](err); errors.Is(err, errUnsent) || ok && answer.Code >= 500 {
		return Refused, said
	}
	return Unknown, said
}
