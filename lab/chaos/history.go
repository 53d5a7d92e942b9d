package chaos

import (
	"encoding/json"
	"io"
	"slices"
	"strings"
	"sync"
	"time"
)

// Outcome is what a client knows of an operation that it asked for.
type Outcome string

// The outcomes. A temporary refusal is Unknown: the operation may have been done, and only its proof be missing.
const (
	Acknowledged Outcome = "acknowledged"
	Refused      Outcome = "refused" // for good: it has not been done
	Unknown      Outcome = "unknown"
)

// Kind is what an operation does.
type Kind string

// The kinds of operations.
const (
	Deliver Kind = "deliver" // by SMTP, into INBOX
	Submit  Kind = "submit"  // by a user, into INBOX some time after it is acknowledged
	Append  Kind = "append"
	Flags   Kind = "flags" // Op.Flags are the message's from then on
	Expunge Kind = "expunge"
	Move    Kind = "move" // from Folder to To
	Copy    Kind = "copy"
)

// Op is one operation with one message.
type Op struct {
	Kind    Kind   `json:"kind"`
	Mailbox string `json:"mailbox"`
	Folder  string `json:"folder"`
	To      string `json:"to,omitempty"`
	ID      string `json:"id"`              // the Message-ID, of which there is one for each body
	Flags   string `json:"flags,omitempty"` // sorted, parted by blanks
}

// Place is where the acknowledgement says that the message is now; the zero Place says nothing.
type Place struct {
	Validity uint32 `json:"validity,omitempty"`
	UID      uint32 `json:"uid,omitempty"`
}

// Instance is a message in a folder.
type Instance struct {
	Folder, Flags string
}

// End is how an operation ended.
type End struct {
	Op
	Outcome Outcome
	Begun   time.Time
	Took    time.Duration
}

// History is all that clients did. It is safe for concurrent use.
type History struct {
	OnEnd func(End) // called at the end of each operation, from many goroutines; set before the first begins

	mu       sync.Mutex
	begun    time.Time
	journal  *json.Encoder
	messages map[key]*message
	uids     map[uidKey]string // whose UID it was when it was first seen
	reused   map[string]bool
	counts   map[Kind]map[Outcome]int
	last     time.Time // of the last acknowledgement
}

// key names a message: clients send each Message-ID to one mailbox.
type key struct{ mailbox, id string }

type uidKey struct {
	mailbox, folder string
	Place
}

// message is what may be the case of one.
type message struct {
	may     []scene // one unless an outcome is unknown
	pending int     // operations under way

	submitted, seen bool // its submission was acknowledged; somebody has seen it in its mailbox
	gone            map[string]bool
	uid             map[string]Place // by folder, as acknowledged
}

// scene is a set of instances, sorted.
type scene []Instance

// NewHistory begins one. A line of JSON for each operation that ends goes to journal; nil: nowhere.
func NewHistory(journal io.Writer) *History {
	if journal == nil {
		journal = io.Discard
	}
	return &History{
		begun: time.Now(), journal: json.NewEncoder(journal), messages: map[key]*message{}, uids: map[uidKey]string{},
		reused: map[string]bool{}, counts: map[Kind]map[Outcome]int{},
	}
}

// Begin records that an operation is asked for. The function that it gives must be called once, when its end is known or given
// up; said is what the server answered.
func (h *History) Begin(op Op) (end func(out Outcome, at Place, said string)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	m := h.messages[key{op.Mailbox, op.ID}]
	if m == nil {
		m = &message{may: []scene{{}}, gone: map[string]bool{}, uid: map[string]Place{}}
		h.messages[key{op.Mailbox, op.ID}] = m
	}
	m.pending++
	begun := time.Now()
	return func(out Outcome, at Place, said string) {
		if h.OnEnd != nil {
			h.OnEnd(End{op, out, begun, time.Since(begun)})
		}
		h.mu.Lock()
		defer h.mu.Unlock()
		if op.Kind != Submit || out == Refused {
			m.pending-- // what is in a queue comes when it comes
		}
		h.end(m, op, out, at)
		// a journal that cannot be written only makes a failure harder to understand
		_ = h.journal.Encode(struct {
			At   float64 `json:"at_s"`
			Took float64 `json:"took_s"`
			Op
			Place
			Outcome Outcome `json:"outcome"`
			Said    string  `json:"said,omitempty"`
		}{begun.Sub(h.begun).Seconds(), time.Since(begun).Seconds(), op, at, out, said})
	}
}

