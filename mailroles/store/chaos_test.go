package store

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"anycastle/mailroles/maildir"
)

// account is what clients were told.
type account struct {
	mu     sync.Mutex
	told   map[string]bool // texts of messages that were acknowledged
	doubt  map[string]bool // those of which nobody knows
	gone   map[string]bool // sums of those that somebody asked to be removed
	serial int
}

func (a *account) text() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.serial++
	return fmt.Sprintf("Message-ID: <%d>\n\ntext %s\n", a.serial, strings.Repeat("x", a.serial%50))
}

func (a *account) note(text string, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if err == nil {
		a.told[text] = true
	} else {
		a.doubt[text] = true
	}
}

func sumText(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}

// temporary reports whether an error is one that clients get over.
func temporary(err error) bool {
	for _, is := range []error{
		nil, ErrPassive, ErrAlone, ErrNoFolder, ErrExists, ErrKeywords, ErrMissing, ErrInbox, ErrNoMessage, errCrash, ErrStopped,
	} {
		if errors.Is(err, is) {
			return true
		}
	}
	return false
}

// client does one thing at random.
func (a *account) client(s *Store, r *rand.Rand) error {
	address := []string{user, "bob@example.org"}[r.IntN(2)]
	m, err := s.Mailbox(address)
	if err != nil {
		return err
	}
	names, _ := m.Folders()
	f, err := m.Folder(names[r.IntN(len(names))])
	if err != nil {
		return err
	}
	var uids []uint32
	for _, msg := range f.Snapshot().Messages {
		if r.IntN(3) == 0 {
			uids = append(uids, msg.UID)
		}
	}
	switch n := r.IntN(20); {
	case n < 6:
		return a.deliver(m, r)
	case n < 9:
		text := a.text()
		in := incoming(text)
		in.Flags, in.Keywords = maildir.Flagged, []string{"Red"}
		_, err := f.Append(in)
		a.note(text, err)
		return err
	case n < 12:
		letter := []maildir.Flags{maildir.Seen, maildir.Answered, maildir.Draft}[r.IntN(3)]
		return f.SetFlags(uids, add(letter, fmt.Sprintf("k%d", r.IntN(4))))
	case n == 12:
		return a.expunge(f, uids)
	case n < 15:
		_, _, err = f.Copy(uids[:min(len(uids), 3)], names[r.IntN(len(names))])
	case n < 17:
		_, _, err = f.Move(uids, names[r.IntN(len(names))])
	case n == 17:
		err = m.Create(fmt.Sprintf("f%d", r.IntN(4)))
	case n == 18:
		if name := names[r.IntN(len(names))]; name != maildir.Inbox {
			err = m.Rename(name, fmt.Sprintf("f%d", r.IntN(6)))
		}
	default:
		err = m.Subscribe(names[r.IntN(len(names))], r.IntN(2) == 0)
	}
	return err
}

// deliver delivers a message, and once more when it was told that this failed.
func (a *account) deliver(m *Mailbox, r *rand.Rand) error {
	text := a.text()
	tx := fmt.Sprintf("%016x%016x", r.Uint64(), r.Uint64())
	var err error
	for range 2 {
		in := incoming(text)
		in.Tx = tx
		if _, err = m.Deliver(in); err == nil {
			break
		}
	}
	a.note(text, err)
	return err
}

func (a *account) expunge(f *Folder, uids []uint32) error {
	a.mu.Lock()
	for _, uid := range uids {
		if msg, ok := f.Message(uid); ok {
			a.gone[msg.Sum] = true
		}
	}
	a.mu.Unlock()
	if err := f.SetFlags(uids, add(maildir.Deleted)); err != nil {
		return err
	}
	return f.Expunge(func(uid uint32) bool { return slices.Contains(uids, uid) })
}

// TestReplicasAtRandom has clients work on a replicated LUN while its replicas crash, lose the lead, lack bodies and are
// alone. All replicas hold the same in the end, and all that was acknowledged. ANYCASTLE_THOROUGH has it do so often.
func TestReplicasAtRandom(t *testing.T) {
	seeds := 3
	switch {
	case thorough:
		seeds = 40
	case testing.Short():
		seeds = 1
	}
	first := rand.Uint64N(1 << 32)
	for i := range seeds {
		seed := first + uint64(i)
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) { atRandom(t, seed) })
	}
}

