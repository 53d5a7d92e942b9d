package client

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"
)

// The kinds of event.
const (
	KindVIP    = "vip"    // a new connection to the SMTP VIP
	KindVIPs   = "vips"   // a new connection to another VIP; Service says which
	KindName   = "name"   // a DNS question for the SMTP service, then a new connection to the answer
	KindNames  = "names"  // the same for another service; Service says which
	KindHeld   = "held"   // an SMTP session that was to stay open: broken, or opened again
	KindIdle   = "idle"   // an IMAP session in IDLE: broken, or opened again
	KindMail   = "mail"   // an attempt to hand a message over at the SMTP VIP
	KindSubmit = "submit" // an attempt of a user to hand a message over at the submission VIP
)

// The services behind the VIPs.
const (
	ServiceSMTP       = "smtp"
	ServiceSubmission = "submission"
	ServiceIMAP       = "imap"
)

// The ways to an answer of the DNS.
const (
	WayResolver = "resolver" // by a recursive resolver, which may have it in its cache
	WaySelector = "selector" // a site selector was asked directly
)

// Event is one thing that the client saw.
type Event struct {
	Start   time.Time `json:"start"` // of the attempt; of a session that broke: when its unanswered command was sent; of one opened again: when that was tried first
	End     time.Time `json:"end"`
	Kind    string    `json:"kind"`
	OK      bool      `json:"ok"`
	Pod     string    `json:"pod,omitempty"`     // whose VIP it was
	Service string    `json:"service,omitempty"` // vips, names: which
	Server  string    `json:"server,omitempty"`  // the host in the banner of who answered, where there is one
	Answer  string    `json:"answer,omitempty"`  // name, names: the address that the DNS gave
	Way     string    `json:"way,omitempty"`     // name, names: who was asked for it last
	ID      string    `json:"id,omitempty"`      // mail, submit: message id; held, idle: POD/NUMBER of the session
	From    string    `json:"from,omitempty"`    // submit: the user
	To      string    `json:"to,omitempty"`      // mail, submit: recipient; idle: mailbox
	LUN     string    `json:"lun,omitempty"`     // where the mailbox of To lives
	Auth    string    `json:"auth,omitempty"`    // submit: the mechanism
	Tries   int       `json:"tries,omitempty"`   // held, idle: how many connections it took to open it, when more than one
	Code    int       `json:"code,omitempty"`    // mail, submit: the SMTP reply that refused
	Unknown bool      `json:"unknown,omitempty"` // mail, submit: the message was sent in full and no answer came, so it may have arrived
	// Reconnect says that a session broke which the client still needed, so that it had to connect again. It counts as broken
	// however politely it was ended; a session that was moved without the client's knowing gives no event at all.
	Reconnect bool   `json:"reconnect,omitempty"`
	Reason    string `json:"reason,omitempty"` // of a failure, in one word: see the constants
	Err       string `json:"err,omitempty"`    // the same in full
}

// Log writes events, one line of JSON each. It is safe for concurrent use.
type Log struct {
	mu  sync.Mutex
	enc *json.Encoder
	err error
}

// NewLog makes a log that writes to w.
func NewLog(w io.Writer) *Log { return &Log{enc: json.NewEncoder(w)} }

// Add ends the event now and writes it. The first error in writing is kept for Err.
func (l *Log) Add(e Event, err error) {
	e.End = time.Now()
	e.OK = err == nil
	if err != nil {
		e.Err = err.Error()
		e.Reason = reason(err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if werr := l.enc.Encode(e); werr != nil && l.err == nil {
		l.err = fmt.Errorf("write event: %w", werr)
	}
}

// Err gives the first error met in writing.
func (l *Log) Err() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}

// longestLine bounds a line of a log that is read.
const longestLine = 1 << 20

// ReadLog reads the events that a Log wrote.
func ReadLog(r io.Reader) ([]Event, error) {
	var events []Event
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, longestLine)
	for lines.Scan() {
		var e Event
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			return events, fmt.Errorf("line %d: %w", len(events)+1, err)
		}
		events = append(events, e)
	}
	if err := lines.Err(); err != nil {
		return events, errors.Join(fmt.Errorf("line %d", len(events)+1), err)
	}
	return events, nil
}
