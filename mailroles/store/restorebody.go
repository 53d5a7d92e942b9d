package store

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"mime"
	"net/mail"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"anycastle/mailroles/maildir"
)

// Where the body of a message that comes back is.
const (
	inExpunged = "expunged"
	inSnapshot = "snapshot"
	inMailbox  = "mailbox"
	elsewhere  = "other replica"
)

// source is a file that may have a body.
type source struct{ path, where string }

// sources gives the places at which a body of the past can be, the best first.
func (s *Store) sources(r *restoration, c *contents, m *Message) []source {
	var list []source
	b := keptOf(m).body(r.order.Mailbox)
	if path, ok := s.findExpunged(b); ok {
		list = append(list, source{path, inExpunged})
	}
	if m.file != "" {
		list = append(list, source{snapshotFile(r.was.snapshot.ID, r.order.Mailbox, c, m), inSnapshot})
	}
	for _, l := range s.Snapshots() {
		if path := snapshotBody(l, r.order.Mailbox, c.guid, m.UID); l.ID != r.was.snapshot.ID && path != "" {
			if st, err := os.Lstat(s.files.at(path)); err == nil && st.Size() == m.Size {
				list = append(list, source{path, inSnapshot})
			}
		}
	}
	if len(list) > 0 {
		return list
	}
	if path := s.sameBody(r.order.Mailbox, m); path != "" {
		list = append(list, source{path, inMailbox})
	}
	return list
}

// snapshotFile gives the file that a snapshot says a message has.
func snapshotFile(id, mailbox string, c *contents, m *Message) string {
	if m.file == inPlace {
		return filepath.Join(snapshotDir, id, mailbox, c.guid, uidName(m.UID))
	}
	return filepath.Join(snapshotDir, id, m.file)
}

// snapshotBody gives the place of a message's body in a snapshot, if that has it. That of a subvolume must be looked up.
func snapshotBody(l LUNSnapshot, mailbox, guid string, uid uint32) string {
	if l.Method == methodBtrfs {
		return ""
	}
	return filepath.Join(snapshotDir, l.ID, mailbox, guid, uidName(uid))
}

// sameBody gives the file of another message of the mailbox that has the same body.
func (s *Store) sameBody(mailbox string, m *Message) string {
	s.mu.Lock()
	box := s.boxes[mailbox]
	s.mu.Unlock()
	if box == nil || m.Sum == "" {
		return ""
	}
	box.mu.Lock()
	defer box.mu.Unlock()
	for _, f := range box.byGUID {
		for _, other := range f.messages {
			if other.Sum == m.Sum && other.file != "" {
				return f.path(other)
			}
		}
	}
	return ""
}

// openKept opens a body that no message has any more, by its sum: in a snapshot, or among those that were expunged. It takes
// its time, and is for one that some replica lacks. The error is ErrNoMessage.
func (s *Store) openKept(b Body) (*os.File, error) {
	s.expunged.seeking.Lock()
	defer s.expunged.seeking.Unlock()
	for _, find := range []func(Body) (string, error){s.seekSnapshots, s.seekExpunged} {
		path, err := find(b)
		if err != nil {
			return nil, err
		}
		if path != "" {
			return os.Open(s.files.at(path))
		}
	}
	return nil, fmt.Errorf("%w: body %s of %s", ErrNoMessage, b.Name, b.Mailbox)
}

func (s *Store) seekSnapshots(b Body) (path string, err error) {
	if b.Mailbox == "" {
		return "", nil
	}
	snaps := s.Snapshots()
	for _, l := range slices.Backward(snaps) {
		was := &past{snapshot: l, state: newState()}
		if err := s.readManifest(was, b.Mailbox); err != nil {
			s.log.Warn("cannot look for a body in a snapshot", "snapshot", l.ID, "err", err)
			continue
		}
		for _, c := range was.state.folders {
			for _, m := range c.messages {
				if m.Sum != b.Sum || m.file == "" {
					continue
				}
				path := snapshotFile(l.ID, b.Mailbox, c, m)
				if sum, err := s.sumOf(path); err == nil && sum == b.Sum {
					return path, nil
				}
			}
		}
	}
	return "", nil
}

