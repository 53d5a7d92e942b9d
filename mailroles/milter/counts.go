package milter

import (
	"log/slog"
	"maps"
	"sync"
	"time"

	"github.com/emersion/go-smtp"
)

// Stages at which a milter may fail.
const (
	stageConnect = "connect"
	stageHelo    = "helo"
	stageMail    = "mail"
	stageRcpt    = "rcpt"
	stageData    = "data"
	stageHeader  = "header"
	stageBody    = "body"
	stageEnd     = "end"
)

// Verdicts of a milter. A message that is quarantined is accepted too.
const (
	verdictAccept     = "accept"
	verdictReject     = "reject"
	verdictTempfail   = "tempfail"
	verdictDiscard    = "discard"
	verdictQuarantine = "quarantine"
)

func verdictOf(reply *smtp.SMTPError) string {
	if reply.Code < 500 {
		return verdictTempfail
	}
	return verdictReject
}

// States of a milter, as of the last time that it was needed.
const (
	StateUnused  = "unused"
	StateOK      = "ok"
	StateFailing = "failing"
)

// Status is what is known of a milter.
type Status struct {
	Name        string            `json:"name"`
	Addr        string            `json:"addr"`
	OnFailure   string            `json:"on_failure"`
	State       string            `json:"state"` // unused, ok or failing
	Since       time.Time         `json:"since,omitzero"`
	LastError   string            `json:"last_error,omitempty"` // also of a failure that is over
	LastErrorAt time.Time         `json:"last_error_at,omitzero"`
	Connections int               `json:"connections"`
	Verdicts    map[string]uint64 `json:"verdicts"`     // since the start: accept, reject, tempfail, discard, quarantine
	Failures    map[string]uint64 `json:"failures"`     // since the start, by stage
	Messages    uint64            `json:"messages"`     // messages it was shown
	MeanSeconds float64           `json:"mean_seconds"` // to judge one of them
}

// bounds are the upper ends of the buckets of times, in seconds; a last bucket has no end.
var bounds = [...]float64{0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30}

// counts are what a milter did. They are safe for concurrent use.
type counts struct {
	mu       sync.Mutex
	status   Status // without what the config says, and times
	buckets  [len(bounds)]uint64
	messages uint64
	seconds  float64
}

// Status tells of each milter, in their order.
func (c *Chain) Status() []Status {
	list := make([]Status, 0, len(c.filters))
	for _, f := range c.filters {
		s := f.read()
		s.Name, s.Addr, s.OnFailure = f.Name, f.Addr, f.OnFailure
		list = append(list, s)
	}
	return list
}

// read gives the status; its maps are the caller's own and never nil.
func (c *counts) read() Status {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.status
	if s.State == "" {
		s.State = StateUnused
	}
	s.Verdicts, s.Failures = copyCounts(s.Verdicts), copyCounts(s.Failures)
	if s.Messages = c.messages; s.Messages > 0 {
		s.MeanSeconds = c.seconds / float64(s.Messages)
	}
	return s
}

func copyCounts(m map[string]uint64) map[string]uint64 {
	if m == nil {
		return map[string]uint64{}
	}
	return maps.Clone(m)
}

// count counts a verdict.
func (c *counts) count(verdict string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.status.Verdicts == nil {
		c.status.Verdicts = map[string]uint64{}
	}
	c.status.Verdicts[verdict]++
}

// connected counts connections.
func (c *counts) connected(n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.status.Connections += n
}

// worked notes that the milter has answered.
func (c *counts) worked(log *slog.Logger) {
	c.mu.Lock()
	was := c.status.State
	if was != StateOK {
		c.status.State, c.status.Since = StateOK, time.Now()
	}
	c.mu.Unlock()
	if was == StateFailing {
		log.Info("milter answers again")
	}
}

// broke notes a failure.
func (c *counts) broke(log *slog.Logger, stage string, err error) {
	now := time.Now()
	c.mu.Lock()
	was := c.status.State
	if was != StateFailing {
		c.status.State, c.status.Since = StateFailing, now
	}
	c.status.LastError, c.status.LastErrorAt = stage+": "+err.Error(), now
	if c.status.Failures == nil {
		c.status.Failures = map[string]uint64{}
	}
	c.status.Failures[stage]++
	c.mu.Unlock()
	if was != StateFailing {
		log.Warn("milter fails", "stage", stage, "err", err)
	} else {
		log.Debug("milter fails still", "stage", stage, "err", err)
	}
}

// time counts how long a message takes until the returned function is called.
func (c *counts) time() func() {
	start := time.Now()
	return func() {
		d := time.Since(start).Seconds()
		c.mu.Lock()
		defer c.mu.Unlock()
		c.messages++
		c.seconds += d
		for i, end := range bounds {
			if d <= end {
				c.buckets[i]++
				break
			}
		}
	}
}