func atRandom(t *testing.T, seed uint64) {
	c := newCluster(t, seed, 3)
	c.lossy = true
	r := rand.New(rand.NewPCG(seed, 1))
	a := &account{told: map[string]bool{}, doubt: map[string]bool{}, gone: map[string]bool{}}
	c.lead(c.nodes[0])
	for round := range 40 {
		leader := c.leader
		var clients sync.WaitGroup
		for range 4 {
			mine := rand.New(rand.NewPCG(r.Uint64(), 2))
			s := leader.store
			clients.Go(func() {
				for range 6 {
					if err := a.client(s, mine); !temporary(err) {
						t.Errorf("round %d: %v", round, err)
					}
				}
			})
		}
		c.disturb(r, &clients)
		clients.Wait()
		c.recover(r)
	}
	c.set(false, false)
	for _, n := range c.nodes {
		if r.IntN(2) == 0 {
			n.end()
			n.start(0)
		}
	}
	c.lead(c.nodes[r.IntN(3)])
	c.level()
	c.heal()
	c.account(a)
}

// set makes the journal as it is to be, and lets what is withheld go on.
func (c *cluster) set(alone, withhold bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.alone, c.withhold = alone, withhold
	if !withhold {
		c.committed = uint64(len(c.records))
	}
	c.moved.Broadcast()
}

// disturb does one thing to the replicas while clients work.
func (c *cluster) disturb(r *rand.Rand, clients *sync.WaitGroup) {
	follower := c.nodes[r.IntN(3)]
	for follower == c.leader {
		follower = c.nodes[r.IntN(3)]
	}
	switch r.IntN(7) {
	case 0: // a replica crashes
		follower.end()
		follower.start(0)
	case 1: // and at some change of the disk
		follower.end()
		follower.start(1 + r.IntN(60))
	case 2: // the lead is lost with operations under way, which may be lost
		c.set(false, true)
		c.lead(follower)
	case 3: // as does the leader
		c.set(false, true)
		old := c.leader
		old.end()
		old.start(0)
	case 4:
		c.set(true, false)
	case 5: // it writes a checkpoint, and then crashes
		c.check(follower.store.Checkpoint())
		follower.end()
		follower.start(0)
	default:
		c.check(c.leader.store.Checkpoint())
	}
}

func (c *cluster) check(err error) {
	if err != nil && !errors.Is(err, errUnsettled) && !errors.Is(err, errCrash) && !errors.Is(err, ErrStopped) {
		c.t.Errorf("checkpoint: %v", err)
	}
}

// recover has all replicas run, and one lead.
func (c *cluster) recover(r *rand.Rand) {
	c.set(false, false)
	for _, n := range c.nodes {
		if n.doomed {
			n.end()
			n.start(0)
		}
	}
	if c.leader == nil {
		c.lead(c.nodes[r.IntN(3)])
	}
}

// account compares what all replicas hold with what clients were told.
func (c *cluster) account(a *account) {
	c.t.Helper()
	var all strings.Builder
	for _, text := range c.same() {
		all.WriteString(text)
	}
	held := all.String()
	for text := range a.told {
		if quoted := fmt.Sprintf("%q", text); !strings.Contains(held, quoted) && !a.gone[sumText(text)] {
			c.t.Errorf("%s was acknowledged, and is lost", quoted)
		}
	}
	seen := map[string]bool{}
	for _, tx := range regexp.MustCompile(`T[0-9a-f]{32}\.`).FindAllString(held, -1) {
		if seen[tx] {
			c.t.Errorf("delivery %s was done twice", tx)
		}
		seen[tx] = true
	}
	if len(seen) < 20 || len(a.told) < 50 {
		c.t.Errorf("only %d deliveries are there, of %d messages that were acknowledged", len(seen), len(a.told))
	}
	for _, n := range c.nodes {
		if q, err := n.store.Quarantine(); err != nil || len(q) > 0 {
			c.t.Errorf("%s: quarantine %+v, %v", n.name, q, err)
		}
		if odd := n.store.Status().Check.Odd; odd > 0 {
			c.t.Errorf("%s: %d oddities", n.name, odd)
		}
	}
}
