package mailroles

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"strings"

	"golang.org/x/sync/errgroup"

	"anycastle/internal/config"
	"anycastle/internal/daemon"
	"anycastle/mailroles/directory"
	"anycastle/mailroles/link"
	"anycastle/mailroles/queue"
	"anycastle/mailroles/smtpd"
	"anycastle/mailroles/store"
)

// queueDir is the folder of a LUN that its queue is in. A mailbox never has a name like that.
const queueDir = ".queue"

// QueueStat is what a store's queue is and did.
type QueueStat struct {
	queue.Summary
	Server SessionStat `json:"server"` // done: recipients taken
}

// home is the mailboxes of all LUNs, for reports to senders.
type home struct {
	lun    string // that the store has itself
	dir    *directory.Directory
	mail   *store.Store
	stores map[string]netip.AddrPort // where each LUN's store takes LMTP
	links  *link.Pool
}

// Deliver implements queue.Home.
func (h home) Deliver(ctx context.Context, address, tx string, size int64, body func() (io.ReadCloser, error)) error {
	boxes, err := h.dir.Resolve(ctx, address)
	if errors.Is(err, directory.ErrUnknown) {
		return queue.ErrElsewhere
	}
	if err != nil {
		return fmt.Errorf("look up %s: %w", address, err)
	}
	var errs []error
	for _, m := range boxes {
		if m.LUN == h.lun {
			err = h.deliver(m.Address, tx, size, body)
		} else {
			err = h.pass(ctx, m, tx, size, body)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("deliver to %s: %w", m.Address, err))
		}
	}
	return errors.Join(errs...)
}

// pass hands a report to the store of another LUN.
func (h home) pass(ctx context.Context, m directory.Mailbox, tx string, size int64, body func() (io.ReadCloser, error)) error {
	r, err := body()
	if err != nil {
		return err
	}
	msg := link.Message{Tx: tx, Body: func() io.Reader { return r }} // it is asked for once, as there is one recipient
	msg.Options.Size, msg.Options.UTF8 = size, !link.IsASCII(m.Address)
	results := h.links.Deliver(ctx, h.stores[m.LUN], msg, []link.Recipient{{Address: m.Address}})
	return errors.Join(append(results, r.Close())...)
}

func (h home) deliver(address, tx string, size int64, body func() (io.ReadCloser, error)) error {
	box, err := h.mail.Mailbox(address)
	if err != nil {
		return err
	}
	r, err := body()
	if err != nil {
		return err
	}
	const path = "Return-Path: <>\r\n"
	_, err = box.Deliver(store.Incoming{Body: io.MultiReader(strings.NewReader(path), r), Size: int64(len(path)) + size, Tx: tx})
	return errors.Join(err, r.Close())
}

// registerQueue offers the metrics of the queue, if the LUN has one.
func (r *Store) registerQueue() error {
	if !r.queues {
		return nil
	}
	if r.Registry != nil {
		if err := r.Registry.Register(queue.NewCollector(r.queue.Load)); err != nil {
			return fmt.Errorf("register metrics of the queue: %w", err)
		}
	}
	return register(r.Registry, "store_queue", "recipients", &r.queued)
}

// addrs gives where the store listens, the queue's address last.
func (r *Store) addrs() []config.ListenAddr {
	list := []config.ListenAddr{r.cfg.LMTPListen, r.cfg.IMAPListen}
	if r.queues {
		list = append(list, r.cfg.QueueListen)
	}
	return list
}

// openQueue opens the queue of a LUN that has one.
func (r *Store) openQueue(mail *store.Store) error {
	if !r.queues {
		return nil
	}
	q, err := queue.Open(queue.Options{
		Dir: filepath.Join(r.cfg.Path, queueDir), Hostname: r.host, Config: r.cfg.Queue, Log: r.Log,
		Grace: r.cfg.Drain.Deadline,
		Home:  home{lun: r.cfg.LUN, dir: r.dir, mail: mail, stores: r.stores, links: r.links},
	})
	if err != nil {
		return fmt.Errorf("open queue: %w", err)
	}
	r.queue.Store(q)
	return nil
}

// serveQueue has the queue take messages and send them, if the LUN has one.
func (r *Store) serveQueue(ctx context.Context, g *errgroup.Group, listeners []net.Listener) {
	q := r.queue.Load()
	if q == nil {
		return
	}
	server := smtpd.NewServer(smtpd.Options{
		Hostname:    r.host,
		LinkTLS:     r.tls.Server(),
		MaxSize:     r.cfg.MaxSize,
		MaxSessions: r.cfg.MaxSessions,
		Grace:       r.cfg.Drain.Deadline,
		Handler:     queue.Handler{Queue: q},
		Log:         r.Log,
		Tally:       &r.queued,
	})
	g.Go(func() error { return server.Run(ctx, listeners...) })
	g.Go(func() error { return q.Run(ctx) })
}

// Queue tells what the queue holds: a list of queue.Status, an empty one where there is no queue.
func (r *Store) Queue() any {
	list := []queue.Status{}
	for _, q := range r.openQueues() {
		list = append(list, q.Status()...)
	}
	return list
}

// openQueues gives the queues that are open here, by LUN.
func (r *Store) openQueues() map[string]*queue.Queue {
	open := map[string]*queue.Queue{}
	if q := r.queue.Load(); q != nil {
		open[r.cfg.LUN] = q
	}
	for _, h := range r.hosts {
		if q := h.queue.Load(); q != nil {
			open[h.lun.Name] = q
		}
	}
	return open
}

// QueueOrders takes orders to the queue, by pattern.
func (r *Store) QueueOrders() map[string]http.HandlerFunc {
	return map[string]http.HandlerFunc{
		"POST /v1/queue-order": daemon.Answer(r.Log, func(o queue.Order) (queue.Ordered, error) {
			return r.giveQueues(o)
		}),
	}
}

// giveQueues gives an order to the queue that has the entry, or to all.
func (r *Store) giveQueues(o queue.Order) (all queue.Ordered, err error) {
	open := r.openQueues()
	switch {
	case len(open) == 0 && r.hosts != nil:
		return all, errors.New("no LUN with a queue is active here; show lun tells where it is")
	case len(open) == 0:
		return all, fmt.Errorf("LUN %s has no queue; give it an address under mail.luns", r.cfg.LUN)
	}
	found := false
	for _, q := range open {
		done, failed := q.Give(o)
		if failed == nil {
			found = true
		} else if err == nil {
			err = failed
		}
		all.Entries += done.Entries
		all.Left += done.Left
	}
	if found && o.ID != "all" {
		err = nil // another queue does not know it
	}
	return all, err
}

// queueStat is nil where there is no queue.
func (r *Store) queueStat(server SessionStat) *QueueStat {
	q := r.queue.Load()
	if q == nil {
		return nil
	}
	return &QueueStat{Summary: q.Summary(), Server: server}
}
