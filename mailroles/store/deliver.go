package store

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"anycastle/mailroles/maildir"
)

// Incoming is a message on its way into a folder.
type Incoming struct {
	Body     io.Reader
	Size     int64         // of Body, in bytes; a Body of another size is ErrTruncated and is not stored
	Flags    maildir.Flags // as the client gave them
	Keywords []string      // in any order
	Date     time.Time     // INTERNALDATE; now when zero
	Folder   string        // of a delivery, made when missing; INBOX when empty
	Tx       string        // transaction id of a delivery, 32 lower-case hexadecimal digits; empty for none
}

// Place is where a message went.
type Place struct{ Validity, UID uint32 }

// Deliver puts a new message into INBOX or another folder, durably. again says that the transaction id has been
// delivered before, and that nothing was done. The error is ErrQuota when the mailbox has no room.
func (m *Mailbox) Deliver(in Incoming) (again bool, err error) {
	if in.Folder == "" {
		in.Folder = maildir.Inbox
	}
	f, err := m.Folder(in.Folder)
	if errors.Is(err, ErrNoFolder) {
		if err := m.Create(in.Folder); err != nil && !errors.Is(err, ErrExists) {
			return false, err
		}
		f, err = m.Folder(in.Folder)
	}
	if err != nil {
		return false, err
	}
	_, again, err = f.add(opDeliver, in)
	return again, err
}

// Append puts a message into a folder, durably, and says where it is. The error is ErrQuota when the mailbox has no
// room, ErrKeywords when the folder has none for a new keyword, or maildir.ErrKeywordName.
func (f *Folder) Append(in Incoming) (Place, error) {
	place, _, err := f.add(opAppend, in)
	return place, err
}

// add writes the body without a lock, since that takes longest.
func (f *Folder) add(k kind, in Incoming) (place Place, again bool, err error) {
	s := f.box.store
	if in.Date.IsZero() {
		in.Date = s.now()
	}
	in.Date = in.Date.Truncate(time.Second)
	if again, err := f.box.welcome(in); again || err != nil {
		if again {
			err = f.box.proveAgain(in.Tx)
		}
		return Place{}, again && err == nil, err
	}
	unique := s.unique(in.Tx)
	body, err := s.writeBody(f.box.address, unique, in)
	if err != nil {
		return Place{}, false, err
	}
	var twin *proposal
	taken := false
	err = f.box.operate(false, func() (*op, error) {
		if f.gone {
			return nil, f.lost()
		}
		if twin = f.box.txAhead[in.Tx]; twin != nil || f.box.state.recent.has(in.Tx, s.now()) {
			again = true
			return nil, nil
		}
		o, err := f.arrival(k, in, maildir.Base(unique, in.Size, body.wide), body)
		if err == nil {
			place, taken = Place{Validity: f.validity, UID: o.Arrivals[0].UID}, true
		}
		return o, err
	})
	if twin != nil && err == nil {
		_, err = f.box.finish(twin)
	}
	if again && err == nil {
		err = f.box.proveAgain(in.Tx)
	}
	if again || err != nil && (!taken || s.replica == nil && s.Err() == nil) { // else the log may have it: time tells
		err = errors.Join(err, s.files.remove(bodyPath(unique)))
	}
	if err != nil {
		return Place{}, false, err
	}
	return place, again, nil
}

func (f *Folder) arrival(k kind, in Incoming, base string, body body) (*op, error) {
	if err := f.box.fits(in.Size, 1); err != nil {
		return nil, err
	}
	keywords, err := learn(f.aheadKeywords, in.Keywords)
	if err != nil {
		return nil, err
	}
	marks := tidy(keywords, Marks{Flags: in.Flags, Keywords: in.Keywords})
	return &op{Kind: k, Folder: f.guid, Arrivals: []arrival{{
		UID: f.aheadNext, Base: base, Flags: marks.Flags, Keywords: marks.Keywords,
		Size: in.Size, Wide: body.wide, Date: in.Date.Unix(), Sum: body.sum,
	}}}, nil
}

// welcome looks whether a message can be taken, or has been, before a byte of it is written.
func (m *Mailbox) welcome(in Incoming) (again bool, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.state.recent.has(in.Tx, m.store.now()) {
		return true, nil
	}
	return false, m.fits(in.Size, 1)
}

// body is what is known of a message once it is written.
type body struct {
	wide int64  // size when all lines end in CRLF
	sum  string // SHA-256, hexadecimal
}

// writeBody writes and fsyncs a new file in the incoming directory. The commit of its operation makes its name durable.
// On an error the file is gone. Other replicas get it meanwhile.
func (s *Store) writeBody(address, unique string, in Incoming) (b body, err error) {
	if err := s.Err(); err != nil {
		return b, err
	}
	if s.replica != nil {
		if err := s.replica.admit(); err != nil {
			return b, err
		}
	}
	path := bodyPath(unique)
	f, err := s.files.create(path)
	if err != nil {
		return b, fmt.Errorf("write message: %w", err)
	}
	defer func() {
		if err = errors.Join(err, f.Close()); err != nil {
			err = errors.Join(fmt.Errorf("write message: %w", err), s.files.remove(path))
		}
	}()
	sum := sha256.New()
	lines := &lineCounter{}
	n, err := io.Copy(io.MultiWriter(f, sum, lines), in.Body)
	if err != nil {
		return b, err
	}
	if n != in.Size {
		return b, fmt.Errorf("%w: %d of %d bytes", ErrTruncated, n, in.Size)
	}
	if err := os.Chtimes(f.Name(), in.Date, in.Date); err != nil {
		return b, err
	}
	b = body{wide: n + lines.bare, sum: hex.EncodeToString(sum.Sum(nil))}
	if s.replica != nil {
		s.journal.Push(Body{Mailbox: address, Name: unique, Sum: b.sum, Size: n, Date: in.Date.Unix()})
	}
	if err := s.files.sync(f); err != nil {
		return b, err
	}
	s.bodies.Add(1)
	return b, nil
}

// lineCounter counts line feeds that no carriage return stands before.
type lineCounter struct {
	bare int64
	cr   bool
}

// Write implements io.Writer.
func (c *lineCounter) Write(p []byte) (int, error) {
	for at := 0; ; {
		i := bytes.IndexByte(p[at:], '\n')
		if i < 0 {
			break
		}
		at += i
		if at == 0 && !c.cr || at > 0 && p[at-1] != '\r' {
			c.bare++
		}
		at++
	}
	if len(p) > 0 {
		c.cr = p[len(p)-1] == '\r'
	}
	return len(p), nil
}
