package smtpd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/emersion/go-smtp"

	"anycastle/internal/proctest"
	"anycastle/mailroles/directory"
	"anycastle/mailroles/link"
)

// fakeSite is a directory and the stores of two LUNs.
type fakeSite struct {
	groups map[string][]string // addresses of mailboxes, by that of a group

	mu      sync.Mutex
	asked   map[string]error          // what a store says at RCPT to a mailbox
	sent    map[string]error          // and after the body
	stored  map[string][]link.Message // what a mailbox has
	options map[string]smtp.RcptOptions
	bodies  []string
}

// Resolve knows groups, and a mailbox of any other name that does not begin with "no". Those of east. are on one LUN, the
// rest on another.
func (f *fakeSite) Resolve(_ context.Context, address string) (boxes []directory.Mailbox, err error) {
	address = strings.ToLower(address)
	switch {
	case strings.HasPrefix(address, "no"):
		return nil, directory.ErrUnknown
	case strings.HasPrefix(address, "broken"):
		return nil, errors.New("directory is away")
	}
	members, ok := f.groups[address]
	if !ok {
		members = []string{address}
	}
	for _, m := range members {
		lun := "west"
		if strings.HasPrefix(m, "east.") {
			lun = "east"
		}
		boxes = append(boxes, directory.Mailbox{Address: m, LUN: lun})
	}
	return boxes, nil
}

func (f *fakeSite) Ask(_ context.Context, _ netip.AddrPort, _ link.Message, to []link.Recipient) (results []error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, r := range to {
		results = append(results, f.asked[r.Address])
	}
	return results
}

func (f *fakeSite) Deliver(_ context.Context, _ netip.AddrPort, m link.Message, to []link.Recipient) (results []error) {
	text, err := io.ReadAll(m.Body())
	f.mu.Lock()
	defer f.mu.Unlock()
	f.bodies = append(f.bodies, m.Head+string(text))
	for _, r := range to {
		result := errors.Join(err, f.sent[r.Address])
		if f.sent[r.Address] != nil && err == nil {
			result = f.sent[r.Address]
		}
		if result == nil {
			f.stored[r.Address] = append(f.stored[r.Address], m)
			f.options[r.Address] = r.Options
		}
		results = append(results, result)
	}
	return results
}

// newFront is a server with a Front before two stores.
func newFront(change func(*Options)) (testServer, *fakeSite) {
	site := &fakeSite{
		groups: map[string][]string{
			"all@example.org":   {"east.a@example.org", "b@example.org", "east.c@example.org"},
			"alias@example.org": {"b@example.org"},
		},
		asked: map[string]error{}, sent: map[string]error{},
		stored: map[string][]link.Message{}, options: map[string]smtp.RcptOptions{},
	}
	s := newTestServer(func(o *Options) {
		o.Handler = &Front{
			Hostname: "mx.example.org", Directory: site, Links: site, Log: slog.New(slog.DiscardHandler),
			LUNs: map[string]netip.AddrPort{"east": {}, "west": {}},
		}
		if change != nil {
			change(o)
		}
	})
	return s, site
}

// has gives how many messages each mailbox has.
func (f *fakeSite) has() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var list []string
	for box, m := range f.stored {
		list = append(list, fmt.Sprintf("%s %d", strings.TrimSuffix(box, "@example.org"), len(m)))
	}
	slices.Sort(list)
	return strings.Join(list, ", ")
}

