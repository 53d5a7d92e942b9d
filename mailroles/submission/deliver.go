package submission

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/emersion/go-smtp"

	"anycastle/mailroles/link"
)

// part is what one server gets of a message.
type part struct {
	lun     string
	addr    netip.AddrPort
	tx      string
	to      []link.Recipient
	results []error // one for each of to
}

// Deliver implements smtpd.Transaction. Stores and the queue are served at the same time.
func (t *transaction) Deliver(ctx context.Context) map[string]error {
	id := rand.Text()[:16]
	results := map[string]error{}
	m, err := t.compose(id, time.Now())
	if err != nil {
		t.opt.Log.Error("message cannot be handed on", "id", id, "err", err)
		for _, to := range t.env.To {
			results[to.Address] = err
		}
		return results
	}
	parts := t.parts(m.Tx)
	var passing sync.WaitGroup
	for _, p := range parts {
		passing.Go(func() {
			m := m
			m.Tx = p.tx
			p.results = t.opt.Store.Deliver(ctx, p.addr, m, p.to)
			if err := errors.Join(p.results...); err != nil {
				t.opt.Log.Warn("store did not take a message", "lun", p.lun, "id", id, "err", err)
			}
		})
	}
	passing.Wait()
	refused := refusedByAll(parts)
	for _, to := range t.env.To {
		results[to.Address] = cmp.Or(refused, t.result(to.Address, parts))
	}
	t.passed = errors.Join(values(results)...) == nil
	t.opt.Log.Info("message handed on", "id", id, "user", t.box.Address, "peer", t.env.Client.Addr,
		"recipients", len(results), "taken", t.passed)
	return results
}

func values(results map[string]error) []error {
	var list []error
	for _, err := range results {
		list = append(list, err)
	}
	return list
}

// parts sorts the recipients by who serves them: mailboxes by store, each once, and all others to the sender's queue.
func (t *transaction) parts(tx string) map[string]*part {
	parts := map[string]*part{}
	for _, to := range t.env.To {
		boxes, ours := t.local[to.Address]
		if !ours {
			queue := &part{lun: t.box.LUN, addr: t.opt.LUNs[t.box.LUN].Queue}
			addTo(parts, "", queue, link.Recipient(to))
		}
		for lun, list := range byLUN(boxes, to.Options) {
			addTo(parts, lun, &part{lun: lun, addr: t.opt.LUNs[lun].LMTP, tx: tx}, list...)
		}
	}
	if q := parts[""]; q != nil {
		q.tx = queueTx(tx, q.to)
	}
	return parts
}

func addTo(parts map[string]*part, name string, empty *part, to ...link.Recipient) {
	p, ok := parts[name]
	if !ok {
		p = empty
		parts[name] = p
	}
	for _, r := range to {
		if p.find(r.Address) < 0 {
			p.to = append(p.to, r)
		}
	}
}

func (p *part) find(address string) int {
	return slices.IndexFunc(p.to, func(r link.Recipient) bool { return r.Address == address })
}

// queueTx names a message to its recipients elsewhere. A client that sends one message to each recipient by itself means all of
// them; a store knows that by the mailbox, a queue by this.
func queueTx(tx string, to []link.Recipient) string {
	if tx == "" {
		return ""
	}
	var names []string
	for _, r := range to {
		names = append(names, r.Address)
	}
	slices.Sort(names)
	sum := sha256.Sum256([]byte(tx + "\n" + strings.Join(names, "\n")))
	return hex.EncodeToString(sum[:16])
}

// refusedByAll gives a refusal of the message when nobody has it, and nobody would take it the next time either.
func refusedByAll(parts map[string]*part) error {
	var refused *smtp.SMTPError
	for _, p := range parts {
		if len(p.results) < len(p.to) {
			return nil
		}
		for _, err := range p.results {
			if !errors.As(err, &refused) || refused.Temporary() {
				return nil
			}
		}
	}
	if refused == nil {
		return nil
	}
	return refused
}

// result says whether a recipient has the message: all his mailboxes, or the queue.
func (t *transaction) result(address string, parts map[string]*part) error {
	boxes, ours := t.local[address]
	if !ours {
		return parts[""].result(address)
	}
	var errs []error
	for _, b := range boxes {
		errs = append(errs, parts[b.LUN].result(b.Address))
	}
	return errors.Join(errs...)
}

func (p *part) result(address string) error {
	i := p.find(address)
	if i >= len(p.results) {
		return fmt.Errorf("lun %s has not said whether it has it", p.lun)
	}
	if err := p.results[i]; err != nil {
		return fmt.Errorf("lun %s: %v", p.lun, err) // no reply: others may have the message
	}
	return nil
}
