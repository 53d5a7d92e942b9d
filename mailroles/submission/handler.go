package submission

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/emersion/go-smtp"

	"anycastle/mailroles/directory"
	"anycastle/mailroles/link"
	"anycastle/mailroles/smtpd"
	"anycastle/mailroles/throttle"
)

// Directory says who may log in, who may send as whom, and where mail for an address goes.
type Directory interface {
	Authenticate(ctx context.Context, user, password string) (directory.Mailbox, error)
	// HasKeys says whether any mailbox may have keys for SCRAM.
	HasKeys() bool
	// SCRAM gives a user's keys. With directory.ErrLogin it gives keys that no proof fits.
	SCRAM(ctx context.Context, user string) (directory.Keys, error)
	Mailbox(ctx context.Context, address string) (directory.Mailbox, error)
	// ResolveFrom gives the mailboxes that mail from a mailbox to an address goes to.
	ResolveFrom(ctx context.Context, sender, address string) ([]directory.Mailbox, error)
	MaySend(ctx context.Context, m directory.Mailbox, from string) (bool, error)
	// Local says whether a domain is one of ours.
	Local(ctx context.Context, domain string) (bool, error)
}

// Store hands mail on: it is link.Pool.
type Store interface {
	Ask(ctx context.Context, addr netip.AddrPort, m link.Message, to []link.Recipient) []error
	Deliver(ctx context.Context, addr netip.AddrPort, m link.Message, to []link.Recipient) []error
}

// LUN is where the store of a LUN takes mail for its mailboxes, and from them for elsewhere.
type LUN struct {
	LMTP, Queue netip.AddrPort
}

// Replies to what a user may not do.
var (
	errNoLogin  = refusal(530, 7, 0, "Log in first, over TLS")
	errNotYours = refusal(553, 7, 1, "Sender is not an address of the user")
	errRate     = refusal(450, 7, 1, "Too many messages in an hour, try again later")
	errNotFrom  = refusal(550, 7, 1, "Group takes no mail from the user")
	errUnknown  = refusal(550, 1, 1, "No such mailbox here")
)

// refusal makes a reply with its enhanced code (RFC 3463), whose first digit is that of the code.
func refusal(code, subject, detail int, message string) *smtp.SMTPError {
	return &smtp.SMTPError{Code: code, EnhancedCode: smtp.EnhancedCode{code / 100, subject, detail}, Message: message}
}

// Options are what a Handler needs.
type Options struct {
	Hostname  string
	Directory Directory
	Store     Store
	LUNs      map[string]LUN
	Log       *slog.Logger
}

// Handler is the smtpd.Handler and smtpd.Judge of the submission service.
type Handler struct {
	opt  Options
	rate throttle.Rate
	now  atomic.Pointer[settings]
}

// settings are what a reload changes.
type settings struct {
	perHour int
	require bool
	keys    keys
	missing sync.Map // domains without a key that were told of
}

// NewHandler makes a handler. It reads the DKIM keys.
func NewHandler(c Config, opt Options) (*Handler, error) {
	h := &Handler{opt: opt}
	return h, h.Reload(c)
}

// Reload reads the DKIM keys anew, and takes them and the rate from a config; everything else in it is left alone. On an error
// all stays as it was.
func (h *Handler) Reload(c Config) error {
	k, err := loadKeys(c.DKIM.Keys)
	if err != nil {
		return err
	}
	h.now.Store(&settings{perHour: c.MessagesPerHour, require: c.DKIM.Require, keys: k})
	return nil
}

// transaction is a message on its way through a Handler.
type transaction struct {
	*Handler
	env    *smtpd.Envelope
	box    directory.Mailbox
	local  map[string][]directory.Mailbox // by recipient as the client wrote it; none for one who is elsewhere
	passed bool                           // all have it
}

// Begin implements smtpd.Handler.
func (h *Handler) Begin(ctx context.Context, env *smtpd.Envelope) (smtpd.Transaction, error) {
	if env.User == "" {
		return nil, errNoLogin
	}
	box, err := h.opt.Directory.Mailbox(ctx, env.User)
	if errors.Is(err, directory.ErrUnknown) {
		return nil, errNotYours // it was there when the user logged in
	}
	if err != nil {
		return nil, h.unclear(err)
	}
	may, err := h.opt.Directory.MaySend(ctx, box, cmp.Or(env.From, box.Address))
	if err != nil {
		return nil, h.unclear(err)
	}
	if !may {
		return nil, errNotYours
	}
	if !h.rate.Take(box.Address, h.now.Load().perHour) {
		return nil, errRate
	}
	return &transaction{Handler: h, env: env, box: box, local: map[string][]directory.Mailbox{}}, nil
}

// unclear tells of what keeps a question from being answered; the client is told to come back.
func (h *Handler) unclear(err error) error {
	h.opt.Log.Warn("directory cannot tell", "err", err)
	return err
}

// Rcpt implements smtpd.Transaction.
func (t *transaction) Rcpt(ctx context.Context, to smtpd.Recipient) error {
	dir := t.opt.Directory
	ours, err := dir.Local(ctx, to.Address[strings.LastIndexByte(to.Address, '@')+1:])
	if err != nil {
		return t.unclear(err)
	}
	if !ours {
		return nil
	}
	boxes, err := dir.ResolveFrom(ctx, t.box.Address, to.Address)
	if errors.Is(err, directory.ErrSender) {
		return errNotFrom
	}
	if errors.Is(err, directory.ErrUnknown) {
		return errUnknown
	}
	if err != nil {
		return t.unclear(err)
	}
	m := t.message()
	for lun, list := range byLUN(boxes, to.Options) {
		if err := errors.Join(t.opt.Store.Ask(ctx, t.opt.LUNs[lun].LMTP, m, list)...); err != nil {
			return t.told(lun, err)
		}
	}
	t.local[to.Address] = boxes
	return nil
}

// told logs what is no plain refusal of a store.
func (t *transaction) told(lun string, err error) error {
	var refusal *smtp.SMTPError
	if !errors.As(err, &refusal) {
		t.opt.Log.Warn("store did not answer", "lun", lun, "err", err)
	}
	return fmt.Errorf("lun %s: %w", lun, err)
}

// byLUN gives the mailboxes as recipients of their stores.
func byLUN(boxes []directory.Mailbox, options smtp.RcptOptions) map[string][]link.Recipient {
	luns := map[string][]link.Recipient{}
	for _, b := range boxes {
		luns[b.LUN] = append(luns[b.LUN], link.Recipient{Address: b.Address, Options: options})
	}
	return luns
}

// Close implements smtpd.Transaction. A message that came to nothing does not count.
func (t *transaction) Close() {
	if !t.passed {
		t.rate.Return(t.box.Address)
	}
}
