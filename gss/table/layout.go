package table

import (
	"encoding/binary"
	"hash/maphash"
	"math"
)

// The arena holds one set after the other: all that is known of a name and type, in one place, so that a query costs few
// lines of the processor's cache. Numbers are little endian.
//
//	set:      type 2, length of name 1, number of classes 1, name, then for each class: class 2, offset of entry in set 4
//	entry:    method 1, spare 1, number of variants 2, counter (Rotate) or sum of weights (Weighted) 4,
//	          then, if there are several, for each variant: offset in entry 4, weight 4, hash of key 8
//	variant:  two messages (plain, signed; the latter of length 0 and no answers if there is none), length of options 2,
//	          options, body of plain, body of signed
//
// The weight of a variant of Weighted is the sum of its own and those before.
const (
	setHead     = 4
	classHead   = 6
	entryHead   = 8
	pointerSize = 16
	variantHead = 2*messageSize + 2
)

func setSize(k setKey, set []classEntry) int {
	n := setHead + len(k.name) + classHead*len(set)
	for _, e := range set {
		n += len(e.entry)
	}
	return n
}

func appendSet(to []byte, k setKey, set []classEntry, counters *int) []byte {
	le := binary.LittleEndian
	to = le.AppendUint16(to, k.qtype)
	to = append(to, byte(len(k.name)), byte(len(set)))
	to = append(to, k.name...)
	offset := setHead + len(k.name) + classHead*len(set)
	for _, e := range set {
		to = le.AppendUint16(to, e.class)
		to = le.AppendUint32(to, uint32(offset))
		offset += len(e.entry)
	}
	for _, e := range set {
		at := len(to)
		to = append(to, e.entry...)
		if Method(e.entry[0]) == Rotate {
			le.PutUint32(to[at+4:], uint32(*counters))
			*counters++
		}
	}
	return to
}

// encode gives an entry as it stands in the arena, with the counter of Rotate open.
func encode(e *Entry, question []byte) ([]byte, error) {
	le := binary.LittleEndian
	var variants, pointers []byte
	sum, head := uint32(0), entryHead
	if len(e.Variants) > 1 {
		head += pointerSize * len(e.Variants)
	}
	for _, v := range e.Variants {
		sum += v.Weight
		weight := v.Weight
		if e.Method == Weighted {
			weight = sum
		}
		pointers = le.AppendUint32(pointers, uint32(head+len(variants)))
		pointers = le.AppendUint32(pointers, weight)
		pointers = le.AppendUint64(pointers, keyHash(v.Key))
		var err error
		if variants, err = appendVariant(variants, &v, question); err != nil {
			return nil, err
		}
	}
	if len(variants) > math.MaxUint32-head {
		return nil, ErrTooLarge
	}
	out := make([]byte, 0, head+len(variants))
	out = append(out, byte(e.Method), 0)
	out = le.AppendUint16(out, uint16(len(e.Variants)))
	out = le.AppendUint32(out, sum)
	if len(e.Variants) > 1 {
		out = append(out, pointers...)
	}
	return append(out, variants...), nil
}

func appendVariant(to []byte, v *Variant, question []byte) ([]byte, error) {
	plain, body, err := takeMessage(v.Plain, question)
	if err != nil {
		return nil, err
	}
	var signed message
	var signedBody []byte
	if v.Signed != nil {
		if signed, signedBody, err = takeMessage(v.Signed, question); err != nil {
			return nil, err
		}
	}
	to = signed.append(plain.append(to))
	to = binary.LittleEndian.AppendUint16(to, uint16(len(v.Options)))
	to = append(to, v.Options...)
	to = append(to, body...)
	return append(to, signedBody...), nil
}

// slot is a place of the index, which is an open hash table.
type slot struct {
	tag uint32 // part of the hash; 0: nothing is here
	set uint32 // offset in the arena
}

func tagOf(hash uint64) uint32 { return uint32(hash>>32) | 1 }

// hash is keyed anew for each table: nobody can choose names that meet in one place.
func (t *Table) hash(name []byte, qtype uint16) uint64 {
	const odd = 0x9e3779b97f4a7c15
	return maphash.Bytes(t.seed, name) ^ uint64(qtype)*odd
}

// find gives the set of a name, in lower case, and type, up to the end of the arena; nil: there is none.
func (t *Table) find(name []byte, qtype uint16) []byte {
	h := t.hash(name, qtype)
	tag := tagOf(h)
	for i := h; ; i++ {
		s := t.slots[i&uint64(len(t.slots)-1)]
		if s.tag == 0 {
			return nil
		}
		if s.tag != tag {
			continue
		}
		set := t.arena[s.set:]
		if binary.LittleEndian.Uint16(set) != qtype || int(set[2]) != len(name) {
			continue
		}
		if string(set[setHead:setHead+len(name)]) == string(name) {
			return set
		}
	}
}

// entryOf gives the entry of a class, or that of class 0, and whether it depends on the class which it is; nil: there is none.
func (t *Table) entryOf(set []byte, c *Client, q *query) (entry []byte, scope int) {
	le := binary.LittleEndian
	classes := int(set[3])
	heads := set[setHead+int(set[2]):]
	if classes == 1 && le.Uint16(heads) == 0 {
		return set[le.Uint32(heads[2:]):], 0
	}
	class, scope := t.cfg.Classes.Lookup(q.client(c))
	common := -1
	for i := range classes {
		head := heads[classHead*i:]
		switch le.Uint16(head) {
		case class:
			return set[le.Uint32(head[2:]):], scope
		case 0:
			common = i
		}
	}
	if common < 0 {
		return nil, scope
	}
	return set[le.Uint32(heads[classHead*common+2:]):], scope
}
