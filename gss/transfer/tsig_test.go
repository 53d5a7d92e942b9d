package transfer

import (
	"encoding/base64"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

func query(t testing.TB) []byte {
	t.Helper()
	m := new(dns.Msg).SetAxfr("example.org.")
	m.Id = 4242
	wire, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return wire
}

// TestSignatureLikeTheLibrary signs with each algorithm and has the DNS library check it, and the other way round.
func TestSignatureLikeTheLibrary(t *testing.T) {
	for _, algorithm := range Algorithms() {
		t.Run(algorithm, func(t *testing.T) {
			key := &Key{"key.example.org.", algorithm, []byte("a secret that is long enough")}
			secret := base64.StdEncoding.EncodeToString(key.Secret)
			ours := &chain{key: key}
			wire := ours.request(query(t), time.Now())
			if err := dns.TsigVerify(wire, secret, "", false); err != nil {
				t.Errorf("our query: %v", err)
			}
			m := new(dns.Msg).SetAxfr("example.org.")
			m.SetTsig(key.Name, algorithm+".", fudge, time.Now().Unix())
			theirs, mac, err := dns.TsigGenerate(m, secret, "", false)
			if err != nil {
				t.Fatal(err)
			}
			s := Keys{key.Name: key}.Check(theirs, time.Now())
			if s.Err != nil || s.Valid() != key.Name || s.Rcode != dns.RcodeSuccess {
				t.Fatalf("their query: %+v", s)
			}
			before := len(query(t))
			for i := range 3 {
				reply := s.Sign(query(t), time.Now())
				if got := len(reply) - before; got > s.Size() {
					t.Errorf("%d bytes were appended, announced %d", got, s.Size())
				}
				var m dns.Msg
				if err := m.Unpack(reply); err != nil {
					t.Fatal(err)
				}
				if err := dns.TsigVerify(reply, secret, mac, i > 0); err != nil { // which changes the message
					t.Errorf("message %d of our reply: %v", i, err)
				}
				mac = m.IsTsig().MAC
			}
		})
	}
}

func TestRefusedSignatures(t *testing.T) {
	key := testKey("key.example.org.")
	other := testKey("key.example.org.")
	other.Secret = []byte("another secret, as long as that")
	sha1 := testKey("key.example.org.")
	sha1.Algorithm = "hmac-sha1"
	signed := func(k *Key, at time.Time) []byte { return (&chain{key: k}).request(query(t), at) }
	cut := func(n int) []byte {
		msg, tsig, err := split(signed(key, start))
		if err != nil {
			t.Fatal(err)
		}
		tsig.mac = tsig.mac[:n]
		return tsig.append(msg)
	}
	for name, tc := range map[string]struct {
		wire   []byte
		err    error
		rcode  int
		code   uint16
		signed bool
	}{
		"right":              {signed(key, start), nil, dns.RcodeSuccess, 0, true},
		"right, late":        {signed(key, start.Add(-fudge*time.Second)), nil, dns.RcodeSuccess, 0, true},
		"too late":           {signed(key, start.Add(-fudge*time.Second-time.Second)), ErrBadTime, dns.RcodeNotAuth, dns.RcodeBadTime, true},
		"too early":          {signed(key, start.Add(fudge*time.Second+time.Second)), ErrBadTime, dns.RcodeNotAuth, dns.RcodeBadTime, true},
		"another secret":     {signed(other, start), ErrBadSig, dns.RcodeNotAuth, dns.RcodeBadSig, false},
		"unknown key":        {signed(testKey("no.example.org."), start), ErrBadKey, dns.RcodeNotAuth, dns.RcodeBadKey, false},
		"another algorithm":  {signed(sha1, start), ErrBadKey, dns.RcodeNotAuth, dns.RcodeBadKey, false},
		"cut to half":        {cut(16), ErrBadTrunc, dns.RcodeNotAuth, dns.RcodeBadTrunc, true},
		"cut too short":      {cut(15), errMalformed, dns.RcodeFormatError, 0, false},
		"not signed":         {query(t), ErrUnsigned, dns.RcodeFormatError, 0, false},
		"ends in the record": {signed(key, start)[:100], errMalformed, dns.RcodeFormatError, 0, false},
	} {
		t.Run(name, func(t *testing.T) {
			s := Keys{key.Name: key}.Check(tc.wire, start)
			if !errors.Is(s.Err, tc.err) || s.Rcode != tc.rcode || (s.Valid() != "") != (tc.err == nil) {
				t.Fatalf("the signature is %+v", s)
			}
			plain := query(t)
			reply := s.Sign(query(t), start)
			if len(reply)-len(plain) > s.Size() {
				t.Errorf("%d bytes were appended, announced %d", len(reply)-len(plain), s.Size())
			}
			_, got, err := split(reply)
			if err != nil {
				t.Fatal(err)
			}
			if got == nil {
				if tc.code != 0 || tc.signed {
					t.Error("the reply has no TSIG record")
				}
				return
			}
			if got.err != tc.code || (len(got.mac) > 0) != tc.signed {
				t.Errorf("the reply's record is %+v", got)
			}
			if tc.code == dns.RcodeBadTime && (len(got.other) != 6 || got.time == uint64(start.Unix())) {
				t.Errorf("the reply's times are %d and %x", got.time, got.other)
			}
		})
	}
}

// What the other side answers to a signature that it refuses is told as it is.
func TestRefusalsAreToldToTheClient(t *testing.T) {
	key, other := testKey("key.example.org."), testKey("key.example.org.")
	other.Secret = []byte("another secret, as long as that")
	for name, tc := range map[string]struct {
		keys Keys
		at   time.Time
		want error
	}{
		"right":        {Keys{key.Name: key}, start, nil},
		"unknown":      {Keys{}, start, ErrBadKey},
		"wrong secret": {Keys{key.Name: other}, start, ErrBadSig},
		"clock":        {Keys{key.Name: key}, start.Add(time.Hour), ErrBadTime},
	} {
		c := &chain{key: key}
		s := tc.keys.Check(c.request(query(t), start), tc.at)
		if _, err := c.reply(s.Sign(query(t), tc.at), start); !errors.Is(err, tc.want) || (err == nil) != (tc.want == nil) {
			t.Errorf("%s: the client sees %v", name, err)
		}
	}
}

// A stream may have up to 99 messages without a signature between two with one, and each counts.
func TestStreamOfSignatures(t *testing.T) {
	key := testKey("key.example.org.")
	for name, tc := range map[string]struct {
		loose  int
		tamper bool
		want   error
	}{
		"each signed":      {0, false, nil},
		"ninety-nine not":  {99, false, nil},
		"a hundred not":    {100, false, ErrUnsigned},
		"one not its own":  {3, true, ErrBadSig},
		"signed, tampered": {0, true, ErrBadSig},
	} {
		t.Run(name, func(t *testing.T) {
			c := &chain{key: key}
			s := Keys{key.Name: key}.Check(c.request(query(t), start), start)
			if _, err := c.reply(s.Sign(query(t), start), start); err != nil {
				t.Fatal(err)
			}
			var err error
			for i := range tc.loose {
				wire := query(t)
				s.chain.begin().Write(wire)
				if tc.tamper && i == 1 {
					wire[3] ^= 1
				}
				if _, err = c.reply(wire, start); err != nil {
					break
				}
			}
			if err == nil {
				wire := s.Sign(query(t), start)
				if tc.tamper && tc.loose == 0 {
					wire[3] ^= 1
				}
				_, err = c.reply(wire, start)
			}
			if !errors.Is(err, tc.want) || (err == nil) != (tc.want == nil) {
				t.Errorf("the stream gives %v", err)
			}
		})
	}
	if _, err := (&chain{key: key}).reply(query(t), start); !errors.Is(err, ErrUnsigned) {
		t.Errorf("a first message without a signature gives %v", err)
	}
}

// FuzzCheck gives any bytes to who checks signatures and to who reads replies.
func FuzzCheck(f *testing.F) {
	key := testKey("key.example.org.")
	f.Add(query(f))
	f.Add((&chain{key: key}).request(query(f), start))
	f.Add([]byte(strings.Repeat("\xc0\x0c", 40)))
	f.Fuzz(func(t *testing.T, wire []byte) {
		s := Keys{key.Name: key}.Check(wire, start)
		if s.Err == nil {
			msg, tsig, err := split(wire)
			if err != nil || tsig == nil {
				t.Fatalf("a right signature, but %v", err)
			}
			c := &chain{key: key}
			if got := c.sum(msg, tsig); string(got) != string(tsig.mac) {
				t.Error("a signature that is not right")
			}
		}
		if reply := s.Sign(query(t), start); len(reply)-len(query(t)) > s.Size() {
			t.Errorf("more was appended than announced")
		}
		c := &chain{key: key, mac: []byte("x")}
		c.reply(wire, start)
		(*chain)(nil).reply(wire, start)
		q := notification(version(t, 1).SOA())
		acknowledged(wire, q, c)
	})
}