func TestWhatStoresSayAtRCPT(t *testing.T) {
	gone, away := reply(550, 5, 1, 1, "No such mailbox"), errors.New("no route to store")
	for _, tc := range []struct {
		name  string
		asked map[string]error
		to    string
		code  int
		text  string
	}{
		{"taken", nil, "b@example.org", 250, "2.0.0"},
		{"unknown", nil, "nobody@example.org", 550, "5.1.1"},
		{"directory cannot tell", nil, "broken@example.org", 451, "4.3.0"},
		{"over quota", map[string]error{"b": errFull}, "b@example.org", 452, "4.2.2"},
		{"over quota behind an alias", map[string]error{"b": errFull}, "alias@example.org", 452, "4.2.2"},
		{"unknown to the store", map[string]error{"b": gone}, "b@example.org", 550, "5.1.1"},
		{"store away", map[string]error{"b": away}, "b@example.org", 451, "4.4.1"},
		{"group", nil, "all@example.org", 250, "2.0.0"},
		{"group, one over quota", map[string]error{"b": errFull}, "all@example.org", 452, "4.2.2"},
		{"group, one unknown to its store", map[string]error{"b": gone}, "all@example.org", 451, "4.2.4"},
		{"group, one unknown and one over quota", map[string]error{"b": gone, "east.a": errFull}, "all@example.org", 452, "4.2.2"},
		{"group, one store away", map[string]error{"b": gone, "east.a": away}, "all@example.org", 451, "4.4.1"},
		{"group, all unknown", map[string]error{"b": gone, "east.a": gone, "east.c": gone}, "all@example.org", 550, "5.1.1"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s, site := newFront(nil)
			for box, err := range tc.asked {
				site.asked[box+"@example.org"] = err
			}
			c, _ := s.hello(t)
			c.envelope()
			if text := c.say(tc.code, "RCPT TO:<"+tc.to+">"); !strings.HasPrefix(text, tc.text) {
				t.Errorf("the reply says %q, want %s", text, tc.text)
			}
		})
	}
}

func TestWhatStoresSayAfterTheBody(t *testing.T) {
	large, away := reply(552, 5, 3, 4, "Too large"), errors.New("connection reset")
	const all, b = "all@example.org", "b@example.org"
	for _, tc := range []struct {
		name string
		sent map[string]error
		to   []string
		code int
		text string
		has  string
	}{
		{"one mailbox", nil, []string{b}, 250, "", "b 1"},
		{"a mailbox in three ways", nil, []string{b, "B@Example.ORG", "alias@example.org", all}, 250, "", "b 1, east.a 1, east.c 1"},
		{"one mailbox, full", map[string]error{"b": errFull}, []string{b}, 452, "4.2.2 Mailbox is full", ""},
		{"one mailbox, refused", map[string]error{"b": large}, []string{b}, 552, "5.3.4 Too large", ""},
		{"one mailbox, not known", map[string]error{"b": away}, []string{b}, 451, "4.3.0", ""},
		{"group, one not known", map[string]error{"b": away}, []string{all}, 451, "4.3.0", "east.a 1, east.c 1"},
		{"group, one refused", map[string]error{"b": large}, []string{all}, 552,
			"5.3.4 Too large (1 of 3; the others have the message)", "east.a 1, east.c 1"},
		{"group, one full", map[string]error{"b": errFull}, []string{all}, 552,
			"5.2.2 Mailbox is full (1 of 3; the others have the message)", "east.a 1, east.c 1"},
		{"group, one refused and one not known", map[string]error{"b": large, "east.a": away}, []string{all}, 451, "4.3.0", "east.c 1"},
		{"group, all full", map[string]error{"b": errFull, "east.a": errFull, "east.c": errFull}, []string{all}, 452, "4.2.2", ""},
		{"two recipients, one full", map[string]error{"b": errFull}, []string{"d@example.org", b}, 552,
			"5.2.2 Mailbox is full (1 of 2; the others have the message)", "d 1"},
		{"two recipients, one not known", map[string]error{"b": away}, []string{"d@example.org", b}, 451, "4.3.0", "d 1"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s, site := newFront(nil)
			for box, err := range tc.sent {
				site.sent[box+"@example.org"] = err
			}
			c, _ := s.hello(t)
			c.envelope(tc.to...)
			if text := c.data(tc.code, plain); !strings.HasPrefix(text, tc.text) {
				t.Errorf("the reply says %q, want %q", text, tc.text)
			}
			if got := site.has(); got != tc.has {
				t.Errorf("mailboxes have %q, want %q", got, tc.has)
			}
		})
	}
}

