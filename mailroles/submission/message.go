package submission

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"anycastle/mailroles/link"
	"anycastle/mailroles/smtpd"
)

// dateForm is that of RFC 5322 section 3.3.
const dateForm = "Mon, 02 Jan 2006 15:04:05 -0700"

var (
	errFrom   = refusal(554, 6, 0, "Message must have one From field, of addresses, and at most one Sender")
	errAuthor = refusal(550, 7, 1, "From or Sender is not an address of the user")
	errNoKey  = refusal(550, 7, 1, "Messages from this domain cannot be signed")
)

// Judge implements smtpd.Judge: a user writes only as what is his.
func (h *Handler) Judge(ctx context.Context, env *smtpd.Envelope) error {
	head, err := readHeader(whole(env))
	if errors.Is(err, errNoField) || errors.Is(err, errTooLong) {
		return refusal(554, 6, 0, "Message's header is malformed: "+err.Error())
	}
	if err != nil {
		return err
	}
	authors, err := head.authors()
	if err != nil {
		return errFrom
	}
	box, err := h.opt.Directory.Mailbox(ctx, env.User)
	if err != nil {
		return h.unclear(err)
	}
	for _, a := range authors {
		may, err := h.opt.Directory.MaySend(ctx, box, a)
		if err != nil {
			return h.unclear(err)
		}
		if !may {
			return errAuthor
		}
	}
	set := h.now.Load()
	if domain := domainOf(authors[0]); set.require && len(set.keys[domain]) == 0 {
		h.opt.Log.Warn("messages of a domain are refused, since it has no DKIM key", "domain", domain)
		return errNoKey
	}
	return nil
}

// whole reads a message with what filters put on top of it.
func whole(env *smtpd.Envelope) io.Reader {
	return io.MultiReader(strings.NewReader(env.Head), env.Body.Reader())
}

// authors gives the addresses in From and then those in Sender.
func (h *header) authors() ([]string, error) {
	from, sender := h.all("From"), h.all("Sender")
	if len(from) != 1 || len(sender) > 1 {
		return nil, errors.New("not one From, or many of Sender")
	}
	var all []string
	for _, f := range append(from, sender...) {
		list, err := f.addresses()
		if err != nil {
			return nil, err
		}
		all = append(all, list...)
	}
	return all, nil
}

func domainOf(address string) string {
	return strings.ToLower(address[strings.LastIndexByte(address, '@')+1:])
}

// message gives what stores are told of a message before there is one.
func (t *transaction) message() link.Message {
	return link.Message{From: t.env.From, Options: t.env.Options, User: t.box.Address}
}

// compose gives the message as it goes on: complete, signed, and with its trace on top. id is in the trace.
func (t *transaction) compose(id string, now time.Time) (link.Message, error) {
	m := t.message()
	m.Tx, m.Hold = t.env.Tx, t.env.Hold != ""
	head, err := readHeader(whole(t.env))
	if err != nil {
		return m, err
	}
	authors, err := head.authors()
	if err != nil {
		return m, err
	}
	head.remove("Bcc", "Resent-Bcc", "Return-Path")
	head.addMissing("Message-ID", "<"+rand.Text()+"@"+t.opt.Hostname+">")
	head.addMissing("Date", now.Format(dateForm))
	m.Body = t.rest(head.size - int64(len(t.env.Head)))
	text := head.String() + "\r\n"
	signatures, err := t.sign(domainOf(authors[0]), head, io.MultiReader(strings.NewReader(text), m.Body()))
	if err != nil {
		return m, err
	}
	m.Head = t.received(id, now) + signatures + text
	return m, nil
}

// rest gives readers of the body after the header section, which is n bytes long.
func (t *transaction) rest(n int64) func() io.Reader {
	return func() io.Reader {
		r := t.env.Body.Reader()
		if _, err := io.CopyN(io.Discard, r, n); err != nil {
			return &failed{err}
		}
		return r
	}
}

// failed is a reader of what cannot be read.
type failed struct{ err error }

// Read implements io.Reader.
func (f *failed) Read([]byte) (int, error) { return 0, fmt.Errorf("skip header: %w", f.err) }

// sign gives the signatures, none when the domain has no key. That is told of once.
func (t *transaction) sign(domain string, h *header, message io.Reader) (string, error) {
	set := t.now.Load()
	if len(set.keys[domain]) == 0 {
		if _, told := set.missing.LoadOrStore(domain, true); !told {
			t.opt.Log.Warn("messages of a domain go unsigned, since it has no DKIM key", "domain", domain)
		}
		return "", nil
	}
	return set.keys.sign(domain, h, message)
}

// received writes the trace field without the client, who is the user's own affair (RFC 5321 section 7.6; the protocol's name
// is that of RFC 3848).
func (t *transaction) received(id string, now time.Time) string {
	with := "ESMTPSA"
	if t.env.Options.UTF8 {
		with = "UTF8SMTPSA" // RFC 6531 section 4.3
	}
	return fmt.Sprintf("Received: by %s with %s id %s;\r\n\t%s\r\n", t.opt.Hostname, with, id, now.Format(dateForm))
}
