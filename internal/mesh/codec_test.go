package mesh

import (
	"bytes"
	"encoding/hex"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var (
	exampleEntries = []entry{
		{key: "order/smtp/mx1", value: "drain", stamp: stamp{0x18f00000001, 2, "lb1"}},
		{key: "order/smtp/mx2", deleted: true, stamp: stamp{0x18f00000002, 0, "lb2"}},
	}
	compareEntries = cmp.AllowUnexported(entry{}, stamp{}, message{})
)

// The format is a contract with members of other versions: a change here needs a new version.
func TestWireFormat(t *testing.T) {
	const want = "01 01 00000002 " +
		"00 0000018f00000001 00000002 03 6c6231 000e 6f726465722f736d74702f6d7831 0005 647261696e " +
		"01 0000018f00000002 00000000 03 6c6232 000e 6f726465722f736d74702f6d7832 0000"
	got := encodeEntries(exampleEntries)
	if text := hex.EncodeToString(got); text != strings.ReplaceAll(want, " ", "") {
		t.Errorf("encoded:\n%s", text)
	}
	m, err := decode(got)
	check(t, err)
	if diff := cmp.Diff(message{entries: exampleEntries}, m, compareEntries); diff != "" {
		t.Errorf("decoded (-want +got):\n%s", diff)
	}
	m, err = decode(encodeLeave("lb1"))
	if err != nil || m.leave != "lb1" {
		t.Errorf("leave: %+v, %v", m, err)
	}
	m, err = decode(encodeTold("lb1", []byte("up")))
	if err != nil || m.teller != "lb1" || m.told != "up" {
		t.Errorf("told: %+v, %v", m, err)
	}
	sum := headerSize
	for _, e := range exampleEntries {
		sum += e.size()
	}
	if sum != len(got) {
		t.Errorf("sizes give %d bytes of %d", sum, len(got))
	}
}

func TestDecodeRefuses(t *testing.T) {
	good := encodeEntries(exampleEntries)
	one := func(change func(*entry)) []byte {
		e := exampleEntries[0]
		change(&e)
		return encodeEntries([]entry{e})
	}
	tombstone := one(func(e *entry) { e.deleted = true })
	for _, tc := range []struct {
		name string
		b    []byte
		want string
	}{
		{"nothing", nil, "ends too early"},
		{"version", append([]byte{2}, good[1:]...), "version 2"},
		{"kind", []byte{1, 9}, "unknown kind 9"},
		{"more bytes", append(bytes.Clone(good), 0), "1 bytes too many"},
		{"more entries than bytes", []byte{1, 1, 0, 0, 0x40, 0}, "16384 entries in 0 bytes"},
		{"too many entries", append([]byte{1, 1, 0xff, 0xff, 0xff, 0xff}, make([]byte, 100)...), "4294967295 entries"},
		{"order", encodeEntries([]entry{exampleEntries[1], exampleEntries[0]}), "keys out of order"},
		{"twice", encodeEntries([]entry{exampleEntries[0], exampleEntries[0]}), "keys out of order"},
		{"flags", append(bytes.Clone(good[:headerSize]), append([]byte{2}, good[headerSize+1:]...)...), "unknown flags 0x2"},
		{"far future", one(func(e *entry) { e.stamp.wall = 1 << 48 }), "time"},
		{"before 1970", one(func(e *entry) { e.stamp.wall = -1 }), "time"},
		{"node", one(func(e *entry) { e.stamp.node = "a b" }), "bad name"},
		{"no node", one(func(e *entry) { e.stamp.node = "" }), "bad name"},
		{"no key", one(func(e *entry) { e.key = "" }), "bad key"},
		{"long key", one(func(e *entry) { e.key = strings.Repeat("k", MaxKey+1) }), "bad key"},
		{"key not text", one(func(e *entry) { e.key = "\xff" }), "bad key"},
		{"key with a line end", one(func(e *entry) { e.key = "a\nb" }), "bad key"},
		{"long value", one(func(e *entry) { e.value = strings.Repeat("v", MaxSize) }), "key and value of"},
		{"tombstone with a value", tombstone, "a tombstone with a value"},
		{"leave without a name", []byte{1, 2, 0}, "bad name"},
		{"huge", make([]byte, maxMessage+1), "bytes; at most"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if m, err := decode(tc.b); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, %v; want %s", m, err, tc.want)
			}
		})
	}
	for n := range good {
		if _, err := decode(good[:n]); err == nil {
			t.Errorf("the first %d of %d bytes decode", n, len(good))
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(encodeEntries(exampleEntries))
	f.Add(encodeEntries(nil))
	f.Add(encodeLeave("lb1"))
	f.Add(encodeTold("lb1", []byte("up")))
	f.Add([]byte{1, 1, 0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := decode(b)
		if err != nil {
			return
		}
		again := encodeEntries(m.entries)
		if m.leave != "" {
			again = encodeLeave(m.leave)
		}
		if m.teller != "" {
			again = encodeTold(m.teller, []byte(m.told))
		}
		if !bytes.Equal(again, b) {
			t.Errorf("%x decodes and encodes to %x", b, again)
		}
		data := NewMap("fuzz", nil)
		data.merge(m.entries, true)
		if _, err := decode(data.encode()); err != nil {
			t.Errorf("what was taken does not decode: %v", err)
		}
	})
}
