package store

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
)

// queueScrubbed names the queue where mailboxes are compared and verified. An address has an @.
const queueScrubbed = "queue"

// Mailboxes lists the addresses of all mailboxes, in order, and then "queue" if the LUN has had one.
func (s *Store) Mailboxes() []string {
	list, err := s.addresses()
	if err != nil {
		s.log.Error("mailboxes cannot be listed", "err", err)
	}
	slices.Sort(list)
	if s.replica != nil && s.queueIsThere() {
		list = append(list, queueScrubbed)
	}
	return list
}

// Digest gives a hash of all that a mailbox holds but its bodies, of which it has the sums, and the last operation that
// changed it. Replicas at which that is the same must have the same hash. The error is os.ErrNotExist when there is no
// such mailbox.
func (s *Store) Digest(mailbox string) (changed uint64, sum Sum, err error) {
	if !s.replica.isSettled() {
		return 0, sum, errUnsettled
	}
	if mailbox == queueScrubbed {
		return s.queueDigest()
	}
	m, err := s.known(mailbox)
	if err != nil {
		return 0, sum, err
	}
	z := m.freeze()
	h := sha256.New()
	enc := json.NewEncoder(h)
	err = enc.Encode(z.box)
	for _, f := range z.folders {
		err = errors.Join(err, enc.Encode(f.manifestFolder))
		for _, msg := range f.messages {
			fmt.Fprintf(h, "%d %s %s %d %d %d %d %s %q\n", msg.UID, msg.base, msg.Sum, msg.Size, msg.Wide, msg.Date.Unix(),
				msg.Modseq, msg.Flags, msg.Keywords)
		}
	}
	return z.box.Changed, Sum(h.Sum(nil)), err
}

// verifyChunk is how much of a body is read before the rate is asked.
const verifyChunk = 256 << 10

// Verify reads the bodies of a mailbox and compares their sums, telling rate how many bytes it is about to read. A body
// that is rotten goes to quarantine, and its message is Missing then.
func (s *Store) Verify(ctx context.Context, mailbox string, rate func(n int) error) (checked, rotten int, err error) {
	if !s.replica.isSettled() {
		return 0, 0, errUnsettled
	}
	if mailbox == queueScrubbed {
		return s.queueVerify(ctx, rate)
	}
	m, err := s.known(mailbox)
	if err != nil {
		return 0, 0, err
	}
	for _, f := range m.freeze().folders {
		for _, msg := range f.messages {
			if err := ctx.Err(); err != nil {
				return checked, rotten, err
			}
			is, err := m.verify(f.GUID, msg, rate)
			if err != nil {
				return checked, rotten, fmt.Errorf("verify message %d in %s of %s: %w", msg.UID, f.Name, mailbox, err)
			}
			switch is {
			case bodyRotten:
				rotten++
				checked++
			case bodyWhole:
				checked++
			}
		}
	}
	return checked, rotten, nil
}

// bodyIs is what there is of a message's body.
type bodyIs int

const (
	bodyNone bodyIs = iota // not here, or the message is gone
	bodyWhole
	bodyRotten
)

func (m *Mailbox) verify(guid string, msg *Message, rate func(n int) error) (bodyIs, error) {
	m.mu.Lock()
	f := m.byGUID[guid]
	var path string
	if f != nil {
		if i, ok := f.find(msg.UID); ok && f.messages[i].file != "" {
			path = f.path(f.messages[i])
		}
	}
	var file *os.File
	var err error
	if path != "" {
		file, err = os.Open(m.store.files.at(path))
	}
	m.mu.Unlock()
	switch {
	case path == "":
		return bodyNone, nil
	case errors.Is(err, os.ErrNotExist):
		return bodyRotten, f.miss(msg.UID)
	case err != nil:
		return bodyNone, err
	}
	sum, readErr, err := digestBody(file, rate)
	if err = errors.Join(err, file.Close()); err != nil {
		return bodyNone, err
	}
	if readErr == nil && sum == msg.Sum {
		return bodyWhole, nil
	}
	reason := "body is rotten: its sum is " + sum
	if readErr != nil {
		reason = "body cannot be read: " + readErr.Error()
	}
	return bodyRotten, m.reject(guid, msg, reason)
}

// digestBody gives a body's sum, or why it cannot be read. err is that of rate.
func digestBody(file *os.File, rate func(n int) error) (sum string, readErr, err error) {
	h := sha256.New()
	for {
		if err := rate(verifyChunk); err != nil {
			return "", nil, err
		}
		if _, err := io.CopyN(h, file, verifyChunk); errors.Is(err, io.EOF) {
			return hex.EncodeToString(h.Sum(nil)), nil, nil
		} else if err != nil {
			return "", err, nil
		}
	}
}

// reject puts a body aside that is none.
func (m *Mailbox) reject(guid string, was *Message, reason string) error {
	m.store.gate.RLock()
	defer m.store.gate.RUnlock()
	m.mu.Lock()
	defer m.mu.Unlock()
	f := m.byGUID[guid]
	if f == nil {
		return nil
	}
	i, ok := f.find(was.UID)
	if !ok || f.messages[i].file == "" {
		return nil
	}
	msg := f.messages[i]
	path := filepath.Join(f.dir(m.address), msg.file)
	m.log.Error("body of a message is rotten", "folder", f.name, "uid", msg.UID, "file", msg.base, "why", reason)
	if err := m.store.quarantine(path, reason); err != nil {
		return err
	}
	r := m.store.replica
	r.mu.Lock()
	delete(r.placed.has, m.body(msg).Name)
	r.mu.Unlock()
	m.dirty, f.stale = true, true
	return m.lack(f.contents, msg, 0)
}
