package queue

import (
	"context"
	"errors"
	"fmt"
	"time"

	"anycastle/mailroles/queue/remote"
)

// attemptTime bounds one attempt, over all hosts.
const attemptTime = 30 * time.Minute

// attempt tries to send a leg to some of its recipients, and gives a result for each in their order.
func (q *Queue) attempt(ctx context.Context, l *leg, to []*recipient) []*result {
	ctx, cancel := context.WithTimeout(ctx, attemptTime)
	defer cancel()
	results := make([]*result, len(to))
	hosts, fail := q.route(ctx, l.Destination)
	if fail == nil {
		fail = q.tryHosts(ctx, hosts, l, to, results)
	}
	for i := range results {
		if results[i] == nil {
			results[i] = fail
		}
	}
	return results
}

// tryHosts goes from host to host until all recipients have an answer, or the message was sent whole to one. It gives what
// those without an answer get.
func (q *Queue) tryHosts(ctx context.Context, hosts []remote.Host, l *leg, to []*recipient, results []*result) *result {
	var failed *remote.Failure
	last := later("unreachable", "4.4.1", "No mail server of %s has an address", l.Destination)
	spoken, refused := false, 0
	for _, host := range hosts {
		var open []int
		var list []*recipient
		for i, r := range to {
			if results[i] == nil || results[i].state == Waiting {
				open, list = append(open, i), append(list, r)
			}
		}
		if len(open) == 0 || ctx.Err() != nil || q.keep.Serving() != nil {
			break
		}
		out := q.sendTo(ctx, host, l, list)
		for n, reply := range out.Replies {
			if reply.Code != 0 {
				results[open[n]] = resultOf(list[n], host, reply, out)
			}
		}
		switch {
		case out.Err == nil:
			spoken = true
		case errors.As(out.Err, &failed):
			last = failureOf(host, failed)
			spoken = spoken || failed.At == remote.Login || failed.At == remote.Envelope || failed.At == remote.Body
			if saidNever(failed) {
				refused++
			}
		default: // another host makes it no better
			q.opt.Log.Error("message cannot be read", "id", l.entry.ID, "err", out.Err)
			return later("disk", "4.3.0", "The message cannot be read")
		}
		if out.Sent {
			break
		}
	}
	if refused == len(hosts) { // all say that they never take mail (RFC 7504)
		last.state, last.reason = Failed, "rejected"
	}
	last.down = !spoken && ctx.Err() == nil && q.keep.Serving() == nil && last.state == Waiting
	return last
}

// sendTo sends the message to one host.
func (q *Queue) sendTo(ctx context.Context, host remote.Host, l *leg, to []*recipient) remote.Outcome {
	body, err := q.keep.OpenBody(ctx, l.entry.ID, l.entry.Size)
	if err != nil {
		return remote.Outcome{Err: fmt.Errorf("read message: %w", err), Replies: make([]remote.Reply, len(to))}
	}
	defer body.Close()
	q.mu.Lock()
	m := l.toSend(to)
	q.mu.Unlock()
	m.Body = guarded{body, q.keep.Serving}
	return q.client.Send(ctx, host, &m)
}

// resultOf turns a reply into a result.
func resultOf(to *recipient, host remote.Host, reply remote.Reply, out remote.Outcome) *result {
	r := &result{reply: reply, host: host.Name}
	if reply.Local {
		r.host = ""
	}
	switch {
	case reply.Taken():
		r.state, r.tls = Delivered, out.State
		if !out.DSN && to.wants(notifySuccess) {
			r.state = Relayed
		}
	case reply.Permanent():
		r.state, r.reason = Failed, "rejected"
		if reply.Local {
			r.reason = "cannot-take"
		}
	default:
		r.state, r.reason = Waiting, "rejected"
	}
	return r
}

// saidNever says whether a host that was reached said that it never takes mail.
func saidNever(f *remote.Failure) bool {
	var reply remote.Reply
	return errors.As(f.Err, &reply) && reply.Code == 521
}

// failureOf turns the end of a conversation into a result. Everything but an answer about a recipient may pass.
func failureOf(host remote.Host, failed *remote.Failure) *result {
	status, reason := "4.4.2", "lost"
	switch failed.At {
	case remote.Connect:
		status, reason = "4.4.1", "unreachable"
	case remote.TLS:
		status, reason = "4.7.5", "tls"
	case remote.Login:
		status, reason = "4.7.0", "login"
	}
	r := later(reason, status, "%s [%s]: %v", host.Name, host.Addr.Addr(), failed)
	// a permanent reply to the greeting, or to AUTH, is not about the message: another day may be better
	var reply remote.Reply
	if errors.As(failed, &reply) && (!reply.Permanent() || saidNever(failed)) {
		r.reply, r.host = reply, host.Name
	}
	return r
}
