package directory

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"slices"
	"strings"
)

const (
	// MaxPerLUN is the most mailboxes that one LUN holds.
	MaxPerLUN = 1000
	// MaxReach is the most entries that an alias or a group may lead through, each counted as often as it is met.
	MaxReach = 10_000
)

// Errors that callers tell apart. Any other error means that the directory cannot tell now: the answer is a temporary one.
var (
	// ErrLogin says that no such mailbox exists or that the password is not its own; it does not say which.
	ErrLogin = errors.New("directory: wrong address or password")
	// ErrUnknown says that there is no such address.
	ErrUnknown = errors.New("directory: no such address")
	// ErrSender says that there is such a group, but that it takes no mail from this sender. It is an ErrUnknown too.
	ErrSender = fmt.Errorf("%w for this sender", ErrUnknown)
	// ErrNoKeys says that the directory holds no keys for SCRAM at all.
	ErrNoKeys = errors.New("directory: no keys for SCRAM")
)

// Mailbox is what others need to know of a mailbox.
type Mailbox struct {
	Address  string // in its normal form, which is also the name of its directory
	LUN      string // where the mail is
	Quota    Quota
	Disabled bool // nobody may log in or send as it; mail still arrives
}

// Quota bounds what a mailbox holds. Zero is no bound.
type Quota struct{ Bytes, Messages int64 }

// Senders says who may write to a group.
type Senders string

// Who may write to a group. A sender is only known when it has logged in.
const (
	Anyone  Senders = "anyone"
	Members Senders = "members" // its own mailboxes
	Domain  Senders = "domain"  // mailboxes of its own domain
)

// entry is what a source has under one address: a mailbox, an alias or a group.
type entry struct {
	kind   kind
	box    Mailbox  // of a mailbox
	hash   string   // its password's
	keys   *Keys    // nil: none
	sendAs []string // further addresses that it may send as
	to     []string // of an alias or a group: where it leads, in normal form
	from   Senders  // of a group
}

type kind string

const (
	aMailbox kind = "mailbox"
	anAlias  kind = "alias"
	aGroup   kind = "group"
)

// source is what a Directory asks. It does not change while it is asked: a file that is read again is a new one.
type source interface {
	// find gives what is under exactly this address, in normal form, or ErrUnknown. sure asks for what is so now, and not
	// for what was so some time ago.
	find(ctx context.Context, address string, sure bool) (*entry, error)
	// local says whether the domain, in normal form, is one of ours.
	local(domain string) bool
	// login checks a password that is not empty. It gives ErrLogin for an unknown mailbox as for a wrong password.
	login(ctx context.Context, address, password string) (Mailbox, error)
	// fake gives what is the same on every node for an unknown user, as a seed of keys, and the rounds that they are to have.
	// iterations is 0 when there are no keys at all.
	fake() (seed []byte, iterations int)
}

// Directory knows mailboxes, aliases and groups from a file or from LDAP. It is safe for concurrent use.
type Directory struct {
	file *watched // nil: ldap is not
	ldap *ldapSource

	slots chan struct{} // bounds password hashes in work at a time: each takes megabytes
}

// Open makes the directory of a checked config. Every mailbox must be on one of the luns. A file is read now; an LDAP server
// is asked when it is needed, and need not be there yet. log is told when the answers change or fail; nil: nobody is.
func Open(c Config, luns []string, log *slog.Logger) (*Directory, error) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	if c.LDAP != nil {
		s, err := newLDAP(*c.LDAP, luns, log)
		if err != nil {
			return nil, err
		}
		return &Directory{ldap: s}, nil
	}
	w, err := watch(c.File, luns, log)
	if err != nil {
		return nil, err
	}
	return newOfFile(w), nil
}

// Load is Open for a file.
func Load(path string, luns []string) (*Directory, error) { return Open(Config{File: path}, luns, nil) }

// Parse is Load for text that is already in memory, and is not read again; name stands for the file in complaints.
func Parse(name string, text []byte, luns []string) (*Directory, error) {
	t, err := parseTable(name, text, luns)
	if err != nil {
		return nil, err
	}
	return newOfFile(fixed(name, t)), nil
}

func newOfFile(w *watched) *Directory {
	return &Directory{file: w, slots: make(chan struct{}, runtime.GOMAXPROCS(0))}
}

// source gives what is to be asked: once for each question, so that its parts fit together.
func (d *Directory) source() source {
	if d.ldap != nil {
		return d.ldap
	}
	return d.file.now()
}

// lookup finds what mail for an address reaches: what is under the address, or what it is a subaddress of.
func lookup(ctx context.Context, s source, address string, sure bool) (*entry, string, error) {
	normal, ok := Normalize(address)
	if !ok || !s.local(domainOf(normal)) {
		return nil, "", ErrUnknown
	}
	e, err := s.find(ctx, normal, sure)
	if base, tagged := untagged(normal); tagged && errors.Is(err, ErrUnknown) {
		normal = base
		e, err = s.find(ctx, base, sure)
	}
	return e, normal, err
}

// Mailbox finds a mailbox by its own address, without regard to case. The error is ErrUnknown when there is none.
func (d *Directory) Mailbox(ctx context.Context, address string) (Mailbox, error) {
	return mailbox(ctx, d.source(), address)
}

func mailbox(ctx context.Context, s source, address string) (Mailbox, error) {
	normal, ok := Normalize(address)
	if !ok || !s.local(domainOf(normal)) {
		return Mailbox{}, ErrUnknown
	}
	e, err := s.find(ctx, normal, false)
	if err != nil {
		return Mailbox{}, err
	}
	if e.kind != aMailbox {
		return Mailbox{}, ErrUnknown
	}
	return e.box, nil
}

