package judge

import (
	"bufio"
	"context"
	"errors"
	"io"
	"strings"

	"github.com/emersion/go-message"
	"github.com/emersion/go-message/mail"
	"github.com/emersion/go-message/textproto"
	"github.com/emersion/go-msgauth/authres"
	"github.com/emersion/go-msgauth/dmarc"
	"golang.org/x/net/idna"
	"golang.org/x/net/publicsuffix"
)

// findings are what is known of one message.
type findings struct {
	from   string        // the domain in From; empty when there is not just one
	record *dmarc.Record // nil for none
	own    bool          // the record is that of from itself, not of the domain above
	spf    authres.SPFResult
	sender string // the name that spf is of, and not as clean makes it: that may be another's
	dkim   []authres.DKIMResult
	dmarc  authres.DMARCResult
}

// What a domain may ask to be done with a message that fails.
const (
	dispositionNone       = string(dmarc.PolicyNone)
	dispositionQuarantine = string(dmarc.PolicyQuarantine)
	dispositionReject     = string(dmarc.PolicyReject)
)

// fromDomain gives the domain that a message claims to come from. There must be one From field, and one domain in it.
func fromDomain(msg io.Reader) (string, error) {
	h, err := textproto.ReadHeader(bufio.NewReader(msg))
	if err != nil {
		return "", errors.New("the header is unreadable")
	}
	header := mail.Header{Header: message.Header{Header: h}}
	if header.FieldsByKey("From").Len() != 1 {
		return "", errors.New("there is not one From field")
	}
	list, err := header.AddressList("From")
	if err != nil {
		return "", errors.New("the From field is unreadable")
	}
	found := ""
	for _, a := range list {
		_, domain, ok := cutLast(a.Address)
		if !ok || found != "" && !strings.EqualFold(found, domain) {
			return "", errors.New("the From field has not one domain")
		}
		found = domain
	}
	ascii, err := idna.Lookup.ToASCII(strings.TrimSuffix(found, "."))
	if err != nil || ascii == "" {
		return "", errors.New("the From field has no domain name")
	}
	return strings.ToLower(ascii), nil
}

func cutLast(address string) (local, domain string, ok bool) {
	at := strings.LastIndexByte(address, '@')
	if at < 0 {
		return "", "", false
	}
	return address[:at], address[at+1:], true
}

// organisation gives the domain that somebody registered (RFC 7489 section 3.2).
func organisation(domain string) string {
	org, err := publicsuffix.EffectiveTLDPlusOne(domain)
	if err != nil {
		return domain
	}
	return org
}

// policy finds the DMARC record of a domain, or of the one that somebody registered (RFC 7489 section 6.6.3). Without one,
// result says why.
func (j *Judge) policy(ctx context.Context, domain string) (record *dmarc.Record, own bool, result authres.DMARCResult) {
	result = authres.DMARCResult{Value: authres.ResultNone, From: domain}
	for _, at := range []string{domain, organisation(domain)} {
		record, err := dmarc.LookupWithOptions(at, &dmarc.LookupOptions{
			LookupTXT: func(name string) ([]string, error) { return j.dns.LookupTXT(ctx, rooted(name)) },
		})
		switch {
		case err == nil:
			return record, at == domain, result
		case errors.Is(err, dmarc.ErrNoPolicy):
			continue
		case dmarc.IsTempFail(err) || ctx.Err() != nil:
			result.Value = authres.ResultTempError
		default:
			result.Value = authres.ResultPermError
		}
		result.Reason = brief(err)
		return nil, false, result
	}
	return nil, false, result
}

// decide says whether something that passed speaks for the domain in From (RFC 7489 section 3.1). A record must be there.
func (f *findings) decide() {
	if f.record == nil {
		return
	}
	doubt := f.spf.Value == authres.ResultTempError
	if f.spf.Value == authres.ResultPass && f.aligned(f.sender, f.record.SPFAlignment) {
		f.dmarc.Value = authres.ResultPass
		return
	}
	for _, d := range f.dkim {
		if d.Value == authres.ResultPass && f.aligned(d.Domain, f.record.DKIMAlignment) {
			f.dmarc.Value = authres.ResultPass
			return
		}
		doubt = doubt || d.Value == authres.ResultTempError
	}
	f.dmarc.Value = authres.ResultFail
	if doubt {
		f.dmarc.Value = authres.ResultTempError
	}
	f.dmarc.Reason = "p=" + f.disposition()
}

func (f *findings) aligned(domain string, mode dmarc.AlignmentMode) bool {
	domain = strings.ToLower(strings.TrimSuffix(domain, "."))
	return domain == f.from || mode != dmarc.AlignmentStrict && organisation(domain) == organisation(f.from)
}

// disposition is what the record asks to be done with a message that fails. What a domain wants for a part of its mail only
// (pct) is done with the next milder step for all of it.
func (f *findings) disposition() string {
	want := string(f.record.Policy)
	if !f.own && f.record.SubdomainPolicy != "" {
		want = string(f.record.SubdomainPolicy)
	}
	if f.record.Percent == nil || *f.record.Percent == 100 {
		return want
	}
	if want == dispositionReject {
		return dispositionQuarantine
	}
	return dispositionNone
}

// field writes the Authentication-Results field, a result on each line.
func (f *findings) field(hostname string) string {
	results := []authres.Result{&f.spf}
	for i := range f.dkim {
		results = append(results, &f.dkim[i])
	}
	if len(f.dkim) == 0 {
		results = append(results, &authres.DKIMResult{Value: authres.ResultNone})
	}
	results = append(results, &f.dmarc)
	text := "Authentication-Results: " + hostname
	for _, r := range results {
		one := strings.TrimRight(strings.TrimPrefix(authres.Format("", []authres.Result{r}), "; "), " ")
		text += ";\r\n\t" + one
	}
	return text + "\r\n"
}
