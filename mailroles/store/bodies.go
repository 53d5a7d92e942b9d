package store

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"anycastle/mailroles/maildir"
)

// partMark begins the names of bodies that are being taken from other replicas.
const partMark = ".part-"

// ErrBody says that a body is not what its replica said it is.
var ErrBody = errors.New("store: body differs from its sum or size")

// check refuses a body whose name is none.
func (b Body) check() error {
	ok := b.Mailbox == "" || plainName(b.Mailbox)
	if !ok || !plainName(b.Name) || maildir.Unique(b.Name) != b.Name || !isSum(b.Sum) || b.Size < 0 {
		return fmt.Errorf("%w: %+v", ErrBody, b)
	}
	return nil
}

// TakeBody takes a body that another replica sent, to the end of r. When it returns the body is here durably, with the
// name that its operation gives it; a message that waits for it has it. One that is here already is no error.
func (s *Store) TakeBody(b Body, r io.Reader) error {
	if err := b.check(); err != nil {
		return err
	}
	if err := s.Err(); err != nil {
		return err
	}
	here, err := s.hasDurably(b)
	if err != nil {
		return err
	}
	if here {
		if _, err := io.Copy(io.Discard, r); err != nil {
			return fmt.Errorf("take body: %w", err)
		}
		return s.arrived(b)
	}
	if err := s.receive(b, r); err != nil {
		return fmt.Errorf("take body: %w", err)
	}
	s.bodies.Add(1)
	if err := s.replica.syncNames(); err != nil {
		return fmt.Errorf("take body: %w", err)
	}
	return s.arrived(b)
}

// arrived puts a body that came to where it belongs.
func (s *Store) arrived(b Body) error {
	if b.Mailbox == queueMailbox {
		return s.queueArrived(b)
	}
	return s.replica.provide(b)
}

// receive writes a body into the incoming directory, under its name once it is whole and durable.
func (s *Store) receive(b Body, r io.Reader) (err error) {
	part := filepath.Join(incomingDir, fmt.Sprintf("%s%d", partMark, s.seq.Add(1)))
	f, err := s.files.renew(part)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.files.remove(part))
		}
	}()
	sum := sha256.New()
	n, err := io.Copy(io.MultiWriter(f, sum), io.LimitReader(r, b.Size+1))
	if err == nil && (n != b.Size || hex.EncodeToString(sum.Sum(nil)) != b.Sum) {
		err = fmt.Errorf("%w: %d bytes of %+v", ErrBody, n, b)
	}
	if err == nil {
		date := time.Unix(b.Date, 0)
		err = os.Chtimes(f.Name(), date, date)
	}
	if err == nil {
		err = s.files.sync(f)
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	return s.files.rename(part, bodyPath(b.Name))
}

// hasDurably reports whether a body waits here, or did lately and is part of the tree by now. A name that somebody else
// has just made need not be durable yet.
func (s *Store) hasDurably(b Body) (bool, error) {
	r := s.replica
	r.mu.Lock()
	here := r.placed.has[b.Name]
	lacks := r.lacks.byName[b.key()] != nil
	r.mu.Unlock()
	if here && !lacks {
		return true, r.syncNames()
	}
	st, err := os.Stat(s.files.at(bodyPath(b.Name)))
	if errors.Is(err, os.ErrNotExist) {
		return s.wasPlaced(b)
	}
	if err != nil {
		return false, fmt.Errorf("look for body: %w", err)
	}
	if st.Size() != b.Size {
		return false, nil // it is being written here, or has been torn: what comes replaces it
	}
	return true, s.files.syncDir(incomingDir)
}

// placedLately is the age of a body up to which it is not looked for among the messages: most come before their messages, and
// whoever gets one twice does no harm.
const placedLately = time.Minute

// wasPlaced reports whether a message has a body that is not a new one.
func (s *Store) wasPlaced(b Body) (bool, error) {
	at, _, _ := strings.Cut(b.Name, ".")
	made, err := strconv.ParseInt(at, 10, 64)
	if err != nil || s.now().Sub(time.Unix(made, 0)) < placedLately || !s.replica.isSettled() {
		return false, nil
	}
	m, err := s.known(b.Mailbox)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	_, msg := m.bySum(b.Sum)
	return msg != nil && maildir.Unique(msg.base) == b.Name, nil
}

