package judge

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"regexp"
	"strings"
	"sync"
	"time"

	"blitiri.com.ar/go/spf"
	"github.com/emersion/go-msgauth/authres"
	"github.com/emersion/go-msgauth/dkim"
	"github.com/emersion/go-smtp"
	"golang.org/x/net/idna"

	"anycastle/internal/config"
	"anycastle/mailroles/resolver"
	"anycastle/mailroles/smtpd"
)

// maxSignatures is how many signatures of a message are verified; each costs a question to DNS and a hash of the body.
const maxSignatures = 5

// Config is the `judge:` part of the smtp section. Without it nothing is judged.
type Config struct {
	Resolver netip.AddrPort `yaml:"resolver"` // DNS server to ask; the machine's own by default
	Timeout  time.Duration  `yaml:"timeout"`  // of all questions about a message together; default 10s
	Enforce  bool           `yaml:"enforce"`  // do what a domain's DMARC policy asks for; default false: only tell
}

// SetDefaults implements config.Defaulter.
func (c *Config) SetDefaults() { *c = Config{Timeout: 10 * time.Second} }

// Validate reports what is wrong with the section.
func (c *Config) Validate(at config.Cursor) {
	if c.Timeout < time.Second || c.Timeout > time.Minute {
		at.Key("timeout").Errorf("%v must be from 1s to 1m", c.Timeout)
	}
}

var (
	errPolicy = &smtp.SMTPError{Code: 550, EnhancedCode: smtp.EnhancedCode{5, 7, 1},
		Message: "Message fails DMARC, and its domain asks for its refusal"}
	errLargeHead = &smtp.SMTPError{Code: 552, EnhancedCode: smtp.EnhancedCode{5, 3, 4}, Message: "Message header is too large"}
	errNoAnswer  = &smtp.SMTPError{Code: 451, EnhancedCode: smtp.EnhancedCode{4, 7, 1},
		Message: "DNS does not tell whether the sender may use its domain, try again later"}
)

// dnsLookup is the part of net.Resolver that is needed.
type dnsLookup = spf.DNSResolver

// Judge judges messages.
type Judge struct {
	cfg      Config
	hostname string
	dns      dnsLookup
	log      *slog.Logger

	mu     sync.Mutex
	counts map[string]uint64
}

var _ smtpd.Judge = (*Judge)(nil)

// New makes a judge that signs what it finds as hostname.
func New(cfg Config, hostname string, log *slog.Logger) *Judge {
	return &Judge{cfg: cfg, hostname: hostname, dns: resolver.At(cfg.Resolver), log: log, counts: map[string]uint64{}}
}

// Counts gives the DMARC results since the start, such as "pass", and "refused" and "kept-apart" for what was done.
func (j *Judge) Counts() map[string]uint64 {
	j.mu.Lock()
	defer j.mu.Unlock()
	return maps.Clone(j.counts)
}

func (j *Judge) count(what string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.counts[what]++
}

// Judge implements smtpd.Judge.
func (j *Judge) Judge(ctx context.Context, env *smtpd.Envelope) error {
	if err := checkHead(env.Body.Reader()); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, j.cfg.Timeout)
	defer cancel()
	var f findings
	var asking sync.WaitGroup
	asking.Go(func() { f.spf, f.sender = j.checkSPF(ctx, env) })
	asking.Go(func() { f.dkim = j.checkDKIM(ctx, env) })
	asking.Wait()
	var err error
	if f.from, err = fromDomain(env.Body.Reader()); err != nil {
		f.dmarc = authres.DMARCResult{Value: authres.ResultPermError, Reason: err.Error()}
	} else {
		f.record, f.own, f.dmarc = j.policy(ctx, f.from)
	}
	f.decide()
	env.Head += f.field(j.hostname)
	j.count(string(f.dmarc.Value))
	return j.enforce(env, &f)
}