// seekExpunged looks at all that have the size.
func (s *Store) seekExpunged(b Body) (path string, err error) {
	for _, hour := range s.hours() {
		entries, err := os.ReadDir(s.files.at(filepath.Join(expungedDir, hour)))
		if err != nil && !isGone(err) {
			return "", fmt.Errorf("look for body: %w", err)
		}
		for _, e := range entries {
			st, err := e.Info()
			if err != nil || st.Size() != b.Size || !st.Mode().IsRegular() {
				continue
			}
			path := filepath.Join(expungedDir, hour, e.Name())
			if sum, err := s.sumOf(path); err == nil && sum == b.Sum {
				return path, nil
			}
		}
	}
	return "", nil
}

// headerBytes bounds what is read of a message to find its subject or its id.
const headerBytes = 256 << 10

// header reads the header of a message of the past; nil when its body is not here.
func (s *Store) header(list []source) mail.Header {
	for _, from := range list {
		f, err := os.Open(s.files.at(from.path))
		if err != nil {
			continue
		}
		msg, err := mail.ReadMessage(bufio.NewReader(io.LimitReader(f, headerBytes)))
		f.Close()
		if err == nil {
			return msg.Header
		}
		return mail.Header{}
	}
	return nil
}

// sameID compares Message-IDs, with or without their brackets.
func sameID(a, b string) bool {
	trim := func(s string) string { return strings.Trim(strings.TrimSpace(s), "<>") }
	return trim(a) != "" && trim(a) == trim(b)
}

// subject gives a subject as people read it, without what a terminal would obey.
func subject(h mail.Header) string {
	text := h.Get("Subject")
	if decoded, err := new(mime.WordDecoder).DecodeHeader(text); err == nil {
		text = decoded
	}
	text = strings.Map(func(c rune) rune {
		if c < ' ' || c >= 0x7f && c < 0xa0 {
			return ' '
		}
		return c
	}, strings.ToValidUTF8(text, "\ufffd"))
	if list := []rune(text); len(list) > 120 {
		text = string(list[:119]) + "…"
	}
	return text
}

// bring puts the body of a message that comes back into the incoming directory, durably, and gives its sum. It is compared with
// what is known: a snapshot may be as rotten as anything else.
func (s *Store) bring(ctx context.Context, r *restoration, m returning, base string) (sum string, err error) {
	to := bodyPath(base)
	err = fmt.Errorf("%w: no replica that can be asked has the body", ErrMissing)
	for _, from := range s.sources(r, m.was, m.Message) {
		sum, berr := s.bringFile(r, from, to, m.Message)
		if berr == nil {
			return sum, nil
		}
		s.log.Warn("body of a message that is to be restored cannot be used", "file", from.path, "err", berr)
		err = berr
	}
	if s.journal == nil || m.Sum == "" {
		return "", err
	}
	b := keptOf(m.Message).body(r.order.Mailbox)
	b.Name = maildir.Unique(base) // as the replica knows it: others find it by its sum
	if err := s.journal.Fetch(ctx, b); err != nil {
		return "", fmt.Errorf("fetch body: %w", err)
	}
	if _, err := os.Lstat(s.files.at(to)); err != nil {
		return "", fmt.Errorf("fetch body: %w", err)
	}
	return m.Sum, nil
}

func (s *Store) bringFile(r *restoration, from source, to string, m *Message) (sum string, err error) {
	method := methodHardlink
	if from.where == inSnapshot {
		method = r.was.snapshot.Method // what is back must not share more with the snapshot than before
	}
	err = s.keepBody(method, from.path, to)
	if errors.Is(err, fs.ErrExist) { // left by one that failed
		if err = s.files.remove(to); err == nil {
			err = s.keepBody(method, from.path, to)
		}
	}
	if err != nil {
		return "", err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.files.remove(to))
		}
	}()
	f, err := os.Open(s.files.at(to))
	if err != nil {
		return "", err
	}
	defer f.Close()
	if st, err := f.Stat(); err != nil || st.Size() != m.Size {
		return "", fmt.Errorf("it is not of %d bytes: %w", m.Size, errors.Join(err, errRotten))
	}
	if sum, err = s.sumOf(to); err != nil {
		return "", err
	}
	if m.Sum != "" && sum != m.Sum {
		return "", fmt.Errorf("it has another sum: %w", errRotten)
	}
	if method == methodReflink { // the text of other files has been durable before
		err = s.files.sync(f)
	}
	return sum, err
}

// errRotten says that a file is not what it was.
var errRotten = errors.New("store: file is damaged")
