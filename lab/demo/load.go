package demo

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"anycastle/lab/client"
	"anycastle/lab/runner"
)

// roundTrip sends mail from outside and reads it back, small and large, to both sites' stores.
func (d *demo) roundTrip(ctx context.Context) error {
	out, err := d.output(ctx, "client", nil, "lab", "client", "round-trip")
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(out)) {
		d.say("%s", strings.TrimSpace(line))
	}
	return nil
}

// readBack counts acknowledged mails that are missing, and mails that are there twice.
func (d *demo) readBack(ctx context.Context, events []client.Event) (lost, doubled int, err error) {
	d.say("reading every mailbox back")
	var in bytes.Buffer
	enc := json.NewEncoder(&in)
	for _, e := range events {
		if err := enc.Encode(e); err != nil {
			return 0, 0, fmt.Errorf("list of mails: %w", err)
		}
	}
	out, err := d.output(ctx, "client", &in, "lab", "client", "read-back")
	if err != nil {
		return 0, 0, err
	}
	var r client.Result
	if err := json.Unmarshal(out, &r); err != nil {
		return 0, 0, fmt.Errorf("read back: %w", err)
	}
	return len(r.Lost), len(r.Doubled) + len(r.DoubledAfterUnknown), nil
}

// held is how many sessions the client holds open.
const held = 40

// load is the client under way.
type load struct {
	cmd  *runner.Cmd
	file *os.File
	errs bytes.Buffer
}

// startLoad starts the client in its node; its log goes to client.jsonl and to the collector.
func (d *demo) startLoad(ctx context.Context) (*load, error) {
	file, err := os.Create(filepath.Join(d.Logs, "client.jsonl"))
	if err != nil {
		return nil, fmt.Errorf("client log: %w", err)
	}
	d.seen = newCollector()
	l := &load{cmd: d.lab.Command(ctx, "client", "anycastle", "lab", "client", "load", "--held", strconv.Itoa(held)), file: file}
	l.cmd.Stdout, l.cmd.Stderr = io.MultiWriter(file, d.seen), &l.errs
	if err := l.cmd.Start(); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return l, nil
}

// stop tells the client to end, so that it sees through what is under way, and waits for it.
func (l *load) stop() error {
	err := l.cmd.Signal(syscall.SIGTERM)
	if waitErr := l.cmd.Wait(); waitErr != nil {
		err = fmt.Errorf("client: %w: %s", waitErr, bytes.TrimSpace(l.errs.Bytes()))
	}
	return errors.Join(err, l.file.Close())
}

// collector keeps the client's events as they come. It is safe for concurrent use.
type collector struct {
	mu     sync.Mutex
	rest   []byte // a line that has not ended yet
	events []client.Event
	lastOK map[string]time.Time // by kind, when the last good attempt began
	failed map[string]time.Time // and the last failed one
	open   map[string]bool      // held sessions, by number
}

func newCollector() *collector {
	return &collector{lastOK: map[string]time.Time{}, failed: map[string]time.Time{}, open: map[string]bool{}}
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
	if e.Kind == client.KindHeld {
		c.open[e.ID] = e.OK
	}
	last := c.failed
	if e.OK {
		last = c.lastOK
	}
	if e.Start.After(last[e.Kind]) {
		last[e.Kind] = e.Start
	}
}

func (c *collector) all() []client.Event {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.events)
}

// goodSince says whether VIP and name have answered since t without a failure, and every session is held: what is not
// open cannot break, and would be missing from the count.
func (c *collector) goodSince(t time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, kind := range []string{client.KindVIP, client.KindName} {
		if !c.lastOK[kind].After(t) || c.failed[kind].After(t) {
			return false
		}
	}
	open := 0
	for _, is := range c.open {
		if is {
			open++
		}
	}
	return open == held
}

// recoverTime bounds the wait for the client to find all well again.
const recoverTime = 40 * time.Second

// slowest is how long an attempt of the client takes at most: to ask both name servers, then to connect.
const slowest = 1500 * time.Millisecond

// watch waits at least d after from, and then until the client has had no failure for two seconds.
func (d *demo) watch(ctx context.Context, from time.Time, least time.Duration) error {
	if err := pause(ctx, time.Until(from.Add(least))); err != nil {
		return err
	}
	return d.calm(ctx, 2*time.Second)
}

// calm waits until the client has had no failure for the given time.
func (d *demo) calm(ctx context.Context, quiet time.Duration) error {
	start := time.Now()
	for deadline := start.Add(recoverTime); time.Now().Before(deadline); {
		// what began within slowest may still be under way
		if t := time.Now().Add(-quiet - slowest); t.After(start.Add(-slowest)) && d.seen.goodSince(t) {
			return nil
		}
		if err := pause(ctx, 100*time.Millisecond); err != nil {
			return err
		}
	}
	return fmt.Errorf("the client still fails, or holds fewer than %d sessions, after %v", held, recoverTime)
}
