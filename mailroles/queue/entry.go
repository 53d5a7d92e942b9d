package queue

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"anycastle/internal/strict"
	"anycastle/mailroles/link"
	"anycastle/mailroles/queue/remote"
)

// State is how far a recipient is.
type State string

// The states. Only a waiting recipient is tried.
const (
	Waiting   State = "waiting"
	Delivered State = "delivered" // its host took the message, and the duty to report success if there is one
	Relayed   State = "relayed"   // its host took the message, and cannot report success
	Failed    State = "failed"
	Expired   State = "expired" // its life ended
)

// entry is a message in the queue. It is also the form on disk.
type entry struct {
	ID       string    `json:"id"`
	Tx       string    `json:"tx,omitempty"` // transaction id by which a repetition is recognised
	From     string    `json:"from"`         // empty for a report
	User     string    `json:"user,omitempty"`
	Arrived  time.Time `json:"arrived"`
	Size     int64     `json:"size"`                // of the body, in bytes
	Sum      string    `json:"sum,omitempty"`       // SHA-256 of the body, in hexadecimal; none if it was queued by an old version
	EightBit bool      `json:"eight_bit,omitempty"` // it has bytes above 127
	UTF8     bool      `json:"utf8,omitempty"`      // addresses or fields need SMTPUTF8
	Return   string    `json:"return,omitempty"`    // RET of MAIL
	EnvID    string    `json:"env_id,omitempty"`    // ENVID of MAIL, as the client wrote it before xtext
	Held     string    `json:"held,omitempty"`      // why nobody tries it; empty: it is not held
	Deleted  bool      `json:"deleted,omitempty"`   // an order said so; it goes when nobody works on it
	Legs     []*leg    `json:"legs"`

	saving sync.Mutex // held while the files of the entry are changed, before the queue's lock
	dirty  bool       // the envelope on disk is older
}

// leg is the part of an entry that goes to one destination.
type leg struct {
	Destination string       `json:"destination"` // domain, or address literal
	Attempts    int          `json:"attempts"`
	Next        time.Time    `json:"next"` // when it is tried
	DelayTold   bool         `json:"delay_told,omitempty"`
	Recipients  []*recipient `json:"recipients"`

	entry  *entry
	busy   bool // somebody works on it, or it is about to be
	parked bool // it is neither in the timetable nor busy
	index  int  // in the timetable
}

// recipient is one of a leg.
type recipient struct {
	Address string    `json:"address"`
	Notify  string    `json:"notify,omitempty"` // NOTIFY of RCPT, such as SUCCESS,FAILURE
	ORcpt   string    `json:"orcpt,omitempty"`  // ORCPT of RCPT, such as rfc822;alice@example.org, before xtext
	State   State     `json:"state"`
	Told    bool      `json:"told,omitempty"`   // the sender knows the end, or wants to know nothing of it
	Code    int       `json:"code,omitempty"`   // of the last reply
	Status  string    `json:"status,omitempty"` // such as 4.4.1
	Last    string    `json:"last,omitempty"`   // the last reply, or why there was none
	Host    string    `json:"host,omitempty"`   // that said so
	TLS     string    `json:"tls,omitempty"`    // of the session in which the message was taken
	At      time.Time `json:"at,omitzero"`      // of the last attempt
}

// maxEntry bounds an envelope on disk, in bytes.
const maxEntry = 1 << 20

var idForm = regexp.MustCompile(`^[0-9a-f]{14}[a-z2-7]{8}$`)

// newID makes a name for an entry. Names sort by time.
func newID(now time.Time) string {
	return fmt.Sprintf("%014x%s", now.UnixMicro(), strings.ToLower(rand.Text()[:8]))
}

// encode gives the text of an envelope file: a line with the SHA-256 of what follows, then JSON.
func (e *entry) encode() ([]byte, error) {
	text, err := json.Marshal(e)
	if err != nil {
		return nil, fmt.Errorf("encode envelope: %w", err)
	}
	sum := sha256.Sum256(text)
	return append([]byte(hex.EncodeToString(sum[:])+"\n"), text...), nil
}

// decodeEntry reads an envelope file. It refuses what encode has not written.
func decodeEntry(text []byte) (*entry, error) {
	head, rest, ok := bytes.Cut(text, []byte("\n"))
	sum := sha256.Sum256(rest)
	if !ok || len(text) > maxEntry || string(head) != hex.EncodeToString(sum[:]) {
		return nil, errors.New("its checksum is wrong")
	}
	e := &entry{}
	if err := strict.Decode(bytes.NewReader(rest), e); err != nil {
		return nil, err
	}
	if err := e.check(); err != nil {
		return nil, err
	}
	for _, l := range e.Legs {
		l.entry, l.index = e, -1
	}
	return e, nil
}

