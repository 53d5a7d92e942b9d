package board

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"time"

	"anycastle/lab/client"
)

// collector keeps the client's events as they come. It is safe for concurrent use.
type collector struct {
	mu     sync.Mutex
	rest   []byte // a line that has not ended yet
	events []client.Event
	last   map[track]*standing
	open   map[track]bool // sessions
	ways   map[string]int // of names that were answered
}

// track is what is watched on its own: one kind of attempts of a pod, or one session.
type track struct{ pod, kind, id string }

// standing is how attempts of one track went.
type standing struct {
	good, failed time.Time // when the last one of each sort began
	err          string
}

func newCollector() *collector {
	return &collector{last: map[track]*standing{}, open: map[track]bool{}, ways: map[string]int{}}
}

// Write implements io.Writer over lines of JSON.
func (c *collector) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.rest = append(c.rest, p...)
	for {
		line, rest, ok := bytes.Cut(c.rest, []byte("\n"))
		if !ok {
			return len(p), nil
		}
		c.rest = rest
		var e client.Event
		if err := json.Unmarshal(line, &e); err != nil {
			return 0, fmt.Errorf("client log: %w", err)
		}
		c.add(e)
	}
}

func (c *collector) add(e client.Event) {
	c.events = append(c.events, e)
	if e.Kind == client.KindHeld || e.Kind == client.KindIdle {
		c.open[track{e.Pod, e.Kind, e.ID}] = e.OK
		return
	}
	if e.Kind == client.KindName && e.OK {
		c.ways[e.Way]++
	}
	t := track{e.Pod, e.Kind + " " + e.Service, e.To}
	s := c.last[t]
	if s == nil {
		s = &standing{}
		c.last[t] = s
	}
	switch {
	case e.OK && e.Start.After(s.good):
		s.good = e.Start
	case !e.OK && e.Start.After(s.failed):
		s.failed, s.err = e.Start, e.Err
	}
}

func (c *collector) all() []client.Event {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.events)
}

// mails gives the attempts to hand messages over.
func (c *collector) mails() []client.Event {
	return slices.DeleteFunc(c.all(), func(e client.Event) bool { return e.Kind != client.KindMail && e.Kind != client.KindSubmit })
}

// wrongSince says what has failed since t, at the VIPs of a pod or of all; "" when nothing has, new connections have been
// answered, and every session is held: what is not open cannot break, and would be missing from the count.
func (c *collector) wrongSince(t time.Time, pod string) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	connected, sessions, kept := false, 0, 0
	for tr, s := range c.last {
		if pod != "" && tr.pod != pod {
			continue
		}
		mail := tr.id != ""
		if !s.failed.Before(t) || mail && s.failed.After(s.good) {
			return fmt.Sprintf("%s%s: %s", tr.kind, tr.id, s.err)
		}
		connected = connected || tr.kind == client.KindVIP+" " && s.good.After(t)
	}
	for tr, open := range c.open {
		if pod != "" && tr.pod != pod {
			continue
		}
		sessions++
		if open {
			kept++
		}
	}
	switch {
	case !connected:
		return "no new connection has been answered"
	case kept < sessions || sessions < held:
		return fmt.Sprintf("%d of %d sessions are held", kept, max(sessions, held))
	}
	return ""
}

// resolver says who answered the client's names.
func (c *collector) resolver() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ways[client.WayResolver] > 0 {
		return "a recursive resolver (unbound)"
	}
	return "the site selectors themselves, for want of a resolver (unbound is not installed)"
}
