package smtpd

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/emersion/go-smtp"

	"anycastle/mailroles/directory"
)

// Times of the link to a store.
const (
	dialTime    = 5 * time.Second
	commandTime = 30 * time.Second
	storeTime   = 60 * time.Second // from the final dot to the last reply
)

// Front is the Handler of the MX: it finds each recipient's LUN and passes the message to its store.
type Front struct {
	Hostname  string
	Directory *directory.Directory
	LUNs      map[string]netip.AddrPort // where each LUN's store takes LMTP
	LinkTLS   *tls.Config
	Log       *slog.Logger
}

// Known implements Handler.
func (f *Front) Known(address string) (string, bool) {
	m, ok := f.Directory.Lookup(address)
	return m.Address, ok
}

// Deliver implements Handler. Stores are served at the same time. The message gets a Received field on top.
func (f *Front) Deliver(ctx context.Context, env *Envelope) map[string]error {
	results := map[string]error{}
	tx, err := transactionID(env)
	if err != nil {
		for _, to := range env.To {
			results[to] = err
		}
		return results
	}
	byLUN := map[string][]string{}
	for _, to := range env.To {
		m, _ := f.Directory.Lookup(to) // Known has found it
		byLUN[m.LUN] = append(byLUN[m.LUN], to)
	}
	received := f.received(env, time.Now())
	var mu sync.Mutex
	var wg sync.WaitGroup
	for lun, to := range byLUN {
		wg.Go(func() {
			got, err := f.pass(ctx, lun, to, env, tx, received)
			if err != nil {
				f.Log.Warn("store did not take a message", "lun", lun, "err", err)
			}
			mu.Lock()
			defer mu.Unlock()
			for _, addr := range to {
				results[addr] = err
				if _, ok := got[addr]; ok {
					results[addr] = nil
				}
			}
		})
	}
	wg.Wait()
	return results
}

// pass hands the message to one store. It gives the recipients that the store said 250 for, and why there are no more.
func (f *Front) pass(ctx context.Context, lun string, to []string, env *Envelope, tx, received string) (map[string]*smtp.DataResponse, error) {
	dialCtx, cancel := context.WithTimeout(ctx, dialTime)
	defer cancel()
	dialer := tls.Dialer{Config: f.LinkTLS}
	conn, err := dialer.DialContext(dialCtx, "tcp", f.LUNs[lun].String())
	if err != nil {
		return nil, fmt.Errorf("reach store: %w", err)
	}
	c := smtp.NewClientLMTP(conn)
	defer c.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	c.CommandTimeout, c.SubmissionTimeout = commandTime, storeTime
	if err := c.Hello(f.Hostname); err != nil {
		return nil, fmt.Errorf("greet store: %w", err)
	}
	if err := c.Mail(env.From, &smtp.MailOptions{EnvelopeID: tx, Body: smtp.Body8BitMIME}); err != nil {
		return nil, fmt.Errorf("name sender to store: %w", err)
	}
	for _, addr := range to {
		if err := c.Rcpt(addr, nil); err != nil {
			return nil, fmt.Errorf("name recipient to store: %w", err)
		}
	}
	w, err := c.Data()
	if err != nil {
		return nil, fmt.Errorf("send to store: %w", err)
	}
	if _, err := io.Copy(w, io.MultiReader(strings.NewReader(received), env.Body.Reader())); err != nil {
		return nil, fmt.Errorf("send to store: %w", err)
	}
	got, err := w.CloseWithLMTPResponse()
	if err != nil {
		return got, fmt.Errorf("store message: %w", err)
	}
	if err := c.Quit(); err != nil && !errors.Is(err, io.EOF) {
		f.Log.Debug("leave store", "lun", lun, "err", err)
	}
	return got, nil
}

// received writes the trace field (RFC 5321 section 4.4).
func (f *Front) received(env *Envelope, at time.Time) string {
	literal := env.Client.String()
	if env.Client.Is6() {
		literal = "IPv6:" + literal
	}
	with := "ESMTP"
	if env.TLS {
		with = "ESMTPS"
	}
	return fmt.Sprintf("Received: from %s ([%s])\r\n\tby %s with %s id %s;\r\n\t%s\r\n",
		cleanHelo(env.Helo), literal, f.Hostname, with, rand.Text()[:16], at.Format("Mon, 02 Jan 2006 15:04:05 -0700"))
}

// cleanHelo keeps a client from writing more than a name into the trace.
func cleanHelo(helo string) string {
	clean := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune(".-_:[]", r) {
			return r
		}
		return -1
	}, helo)
	if clean == "" || len(clean) > 255 {
		return "unknown"
	}
	return clean
}