// HasBody reports whether a body is here durably, or will be once a name that has just been made is.
func (s *Store) HasBody(b Body) bool {
	r := s.replica
	r.mu.Lock()
	here := r.placed.has[b.Name] && r.lacks.byName[b.key()] == nil
	r.mu.Unlock()
	if here {
		return true
	}
	f, err := s.openBody(b)
	if err != nil {
		return false
	}
	return f.Close() == nil
}

// OpenBody opens a body for another replica: by its name, or of a message of the mailbox with the same text. The error
// is ErrNoMessage when it is not here.
func (s *Store) OpenBody(b Body) (*os.File, error) {
	if err := b.check(); err != nil {
		return nil, err
	}
	f, err := s.openBody(b)
	if errors.Is(err, os.ErrNotExist) {
		return s.openKept(b)
	}
	return f, err
}

func (s *Store) openBody(b Body) (*os.File, error) {
	f, err := s.openSize(bodyPath(b.Name), b.Size)
	if err == nil || !errors.Is(err, os.ErrNotExist) {
		return f, err
	}
	if path, ok := s.queueBody(b); ok {
		if f, err := s.openSize(path, b.Size); err == nil {
			return f, nil
		}
	}
	if b.Mailbox != "" && s.replica.isSettled() {
		if f, err := s.openText(b); err == nil || !errors.Is(err, os.ErrNotExist) {
			return f, err
		}
	}
	if path, ok := s.kept(b); ok {
		return s.openSize(path, b.Size)
	}
	return nil, os.ErrNotExist
}

// openSize opens a file of a size. One of another is none of ours.
func (s *Store) openSize(path string, size int64) (*os.File, error) {
	f, err := os.Open(s.files.at(path))
	if err != nil {
		return nil, err
	}
	st, err := f.Stat()
	if err == nil && st.Size() != size {
		err = os.ErrNotExist
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// openText opens a message of a mailbox by its sum.
func (s *Store) openText(b Body) (*os.File, error) {
	m, err := s.known(b.Mailbox)
	if err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if f, msg := m.bySum(b.Sum); msg != nil {
		return s.openSize(f.path(msg), b.Size)
	}
	return nil, os.ErrNotExist
}

// text is where a message is that has some text.
type text struct {
	folder string // GUID
	uid    uint32
}

// bySum gives a message that has a text, and a file. The caller holds mu.
func (m *Mailbox) bySum(sum string) (*Folder, *Message) {
	for range 2 {
		if m.texts == nil {
			m.texts = map[string]text{}
			for _, f := range m.byGUID {
				for _, msg := range f.messages {
					m.learnText(f.contents, msg)
				}
			}
		}
		at, ok := m.texts[sum]
		if !ok {
			return nil, nil
		}
		if f := m.byGUID[at.folder]; f != nil {
			if i, ok := f.find(at.uid); ok && f.messages[i].file != "" && f.messages[i].Sum == sum {
				return f, f.messages[i]
			}
		}
		m.texts = nil // that message is gone; there may be another
	}
	return nil, nil
}

// learnText notes that a message has a file.
func (m *Mailbox) learnText(c *contents, msg *Message) {
	if m.texts != nil && msg.file != "" && msg.Sum != "" {
		m.texts[msg.Sum] = text{c.guid, msg.UID}
	}
}

// known gives a mailbox that there is, read. The error is os.ErrNotExist when there is none.
func (s *Store) known(address string) (*Mailbox, error) {
	if !plainName(address) || !strings.Contains(address, "@") {
		return nil, os.ErrNotExist
	}
	s.mu.Lock()
	m := s.boxes[address]
	if m != nil {
		m.asked = true // else the check might let it go
	}
	s.mu.Unlock()
	if m == nil {
		if _, err := os.Stat(s.files.at(address)); err != nil {
			return nil, err
		}
		var err error
		if m, err = s.box(address); err != nil {
			return nil, err
		}
	}
	m.loading.Lock()
	defer m.loading.Unlock()
	return m, m.load(nil)
}

// sumOf gives the SHA-256 of a file below the LUN's directory, in hexadecimal.
func (s *Store) sumOf(path string) (string, error) {
	f, err := os.Open(s.files.at(path))
	if err != nil {
		return "", err
	}
	hash := sha256.New()
	_, err = io.Copy(hash, f)
	return hex.EncodeToString(hash.Sum(nil)), errors.Join(err, f.Close())
}
