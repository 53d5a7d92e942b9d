package client

import (
	"encoding/json"
	"fmt"
	"io"
	"sync"
	"time"
)

// The kinds of event.
const (
	KindVIP  = "vip"  // a new connection to the VIP
	KindName = "name" // a DNS question, then a new connection to the answer
	KindHeld = "held" // a session that was to stay open: broken, or opened again
	KindMail = "mail" // an attempt to hand a message over
)

// Event is one thing that the client saw.
type Event struct {
	Start  time.Time `json:"start"` // of the attempt; of a held session that broke: when its unanswered NOOP was sent
	End    time.Time `json:"end"`
	Kind   string    `json:"kind"`
	OK     bool      `json:"ok"`
	Server string    `json:"server,omitempty"` // the host in the banner of who answered
	Answer string    `json:"answer,omitempty"` // name: the address that the DNS gave
	ID     string    `json:"id,omitempty"`     // mail: message id; held: session number
	To     string    `json:"to,omitempty"`     // mail: recipient
	Err    string    `json:"err,omitempty"`
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
