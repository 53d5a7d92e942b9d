package bfd

import (
	"bytes"
	"testing"
	"time"
)

// signedBy gives a packet with the sequence number after seq.
func signedBy(k Key, seq uint32) []byte {
	p := packet{state: Up, auth: true, mult: 3, my: 2, your: 1, tx: slow, rx: slow}
	var b [packetLen]byte
	raw := p.encode(&b)
	a := auth{sent: seq - 1}
	a.sign(raw, &k)
	return raw
}

func TestAuthentication(t *testing.T) {
	key := Key{ID: 7, Secret: "s3cret"}
	with := func(change func(b []byte) []byte) []byte { return change(signedBy(key, 100)) }
	for _, c := range []struct {
		name string
		key  Key
		raw  []byte
		want drop
	}{
		{"right", key, signedBy(key, 100), taken},
		{"wrong secret", key, signedBy(Key{7, "secret"}, 100), dropAuthDigest},
		{"wrong key id", key, signedBy(Key{8, "s3cret"}, 100), dropAuthKey},
		{"none, though there is a key", key, valid(), dropAuthMissing},
		{"though there is no key", Key{}, signedBy(key, 100), dropAuthUnexpected},
		{"simple password", key, with(func(b []byte) []byte { b[24] = 1; return b }), dropAuthType},
		{"keyed, not meticulous", key, with(func(b []byte) []byte { b[24] = 4; return b }), dropAuthType},
		{"short section", key, with(func(b []byte) []byte { b[25] = 27; return b }), dropAuthLength},
		{"short packet", key, with(func(b []byte) []byte { b[3] = 26; return b[:26] }), dropAuthLength},
		{"changed state", key, with(func(b []byte) []byte { b[1] ^= 0x40; return b }), dropAuthDigest},
		{"changed sequence", key, with(func(b []byte) []byte { b[31]++; return b }), dropAuthDigest},
		{"changed digest", key, with(func(b []byte) []byte { b[51]++; return b }), dropAuthDigest},
	} {
		t.Run(c.name, func(t *testing.T) {
			var p packet
			if why := p.decode(c.raw); why != taken {
				t.Fatal(why)
			}
			before := bytes.Clone(c.raw)
			var a auth
			if got := a.verify(&p, c.raw, &c.key); got != c.want {
				t.Errorf("got %v, want %v", got, c.want)
			}
			if a.known != (c.want == taken && c.key.Secret != "") {
				t.Error("a packet that was not taken moved the sequence, or one that was did not")
			}
			if !bytes.Equal(before, c.raw) {
				t.Error("the packet was changed")
			}
		})
	}
}

func TestSequence(t *testing.T) {
	key := Key{ID: 7, Secret: "s3cret"}
	var a auth
	take := func(seq uint32) drop {
		var p packet
		raw := signedBy(key, seq)
		p.decode(raw)
		return a.verify(&p, raw, &key)
	}
	for i, c := range []struct {
		seq  uint32
		want drop
	}{
		{0xfffffffc, taken}, // the first may be any
		{0xfffffffc, dropAuthSequence},
		{0xfffffffb, dropAuthSequence},
		{0xfffffffd, taken},
		{6, taken},             // three times the multiplier ahead, and around
		{16, dropAuthSequence}, // one more
		{7, taken},
	} {
		if got := take(c.seq); got != c.want {
			t.Errorf("step %d, sequence %#x: %v, want %v", i, c.seq, got, c.want)
		}
	}
}

// A peer that begins anew with its numbers is heard again after two detection times of silence (RFC 5880 6.8.1).
func TestSequenceIsForgotten(t *testing.T) {
	a, b := testConfig("b"), testConfig("a")
	a.Key = Key{ID: 7, Secret: "s3cret"}
	b.Key = a.Key
	w := newWire(a, b, func() float64 { return 0.5 }).bringUp(t)
	w.end[1] = newSession(b, 77, 5, func() float64 { return 0.5 }, w.now)
	w.run(250 * ms)
	w.mustBe(t, "up/down")
	w.run(time.Minute)
	w.mustBe(t, "up/up")
	if got := w.end[0].lastLoss.Diag; got != DetectionExpired {
		t.Errorf("the old session ended with: %v", got)
	}
}