func (e *entry) check() error {
	if !idForm.MatchString(e.ID) || e.Size < 0 || len(e.Legs) == 0 {
		return errors.New("it lacks an id, a size or recipients")
	}
	if e.From != "" {
		if _, ok := destinationOf(e.From); !ok {
			return errors.New("its sender is no address")
		}
	}
	if strings.ContainsFunc(e.EnvID, isControl) || !slices.Contains([]string{"", "FULL", "HDRS"}, e.Return) {
		return errors.New("its options are wrong")
	}
	for _, l := range e.Legs {
		if l == nil || len(l.Recipients) == 0 || l.Attempts < 0 {
			return errors.New("it has a destination without recipients")
		}
		for _, r := range l.Recipients {
			if r == nil || strings.ContainsFunc(r.ORcpt+r.Notify+r.Status+r.Last+r.Host+r.TLS, isControl) ||
				!slices.Contains([]State{Waiting, Delivered, Relayed, Failed, Expired}, r.State) {
				return errors.New("it has a recipient that is wrong")
			}
			if to, ok := destinationOf(r.Address); !ok || to != l.Destination {
				return errors.New("it has a recipient of another destination")
			}
		}
	}
	return nil
}

func isControl(r rune) bool { return r < ' ' || r == 0x7f }

// waiting gives the recipients that are to be tried.
func (l *leg) waiting() []*recipient { return l.in(Waiting) }

func (l *leg) in(states ...State) []*recipient {
	var list []*recipient
	for _, r := range l.Recipients {
		if slices.Contains(states, r.State) {
			list = append(list, r)
		}
	}
	return list
}

// done says that nothing is left to do for a leg.
func (l *leg) done() bool {
	return !slices.ContainsFunc(l.Recipients, func(r *recipient) bool { return r.State == Waiting || !r.Told })
}

// done says that nothing is left to do for an entry.
func (e *entry) done() bool {
	return !slices.ContainsFunc(e.Legs, func(l *leg) bool { return !l.done() })
}

// over says that an entry is to be removed.
func (e *entry) over() bool { return e.Deleted || e.done() }

// count gives the number of recipients.
func (e *entry) count() int {
	n := 0
	for _, l := range e.Legs {
		n += len(l.Recipients)
	}
	return n
}

// wants says whether the sender wants to know of a kind of news (RFC 3461 section 4.1).
func (r *recipient) wants(kind string) bool {
	if r.Notify == "" {
		return kind != notifySuccess
	}
	return slices.Contains(strings.Split(r.Notify, ","), kind)
}

// Words of NOTIFY.
const (
	notifySuccess = "SUCCESS"
	notifyFailure = "FAILURE"
	notifyDelay   = "DELAY"
)

// toSend gives what remote is to send.
func (l *leg) toSend(to []*recipient) remote.Message {
	e := l.entry
	m := remote.Message{
		From: link.Path(e.From), Size: e.Size, EightBit: e.EightBit, UTF8: e.UTF8, Return: e.Return, EnvID: xtext(e.EnvID),
	}
	for _, r := range to {
		m.To = append(m.To, remote.Recipient{Address: link.Path(r.Address), Notify: r.Notify, ORcpt: xtextAddress(r.ORcpt)})
	}
	return m
}

// xtextAddress encodes the address of an ORCPT, and leaves its type.
func xtextAddress(orcpt string) string {
	kind, address, ok := strings.Cut(orcpt, ";")
	if !ok {
		return ""
	}
	if !strings.EqualFold(kind, "utf-8") {
		return kind + ";" + xtext(address)
	}
	var b strings.Builder // RFC 6533 section 3, the form that is ASCII alone
	for _, c := range address {
		if c <= ' ' || c > '~' || c == '+' || c == '=' || c == '\\' {
			fmt.Fprintf(&b, `\x{%02X}`, c)
		} else {
			b.WriteRune(c)
		}
	}
	return kind + ";" + b.String()
}

// xtext encodes a text for a parameter (RFC 3461 section 4).
func xtext(s string) string {
	var b strings.Builder
	for _, c := range []byte(s) {
		if c <= ' ' || c > '~' || c == '+' || c == '=' {
			fmt.Fprintf(&b, "+%02X", c)
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}
