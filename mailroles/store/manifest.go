package store

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"slices"
	"time"

	"anycastle/mailroles/maildir"
)

// manifestVersion is that of the first line.
const manifestVersion = 1

// ErrManifest says that a text is no manifest, or not all of one.
var ErrManifest = errors.New("store: no manifest")

// manifestLine is a line of a manifest, which has one of these. A mailbox is followed by its folders, and a folder by its
// messages. The last line has the sum of all before it.
type manifestLine struct {
	Head    *manifestHead   `json:"head,omitempty"`
	Mailbox *manifestBox    `json:"mailbox,omitempty"`
	Folder  *manifestFolder `json:"folder,omitempty"`
	Message *manifestMail   `json:"message,omitempty"`
	Recent  *recentTx       `json:"recent,omitempty"`
	Queue   json.RawMessage `json:"queue,omitempty"`
	End     string          `json:"end,omitempty"` // SHA-256, in hexadecimal
}

type manifestHead struct {
	Version int    `json:"version"`
	Index   uint64 `json:"index"`
	Chain   string `json:"chain"`
}

type manifestBox struct {
	Address    string   `json:"address"`
	Counter    uint32   `json:"counter"`
	Changed    uint64   `json:"changed"`
	Subscribed []string `json:"subscribed,omitempty"`
}

type manifestFolder struct {
	GUID     string   `json:"guid"`
	Name     string   `json:"name"`
	Validity uint32   `json:"validity"`
	Next     uint32   `json:"next"`
	Changed  uint64   `json:"changed"`
	Keywords []string `json:"keywords,omitempty"` // by letter
}

type manifestMail struct {
	UID      uint32        `json:"uid"`
	Base     string        `json:"base"`
	Sum      string        `json:"sum"`
	Size     int64         `json:"size"`
	Wide     int64         `json:"wide"`
	Date     int64         `json:"date"`
	Modseq   uint64        `json:"modseq"`
	Flags    maildir.Flags `json:"flags,omitempty"`
	Keywords []string      `json:"keywords,omitempty"`
}

// frozen is a mailbox at one moment.
type frozen struct {
	box     manifestBox
	folders []frozenFolder
}

type frozenFolder struct {
	manifestFolder
	messages []*Message
}

// freeze gives what a mailbox holds. What it gives does not change.
func (m *Mailbox) freeze() frozen {
	m.mu.Lock()
	defer m.mu.Unlock()
	st := m.state
	z := frozen{box: manifestBox{Address: m.address, Counter: st.counter, Changed: st.changed, Subscribed: slices.Clone(st.subscribed)}}
	for _, c := range st.sorted() {
		c.shared = true
		z.folders = append(z.folders, frozenFolder{
			manifestFolder: manifestFolder{
				GUID: c.guid, Name: c.name, Validity: c.validity, Next: c.next, Changed: c.changed, Keywords: slices.Clone(c.keywords),
			},
			messages: slices.Clip(c.messages),
		})
	}
	return z
}

// WriteManifest writes all that the LUN holds at one operation, but for the bodies, and tells which that was.
func (s *Store) WriteManifest(w io.Writer) (Position, error) {
	at, boxes, recent, queue, err := s.freeze()
	if err != nil {
		return at, fmt.Errorf("write manifest: %w", err)
	}
	m := &manifestWriter{w: bufio.NewWriter(w), sum: sha256.New()}
	m.put(manifestLine{Head: &manifestHead{Version: manifestVersion, Index: at.Index, Chain: at.Chain.String()}})
	for _, z := range boxes {
		m.put(manifestLine{Mailbox: &z.box})
		for _, f := range z.folders {
			m.put(manifestLine{Folder: &f.manifestFolder})
			for _, msg := range f.messages {
				m.put(manifestLine{Message: &manifestMail{
					UID: msg.UID, Base: msg.base, Sum: msg.Sum, Size: msg.Size, Wide: msg.Wide, Date: msg.Date.Unix(),
					Modseq: msg.Modseq, Flags: msg.Flags, Keywords: msg.Keywords,
				}})
			}
		}
	}
	for _, r := range recent {
		m.put(manifestLine{Recent: &r})
	}
	for _, part := range queue {
		m.put(manifestLine{Queue: part})
	}
	m.put(manifestLine{End: hex.EncodeToString(m.sum.Sum(nil))})
	if err := errors.Join(m.err, m.w.Flush()); err != nil {
		return at, fmt.Errorf("write manifest: %w", err)
	}
	return at, nil
}

type manifestWriter struct {
	w   *bufio.Writer
	sum hash.Hash
	err error
}

func (m *manifestWriter) put(l manifestLine) {
	if m.err != nil {
		return
	}
	text, err := json.Marshal(l)
	if err == nil {
		text = append(text, '\n')
		m.sum.Write(text)
		_, err = m.w.Write(text)
	}
	m.err = err
}

// freeze gives what the LUN holds, with the operation that led to it.
func (s *Store) freeze() (at Position, boxes []frozen, recent []recentTx, queue []json.RawMessage, err error) {
	if !s.replica.isSettled() {
		return at, nil, nil, nil, errUnsettled
	}
	for {
		if err := s.loadAll(); err != nil {
			return at, nil, nil, nil, err
		}
		s.gate.Lock()
		list, whole := s.allLoaded()
		if !whole { // an operation made another one meanwhile
			s.gate.Unlock()
			continue
		}
		defer s.gate.Unlock()
		for _, m := range list {
			boxes = append(boxes, m.freeze())
		}
		queue, err = s.queueManifest()
		return s.Applied(), boxes, s.recents(s.now()), queue, err
	}
}