// Local says whether a domain is one of ours: whether there is or may be an address in it.
func (d *Directory) Local(_ context.Context, domain string) (bool, error) {
	normal, ok := normalDomain(domain)
	return ok && d.source().local(normal), nil
}

// Resolve gives the mailboxes that mail for an address goes to, each once, when nobody knows who sends it: groups that
// do not take mail from anyone give ErrSender. The error is ErrUnknown when there is no such address.
func (d *Directory) Resolve(ctx context.Context, address string) ([]Mailbox, error) {
	return d.ResolveFrom(ctx, "", address)
}

// ResolveFrom is Resolve for mail from a mailbox whose user has logged in. Of groups within a group, the outermost decides.
func (d *Directory) ResolveFrom(ctx context.Context, sender, address string) ([]Mailbox, error) {
	s := d.source()
	w := &walk{source: s, seen: map[string]bool{}}
	if err := w.to(ctx, address, false); err != nil {
		return nil, err
	}
	for _, g := range w.groups {
		may, err := g.takes(ctx, s, sender)
		if err != nil {
			return nil, err
		}
		if !may {
			return nil, ErrSender
		}
	}
	if len(w.boxes) == 0 {
		return nil, ErrUnknown
	}
	return w.boxes, nil
}

// walk follows aliases and groups to mailboxes.
type walk struct {
	source source
	seen   map[string]bool
	boxes  []Mailbox
	groups []group // those met before another group
}

// group is a group on the way.
type group struct {
	address string
	entry   *entry
}

// to goes where an address leads. within says that it is a member of a group.
func (w *walk) to(ctx context.Context, address string, within bool) error {
	e, normal, err := lookup(ctx, w.source, address, false)
	if err != nil {
		return err
	}
	if w.seen[normal] {
		return nil
	}
	if len(w.seen) >= MaxReach {
		return fmt.Errorf("directory: an alias or a group leads to more than %d addresses", MaxReach)
	}
	w.seen[normal] = true
	if e.kind == aMailbox {
		w.boxes = append(w.boxes, e.box)
		return nil
	}
	if e.kind == aGroup && !within {
		w.groups = append(w.groups, group{normal, e})
	}
	for _, to := range e.to {
		// an address that is gone does not keep mail from the others
		if err := w.to(ctx, to, within || e.kind == aGroup); err != nil && !errors.Is(err, ErrUnknown) {
			return err
		}
	}
	return nil
}

// takes says whether the group takes mail from a mailbox; "" is nobody who is known.
func (g group) takes(ctx context.Context, s source, sender string) (bool, error) {
	if g.entry.from == Anyone {
		return true, nil
	}
	m, err := mailbox(ctx, s, sender)
	if errors.Is(err, ErrUnknown) {
		return false, nil
	}
	if err != nil || g.entry.from == Domain {
		return err == nil && domainOf(m.Address) == domainOf(g.address), err
	}
	w := &walk{source: s, seen: map[string]bool{}}
	if err := w.to(ctx, g.address, true); err != nil {
		return false, err
	}
	return slices.Contains(w.boxes, m), nil
}

// MaySend says whether a mailbox may send as an address: its own, an alias that leads to it alone, an address that is listed
// for it, or a subaddress of these.
func (d *Directory) MaySend(ctx context.Context, m Mailbox, from string) (bool, error) {
	s := d.source()
	normal, ok := Normalize(from)
	if !ok {
		return false, nil
	}
	own, err := s.find(ctx, m.Address, true)
	if errors.Is(err, ErrUnknown) || err == nil && (own.kind != aMailbox || own.box.Disabled) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if slices.Contains(own.sendAs, normal) {
		return true, nil
	}
	if base, tagged := untagged(normal); tagged && slices.Contains(own.sendAs, base) {
		_, err := exact(ctx, s, normal)
		if errors.Is(err, ErrUnknown) {
			return true, nil
		}
		if err != nil {
			return false, err
		}
	}
	return leadsTo(ctx, s, normal, m.Address)
}

// exact gives what is under a normal address itself, not under what it may be a subaddress of.
func exact(ctx context.Context, s source, normal string) (*entry, error) {
	if !s.local(domainOf(normal)) {
		return nil, ErrUnknown
	}
	return s.find(ctx, normal, true)
}

// leadsTo says whether an address is that of a mailbox, or leads to it by aliases alone and to no other.
func leadsTo(ctx context.Context, s source, address, box string) (bool, error) {
	for range MaxReach {
		e, normal, err := lookup(ctx, s, address, true)
		if errors.Is(err, ErrUnknown) {
			return false, nil
		}
		if err != nil || e.kind == aMailbox {
			return err == nil && normal == box, err
		}
		if e.kind != anAlias || len(e.to) != 1 {
			return false, nil
		}
		address = e.to[0]
	}
	return false, nil
}

// Authenticate finds the mailbox of a user who knows its password. The error is ErrLogin for an unknown user as for a
// wrong password, after the same work when the directory is a file; it is the context's when ctx ends before.
func (d *Directory) Authenticate(ctx context.Context, address, password string) (Mailbox, error) {
	if password == "" || strings.ContainsRune(password, 0) {
		return Mailbox{}, ErrLogin // an LDAP server would take an empty one for no login at all (RFC 4513 section 5.1.2)
	}
	if d.slots != nil {
		select {
		case d.slots <- struct{}{}:
			defer func() { <-d.slots }()
		case <-ctx.Done():
			return Mailbox{}, fmt.Errorf("wait for a password check: %w", ctx.Err())
		}
	}
	return d.source().login(ctx, address, password)
}