func TestLogTellsWhereMailWent(t *testing.T) {
	log := &proctest.Transcript{}
	s, site := newFront(func(o *Options) { o.Handler.(*Front).Log = slog.New(slog.NewTextHandler(log, nil)) })
	c, _ := s.hello(t)
	c.envelope("alias@example.org")
	c.data(250, plain)
	m := site.stored["b@example.org"][0]
	_, id, _ := strings.Cut(m.Head, " id ")
	id, _, _ = strings.Cut(id, ";")
	want := "id=" + id + " peer=\"\" sender=x@example.org recipients=[alias@example.org] tx=" + m.Tx + " bytes=" +
		strconv.FormatInt(m.Options.Size, 10) + " held=false taken=true"
	if !strings.Contains(log.String(), want) {
		t.Errorf("the log does not say %s:\n%s", want, log)
	}
}

func TestMailboxHearsWhoWasMeant(t *testing.T) {
	s, site := newFront(func(o *Options) { o.DSN = true })
	c, _ := s.hello(t)
	c.say(250, "MAIL FROM:<x@example.org> RET=FULL ENVID=mine SMTPUTF8")
	c.say(250, "RCPT TO:<alias@example.org> NOTIFY=SUCCESS")
	c.say(250, "RCPT TO:<D@example.org>")
	c.say(250, "RCPT TO:<e@example.org> ORCPT=rfc822;f@example.org")
	c.data(250, plain)
	o := site.options["b@example.org"]
	if o.OriginalRecipient != "alias@example.org" || o.OriginalRecipientType != smtp.DSNAddressTypeRFC822 ||
		o.Notify[0] != smtp.DSNNotifySuccess {
		t.Errorf("behind the alias: %+v", o)
	}
	if o := site.options["d@example.org"]; o.OriginalRecipient != "" {
		t.Errorf("the mailbox itself: %+v", o)
	}
	if o := site.options["e@example.org"]; o.OriginalRecipient != "f@example.org" {
		t.Errorf("with ORCPT: %+v", o)
	}
	m := site.stored["b@example.org"][0]
	if m.Options.EnvelopeID != "mine" || m.Options.Return != smtp.DSNReturnFull || !m.Options.UTF8 || m.From != "x@example.org" {
		t.Errorf("the store was told %+v", m)
	}
	if want := int64(len(m.Head) + len(plain)); m.Options.Size != want {
		t.Errorf("the store was told of %d bytes, want %d", m.Options.Size, want)
	}
	if !strings.Contains(m.Head, "\tby mx.example.org with UTF8SMTP id ") {
		t.Errorf("the trace says %q", m.Head)
	}
}

func TestFrontFollowsTheFilters(t *testing.T) {
	s, site := newFront(func(o *Options) {
		o.Filters = fakeFilters{message: func(env *Envelope) error {
			env.From, env.Head, env.Hold = "y@example.org", "X-Filter: yes\r\n", "smells\r\nof\xff fish"
			env.To = slices.DeleteFunc(env.To, func(r Recipient) bool { return r.Address == "b@example.org" })
			env.To = append(env.To, Recipient{Address: "east.new@example.org"}, Recipient{Address: "nobody@example.org"})
			return nil
		}}
	})
	c, _ := s.hello(t)
	c.envelope("b@example.org", "d@example.org")
	c.data(250, plain)
	if got := site.has(); got != "d 1, east.new 1" {
		t.Errorf("mailboxes have %q", got)
	}
	m := site.stored["d@example.org"][0]
	if m.From != "y@example.org" || !m.Hold {
		t.Errorf("the store was told %+v", m)
	}
	head, rest, _ := strings.Cut(site.bodies[0], "X-Quarantine: ")
	if !strings.HasPrefix(head, "Received: ") || rest != "smells  of  fish\r\nX-Filter: yes\r\n"+plain {
		t.Errorf("the store got %q", site.bodies[0])
	}
	site.sent["east.new@example.org"] = errors.New("store is away")
	c.envelope("d@example.org")
	c.data(451, plain) // who was added counts as much
}

func TestRecipientThatAFilterAddedMayBeInDoubt(t *testing.T) {
	s, site := newFront(func(o *Options) {
		o.Filters = fakeFilters{message: func(env *Envelope) error {
			env.To = append(env.To, Recipient{Address: "broken@example.org"})
			return nil
		}}
	})
	c, _ := s.hello(t)
	c.envelope("b@example.org")
	c.data(451, plain)
	if got := site.has(); got != "" {
		t.Errorf("mailboxes have %q", got)
	}
}
