package client

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"
	"github.com/emersion/go-smtp"
)

// mailTime bounds one attempt to hand a message over, or to read a mailbox.
const mailTime = 5 * time.Second

const sender = "carol@example.net"

// compose makes a message whose body is hard to carry: lines that begin with dots, 8-bit text, a line of 998 bytes,
// and size random characters.
func compose(id, to string, size int) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "From: <%s>\r\nTo: <%s>\r\nMessage-ID: <%s>\r\nSubject: lab\r\n", sender, to, id)
	fmt.Fprintf(&b, "MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n")
	fmt.Fprintf(&b, ".\r\n..two dots\r\nGrüße aus dem Labor\r\n%s\r\n", strings.Repeat("x", 998))
	for b.Len() < size {
		fmt.Fprintf(&b, "%s\r\n", rand.Text())
	}
	return b.Bytes()
}

// Send hands one message over through addr with STARTTLS. nil means that the server acknowledged it with 250.
func Send(ctx context.Context, addr string, conf *tls.Config, to string, msg []byte) error {
	ctx, cancel := context.WithTimeout(ctx, mailTime)
	defer cancel()
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	c, err := smtp.NewClientStartTLS(conn, conf)
	if err != nil {
		conn.Close()
		return fmt.Errorf("STARTTLS: %w", err)
	}
	defer c.Close()
	if err := c.SendMail(sender, []string{to}, bytes.NewReader(msg)); err != nil {
		return err
	}
	// the message is acknowledged; how the session ends is no matter
	_ = c.Quit()
	return nil
}

// sendAll sends a new message to one mailbox at each tick and repeats it until it is acknowledged, as a mail server's
// queue would.
func sendAll(ctx context.Context, cfg Config, to string, log *Log) {
	tick := time.NewTicker(cfg.MailEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		e := Event{Kind: KindMail, ID: rand.Text() + "@example.net", To: to}
		msg := compose(e.ID, e.To, 4096)
		for ctx.Err() == nil {
			e.Start = time.Now()
			// not under ctx: an attempt that is under way when the load ends is seen through, or its fate is unknown
			err := Send(context.WithoutCancel(ctx), cfg.VIP, cfg.TLS, e.To, msg)
			log.Add(e, err)
			if err == nil {
				break
			}
			wait(ctx, cfg.MailEvery)
		}
	}
}

// RoundTrip sends a message of size bytes through the SMTP VIP with STARTTLS, reads it back through the IMAP VIP and
// compares. It gives the message's length; an error when even one byte differs.
func RoundTrip(ctx context.Context, cfg Config, box Account, size int) (int, error) {
	id := rand.Text() + "@example.net"
	msg := compose(id, box.Address, size)
	if err := Send(ctx, cfg.VIP, cfg.TLS, box.Address, msg); err != nil {
		return 0, fmt.Errorf("send through %s: %w", cfg.VIP, err)
	}
	stored, err := fetchAll(ctx, cfg, box)
	if err != nil {
		return 0, fmt.Errorf("read through %s: %w", cfg.IMAP, err)
	}
	for _, got := range stored {
		if !strings.Contains(string(got), "<"+id+">") {
			continue
		}
		if !bytes.HasSuffix(got, msg) {
			return 0, fmt.Errorf("message %s came back changed", id)
		}
		return len(msg), nil
	}
	return 0, fmt.Errorf("message %s was acknowledged and is not in the mailbox", id)
}

// ReadBack counts, for messages that were acknowledged, how many are missing from their mailboxes and how many stand
// there more than once. acknowledged maps a message id to its recipient.
func ReadBack(ctx context.Context, cfg Config, acknowledged map[string]string) (lost, doubled int, err error) {
	count := map[string]int{}
	for _, box := range cfg.Mailboxes {
		stored, err := fetchAll(ctx, cfg, box)
		if err != nil {
			return 0, 0, fmt.Errorf("read %s: %w", box.Address, err)
		}
		for _, msg := range stored {
			_, rest, _ := bytes.Cut(msg, []byte("\r\nMessage-ID: <"))
			id, _, _ := bytes.Cut(rest, []byte(">"))
			count[box.Address+" "+string(id)]++
		}
	}
	for id, to := range acknowledged {
		switch n := count[to+" "+id]; {
		case n == 0:
			lost++
		case n > 1:
			doubled++
		}
	}
	return lost, doubled, nil
}

// fetchAll reads every message of a mailbox's INBOX.
func fetchAll(ctx context.Context, cfg Config, box Account) (msgs [][]byte, err error) {
	ctx, cancel := context.WithTimeout(ctx, 6*mailTime)
	defer cancel()
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", cfg.IMAP)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	c, err := imapclient.NewStartTLS(conn, &imapclient.Options{TLSConfig: cfg.TLS})
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("STARTTLS: %w", err)
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	if err := c.Login(box.Address, box.Password).Wait(); err != nil {
		return nil, fmt.Errorf("log in: %w", err)
	}
	sel, err := c.Select("INBOX", &imap.SelectOptions{ReadOnly: true}).Wait()
	if err != nil {
		return nil, fmt.Errorf("open INBOX: %w", err)
	}
	if sel.NumMessages == 0 {
		return nil, nil
	}
	all := imap.SeqSet{{Start: 1, Stop: 0}}
	fetch := c.Fetch(all, &imap.FetchOptions{BodySection: []*imap.FetchItemBodySection{{Peek: true}}})
	defer fetch.Close()
	for m := fetch.Next(); m != nil; m = fetch.Next() {
		for item := m.Next(); item != nil; item = m.Next() {
			if body, ok := item.(imapclient.FetchItemDataBodySection); ok {
				text, err := io.ReadAll(body.Literal)
				if err != nil {
					return nil, fmt.Errorf("fetch: %w", err)
				}
				msgs = append(msgs, text)
			}
		}
	}
	if err := fetch.Close(); err != nil {
		return nil, fmt.Errorf("fetch: %w", err)
	}
	return msgs, c.Logout().Wait()
}
