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
	"slices"
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

// frontTx is a message on its way through a Front.
type frontTx struct {
	*Front
	env *Envelope
	to  map[string]resolved // recipients by the client's spelling
}

// resolved is where the mail for one recipient goes: addresses of mailboxes by LUN.
type resolved map[string][]string

// Begin implements Handler.
func (f *Front) Begin(_ context.Context, env *Envelope) (Transaction, error) {
	return &frontTx{Front: f, env: env, to: map[string]resolved{}}, nil
}

// Rcpt implements Transaction.
func (t *frontTx) Rcpt(ctx context.Context, to Recipient) error {
	boxes, err := t.Directory.Resolve(ctx, to.Address)
	if errors.Is(err, directory.ErrUnknown) {
		return errUnknown
	}
	if err != nil {
		return err
	}
	r := resolved{}
	for _, m := range boxes {
		r[m.LUN] = append(r[m.LUN], m.Address)
	}
	t.to[to.Address] = r
	return nil
}

// Close implements Transaction.
func (t *frontTx) Close() {}

// Deliver implements Transaction. Stores are served at the same time. The message gets a Received field on top.
func (t *frontTx) Deliver(ctx context.Context) map[string]error {
	results := map[string]error{}
	tx, err := transactionID(t.env)
	if err != nil {
		for _, to := range t.env.To {
			results[to.Address] = err
		}
		return results
	}
	got := t.passAll(ctx, t.boxes(), tx)
	for _, to := range t.env.To {
		var errs []error
		for lun, boxes := range t.to[to.Address] {
			for _, box := range boxes {
				if !got[lun].has(box) {
					errs = append(errs, errors.Join(fmt.Errorf("lun %s has not stored it", lun), got[lun].err))
				}
			}
		}
		results[to.Address] = errors.Join(errs...)
	}
	return results
}

// boxes gives all mailboxes of the message by LUN, each once.
func (t *frontTx) boxes() map[string][]string {
	byLUN := map[string][]string{}
	for _, to := range t.env.To {
		for lun, boxes := range t.to[to.Address] {
			for _, box := range boxes {
				if !slices.Contains(byLUN[lun], box) {
					byLUN[lun] = append(byLUN[lun], box)
				}
			}
		}
	}
	return byLUN
}

// passed is what one store said: which mailboxes have the message, and why not all do.
type passed struct {
	stored map[string]*smtp.DataResponse
	err    error
}

func (p passed) has(box string) bool {
	_, ok := p.stored[box]
	return ok
}

// passAll hands the message to all stores.
func (t *frontTx) passAll(ctx context.Context, byLUN map[string][]string, tx string) map[string]passed {
	received := t.received(t.env, time.Now())
	results := map[string]passed{}
	var mu sync.Mutex
	var wg sync.WaitGroup
	for lun, to := range byLUN {
		wg.Go(func() {
			stored, err := t.pass(ctx, lun, to, t.env, tx, received)
			if err != nil {
				t.Log.Warn("store did not take a message", "lun", lun, "err", err)
			}
			mu.Lock()
			defer mu.Unlock()
			results[lun] = passed{stored: stored, err: err}
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
	if _, err := io.Copy(w, io.MultiReader(strings.NewReader(received+env.Head), env.Body.Reader())); err != nil {
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
	literal := env.Client.Addr.String()
	if env.Client.Addr.Is6() {
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
