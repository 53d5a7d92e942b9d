package mesh

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// An entry is one key with its last change.
type entry struct {
	key     string
	value   string // immutable, so that entries can be shared
	deleted bool   // a tombstone; the value is empty
	stamp   stamp
}

// compare orders changes of one key; the greater wins. Two members of one name could make two changes with one stamp: the
// rest makes every member choose the same.
func (e entry) compare(o entry) int {
	if c := e.stamp.compare(o.stamp); c != 0 {
		return c
	}
	if e.deleted != o.deleted {
		if e.deleted {
			return 1
		}
		return -1
	}
	return cmp.Compare(e.value, o.value)
}

// The wire format, all numbers big-endian:
//
//	message: version 1, kind 1, then by kind
//	entries: count 4, and the entries in ascending order of their keys
//	leave:   the name of the member that leaves on purpose, length 1
//	told:    the name of the member that tells it, length 1, and the text, length 2
//	entry:   flags 1 (1: deleted), wall 8, count 4, name length 1, name, key length 2, key, value length 2, value
//
// There is one way to write a message: what decodes encodes to the same bytes.
const (
	wireVersion = 1
	kindEntries = 1
	kindLeave   = 2
	kindTold    = 3

	headerSize  = 2 + 4
	maxMessage  = headerSize + maxBytes + MaxEntries*maxName // see Map.put
	fixedSize   = 1 + 8 + 4 + 1 + 2 + 2                      // of an entry without its name, key and value
	maxWall     = 1 << 48                                    // some year; what is beyond is no time
	flagDeleted = 1
)

// size is how many bytes the entry takes on the wire. The map's bounds are in these.
func (e entry) size() int { return fixedSize + len(e.stamp.node) + len(e.key) + len(e.value) }

func encodeEntries(es []entry) []byte {
	size := headerSize
	for _, e := range es {
		size += e.size()
	}
	b := append(make([]byte, 0, size), wireVersion, kindEntries)
	b = binary.BigEndian.AppendUint32(b, uint32(len(es)))
	for _, e := range es {
		var flags byte
		if e.deleted {
			flags = flagDeleted
		}
		b = append(b, flags)
		b = binary.BigEndian.AppendUint64(b, uint64(e.stamp.wall))
		b = binary.BigEndian.AppendUint32(b, e.stamp.count)
		b = append(append(b, byte(len(e.stamp.node))), e.stamp.node...)
		b = append(binary.BigEndian.AppendUint16(b, uint16(len(e.key))), e.key...)
		b = append(binary.BigEndian.AppendUint16(b, uint16(len(e.value))), e.value...)
	}
	return b
}

func encodeLeave(name string) []byte {
	return append([]byte{wireVersion, kindLeave, byte(len(name))}, name...)
}

func encodeTold(name string, text []byte) []byte {
	b := append([]byte{wireVersion, kindTold, byte(len(name))}, name...)
	return append(binary.BigEndian.AppendUint16(b, uint16(len(text))), text...)
}

// message is a decoded one: entries, the name of a member that leaves, or what one tells.
type message struct {
	entries []entry
	leave   string
	teller  string
	told    string
}

// decode reads a message strictly. Nothing in the result refers to b.
func decode(b []byte) (message, error) {
	if len(b) > maxMessage {
		return message{}, fmt.Errorf("%d bytes; at most %d", len(b), maxMessage)
	}
	r := reader{rest: b}
	if v := r.number(1); r.err == nil && v != wireVersion {
		return message{}, fmt.Errorf("version %d; this one speaks %d", v, wireVersion)
	}
	var m message
	switch kind := r.number(1); {
	case r.err != nil:
	case kind == kindEntries:
		m.entries = r.entries()
	case kind == kindLeave:
		m.leave = r.text(1)
		r.check(ValidName(m.leave), "bad name of a member")
	case kind == kindTold:
		m.teller, m.told = r.text(1), r.text(2)
		r.check(ValidName(m.teller), "bad name of a member")
		r.check(len(m.told) <= MaxTold, "a text of %d bytes", len(m.told))
	default:
		r.check(false, "unknown kind %d", kind)
	}
	r.check(len(r.rest) == 0, "%d bytes too many", len(r.rest))
	if r.err != nil {
		return message{}, r.err
	}
	return m, nil
}

// reader takes a message apart. After the first error it gives zeros.
type reader struct {
	rest []byte
	err  error
}

var errShort = errors.New("ends too early")

func (r *reader) check(ok bool, format string, args ...any) {
	if !ok && r.err == nil {
		r.err = fmt.Errorf(format, args...)
	}
}

func (r *reader) take(n int) []byte {
	if r.err == nil && n > len(r.rest) {
		r.err = errShort
	}
	if r.err != nil {
		return nil
	}
	b := r.rest[:n]
	r.rest = r.rest[n:]
	return b
}

// number reads a number of n bytes, at most 8.
func (r *reader) number(n int) uint64 {
	var v uint64
	for _, b := range r.take(n) {
		v = v<<8 | uint64(b)
	}
	return v
}

// text reads text after its length in n bytes.
func (r *reader) text(n int) string { return string(r.take(int(r.number(n)))) }

func (r *reader) entries() []entry {
	n := int(r.number(4))
	// checked before anything is allocated for so many
	r.check(n <= MaxEntries && n*fixedSize <= len(r.rest), "%d entries in %d bytes", n, len(r.rest))
	if r.err != nil {
		return nil
	}
	es := make([]entry, 0, n)
	for i := range n {
		e := r.entry()
		r.check(i == 0 || es[i-1].key < e.key, "keys out of order")
		if r.err != nil {
			return nil
		}
		es = append(es, e)
	}
	return es
}

func (r *reader) entry() entry {
	flags := r.number(1)
	r.check(flags <= flagDeleted, "unknown flags %#x", flags)
	e := entry{deleted: flags == flagDeleted}
	wall := r.number(8)
	r.check(wall < maxWall, "time %d", wall)
	e.stamp.wall = int64(wall)
	e.stamp.count = uint32(r.number(4))
	e.stamp.node = r.text(1)
	r.check(ValidName(e.stamp.node), "bad name of a member")
	e.key = r.text(2)
	r.check(validKey(e.key), "bad key")
	e.value = r.text(2)
	r.check(len(e.key)+len(e.value) <= MaxSize, "key and value of %d bytes", len(e.key)+len(e.value))
	r.check(!e.deleted || e.value == "", "a tombstone with a value")
	return e
}

// validKey keeps keys such that they can stand in a log.
func validKey(key string) bool {
	return key != "" && len(key) <= MaxKey && utf8.ValidString(key) && strings.IndexFunc(key, unicode.IsControl) < 0
}
