package queue

import (
	"cmp"
	"container/heap"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/emersion/go-smtp"

	"anycastle/mailroles/mtasts"
	"anycastle/mailroles/queue/mx"
	"anycastle/mailroles/queue/remote"
)

// Replies to what cannot be taken.
var (
	errSyntax   = refusal(553, 5, 1, 3, "No address that mail can be sent to")
	errSender   = refusal(553, 5, 1, 7, "Sender is no address")
	errFull     = refusal(452, 4, 3, 1, "Queue is full, try again later")
	errBusy     = refusal(451, 4, 3, 0, "The same message is being stored, try again later")
	errLoop     = refusal(554, 5, 4, 6, "Message goes in a circle")
	errNotASCII = refusal(553, 5, 6, 7, "Address beyond ASCII without SMTPUTF8")
)

func refusal(code, class, subject, detail int, text string) error {
	return &smtp.SMTPError{Code: code, EnhancedCode: smtp.EnhancedCode{class, subject, detail}, Message: text}
}

// maxHops is the most Received fields of a message; one with more goes in a circle (RFC 5321 section 6.3).
const maxHops = 50

// ErrElsewhere says that no mailbox of ours has an address.
var ErrElsewhere = errors.New("queue: no mailbox of ours")

// Home knows our own mailboxes, on this LUN and on others.
type Home interface {
	// Deliver puts a report into the mailboxes of an address. tx recognises a repetition, which is needed when there is an
	// error: some of them may have it. It is ErrElsewhere when there are none.
	Deliver(ctx context.Context, address, tx string, size int64, body func() (io.ReadCloser, error)) error
}

// Policies know MTA-STS policies; mtasts.Cache does.
type Policies interface {
	Policy(ctx context.Context, domain string) (mtasts.Policy, bool)
}

// Options are what a queue is made of. Those that are optional are for tests.
type Options struct {
	Dir      string // of the queue's files; it is made
	Hostname string // what we call ourselves
	Config   Config
	Home     Home
	Log      *slog.Logger

	Resolver *mx.Resolver                                                     // (optional) that of Config
	Policies Policies                                                         // (optional) a cache below Dir
	Dial     func(ctx context.Context, addr netip.AddrPort) (net.Conn, error) // (optional) net.Dialer's
	Roots    *x509.CertPool                                                   // (optional) the system's
	Port     uint16                                                           // (optional) 25
	Own      func() ([]netip.Addr, error)                                     // (optional) addresses of this machine
	Times    remote.Times                                                     // (optional) remote.DefaultTimes
	Grace    time.Duration                                                    // (optional) 5s, for attempts at the end of Run

	Keeper Keeper // (optional) files below Dir

	step func(what string) error // of disk
}

// Queue holds mail until its recipients' hosts have it. It is safe for concurrent use.
type Queue struct {
	opt    Options
	keep   Keeper
	client *remote.Client
	cache  *mtasts.Cache // nil when Options has Policies
	wake   chan struct{}
	stats  stats

	orderTime time.Duration

	mu       sync.Mutex
	entries  map[string]*entry
	waiting  int // recipients of all entries
	memory   memory
	records  []record // in the order in which they were done
	schedule schedule
	aside    int // damaged entries and debris, since the queue was opened
	holds    int // calls of Hold that are not released
}

// Open reads a queue and makes it ready to take messages. Run sends them. One process at a time may have a queue open: who
// calls it holds the lock of the LUN.
func Open(opt Options) (*Queue, error) {
	q := &Queue{opt: opt, wake: make(chan struct{}, 1), entries: map[string]*entry{}, memory: memory{}, orderTime: orderTime}
	q.schedule = newSchedule(opt.Config.Sessions, opt.Config.PerDestination)
	if err := q.fill(); err != nil {
		return nil, err
	}
	if q.keep = opt.Keeper; q.keep == nil {
		d, err := openDisk(opt.Dir, opt.Log)
		if err != nil {
			return nil, err
		}
		d.step, q.keep = opt.step, d
	}
	return q, q.load(time.Now())
}

// fill makes what the options leave out.
func (q *Queue) fill() (err error) {
	o := &q.opt
	o.Port = cmp.Or(o.Port, 25)
	o.Grace = cmp.Or(o.Grace, grace)
	if o.Resolver == nil && len(o.Config.Resolvers) > 0 {
		o.Resolver = &mx.Resolver{Servers: o.Config.Resolvers}
	} else if o.Resolver == nil {
		if o.Resolver, err = mx.FromFile("/etc/resolv.conf"); err != nil {
			return err
		}
	}
	if o.Dial == nil {
		o.Dial = func(ctx context.Context, addr netip.AddrPort) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "tcp", addr.String())
		}
	}
	if o.Own == nil {
		o.Own = ownAddrs
	}
	if o.Times == (remote.Times{}) {
		o.Times = remote.DefaultTimes()
	}
	q.client = &remote.Client{Hostname: o.Hostname, Dial: o.Dial, Times: o.Times, Log: o.Log}
	if o.Policies == nil {
		q.cache, err = mtasts.Open(mtasts.Options{
			Dir: filepath.Join(o.Dir, "mta-sts"), TXT: o.Resolver.TXT, Dial: q.dialHTTPS, Roots: o.Roots, Log: o.Log,
			Absent: none,
		})
		o.Policies = q.cache
	}
	return err
}