// loadAll reads all mailboxes, and keeps them.
func (s *Store) loadAll() error {
	addresses, err := s.addresses()
	if err != nil {
		return err
	}
	for _, address := range addresses {
		if _, err := s.known(address); err != nil {
			return err
		}
	}
	return nil
}

// allLoaded gives all mailboxes, and whether they are all loaded.
func (s *Store) allLoaded() ([]*Mailbox, bool) {
	addresses, err := s.addresses()
	if err != nil {
		return nil, false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []*Mailbox
	slices.Sort(addresses)
	for _, address := range addresses {
		m := s.boxes[address]
		if m == nil {
			return nil, false
		}
		list = append(list, m)
	}
	for _, m := range list {
		m.mu.Lock()
		there := m.state != nil
		m.mu.Unlock()
		if !there {
			return nil, false
		}
	}
	return list, true
}

// manifestReader reads a manifest whose sum is right.
type manifestReader struct {
	dec  *bufio.Scanner
	line manifestLine
	err  error
}

// maxManifestLine is the longest line of a manifest: a part of the queue.
const maxManifestLine = 64 << 20

func readManifest(r io.Reader) *manifestReader {
	sc := bufio.NewScanner(r)
	sc.Buffer(nil, maxManifestLine)
	return &manifestReader{dec: sc}
}

func (m *manifestReader) next() bool {
	m.line = manifestLine{}
	if m.err != nil || !m.dec.Scan() {
		return false
	}
	m.err = json.Unmarshal(m.dec.Bytes(), &m.line)
	return m.err == nil
}

func (m *manifestReader) fail() error {
	if err := errors.Join(m.err, m.dec.Err()); err != nil {
		return fmt.Errorf("%w: %w", ErrManifest, err)
	}
	return nil
}

// checkManifest reads a manifest to its end, and gives its position. It refuses what operations could not lead to.
func checkManifest(r io.Reader) (at Position, err error) {
	sum := sha256.New()
	m := readManifest(r)
	n, ended := 0, false
	var in manifestScope
	for m.next() {
		if ended {
			return at, fmt.Errorf("%w: it goes on after its end", ErrManifest)
		}
		switch {
		case n == 0:
			if at, err = m.line.head(); err != nil {
				return at, err
			}
		case m.line.End != "":
			if m.line.End != hex.EncodeToString(sum.Sum(nil)) {
				return at, fmt.Errorf("%w: its sum is wrong", ErrManifest)
			}
			ended = true
		default:
			if err := in.check(m.line); err != nil {
				return at, fmt.Errorf("%w: line %d: %w", ErrManifest, n+1, err)
			}
		}
		sum.Write(m.dec.Bytes())
		sum.Write([]byte("\n"))
		n++
	}
	if err := m.fail(); err != nil {
		return at, err
	}
	if !ended {
		return at, fmt.Errorf("%w: it has no end", ErrManifest)
	}
	return at, nil
}

func (l manifestLine) head() (at Position, err error) {
	if l.Head == nil || l.Head.Version != manifestVersion {
		return at, fmt.Errorf("%w: it has no head of version %d", ErrManifest, manifestVersion)
	}
	chain, err := hex.DecodeString(l.Head.Chain)
	if err != nil || len(chain) != len(at.Chain) {
		return at, fmt.Errorf("%w: chain %q", ErrManifest, l.Head.Chain)
	}
	return Position{Index: l.Head.Index, Chain: Sum(chain)}, nil
}

// manifestScope is where the lines of a manifest are.
type manifestScope struct {
	boxes   map[string]bool
	folders map[string]bool // of the mailbox, by GUID and by name
	folder  bool
	next    uint32
	last    uint32
}

func (in *manifestScope) check(l manifestLine) error {
	switch {
	case l.Mailbox != nil:
		b := l.Mailbox
		if in.boxes == nil {
			in.boxes = map[string]bool{}
		}
		if !plainName(b.Address) || in.boxes[b.Address] {
			return fmt.Errorf("mailbox %q", b.Address)
		}
		in.boxes[b.Address] = true
		in.folders, in.folder = map[string]bool{}, false
	case l.Folder != nil:
		f := l.Folder
		_, err := maildir.FolderDir(f.Name)
		if err != nil || in.folders == nil || !isGUID(f.GUID) || in.folders[f.GUID] || in.folders[f.Name] || f.Validity == 0 || f.Next == 0 {
			return fmt.Errorf("folder %q", f.Name)
		}
		if len(f.Keywords) > maildir.MaxKeywords {
			return fmt.Errorf("keywords of folder %q", f.Name)
		}
		for _, k := range f.Keywords {
			if err := maildir.CheckKeyword(k); k != "" && err != nil {
				return err
			}
		}
		in.folders[f.GUID], in.folders[f.Name] = true, true
		in.folder, in.next, in.last = true, f.Next, 0
	case l.Message != nil:
		m := l.Message
		if !in.folder || m.UID <= in.last || m.UID >= in.next || !isSum(m.Sum) {
			return fmt.Errorf("message %d %q", m.UID, m.Base)
		}
		in.last = m.UID
		a := arrival{UID: m.UID, Base: m.Base, Sum: m.Sum, Size: m.Size, Wide: m.Wide, Keywords: m.Keywords}
		return (&op{Arrivals: []arrival{a}}).checkMessages()
	case l.Recent != nil, l.Queue != nil:
	default:
		return errors.New("says nothing")
	}
	return nil
}

// message makes a message of a manifest's.
func (l *manifestMail) message() *Message {
	return &Message{
		UID: l.UID, Size: l.Size, Wide: l.Wide, Date: time.Unix(l.Date, 0), base: l.Base, Modseq: l.Modseq, Sum: l.Sum,
		Marks: Marks{Flags: l.Flags, Keywords: l.Keywords},
	}
}
