package board

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"anycastle/lab/client"
	"anycastle/lab/runner"
	"anycastle/lab/score"
)

// held and idling are how many sessions the client holds open for each pod: SMTP with NOOPs, IMAP in IDLE.
const (
	held   = 40
	idling = 12
)

const loadText = "a new connection to the SMTP VIP every 10 ms and to the others every 100 ms, the DNS name 10 times a second, " +
	"40 SMTP sessions and 12 in IMAP IDLE held, mail with STARTTLS to each mailbox and from each user by submission with AUTH"

// load is the client under way.
type load struct {
	cmd  *runner.Cmd
	file *os.File
	seen *collector
	errs bytes.Buffer
}

// startLoad starts the client in its node; its log goes to client.jsonl and to the collector.
func (s *stage) startLoad(ctx context.Context) (*load, error) {
	file, err := os.Create(filepath.Join(s.logs, "client.jsonl"))
	if err != nil {
		return nil, fmt.Errorf("client log: %w", err)
	}
	l := &load{file: file, seen: newCollector()}
	l.cmd = s.lab.Command(ctx, "client", "anycastle", "lab", "client", "load", "--held", strconv.Itoa(held), "--idle", strconv.Itoa(idling))
	l.cmd.Stdout, l.cmd.Stderr = io.MultiWriter(file, l.seen), &l.errs
	if err := l.cmd.Start(); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return l, nil
}

// stop tells the client to end, so that it sees through what is under way, and waits for it.
func (l *load) stop() error {
	err := l.cmd.Signal(unix.SIGTERM)
	if waitErr := l.cmd.Wait(); waitErr != nil {
		err = fmt.Errorf("client: %w: %s", waitErr, bytes.TrimSpace(l.errs.Bytes()))
	}
	return errors.Join(err, l.file.Close())
}

// recoverTime bounds the wait for the client to find all well again.
const recoverTime = 40 * time.Second

// calm waits until the client has had no failure for the given time: that of one pod, or all of it.
func (s *stage) calm(ctx context.Context, pod string, quiet time.Duration) error {
	start := time.Now()
	for deadline := start.Add(recoverTime); ; {
		// what began within Slowest may still be under way
		t := time.Now().Add(-quiet - client.Slowest)
		wrong := s.load.seen.wrongSince(t, pod)
		if wrong == "" && t.After(start.Add(-client.Slowest)) {
			return nil
		}
		if wrong != "" && time.Now().After(deadline) {
			return fmt.Errorf("the client is not well after %v: %s", recoverTime, wrong)
		}
		if err := pause(ctx, 100*time.Millisecond); err != nil {
			return err
		}
	}
}

// readBack reads every mailbox and notes which acknowledged mails are missing, and which are there twice, for the first
// time. They count for the fault, or for the way back when they were acknowledged after it had begun.
func (s *stage) readBack(ctx context.Context, fault *score.Window, back time.Time) error {
	var in bytes.Buffer
	enc := json.NewEncoder(&in)
	for _, e := range s.load.seen.mails() {
		if err := enc.Encode(e); err != nil {
			return fmt.Errorf("list of mails: %w", err)
		}
	}
	out, err := s.output(ctx, "client", &in, "lab", "client", "read-back")
	if err != nil {
		return err
	}
	var r client.Result
	if err := json.Unmarshal(out, &r); err != nil {
		return fmt.Errorf("read back: %w", err)
	}
	windowOf := func(m client.Message) *score.Window {
		if !back.IsZero() && !m.Acknowledged.Before(back) {
			return &s.result.Windows[len(s.result.Windows)-1]
		}
		return fault
	}
	for _, m := range r.Lost {
		if s.isNew("lost " + m.ID) {
			w := windowOf(m.Message)
			w.Lost = append(w.Lost, m.ID)
		}
	}
	for _, m := range append(r.Doubled, r.DoubledAfterUnknown...) {
		if s.isNew("doubled " + m.ID) {
			w := windowOf(m.Message)
			w.Doubled = append(w.Doubled, m.ID)
		}
	}
	s.acknowledged = r.Acknowledged
	return nil
}

// isNew says whether it is the first time that this is found.
func (s *stage) isNew(what string) bool {
	known := s.found[what]
	s.found[what] = true
	return !known
}

// tellMail sums up the mails of the lab.
func (s *stage) tellMail() {
	lost, doubled := 0, 0
	for _, w := range s.result.Windows {
		lost, doubled = lost+len(w.Lost), doubled+len(w.Doubled)
	}
	s.say("mails acknowledged and read back: %d, lost: %d, doubled: %d", s.acknowledged, lost, doubled)
}
