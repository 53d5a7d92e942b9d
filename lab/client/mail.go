package client

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/emersion/go-smtp"
)

const (
	stranger  = "carol@example.net" // who writes to the company
	mailSize  = 4096                // of a message under load
	inTransit = 4                   // messages for one mailbox that may be without their acknowledgement
)

// compose makes a message whose body is hard to carry: lines that begin with dots, 8-bit text, a line of 998 bytes,
// and size random characters.
func compose(id, from, to string, size int) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "From: <%s>\r\nTo: <%s>\r\nMessage-ID: <%s>\r\nSubject: lab\r\n", from, to, id)
	fmt.Fprintf(&b, "Date: %s\r\n", time.Now().Format(time.RFC1123Z))
	fmt.Fprintf(&b, "MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n")
	fmt.Fprintf(&b, ".\r\n..two dots\r\nGrüße aus dem Labor\r\n%s\r\n", strings.Repeat("x", 998))
	for b.Len() < size {
		fmt.Fprintf(&b, "%s\r\n", rand.Text())
	}
	return b.Bytes()
}

// handover is how one message is handed over.
type handover struct {
	ports *ports
	addr  netip.AddrPort
	conf  *tls.Config
	from  string
	login *login // nil: as a stranger
}

// send makes one attempt, with STARTTLS. A nil error means that the server acknowledged the message with 250. unknown says
// that the message was sent in full and no answer came.
func (h handover) send(ctx context.Context, to string, msg []byte) (unknown bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	conn, err := dial(ctx, h.ports, h.addr, answerTime)
	if err != nil {
		return false, err
	}
	// the library sets deadlines of its own
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	c, err := smtp.NewClientStartTLS(conn, h.conf)
	if err != nil {
		return false, inTime(ctx, fmt.Errorf("STARTTLS: %w", err))
	}
	defer c.Close()
	unknown, err = h.transact(c, to, msg)
	if err != nil {
		return unknown, inTime(ctx, err)
	}
	// the message is acknowledged; how the session ends is no matter
	_ = c.Quit()
	return false, nil
}

// inTime tells an error that came because time was up from others.
func inTime(ctx context.Context, err error) error {
	if late := ctx.Err(); late != nil {
		return fmt.Errorf("%w: %w", late, err)
	}
	return err
}

func (h handover) transact(c *smtp.Client, to string, msg []byte) (unknown bool, err error) {
	if h.login != nil {
		if err := c.Auth(h.login.client()); err != nil {
			return false, fmt.Errorf("AUTH: %w", err)
		}
	}
	if err := c.Mail(h.from, nil); err != nil {
		return false, fmt.Errorf("MAIL: %w", err)
	}
	if err := c.Rcpt(to, nil); err != nil {
		return false, fmt.Errorf("RCPT: %w", err)
	}
	w, err := c.Data()
	if err != nil {
		return false, fmt.Errorf("DATA: %w", err)
	}
	if _, err := w.Write(msg); err != nil {
		return false, fmt.Errorf("message: %w", err)
	}
	// from here on the end of the message may be on its way
	if err := w.Close(); err != nil {
		var reply *smtp.SMTPError
		return !errors.As(err, &reply), fmt.Errorf("end of message: %w", err)
	}
	return false, nil
}

// mail starts those who send mail to the mailboxes of a pod: strangers, and its users, each to the next one.
func (l *load) mail(ctx context.Context, p Pod) {
	if p.SMTP.IsValid() && l.cfg.MailEvery > 0 {
		h := handover{ports: l.ports, addr: p.SMTP, conf: tlsFor(l.cfg.TLS, p, ServiceSMTP), from: stranger}
		for _, box := range p.Mailboxes {
			e := Event{Kind: KindMail, Pod: p.Pod, To: box.Address, LUN: box.LUN}
			l.wg.Go(func() { l.sendAll(ctx, e, l.cfg.MailEvery, func(int) handover { return h }) })
		}
	}
	if p.Submission.IsValid() && l.cfg.SubmitEvery > 0 {
		conf := tlsFor(l.cfg.TLS, p, ServiceSubmission)
		for i, user := range p.Mailboxes {
			box := p.Mailboxes[(i+1)%len(p.Mailboxes)]
			e := Event{Kind: KindSubmit, Pod: p.Pod, From: user.Address, To: box.Address, LUN: box.LUN}
			l.wg.Go(func() {
				l.sendAll(ctx, e, l.cfg.SubmitEvery, func(n int) handover {
					return handover{ports: l.ports, addr: p.Submission, conf: conf, from: user.Address, login: newLogin(user, n)}
				})
			})
		}
	}
}

// sendAll sends a new message at each tick, while not too many wait for their acknowledgement. how says how the n-th is sent.
func (l *load) sendAll(ctx context.Context, e Event, d time.Duration, how func(n int) handover) {
	tick := time.NewTicker(d)
	defer tick.Stop()
	waiting := make(chan struct{}, inTransit)
	for n := 0; ; n++ {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		select {
		case waiting <- struct{}{}:
		default:
			continue // the mailbox cannot be reached, and enough tell of it
		}
		h := how(n)
		l.wg.Go(func() {
			defer func() { <-waiting }()
			l.sendOne(ctx, e, d/2, h)
		})
	}
}

// sendOne repeats a message until it is acknowledged, as a mail server's queue would.
func (l *load) sendOne(ctx context.Context, e Event, again time.Duration, h handover) {
	e.ID = rand.Text() + "@" + domain(h.from)
	if h.login != nil {
		e.Auth = h.login.mechanism
	}
	msg := compose(e.ID, h.from, e.To, mailSize)
	for ctx.Err() == nil {
		e := e
		e.Start = time.Now()
		// not under ctx: an attempt that is under way when the load ends is seen through, or its fate is unknown
		unknown, err := h.send(context.WithoutCancel(ctx), e.To, msg)
		e.Unknown = unknown
		var reply *smtp.SMTPError
		if errors.As(err, &reply) {
			e.Code = reply.Code
		}
		l.log.Add(e, err)
		if err == nil {
			return
		}
		wait(ctx, again)
	}
}

func domain(address string) string {
	_, d, _ := strings.Cut(address, "@")
	return d
}
