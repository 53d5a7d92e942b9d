package queue

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"anycastle/mailroles/smtpd"
)

// tell sends the reports that a leg owes: what failed, what was passed on, and once that it is delayed. What has been told is
// written down after the report is durable; if that is cut off, the report is made again and recognised by its transaction id.
func (q *Queue) tell(ctx context.Context, l *leg) error {
	e := l.entry
	q.mu.Lock()
	failures, passed, waiting := l.untold(Failed, Expired), l.untold(Relayed), l.late(q.opt.Config.DelayNotice, time.Now())
	q.mu.Unlock()
	if len(failures)+len(passed)+len(waiting) == 0 {
		return nil
	}
	for _, news := range []struct {
		kind kind
		to   []*recipient
	}{{failed, failures}, {relayed, passed}, {delayed, waiting}} {
		if err := q.reportOn(ctx, e, news.kind, news.to); err != nil {
			return q.untellable(l, err)
		}
	}
	q.mu.Lock()
	for _, r := range append(failures, passed...) {
		r.Told = true
	}
	l.DelayTold = l.DelayTold || len(waiting) > 0
	q.mu.Unlock()
	return q.save(e)
}

// untold gives the recipients in some states whose sender waits for a report.
func (l *leg) untold(states ...State) []*recipient {
	var list []*recipient
	for _, r := range l.in(states...) {
		if !r.Told {
			list = append(list, r)
		}
	}
	return list
}

// late gives the recipients that wait for longer than the sender should not know it.
func (l *leg) late(after time.Duration, now time.Time) []*recipient {
	if after == 0 || l.DelayTold || l.entry.From == "" || now.Before(l.entry.Arrived.Add(after)) {
		return nil
	}
	var list []*recipient
	for _, r := range l.waiting() {
		if r.wants(notifyDelay) && r.Last != "" {
			list = append(list, r)
		}
	}
	return list
}

// untellable gives a report up when it could not be stored for twice the life of a message. The message is set aside then.
func (q *Queue) untellable(l *leg, err error) error {
	e := l.entry
	if time.Since(e.Arrived) < 2*q.opt.Config.Life {
		return fmt.Errorf("report on %s: %w", e.ID, err)
	}
	e.saving.Lock()
	defer e.saving.Unlock()
	if aside := q.keep.SetAside(e.ID, fmt.Errorf("its sender cannot be told what became of it: %w", err)); aside != nil {
		return aside
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.aside++
	q.remove(e)
	return nil
}

// reportOn makes a report on recipients of an entry and stores it.
func (q *Queue) reportOn(ctx context.Context, e *entry, k kind, to []*recipient) error {
	if len(to) == 0 {
		return nil
	}
	s := subject{
		from: e.From, envID: e.EnvID, ret: e.Return, arrived: e.Arrived, size: e.Size, eightBit: e.EightBit,
		open: func() (io.ReadCloser, error) { return q.keep.OpenBody(ctx, e.ID, e.Size) },
	}
	id := sha256.New()
	fmt.Fprintf(id, "%s %s", e.ID, k)
	for _, r := range to {
		fmt.Fprintf(id, " %s", r.Address)
	}
	return q.post(ctx, k, s, hex.EncodeToString(id.Sum(nil)[:16]), to)
}

// post makes a report and stores it: in the sender's mailbox if it is one of ours, else in the queue.
func (q *Queue) post(ctx context.Context, k kind, s subject, tx string, to []*recipient) error {
	r, err := q.reporter().make(k, s, to, time.Now())
	if err != nil {
		return err
	}
	err = q.opt.Home.Deliver(ctx, s.from, tx, r.size, r.body)
	if errors.Is(err, ErrElsewhere) {
		err = q.enqueueReport(s.from, tx, r)
	}
	if err != nil {
		return err
	}
	q.stats.reported(k)
	q.opt.Log.Info("sender is told", "to", s.from, "what", string(k), "recipients", len(to))
	return nil
}

func (q *Queue) reporter() reporter {
	return reporter{hostname: q.opt.Hostname, life: q.opt.Config.Life}
}

// enqueueReport sends a report by way of the queue, unless it has it already. It has no sender of its own, so that nobody is
// told if it fails (RFC 5321 section 4.5.5).
func (q *Queue) enqueueReport(to, tx string, r *report) error {
	destination, ok := destinationOf(to)
	if !ok {
		return fmt.Errorf("report to %q, which is no address", to)
	}
	q.mu.Lock()
	had, known := q.memory[keyOf(tx, to)]
	q.mu.Unlock()
	switch {
	case known && had.id == "":
		return errBusy
	case known:
		return q.keep.Prove(had.id)
	}
	body, err := r.body()
	if err != nil {
		return err
	}
	now := time.Now()
	e := &entry{ID: newID(now), Tx: tx, Arrived: now, UTF8: r.utf8}
	e.addRecipient(destination, &recipient{Address: to, Notify: "NEVER", State: Waiting})
	_, err = q.take(e, body) // if it is kept beside an error, the next try finds it
	return errors.Join(err, body.Close())
}

// Delivered tells the sender that recipients who asked for it have a message (NOTIFY=SUCCESS, RFC 3461 section 5.2.2). It
// returns nil when the report is durable, or nobody wants one.
func (q *Queue) Delivered(ctx context.Context, env *smtpd.Envelope, to []smtpd.Recipient) error {
	if _, ok := destinationOf(env.From); !ok {
		return nil // a null sender, or none that a report reaches
	}
	var list []*recipient
	id := sha256.New()
	fmt.Fprintf(id, "%s %s %s", delivered, env.Tx, env.From)
	for _, r := range to {
		if is := recipientOf(r); is.wants(notifySuccess) {
			is.State, is.At = Delivered, time.Now()
			list = append(list, is)
			fmt.Fprintf(id, " %s", r.Address)
		}
	}
	if len(list) == 0 {
		return nil
	}
	tx := hex.EncodeToString(id.Sum(nil)[:16])
	if env.Tx == "" { // two messages may be alike and both meant
		tx = ""
	}
	envID := printable(env.Options.EnvelopeID)
	if envID == env.Tx {
		envID = ""
	}
	s := subject{
		from: env.From, envID: envID, arrived: time.Now(), eightBit: true,
		open: func() (io.ReadCloser, error) {
			return io.NopCloser(io.MultiReader(strings.NewReader(env.Head), env.Body.Reader())), nil
		},
	}
	return q.post(ctx, delivered, s, tx, list)
}