// dialHTTPS reaches the web server of a host.
func (q *Queue) dialHTTPS(ctx context.Context, host string) (net.Conn, error) {
	addrs, err := q.opt.Resolver.Addrs(ctx, host)
	if err != nil {
		return nil, err
	}
	var errs []error
	for _, a := range addrs[:min(len(addrs), maxAddrs)] {
		conn, err := q.opt.Dial(ctx, netip.AddrPortFrom(a, 443))
		if err == nil {
			return conn, nil
		}
		errs = append(errs, err)
	}
	return nil, errors.Join(errs...)
}

// ownAddrs gives the addresses of this machine.
func ownAddrs() ([]netip.Addr, error) {
	list, err := net.InterfaceAddrs()
	if err != nil {
		return nil, fmt.Errorf("ask for own addresses: %w", err)
	}
	var addrs []netip.Addr
	for _, a := range list {
		if p, err := netip.ParsePrefix(a.String()); err == nil {
			addrs = append(addrs, p.Addr().Unmap())
		}
	}
	return addrs, nil
}

// add puts an entry into the queue's memory. The caller holds the lock, or is Open.
func (q *Queue) add(e *entry) {
	q.entries[e.ID] = e
	q.waiting += e.count()
	q.memory.learn(e, false)
	for _, l := range e.Legs {
		l.entry, l.index, l.parked = e, -1, true
		if e.Deleted {
			l.Next = e.Arrived
		}
		q.plan(l)
	}
}

// plan puts a leg into the timetable, unless nobody may try it or nothing is left to do. The caller holds the lock.
func (q *Queue) plan(l *leg) {
	if l.busy || !l.parked || (l.entry.Held != "" || l.done()) && !l.entry.over() {
		return
	}
	l.parked = false
	heap.Push(&q.schedule.table, l)
	q.poke()
}

// poke has Run look at the timetable.
func (q *Queue) poke() {
	select {
	case q.wake <- struct{}{}:
	default: // it will look anyway
	}
}

// take makes a message durable and plans it. kept says that it is in the queue, though it may not be acknowledged when there
// is an error.
func (q *Queue) take(e *entry, body io.Reader) (kept bool, err error) {
	c := newContent()
	if err := q.keep.PutBody(e.ID, io.TeeReader(body, c)); err != nil {
		return false, err
	}
	if c.hops > maxHops {
		return false, errors.Join(errLoop, q.keep.Drop(e.ID))
	}
	e.Size, e.Sum, e.EightBit = c.size, c.sum(), c.eightBit
	e.UTF8 = e.UTF8 && c.utf8Head || slices.ContainsFunc(e.addresses(), func(a string) bool { return !isASCII(a) })
	text, err := e.encode()
	if err != nil {
		return false, errors.Join(err, q.keep.Drop(e.ID))
	}
	if kept, err = q.keep.Add(e.ID, text, e.Sum, e.Size); kept {
		q.mu.Lock()
		defer q.mu.Unlock()
		q.add(e)
	}
	return kept, err
}

// addresses gives all addresses of the envelope.
func (e *entry) addresses() []string {
	list := []string{e.From}
	for _, l := range e.Legs {
		for _, r := range l.Recipients {
			list = append(list, r.Address)
		}
	}
	return list
}

// save writes the envelope as it is now, durably, unless the entry has been removed.
func (q *Queue) save(e *entry) error {
	e.saving.Lock()
	defer e.saving.Unlock()
	return q.write(e)
}

// write is save for who has e.saving.
func (q *Queue) write(e *entry) error {
	q.mu.Lock()
	_, there := q.entries[e.ID]
	text, err := e.encode()
	e.dirty = true
	q.mu.Unlock()
	if !there {
		return nil
	}
	if err == nil {
		err = q.keep.Change(e.ID, text)
	}
	if err != nil {
		return fmt.Errorf("save entry %s: %w", e.ID, err)
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	e.dirty = false
	return nil
}

// backoff gives the wait after some attempts: twice as long each time, within the limits, and shuffled by a tenth.
func (q *Queue) backoff(attempts int) time.Duration {
	c := q.opt.Config
	wait := c.RetryMin
	for i := 1; i < attempts && wait < c.RetryMax; i++ {
		wait *= 2
	}
	wait = min(wait, c.RetryMax)
	return wait - wait/10 + rand.N(wait/5+1)
}
