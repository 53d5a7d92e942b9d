package table

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
)

// Method says how one variant of an entry is picked for a query.
type Method uint8

const (
	// Fixed takes the first variant, which is the only one.
	Fixed Method = iota
	// Rotate takes one after the other. Each lane goes round by itself.
	Rotate
	// Weighted takes one by chance, in proportion to the weights.
	Weighted
	// Hashed gives a client the same variant each time: the one with the least luck over weight, luck being a keyed hash of
	// the client's subnet and the variant's key. Clients share the variants in proportion to the weights. A variant that
	// goes moves none but its own clients, and one that comes moves clients to itself only.
	Hashed
)

// ErrEntry says that an entry is not as it must be.
var ErrEntry = errors.New("entry")

// Entry is what queries of one name and type from one class of clients are answered with.
type Entry struct {
	Method   Method
	Variants []Variant // one of Fixed; at least one of the others
}

// Variant is one reply.
type Variant struct {
	// Plain is the whole reply in wire form, without OPT, of any size, with a question of the entry's name (in any case),
	// type and class IN. Of its header count AA, the response code and the numbers of records. Where names are to show the
	// case that was asked for, they must be compressed to the question's.
	Plain []byte
	// Signed is the same with signatures, for queries with DO; nil: as Plain.
	Signed []byte
	// Options are EDNS options in wire form that go into the reply's OPT if the query has one; at most MaxOptions octets.
	Options []byte
	Weight  uint32 // of Weighted and Hashed; 0: not picked, but one of the entry must have weight
	Key     string // of Hashed: what the variant is known by, in each entry and table in which it is
}

// MaxOptions is how long a variant's options may be, and a client's NSID: short, since they must fit where nothing else does.
const MaxOptions = 128

// check says what is wrong with an entry.
func (e *Entry) check() error {
	var total uint64
	keys := map[string]bool{}
	for _, v := range e.Variants {
		total += uint64(v.Weight)
		if e.Method == Hashed && keys[v.Key] {
			return fmt.Errorf("%w: two variants have the key %q", ErrEntry, v.Key)
		}
		keys[v.Key] = true
		if len(v.Options) > MaxOptions || !wellFormed(v.Options) {
			return fmt.Errorf("%w: %d octets of options, malformed or more than %d", ErrEntry, len(v.Options), MaxOptions)
		}
	}
	switch n := len(e.Variants); {
	case e.Method > Hashed:
		return fmt.Errorf("%w: method %d is unknown", ErrEntry, e.Method)
	case n == 0 || n > math.MaxUint16 || e.Method == Fixed && n > 1:
		return fmt.Errorf("%w: %d variants do not go with its method", ErrEntry, n)
	case (e.Method == Weighted || e.Method == Hashed) && (total == 0 || total > math.MaxUint32):
		return fmt.Errorf("%w: weights sum up to %d, not within 1 and %d", ErrEntry, total, uint32(math.MaxUint32))
	}
	return nil
}

// wellFormed says whether these are EDNS options.
func wellFormed(options []byte) bool {
	for len(options) >= 4 {
		n := 4 + int(binary.BigEndian.Uint16(options[2:]))
		if n > len(options) {
			return false
		}
		options = options[n:]
	}
	return len(options) == 0
}

// message is a reply as the table keeps it: what stands after the question, and what the header says of it. In the table it
// takes messageSize octets, and body apart from them.
type message struct {
	flags      [2]byte // AA, and the response code
	answers    uint16
	authority  uint16
	additional uint16
	essential  uint16 // length of the body without the additional section
	length     uint16 // of the body
}

const messageSize = 12

func (m *message) append(to []byte) []byte {
	to = append(to, m.flags[:]...)
	for _, v := range []uint16{m.answers, m.authority, m.additional, m.essential, m.length} {
		to = binary.LittleEndian.AppendUint16(to, v)
	}
	return to
}

func readMessage(b []byte) message {
	_ = b[messageSize-1]
	le := binary.LittleEndian
	return message{[2]byte(b), le.Uint16(b[2:]), le.Uint16(b[4:]), le.Uint16(b[6:]), le.Uint16(b[8:]), le.Uint16(b[10:])}
}

// takeMessage checks a reply and splits it; question is what it must have for a question, in lower case.
func takeMessage(wire, question []byte) (m message, body []byte, err error) {
	be := binary.BigEndian
	if len(wire) < headerSize+len(question) || len(wire) > math.MaxUint16 {
		return m, nil, fmt.Errorf("%w: reply of %d octets", ErrEntry, len(wire))
	}
	if wire[2]&(bitQR|maskOpcode|bitTC) != bitQR || be.Uint16(wire[4:]) != 1 {
		return m, nil, fmt.Errorf("%w: reply is not a whole one to one query", ErrEntry)
	}
	asked := make([]byte, len(question)-4, len(question))
	lowerInto(asked, wire[headerSize:][:len(asked)])
	asked = append(asked, wire[headerSize+len(asked):][:4]...)
	if string(asked) != string(question) {
		return m, nil, fmt.Errorf("%w: reply has another question", ErrEntry)
	}
	m.flags = [2]byte{wire[2] & bitAA, wire[3] & maskRcode}
	m.answers, m.authority, m.additional = be.Uint16(wire[6:]), be.Uint16(wire[8:]), be.Uint16(wire[10:])
	begin := headerSize + len(question)
	at := begin
	for i := range int(m.answers) + int(m.authority) + int(m.additional) {
		if i == int(m.answers)+int(m.authority) {
			m.essential = uint16(at - begin)
		}
		var rrtype uint16
		if at, rrtype, err = skipRecord(wire, at); err != nil {
			return m, nil, fmt.Errorf("%w: record %d of reply: %w", ErrEntry, i+1, err)
		}
		if rrtype == typeOPT {
			return m, nil, fmt.Errorf("%w: reply has an OPT of its own", ErrEntry)
		}
	}
	if at != len(wire) {
		return m, nil, fmt.Errorf("%w: reply has %d octets after its records", ErrEntry, len(wire)-at)
	}
	m.length = uint16(at - begin)
	if m.additional == 0 {
		m.essential = m.length
	}
	return m, wire[begin:], nil
}
