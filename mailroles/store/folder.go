package store

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"anycastle/mailroles/maildir"
)

// Message is one message as it stood when it was looked at; it does not change.
type Message struct {
	UID  uint32
	Size int64
	Wide int64     // size when all lines end in CRLF
	Date time.Time // INTERNALDATE, in whole seconds
	Marks
	Modseq uint64 // index of the last operation that touched it (RFC 7162); 0: before such were kept
	Sum    string // SHA-256 of the body, in hexadecimal; empty: not known

	base string
	file string // below the folder: "new/…" or "cur/…"; empty while it waits to be placed. Guarded by the mailbox's mu
}

// Snapshot is a folder at one moment. Messages are in the order of their UIDs; neither the slice nor what it points to
// changes, or may be changed.
type Snapshot struct {
	Generation uint64 // differs when anything differs; MODSEQ of the last change
	Validity   uint32
	Next       uint32
	Messages   []*Message
	Keywords   []string // all that the folder knows, in the order in which they came
	Gone       bool     // the folder has been deleted
}

// Delta is what changed in a folder since some generation.
type Delta struct {
	Generation uint64
	Next       uint32
	Put        []*Message // new, or with other marks; as they are now, by UID
	Gone       []uint32   // those that are no longer there, by UID
	Deleted    bool       // the folder has been deleted
}

// Folder is one open folder.
type Folder struct {
	box *Mailbox

	// guarded by box.mu, with what it points to
	*contents
	gone      bool
	stale     bool          // differs from what the last checkpoint wrote
	woken     chan struct{} // closed at the next change
	unclaimed uint32        // first UID that no session has heard of
	journal   []note        // the last changes, in order
	forgotten uint64        // generation from which on the journal is whole

	// what there will be when all operations that are under way are done
	ahead         map[uint32]foresight
	aheadNext     uint32
	aheadKeywords []string
}

// note says that an operation changed a message.
type note struct {
	generation uint64
	uid        uint32
}

// foresight is a message as the last operation that is under way will leave it; nil when it will be gone.
type foresight struct {
	*Message
	by *proposal
}

// journalSize is how many changes a folder remembers for Since.
const journalSize = 4096

func newFolder(m *Mailbox, c *contents) *Folder {
	return &Folder{
		box: m, contents: c, woken: make(chan struct{}), forgotten: c.changed, unclaimed: c.next,
		ahead: map[uint32]foresight{}, aheadNext: c.next, aheadKeywords: c.keywords,
	}
}

// Snapshot gives the folder as it is now.
func (f *Folder) Snapshot() Snapshot {
	f.box.mu.Lock()
	defer f.box.mu.Unlock()
	f.shared = true
	return Snapshot{
		Generation: f.changed,
		Validity:   f.validity,
		Next:       f.next,
		Messages:   slices.Clip(f.messages),
		Keywords:   slices.DeleteFunc(slices.Clone(f.keywords), func(k string) bool { return k == "" }),
		Gone:       f.gone,
	}
}

// Since tells what changed since a generation, in time that depends on the number of changes. ok is false when they
// were too many to remember: then a Snapshot is needed.
func (f *Folder) Since(generation uint64) (d Delta, ok bool) {
	f.box.mu.Lock()
	defer f.box.mu.Unlock()
	if generation < f.forgotten {
		return Delta{}, false
	}
	d = Delta{Generation: f.changed, Next: f.next, Deleted: f.gone}
	i, _ := slices.BinarySearchFunc(f.journal, generation+1, func(n note, g uint64) int {
		if n.generation < g {
			return -1
		}
		return 1
	})
	var uids []uint32
	for _, n := range f.journal[i:] {
		uids = append(uids, n.uid)
	}
	slices.Sort(uids)
	for _, uid := range slices.Compact(uids) {
		if at, ok := f.find(uid); ok {
			d.Put = append(d.Put, f.messages[at])
		} else {
			d.Gone = append(d.Gone, uid)
		}
	}
	return d, true
}

// Changed gives a channel that is closed once the folder's generation is another than the given one.
func (f *Folder) Changed(generation uint64) <-chan struct{} {
	f.box.mu.Lock()
	defer f.box.mu.Unlock()
	if f.changed != generation {
		now := make(chan struct{})
		close(now)
		return now
	}
	return f.woken
}

// Recent gives the UIDs, from up to but not to next, that no caller has claimed since the mailbox was read, and claims
// them when asked to. A claim is not kept over a restart.
func (f *Folder) Recent(claim bool) (from, next uint32) {
	f.box.mu.Lock()
	defer f.box.mu.Unlock()
	from, next = f.unclaimed, f.next
	if claim {
		f.unclaimed = next
	}
	return from, next
}

// Message gives one message as it is now.
func (f *Folder) Message(uid uint32) (*Message, bool) {
	f.box.mu.Lock()
	defer f.box.mu.Unlock()
	i, ok := f.find(uid)
	if !ok {
		return nil, false
	}
	return f.messages[i], true
}

// Open opens a message for reading. The caller closes the file, which stays readable when the message goes. The error is
// ErrMissing when its body is not here, and cannot be had from another replica in short time.
func (f *Folder) Open(uid uint32) (*os.File, error) {
	file, b, err := f.openHere(uid)
	if f.box.store.replica == nil || !errors.Is(err, os.ErrNotExist) {
		return file, err
	}
	return f.fetch(uid, b)
}

// openHere opens a message that is here.
func (f *Folder) openHere(uid uint32) (*os.File, Body, error) {
	f.box.mu.Lock()
	defer f.box.mu.Unlock()
	i, ok := f.find(uid)
	if !ok {
		return nil, Body{}, fmt.Errorf("%w: uid %d", ErrNoMessage, uid)
	}
	m := f.messages[i]
	file, err := os.Open(f.box.store.files.at(f.path(m)))
	if err != nil {
		return nil, f.box.body(m), fmt.Errorf("open message: %w", err)
	}
	return file, Body{}, nil
}

// dir gives the folder's directory below the LUN's.
func (c *contents) dir(address string) string {
	sub, err := maildir.FolderDir(c.name)
	if err != nil {
		panic("folder " + c.name + " cannot be") // operations are checked for that
	}
	return filepath.Join(address, sub)
}

// path gives a message's file below the LUN's directory.
func (f *Folder) path(m *Message) string {
	if m.file == "" {
		return bodyPath(m.base)
	}
	return filepath.Join(f.dir(f.box.address), m.file)
}

// tell wakes who waits for a change, and notes what changed.
func (f *Folder) tell(lists ...[]*Message) {
	for _, list := range lists {
		for _, m := range list {
			f.journal = append(f.journal, note{f.changed, m.UID})
		}
	}
	if n := len(f.journal); n > journalSize {
		drop := max(n-journalSize/2, 0)
		f.forgotten = f.journal[drop-1].generation
		f.journal = slices.Clone(f.journal[drop:])
	}
	close(f.woken)
	f.woken = make(chan struct{})
}

// foreseen gives a message as it will be.
func (f *Folder) foreseen(uid uint32) (*Message, bool) {
	if a, ok := f.ahead[uid]; ok {
		return a.Message, a.Message != nil
	}
	if i, ok := f.find(uid); ok {
		return f.messages[i], true
	}
	return nil, false
}
