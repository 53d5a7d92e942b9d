package transfer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"

	"anycastle/gss/zone"
)

// TestUpdate takes a zone from a primary that does its best and from others.
func TestUpdate(t *testing.T) {
	key := testKey("key.example.org.")
	wrong := testKey("key.example.org.")
	wrong.Secret = []byte("another secret, as long as that")
	hosts := many(5000)
	old, fresh := version(t, 1, hosts...), version(t, 2, append(slices.Clone(hosts), "new 192.0.2.9")...)
	past := history(t, old, fresh)
	flip := func(at int) func(int, []byte) []byte {
		return func(n int, wire []byte) []byte {
			if n == 1 {
				wire[len(wire)-at] ^= 1
			}
			return wire
		}
	}
	for name, tc := range map[string]struct {
		have   *zone.Zone
		key    *Key
		change func(p *primary)
		kind   Kind
		err    error
		asked  []string
	}{
		"whole":                 {nil, nil, nil, Whole, nil, []string{"SOA", "AXFR"}},
		"whole, signed":         {nil, key, nil, Whole, nil, []string{"SOA", "AXFR"}},
		"parts":                 {old, key, nil, Incremental, nil, []string{"SOA", "IXFR"}},
		"records of others":     {nil, nil, func(p *primary) { p.spoil = stray }, Whole, nil, []string{"SOA", "AXFR"}},
		"nothing newer":         {fresh, key, nil, None, nil, []string{"SOA"}},
		"older":                 {version(t, 3), key, nil, None, ErrOlder, []string{"SOA"}},
		"no EDNS there":         {old, key, func(p *primary) { p.noEDNS = true }, Incremental, nil, []string{"SOA", "SOA", "IXFR"}},
		"no IXFR there":         {old, key, func(p *primary) { p.noIXFR = true }, Whole, nil, []string{"SOA", "IXFR", "AXFR"}},
		"no history there":      {old, key, func(p *primary) { p.past = NewHistory() }, Whole, nil, []string{"SOA", "IXFR"}},
		"parts do not fit":      {version(t, 1, "new 192.0.2.9"), key, nil, Whole, nil, []string{"SOA", "IXFR", "AXFR"}},
		"parts are misnumbered": {old, nil, func(p *primary) { p.spoil = misnumber }, Whole, nil, []string{"SOA", "IXFR", "AXFR"}},
		"few are signed":        {nil, key, func(p *primary) { p.loose = true }, Whole, nil, []string{"SOA", "AXFR"}},
		"other secret":          {nil, wrong, nil, "", ErrBadSig, []string{"SOA"}},
		"unknown key":           {nil, testKey("no.example.org."), nil, "", ErrBadKey, []string{"SOA"}},
		"tampered":              {nil, key, func(p *primary) { p.spoil = flip(200) }, "", ErrBadSig, []string{"SOA", "AXFR"}},
		"tampered, few signed": {nil, key, func(p *primary) {
			p.loose = true
			p.spoil = func(n int, wire []byte) []byte {
				if n == 3 {
					wire[len(wire)-1] ^= 1
				}
				return wire
			}
		}, "", ErrBadSig, []string{"SOA", "AXFR"}},
		"end is not signed": {nil, key, func(p *primary) {
			p.spoil = func(n int, wire []byte) []byte {
				if msg, _, _ := split(wire); n > 1 {
					return msg
				}
				return wire
			}
		}, "", ErrUnsigned, []string{"SOA", "AXFR"}},
		"ends early": {nil, key, func(p *primary) {
			p.spoil = func(n int, wire []byte) []byte {
				if n == 4 {
					return nil
				}
				return wire
			}
		}, "", io.ErrUnexpectedEOF, []string{"SOA", "AXFR"}},
		"says nothing":       {nil, nil, func(p *primary) { p.spoil = silent }, "", context.DeadlineExceeded, []string{"SOA", "AXFR"}},
		"unanswerable":       {nil, nil, func(p *primary) { p.down = true }, "", nil, nil},
		"another's messages": {nil, nil, func(p *primary) { p.spoil = renumber }, "", errMalformed, []string{"SOA", "AXFR"}},
		"an error":           {nil, nil, func(p *primary) { p.spoil = deny }, "", ErrRefused, []string{"SOA", "AXFR"}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := &primary{t: t, keys: Keys{key.Name: key}, now: func() *zone.Zone { return fresh }, past: past}
				if tc.change != nil {
					tc.change(p)
				}
				u, err := (&Client{Dial: p.dial}).Update(t.Context(), peer(tc.key), "example.org.", tc.have)
				p.wg.Wait()
				if errors.Is(err, io.ErrClosedPipe) {
					err = io.ErrUnexpectedEOF // as it comes from a pipe if the other end was faster
				}
				failed := tc.err != nil || p.down
				late := tc.err == context.DeadlineExceeded && isTimeout(err)
				if (err != nil) != failed || tc.err != nil && !errors.Is(err, tc.err) && !late {
					t.Fatalf("it ends with %v, want %v", err, tc.err)
				}
				if !slices.Equal(p.asked, tc.asked) {
					t.Errorf("it asks for %v, want %v", p.asked, tc.asked)
				}
				if failed {
					if u.Zone != nil {
						t.Error("there is a zone all the same")
					}
					return
				}
				if u.Kind != tc.kind || u.Serial != fresh.Serial() {
					t.Errorf("it gives %+v, want %s", u, tc.kind)
				}
				if tc.kind != None {
					sameZone(t, u.Zone, fresh)
				}
			})
		})
	}
}

