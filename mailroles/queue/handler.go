package queue

import (
	"context"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"anycastle/mailroles/smtpd"
)

// Handler takes messages for a queue from an smtpd.Server that speaks LMTP to the front ends.
type Handler struct {
	Queue *Queue
}

var _ smtpd.Handler = Handler{}

// queueTx is a message on its way into a queue.
type queueTx struct {
	*Queue
	env *smtpd.Envelope
}

// Begin implements smtpd.Handler.
func (h Handler) Begin(_ context.Context, env *smtpd.Envelope) (smtpd.Transaction, error) {
	if _, ok := destinationOf(env.From); !ok && env.From != "" {
		return nil, errSender
	}
	if !isASCII(env.From) && !env.Options.UTF8 {
		return nil, errNotASCII
	}
	return &queueTx{Queue: h.Queue, env: env}, nil
}

// Rcpt implements smtpd.Transaction. Any address is taken.
func (t *queueTx) Rcpt(_ context.Context, to smtpd.Recipient) error {
	if _, ok := destinationOf(to.Address); !ok {
		return errSyntax
	}
	if !isASCII(to.Address) && !t.env.Options.UTF8 {
		return errNotASCII
	}
	return nil
}

// Close implements smtpd.Transaction.
func (t *queueTx) Close() {}

// Deliver implements smtpd.Transaction. A recipient that has the same transaction already is done; nil for the others means
// that the message and its envelope are kept, and may be acknowledged.
func (t *queueTx) Deliver(context.Context) map[string]error {
	results := map[string]error{}
	fresh, had, err := t.reserve(results)
	if err == nil && len(fresh) > 0 {
		var kept bool
		e := t.newEntry(fresh)
		if kept, err = t.take(e, io.MultiReader(strings.NewReader(t.env.Head), t.env.Body.Reader())); err != nil {
			t.opt.Log.Error("message is not acknowledged", "queued", kept, "err", err)
		}
		t.unreserve(fresh, kept)
	}
	for _, to := range fresh {
		results[to.Address] = err
	}
	if len(had) > 0 {
		t.prove(had, results)
	}
	return results
}

// prove answers for recipients whose message is in the queue, or was, by the ids of their entries.
func (t *queueTx) prove(had map[string]string, results map[string]error) {
	ids := slices.Collect(maps.Values(had))
	slices.Sort(ids)
	err := t.keep.Prove(slices.Compact(ids)...)
	for address := range had {
		results[address] = err
	}
}

// reserve gives the recipients that nobody has and nobody is about to have, and marks them so; had are those that somebody
// has, with the ids of their entries. It answers for the others.
func (t *queueTx) reserve(results map[string]error) (fresh []smtpd.Recipient, had map[string]string, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	had = map[string]string{}
	for _, to := range t.env.To {
		by, known := t.memory[keyOf(t.env.Tx, to.Address)]
		switch {
		case t.env.Tx == "" || !known:
			fresh = append(fresh, to)
		case by.id == "":
			results[to.Address] = errBusy
		default:
			had[to.Address] = by.id
		}
	}
	if t.waiting+len(fresh) > t.opt.Config.MaxRecipients {
		return fresh, had, errFull
	}
	if t.env.Tx != "" {
		for _, to := range fresh {
			t.memory[keyOf(t.env.Tx, to.Address)] = memorised{}
		}
	}
	t.waiting += len(fresh) // of the others that come meanwhile
	return fresh, had, nil
}

// unreserve ends what reserve began. What was taken has been counted and memorised by then.
func (t *queueTx) unreserve(fresh []smtpd.Recipient, taken bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.waiting -= len(fresh)
	if taken || t.env.Tx == "" {
		return
	}
	for _, to := range fresh {
		delete(t.memory, keyOf(t.env.Tx, to.Address))
	}
}

func (t *queueTx) newEntry(to []smtpd.Recipient) *entry {
	now := time.Now()
	e := &entry{
		ID: newID(now), Tx: t.env.Tx, From: t.env.From, User: t.env.User, Arrived: now, UTF8: t.env.Options.UTF8,
		Return: string(t.env.Options.Return), EnvID: t.env.Options.EnvelopeID, Held: printable(t.env.Hold),
	}
	if e.EnvID == e.Tx { // it is the front end's, not the sender's
		e.EnvID = ""
	}
	for _, r := range to {
		destination, _ := destinationOf(r.Address) // Rcpt has looked
		e.addRecipient(destination, recipientOf(r))
	}
	return e
}

// addRecipient puts a recipient on the leg to its destination.
func (e *entry) addRecipient(destination string, r *recipient) {
	i := slices.IndexFunc(e.Legs, func(l *leg) bool { return l.Destination == destination })
	if i < 0 {
		i = len(e.Legs)
		e.Legs = append(e.Legs, &leg{Destination: destination, Next: e.Arrived})
	}
	e.Legs[i].Recipients = append(e.Legs[i].Recipients, r)
}

func recipientOf(r smtpd.Recipient) *recipient {
	var notify []string
	for _, n := range r.Options.Notify {
		notify = append(notify, string(n))
	}
	is := &recipient{Address: r.Address, Notify: strings.Join(notify, ","), State: Waiting}
	if r.Options.OriginalRecipient != "" {
		is.ORcpt = printable(strings.ToLower(string(r.Options.OriginalRecipientType)) + ";" + r.Options.OriginalRecipient)
	}
	return is
}

// printable keeps control characters out.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if isControl(r) {
			return '?'
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
}