// end takes the outcome into account.
func (h *History) end(m *message, op Op, out Outcome, at Place) {
	if h.counts[op.Kind] == nil {
		h.counts[op.Kind] = map[Outcome]int{}
	}
	h.counts[op.Kind][out]++
	if out == Refused {
		return
	}
	var after []scene
	for _, w := range m.may {
		after = add(after, w.with(op))
	}
	if out == Unknown {
		for _, w := range m.may {
			after = add(after, w)
		}
	}
	m.may = after
	if op.Kind == Move || op.Kind == Expunge {
		delete(m.uid, op.Folder)
	}
	if out != Acknowledged {
		return
	}
	h.last = time.Now()
	m.submitted = m.submitted || op.Kind == Submit
	target := op.Folder
	if op.Kind == Move || op.Kind == Copy {
		target = op.To
	}
	if op.Kind == Move || op.Kind == Expunge {
		m.gone[op.Folder] = true
	}
	if op.Kind != Expunge {
		delete(m.gone, target)
	}
	if at.UID != 0 {
		m.uid[target] = at
		h.saw(op.Mailbox, target, at, op.ID)
	}
}

// with gives the scene after an operation. One that finds no message to work on leaves it.
func (w scene) with(op Op) scene {
	next := slices.Clone(w)
	i := slices.IndexFunc(next, func(x Instance) bool { return x.Folder == op.Folder })
	switch {
	case op.Kind == Deliver || op.Kind == Submit || op.Kind == Append:
		next = append(next, Instance{op.Folder, op.Flags})
	case i < 0:
	case op.Kind == Flags:
		next[i].Flags = op.Flags
	case op.Kind == Expunge:
		next = slices.Delete(next, i, i+1)
	case op.Kind == Move:
		next[i].Folder = op.To
	case op.Kind == Copy:
		next = append(next, Instance{op.To, next[i].Flags})
	}
	slices.SortFunc(next, Instance.compare)
	return next
}

func (i Instance) compare(j Instance) int {
	if c := strings.Compare(i.Folder, j.Folder); c != 0 {
		return c
	}
	return strings.Compare(i.Flags, j.Flags)
}

// add keeps a set of scenes.
func add(list []scene, w scene) []scene {
	if slices.ContainsFunc(list, func(have scene) bool { return slices.Equal(have, w) }) {
		return list
	}
	return append(list, w)
}

// Saw records that a client, or a reader of a tree, met a message under a UID.
func (h *History) Saw(mailbox, folder string, at Place, id string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.saw(mailbox, folder, at, id)
}

func (h *History) saw(mailbox, folder string, at Place, id string) {
	if m := h.messages[key{mailbox, id}]; m != nil {
		m.seen = true
	}
	k := uidKey{mailbox, folder, at}
	if was, ok := h.uids[k]; !ok {
		h.uids[k] = id
	} else if was != id {
		h.reused[sprintPlace(mailbox, folder, at)+" was "+was+" and is "+id] = true
	}
}

// Settled gives the flags of a message in a folder when they are known for sure: no operation on it is under way, none has an
// unknown end, and it is there once.
func (h *History) Settled(mailbox, folder, id string) (flags string, ok bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if m := h.messages[key{mailbox, id}]; m != nil {
		return m.settled(folder)
	}
	return "", false
}

func (m *message) settled(folder string) (flags string, ok bool) {
	if m.pending > 0 || len(m.may) != 1 {
		return "", false
	}
	found := 0
	for _, i := range m.may[0] {
		if i.Folder == folder {
			flags = i.Flags
			found++
		}
	}
	return flags, found == 1
}

// Absent says whether a message is known for sure not to be in a folder.
func (h *History) Absent(mailbox, folder, id string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	m := h.messages[key{mailbox, id}]
	if m == nil || m.pending > 0 || len(m.may) != 1 {
		return false
	}
	return !slices.ContainsFunc(m.may[0], func(i Instance) bool { return i.Folder == folder })
}

// Present gives the settled messages of a folder, and their flags.
func (h *History) Present(mailbox, folder string) map[string]string {
	h.mu.Lock()
	defer h.mu.Unlock()
	all := map[string]string{}
	for k, m := range h.messages {
		if k.mailbox != mailbox {
			continue
		}
		if flags, ok := m.settled(folder); ok {
			all[k.id] = flags
		}
	}
	return all
}

// Awaited says how many of the messages whose submission was acknowledged nobody has seen arrive.
func (h *History) Awaited() (n int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, m := range h.messages {
		if m.submitted && !m.seen {
			n++
		}
	}
	return n
}

// Counts gives how many operations ended in each way.
func (h *History) Counts() map[Kind]map[Outcome]int {
	h.mu.Lock()
	defer h.mu.Unlock()
	all := map[Kind]map[Outcome]int{}
	for kind, by := range h.counts {
		all[kind] = map[Outcome]int{}
		for out, n := range by {
			all[kind][out] = n
		}
	}
	return all
}

// Ended gives how many operations ended so.
func (h *History) Ended(out Outcome) (n int) {
	for _, by := range h.Counts() {
		n += by[out]
	}
	return n
}

// Last is when the last operation was acknowledged; zero when none was.
func (h *History) Last() time.Time {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.last
}