// misnumber has an incremental transfer begin with another version than it should.
func misnumber(_ int, wire []byte) []byte {
	m, err := unpack(wire)
	if err != nil {
		return nil
	}
	if soa, ok := m.Answer[1].(*dns.SOA); ok {
		soa.Serial = 77
	}
	m.Compress = true
	wire, _ = m.Pack()
	return wire
}

func silent(int, []byte) []byte {
	time.Sleep(time.Hour)
	return nil
}

func renumber(_ int, wire []byte) []byte {
	wire[0]++
	return wire
}

func deny(_ int, wire []byte) []byte {
	wire[3] |= dns.RcodeRefused
	return wire
}

// stray adds a record of another zone.
func stray(n int, wire []byte) []byte {
	m, err := unpack(wire)
	if err != nil {
		return nil
	}
	if n == 2 {
		h := dns.RR_Header{Name: "example.net.", Rrtype: dns.TypeTXT, Class: dns.ClassINET}
		m.Answer = append(m.Answer, &dns.TXT{Hdr: h, Txt: []string{"x"}})
	}
	m.Compress = true
	wire, _ = m.Pack()
	return wire
}

// A primary that goes away in the middle of an increment, and is not there to be asked for the whole, costs an error.
func TestPrimaryRestartsInAnIncrement(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		old, fresh := version(t, 1, many(100)...), version(t, 2, many(101)...)
		p := &primary{t: t, now: func() *zone.Zone { return fresh }, past: history(t, old, fresh)}
		p.spoil = func(int, []byte) []byte {
			p.set(func() { p.down = true })
			return nil
		}
		u, err := (&Client{Dial: p.dial}).Update(t.Context(), peer(nil), "example.org.", old)
		p.wg.Wait()
		if err == nil || !strings.Contains(err.Error(), "no such host") || u.Zone != nil {
			t.Errorf("it gives %+v, %v", u, err)
		}
	})
}

// A zone is taken up to a size, whole or by increments.
func TestMaxSize(t *testing.T) {
	hosts := many(5000) // each record of which takes 34 bytes
	old, fresh := version(t, 1, hosts[:4000]...), version(t, 2, hosts...)
	for name, tc := range map[string]struct {
		have  *zone.Zone
		max   int
		kind  Kind
		err   error
		asked []string
	}{
		"whole":            {nil, 5001*34 + 200, Whole, nil, []string{"SOA", "AXFR"}},
		"too big":          {nil, 4999 * 34, None, ErrTooBig, []string{"SOA", "AXFR"}},
		"parts":            {old, 5001*34 + 200, Incremental, nil, []string{"SOA", "IXFR"}},
		"too big by parts": {old, 4999 * 34, None, ErrTooBig, []string{"SOA", "IXFR"}},
		"too big parts":    {old, 999 * 34, None, ErrTooBig, []string{"SOA", "IXFR", "AXFR"}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := &primary{t: t, now: func() *zone.Zone { return fresh }, past: history(t, old, fresh)}
				from := peer(nil)
				from.MaxSize = tc.max
				u, err := (&Client{Dial: p.dial}).Update(t.Context(), from, "example.org.", tc.have)
				p.wg.Wait()
				if !errors.Is(err, tc.err) || !slices.Equal(p.asked, tc.asked) || (u.Zone != nil) != (err == nil) {
					t.Fatalf("after %v it gives %+v, %v", p.asked, u, err)
				}
				if err == nil && u.Kind != tc.kind {
					t.Errorf("it gives %s, want %s", u.Kind, tc.kind)
				}
				if err != nil && !strings.Contains(err.Error(), fmt.Sprintf("its records take more than %d bytes", tc.max)) {
					t.Errorf("it says %v", err)
				}
			})
		})
	}
}

func isTimeout(err error) bool {
	var t interface{ Timeout() bool }
	return errors.As(err, &t) && t.Timeout()
}

func TestUpdateEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		z := version(t, 1)
		p := &primary{t: t, now: func() *zone.Zone { return z }, past: NewHistory()}
		p.spoil = silent
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		begun := time.Now()
		_, err := (&Client{Dial: p.dial}).Update(ctx, peer(nil), "example.org.", nil)
		if !errors.Is(err, context.DeadlineExceeded) || time.Since(begun) != time.Second {
			t.Errorf("after %v it ends with %v", time.Since(begun), err)
		}
		p.wg.Wait()
	})
}

// A message that has fewer records than its header says is no message, though the library takes it.
func TestUnpack(t *testing.T) {
	m := dns.Msg{Answer: []dns.RR{version(t, 1).SOA()}}
	wire, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := unpack(wire); err != nil {
		t.Error(err)
	}
	wire[7]++
	if _, err := unpack(wire); !errors.Is(err, errMalformed) {
		t.Errorf("with a record too few it gives %v", err)
	}
}
