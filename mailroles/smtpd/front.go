package smtpd

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/emersion/go-smtp"

	"anycastle/mailroles/directory"
	"anycastle/mailroles/link"
)

// Resolver finds the mailboxes behind an address.
type Resolver interface {
	// Resolve gives them, each once; the error is directory.ErrUnknown when there are none.
	Resolve(ctx context.Context, address string) ([]directory.Mailbox, error)
}

// Links hands messages to stores: see link.Pool.
type Links interface {
	Ask(ctx context.Context, addr netip.AddrPort, m link.Message, to []link.Recipient) []error
	Deliver(ctx context.Context, addr netip.AddrPort, m link.Message, to []link.Recipient) []error
}

// Front is the Handler of the MX: it finds the mailboxes behind each recipient and passes the message to their stores.
//
// At RCPT it asks the store of each mailbox, and the client hears what that says: see combineAsked. A question is a
// transaction of its own, so that a client that takes its time holds no link. After the body each mailbox gets the
// message once, whatever recipients lead to it: see combine for what becomes of different results.
type Front struct {
	Hostname  string
	Directory Resolver
	LUNs      map[string]netip.AddrPort // where each LUN's store takes LMTP
	Links     Links
	Log       *slog.Logger
}

// frontTx is a message on its way through a Front.
type frontTx struct {
	*Front
	env *Envelope
	to  map[string][]directory.Mailbox // by the client's spelling of the recipient
}

// Begin implements Handler.
func (f *Front) Begin(_ context.Context, env *Envelope) (Transaction, error) {
	return &frontTx{Front: f, env: env, to: map[string][]directory.Mailbox{}}, nil
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
	byLUN := parcels{}
	byLUN.add(to, boxes)
	m := link.Message{From: t.env.From, Options: t.env.Options, User: t.env.User}
	answers := byLUN.each(func(lun string, to []link.Recipient) []error { return t.Links.Ask(ctx, t.LUNs[lun], m, to) })
	t.complain("store cannot tell about a mailbox", answers)
	if err := combineAsked(answers.of(boxes)); err != nil {
		return err
	}
	t.to[to.Address] = boxes
	return nil
}

// Close implements Transaction.
func (t *frontTx) Close() {}

// Deliver implements Transaction. Stores are served at the same time. The message gets a Received field on top, and the log
// has the id that is in it.
func (t *frontTx) Deliver(ctx context.Context) map[string]error {
	byLUN := parcels{}
	for _, to := range t.env.To {
		byLUN.add(to, t.to[to.Address])
	}
	id := rand.Text()[:16]
	m := link.Message{
		From: t.env.From, Options: t.env.Options, User: t.env.User, Tx: t.env.Tx, Hold: t.env.Hold != "",
		Head: t.received(t.env, id, time.Now()) + heldField(t.env.Hold) + t.env.Head,
		Body: t.env.Body.Reader,
	}
	m.Options.Size = int64(len(m.Head)) + t.env.Body.Size() // so that a store without room says so before the body
	got := byLUN.each(func(lun string, to []link.Recipient) []error { return t.Links.Deliver(ctx, t.LUNs[lun], m, to) })
	t.complain("store did not take a message", got)
	results, taken := map[string]error{}, true
	for _, to := range t.env.To {
		if boxes := t.to[to.Address]; len(boxes) > 0 { // without any nobody has it
			results[to.Address] = combine(got.of(boxes))
			taken = taken && results[to.Address] == nil
		}
	}
	t.Log.Info("message handed on", "id", id, "peer", t.env.Client.Addr, "sender", t.env.From, "recipients", addresses(t.env.To),
		"tx", m.Tx, "bytes", m.Options.Size, "held", m.Hold, "taken", taken)
	return results
}

// complain logs why stores did not answer. A refusal is an answer.
func (t *frontTx) complain(what string, answers answers) {
	for where, err := range answers {
		if refusal := new(smtp.SMTPError); err != nil && !errors.As(err, &refusal) {
			t.Log.Warn(what, "lun", where.LUN, "mailbox", where.Address, "err", err)
		}
	}
}

// parcels is what goes where: recipients by LUN, each mailbox once.
type parcels map[string][]link.Recipient

// add addresses a parcel to the mailboxes of a recipient. A mailbox of another name hears which one was meant (RFC 3461
// section 5.2.1), unless the client has said so.
func (p parcels) add(to Recipient, boxes []directory.Mailbox) {
	for _, box := range boxes {
		if slices.ContainsFunc(p[box.LUN], func(r link.Recipient) bool { return r.Address == box.Address }) {
			continue
		}
		r := link.Recipient{Address: box.Address, Options: to.Options}
		if r.Options.OriginalRecipient == "" && !strings.EqualFold(to.Address, box.Address) {
			r.Options.OriginalRecipient, r.Options.OriginalRecipientType = to.Address, smtp.DSNAddressTypeRFC822
			if !link.IsASCII(to.Address) {
				r.Options.OriginalRecipientType = smtp.DSNAddressTypeUTF8
			}
		}
		p[box.LUN] = append(p[box.LUN], r)
	}
}

// place is a mailbox and where it is.
type place struct{ LUN, Address string }

// answers is what stores said of each mailbox.
type answers map[place]error

// of gives the answers of some mailboxes, in order.
func (a answers) of(boxes []directory.Mailbox) []error {
	list := make([]error, len(boxes))
	for i, box := range boxes {
		err, ok := a[place{box.LUN, box.Address}]
		if !ok {
			err = errTemporary
		}
		list[i] = err
	}
	return list
}

// each does something with the parcel of each LUN, all at the same time.
func (p parcels) each(do func(lun string, to []link.Recipient) []error) answers {
	got := answers{}
	var mu sync.Mutex
	var wg sync.WaitGroup
	for lun, to := range p {
		wg.Go(func() {
			results := do(lun, to)
			mu.Lock()
			defer mu.Unlock()
			for i, err := range results {
				got[place{lun, to[i].Address}] = err
			}
		})
	}
	wg.Wait()
	return got
}

var _ Links = (*link.Pool)(nil)