// enforce does what the domain asks for.
func (j *Judge) enforce(env *smtpd.Envelope, f *findings) error {
	if !j.cfg.Enforce {
		return nil
	}
	switch {
	case f.from == "":
		j.count("kept-apart")
		env.Hold = "no policy can be found: " + f.dmarc.Reason
		return nil
	case f.dmarc.Value == authres.ResultTempError:
		return errNoAnswer
	case f.dmarc.Value != authres.ResultFail:
		return nil
	}
	switch f.disposition() {
	case dispositionReject:
		j.count("refused")
		j.log.Info("message refused", "reason", "dmarc", "from", f.from, "client", env.Client.Addr.String())
		return errPolicy
	case dispositionQuarantine:
		j.count("kept-apart")
		env.Hold = "DMARC of " + f.from
	}
	return nil
}

// checkSPF judges the client's address for the sender's domain, or for the name that the client gave when there is none. It
// gives that name too, as DNS is asked for it.
func (j *Judge) checkSPF(ctx context.Context, env *smtpd.Envelope) (r authres.SPFResult, name string) {
	r = authres.SPFResult{From: clean(env.From), Helo: clean(env.Helo)}
	sender := env.From
	local, name, ok := cutLast(sender)
	if !ok {
		name = env.Helo
	} else if ascii, err := idna.Lookup.ToASCII(name); err == nil {
		sender, name = local+"@"+ascii, ascii
	}
	if !env.Client.Addr.IsValid() {
		r.Value = authres.ResultNone
		return r, name
	}
	addr := net.IP(env.Client.Addr.AsSlice())
	got, err := spf.CheckHostWithSender(addr, env.Helo, sender, spf.WithContext(ctx), spf.WithResolver(j.dns))
	r.Value = authres.ResultValue(got)
	if (got == spf.TempError || got == spf.PermError) && err != nil {
		r.Reason = brief(err)
	}
	return r, name
}

// checkDKIM verifies the message's signatures.
func (j *Judge) checkDKIM(ctx context.Context, env *smtpd.Envelope) []authres.DKIMResult {
	verified, err := dkim.VerifyWithOptions(env.Body.Reader(), &dkim.VerifyOptions{
		LookupTXT:        func(domain string) ([]string, error) { return j.dns.LookupTXT(ctx, rooted(domain)) },
		MaxVerifications: maxSignatures,
	})
	if err != nil && !errors.Is(err, dkim.ErrTooManySignatures) {
		return []authres.DKIMResult{{Value: authres.ResultPermError, Reason: brief(err)}}
	}
	var list []authres.DKIMResult
	for _, v := range verified {
		r := authres.DKIMResult{Value: authres.ResultPass, Domain: clean(v.Domain), Identifier: clean(v.Identifier)}
		switch {
		case v.Err == nil:
		case dkim.IsTempFail(v.Err):
			r.Value, r.Reason = authres.ResultTempError, brief(v.Err)
		case dkim.IsPermFail(v.Err):
			r.Value, r.Reason = authres.ResultPermError, brief(v.Err)
		default:
			r.Value, r.Reason = authres.ResultFail, brief(v.Err)
		}
		list = append(list, r)
	}
	return list
}

// rooted makes a name complete, so that no search domain is tried.
func rooted(name string) string { return strings.TrimSuffix(name, ".") + "." }

// asked is how an error of a lookup names the server that was asked.
var asked = regexp.MustCompile(` on [0-9a-fA-F.:%\[\]]+:[0-9]+: `)

// brief is the start of an error's text, without the server that was asked: strangers read it. Parts of it come from the message.
func brief(err error) string {
	text := clean(asked.ReplaceAllString(err.Error(), ": "))
	return text[:min(len(text), 100)]
}

// clean keeps what a stranger wrote from being more than a value in one line of a header.
func clean(text string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' || strings.ContainsRune("\"\\;()", r) {
			return '.'
		}
		return r
	}, text)
}
