package table

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/maphash"
	"math"
	"math/rand/v2"
	"sync/atomic"

	"anycastle/internal/flowhash"

	"github.com/miekg/dns"
)

var (
	// ErrDuplicate says that there is an entry of the name, type and class already.
	ErrDuplicate = errors.New("entry is there already")
	// ErrTooLarge says that a table has no room for all entries.
	ErrTooLarge = errors.New("table too large")
)

// Config is what all entries of a table share. The zero value answers everybody alike, without cookies.
type Config struct {
	Classes       *Classes     // of clients; nil: class 0 only
	Key           flowhash.Key // of Hashed; the same at all servers, so that they send a client to the same variant
	MaxUDP        int          // octets of the largest reply, 512 to 4096; 0: 1232
	Cookies       Cookies      // nil: none
	RequireCookie bool         // leave a query without a good cookie to the slow path
	NoSubnets     bool         // take client subnets for an option that is not known
	Lanes         int          // how many readers there are, each with a Client of its own lane; 0: 1
}

// ErrConfig says that a Config is not as it must be.
var ErrConfig = errors.New("table")

// MaxEntries is how many classes may have an entry of one name and type.
const MaxEntries = math.MaxUint8

// Builder collects entries. It is for one goroutine at a time. It may be kept: Build leaves it as it is, so the next table
// needs only the entries that differ, to be removed and added again.
type Builder struct {
	cfg  Config
	sets map[setKey][]classEntry
}

// setKey is a name in wire form and lower case, and a type.
type setKey struct {
	name  string
	qtype uint16
}

// classEntry is an entry as it will stand in the table, but for the number of its counter.
type classEntry struct {
	class uint16
	entry []byte
}

// NewBuilder gives a builder without entries. Errors wrap ErrConfig.
func NewBuilder(cfg Config) (*Builder, error) {
	if cfg.MaxUDP = cmp.Or(cfg.MaxUDP, defaultSize); cfg.MaxUDP < plainSize || cfg.MaxUDP > largestSize {
		return nil, fmt.Errorf("%w: replies of %d octets, not within %d and %d", ErrConfig, cfg.MaxUDP, plainSize, largestSize)
	}
	cfg.Lanes = max(cfg.Lanes, 1)
	return &Builder{cfg: cfg, sets: map[setKey][]classEntry{}}, nil
}

// Add puts an entry in: for queries of this name and type from clients of this class, or, if class is 0, from all whose
// class has no entry of its own. It copies what it keeps. Errors wrap ErrEntry, ErrClass or ErrDuplicate.
func (b *Builder) Add(name string, qtype uint16, class int, e Entry) error {
	err := b.add(name, qtype, class, &e)
	if err != nil {
		return fmt.Errorf("add %s %s of class %d: %w", name, dns.Type(qtype), class, err)
	}
	return nil
}

func (b *Builder) add(name string, qtype uint16, class int, e *Entry) error {
	k, err := b.key(name, qtype)
	if err != nil {
		return err
	}
	if class < 0 || class > MaxClass {
		return fmt.Errorf("%w: not within 0 and %d", ErrClass, MaxClass)
	}
	set := b.sets[k]
	for _, other := range set {
		if int(other.class) == class {
			return ErrDuplicate
		}
	}
	if len(set) == MaxEntries {
		return fmt.Errorf("%w: more than %d classes", ErrClass, MaxEntries)
	}
	if err := e.check(); err != nil {
		return err
	}
	question := binary.BigEndian.AppendUint16([]byte(k.name), qtype)
	encoded, err := encode(e, binary.BigEndian.AppendUint16(question, classIN))
	if err != nil {
		return err
	}
	b.sets[k] = append(set, classEntry{uint16(class), encoded})
	return nil
}

// Remove takes an entry out, and says whether there was one.
func (b *Builder) Remove(name string, qtype uint16, class int) bool {
	k, err := b.key(name, qtype)
	if err != nil {
		return false
	}
	set := b.sets[k]
	for i, e := range set {
		if int(e.class) != class {
			continue
		}
		if b.sets[k] = append(set[:i:i], set[i+1:]...); len(set) == 1 {
			delete(b.sets, k)
		}
		return true
	}
	return false
}

func (b *Builder) key(name string, qtype uint16) (setKey, error) {
	// OPT, TSIG, zone transfers and the like are no questions that a table has replies to (RFC 6895 section 3.1); ANY may be
	if qtype == 0 || qtype == typeOPT || qtype >= 128 && qtype < 255 {
		return setKey{}, fmt.Errorf("%w: not a type of records", ErrEntry)
	}
	var wire [maxName]byte
	n, err := dns.PackDomainName(dns.Fqdn(name), wire[:], 0, nil, false)
	if err != nil {
		return setKey{}, fmt.Errorf("%w: name: %w", ErrEntry, err)
	}
	lowerInto(wire[:], wire[:n])
	return setKey{string(wire[:n]), qtype}, nil
}

// Build gives the table of the entries. Rotations begin anywhere.
func (b *Builder) Build() (*Table, error) {
	t := &Table{cfg: b.cfg, seed: maphash.MakeSeed()}
	size, counters := 0, 0
	for k, set := range b.sets {
		size += setSize(k, set)
	}
	if size > math.MaxUint32 {
		return nil, fmt.Errorf("%w: %d octets of replies", ErrTooLarge, size)
	}
	slots := 8
	for slots*3 < len(b.sets)*4 { // at most three of four are taken
		slots *= 2
	}
	t.slots, t.arena, t.sets = make([]slot, slots), make([]byte, 0, size), len(b.sets)
	for k, set := range b.sets {
		t.insert(k)
		t.arena = appendSet(t.arena, k, set, &counters)
	}
	t.stride = (counters + lineCounters - 1) / lineCounters * lineCounters
	t.counters = make([]atomic.Uint32, t.stride*b.cfg.Lanes)
	for i := range t.counters {
		t.counters[i].Store(rand.Uint32())
	}
	return t, nil
}

// lineCounters is how many counters share a line of the processor's cache: lanes do not.
const lineCounters = 16

// insert notes that the next set in the arena is of this name and type.
func (t *Table) insert(k setKey) {
	h := t.hash([]byte(k.name), k.qtype)
	for i := h; ; i++ {
		if s := &t.slots[i&uint64(len(t.slots)-1)]; s.tag == 0 {
			*s = slot{tag: tagOf(h), set: uint32(len(t.arena))}
			return
		}
	}
}
