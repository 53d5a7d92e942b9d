package link

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/emersion/go-smtp"
)

// Fields is what a message's MAIL carries in ENVID on the link.
type Fields struct {
	Tx         string // transaction id, 32 lower-case hexadecimal digits; empty for none
	Hold       bool   // to be kept apart from the mailbox's other mail
	EnvelopeID string // the client's own ENVID (RFC 3461 section 4.4); empty for none
}

// String writes the fields as `t=ID;q=1;e=ENVID`. Those that are empty are left out; e is the last, and may hold anything.
func (f Fields) String() string {
	var parts []string
	if f.Tx != "" {
		parts = append(parts, "t="+f.Tx)
	}
	if f.Hold {
		parts = append(parts, "q=1")
	}
	if f.EnvelopeID != "" {
		parts = append(parts, "e="+f.EnvelopeID)
	}
	return strings.Join(parts, ";")
}

// ParseFields reads what String wrote. A field that it does not know is an error: who sent it means something by it.
func ParseFields(s string) (Fields, error) {
	var f Fields
	for s != "" {
		if id, ok := strings.CutPrefix(s, "e="); ok {
			f.EnvelopeID = id
			break
		}
		var field string
		field, s, _ = strings.Cut(s, ";")
		tx, ok := strings.CutPrefix(field, "t=")
		switch {
		case ok && isTransactionID(tx):
			f.Tx = tx
		case field == "q=1":
			f.Hold = true
		default:
			return Fields{}, fmt.Errorf("link: unknown field %q in ENVID", field)
		}
	}
	return f, nil
}

func isTransactionID(s string) bool {
	return len(s) == 32 && strings.Trim(s, "0123456789abcdef") == ""
}

// mailLine writes the MAIL command of a message. It asks for SMTPUTF8 also when only a mailbox needs it: an alias that does not
// may lead there.
func mailLine(m Message, to []Recipient) (string, error) {
	var b strings.Builder
	if m.From != "" && !IsPath(m.From) {
		return "", errSyntax
	}
	fmt.Fprintf(&b, "MAIL FROM:<%s> BODY=8BITMIME", Path(m.From))
	if m.Options.UTF8 || !IsASCII(m.From) || slices.ContainsFunc(to, func(r Recipient) bool { return !IsASCII(r.Address) }) {
		b.WriteString(" SMTPUTF8")
	}
	if m.Options.Size > 0 {
		fmt.Fprintf(&b, " SIZE=%d", m.Options.Size)
	}
	if m.Options.Return != "" {
		b.WriteString(" RET=" + string(m.Options.Return))
	}
	if id := (Fields{Tx: m.Tx, Hold: m.Hold, EnvelopeID: m.Options.EnvelopeID}).String(); id != "" {
		b.WriteString(" ENVID=" + xtext(id))
	}
	if m.User != "" {
		b.WriteString(" AUTH=" + userText(m.User))
	}
	return b.String(), nil
}

// rcptLine writes the RCPT command of a recipient.
func rcptLine(to Recipient) (string, error) {
	if !IsPath(to.Address) {
		return "", errSyntax
	}
	line := "RCPT TO:<" + Path(to.Address) + ">"
	if len(to.Options.Notify) > 0 {
		var words []string
		for _, n := range to.Options.Notify {
			words = append(words, string(n))
		}
		line += " NOTIFY=" + strings.Join(words, ",")
	}
	if to.Options.OriginalRecipient != "" {
		line += " ORCPT=" + string(to.Options.OriginalRecipientType) + ";" + originalRecipient(to.Options)
	}
	return line, nil
}

// originalRecipient writes the address of ORCPT as its type has it.
func originalRecipient(o smtp.RcptOptions) string {
	if o.OriginalRecipientType == smtp.DSNAddressTypeUTF8 {
		return escape(o.OriginalRecipient, `+=\`, `\x{%02X}`)
	}
	return xtext(o.OriginalRecipient)
}

// xtext writes text so that it holds no space and no sign with a meaning (RFC 3461 section 4).
func xtext(s string) string { return escape(s, "+=", "+%02X") }

// userText is xtext that leaves UTF-8 as it is, which xtext has no form for.
func userText(s string) string {
	var b strings.Builder
	for _, r := range s {
		if r > 0x7f {
			b.WriteRune(r)
		} else {
			b.WriteString(xtext(string(r)))
		}
	}
	return b.String()
}

// escape writes special characters, and those that are not printable ASCII, in a form.
func escape(s, special, form string) string {
	var b strings.Builder
	for _, r := range s {
		if r <= ' ' || r > '~' || strings.ContainsRune(special, r) {
			fmt.Fprintf(&b, form, r)
		} else {
			b.WriteRune(r)
		}
	}
	return b.String()
}

// errSyntax is for an address that no command can carry.
var errSyntax = &smtp.SMTPError{Code: 501, EnhancedCode: smtp.EnhancedCode{5, 1, 3}, Message: "Bad address syntax"}

// errNoOffer says that the peer is no server of ours.
var errNoOffer = errors.New("link: the store does not offer PIPELINING, 8BITMIME, DSN and SMTPUTF8")
