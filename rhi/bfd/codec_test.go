package bfd

import (
	"bytes"
	"encoding/binary"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// valid is a packet that nothing can be said against.
func valid() []byte {
	p := packet{diag: PathDown, state: Up, poll: true, mult: 3, my: 0x01020304, your: 0x05060708, tx: 100 * ms, rx: 200 * ms, echo: 3 * time.Microsecond}
	var b [packetLen]byte
	return p.encode(&b)
}

func TestWireForm(t *testing.T) {
	want := []byte{
		0x25, 0xe0, 3, 24, 1, 2, 3, 4, 5, 6, 7, 8, // version 1, path down; up and P
		0x00, 0x01, 0x86, 0xa0, 0x00, 0x03, 0x0d, 0x40, 0, 0, 0, 3,
	}
	if diff := cmp.Diff(want, valid()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if b := (&packet{tx: 2 * maxInterval}).encode(new([packetLen]byte)); binary.BigEndian.Uint32(b[12:]) != 1<<32-1 {
		t.Errorf("an interval beyond the field becomes %x", b[12:16])
	}
}

// TestDecodeRefuses has one thing wrong per case, and a second one that is looked for later where there is one.
func TestDecodeRefuses(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(b []byte) []byte
		want   drop
	}{
		{"nothing", func(b []byte) []byte { return b }, taken},
		{"more than its length says", func(b []byte) []byte { return append(b, 1, 2, 3) }, taken},
		{"empty", func(b []byte) []byte { return nil }, dropLength},
		{"one octet short", func(b []byte) []byte { return b[:23] }, dropLength},
		{"version 0 and a short length", func(b []byte) []byte { b[0], b[3] = 0x05, 3; return b }, dropVersion},
		{"version 2", func(b []byte) []byte { b[0] = 0x45; return b }, dropVersion},
		{"length 23 and multiplier 0", func(b []byte) []byte { b[2], b[3] = 0, 23; return b }, dropLength},
		{"length beyond the end", func(b []byte) []byte { b[3] = 25; return b }, dropLength},
		{"authentication in 24 octets", func(b []byte) []byte { b[1] |= bitAuth; return b }, dropLength},
		{"authentication without a length", func(b []byte) []byte { b[1] |= bitAuth; b[3] = 25; return append(b, 5) }, dropLength},
		{"multiplier 0 and M", func(b []byte) []byte { b[1] |= bitMultipoint; b[2] = 0; return b }, dropMultiplier},
		{"M and no discriminator", func(b []byte) []byte { b[1] |= bitMultipoint; clear(b[4:8]); return b }, dropMultipoint},
		{"no discriminator", func(b []byte) []byte { clear(b[4:12]); return b }, dropMyDiscriminator},
		{"up, and does not know us", func(b []byte) []byte { clear(b[8:12]); return b }, dropState},
		{"init, and does not know us", func(b []byte) []byte { b[1] = byte(Init) << 6; clear(b[8:12]); return b }, dropState},
		{"down, and does not know us", func(b []byte) []byte { b[1] = byte(Down) << 6; clear(b[8:12]); return b }, taken},
		{"admin-down, and does not know us", func(b []byte) []byte { b[1] = 0; clear(b[8:12]); return b }, taken},
	} {
		t.Run(c.name, func(t *testing.T) {
			var p packet
			if got := p.decode(c.change(valid())); got != c.want {
				t.Errorf("got %v, want %v", got, c.want)
			}
		})
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(valid())
	f.Add([]byte{})
	s := newTestWire().end[0]
	s.cfg.Key = Key{ID: 1, Secret: "s3cret"}
	p := s.compose(s.since, &outcome{})
	var room [packetLen]byte
	signed := p.encode(&room)
	s.auth.sign(signed, &s.cfg.Key)
	f.Add(bytes.Clone(signed))
	f.Add(signed[:26])
	f.Fuzz(func(t *testing.T, b []byte) {
		var p packet
		if p.decode(b) != taken {
			return
		}
		key := Key{ID: 1, Secret: "s3cret"}
		_ = new(auth).verify(&p, b, &key)
		_ = new(auth).verify(&p, b, &Key{})
		var room [packetLen]byte
		got, want := bytes.Clone(p.encode(&room)[:headerLen]), bytes.Clone(b[:headerLen])
		got[3], want[1] = want[3], want[1]&^0x08 // what we never set: another length, the C bit
		if !bytes.Equal(got, want) {
			t.Errorf("%x becomes %x", want, got)
		}
	})
}

// TestPacketsDoNotAllocate holds the way of a packet through a session to no work for the garbage collector.
func TestPacketsDoNotAllocate(t *testing.T) {
	w := newTestWire()
	for _, s := range w.end {
		s.cfg.Key = Key{ID: 1, Secret: "s3cret"}
	}
	w.bringUp(t)
	a, b := w.end[0], w.end[1]
	var room [packetLen]byte
	if n := testing.AllocsPerRun(100, func() {
		w.now = w.now.Add(ms)
		o := outcome{send: true}
		p := a.compose(w.now, &o)
		raw := p.encode(&room)
		a.auth.sign(raw, &a.cfg.Key)
		var q packet
		if q.decode(raw) != taken || b.receive(w.now, w.now, &q, raw).drop != taken {
			t.Error("not taken")
		}
		b.tick(w.now)
	}); n != 0 {
		t.Errorf("%v allocations per packet", n)
	}
}
