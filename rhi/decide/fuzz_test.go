package decide

import (
	"reflect"
	"strings"
	"testing"
	"time"
)

// sample is a pair of sites in the middle of something.
func sample(t *testing.T) *world {
	w := pair(t)
	w.setHealth(1, bad)
	w.run(3 * time.Second)
	w.setHealth(1, good)
	w.give(0, Order{Kind: KindDrain, Why: "two\nlines"})
	w.run(3 * time.Second)
	return w
}

// FuzzState decodes what may have been kept, and decides with it.
func FuzzState(f *testing.F) {
	w := sample(&testing.T{})
	for _, s := range w.sites {
		text, err := s.state.Encode()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Add([]byte("{}"))
	f.Add([]byte("null"))
	f.Add([]byte(`{"203.0.113.10/32":{"place":"withdrawn","cause":"health","penalty":1e308}}`))
	in := w.inputs(w.sites[0])
	f.Fuzz(func(t *testing.T, text []byte) {
		state, err := DecodeState(text)
		if err != nil {
			return
		}
		again, err := state.Encode()
		if err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		if back, err := DecodeState(again); err != nil || !sameState(back, state) {
			t.Fatalf("%q became %+v, and that %+v, %v", text, state, back, err)
		}
		for _, boot := range []time.Time{in.Boot, w.now} {
			in := in.clone()
			in.Boot = boot
			for p, rec := range state { // as if this process had made it
				rec.Boot = in.Boot.UTC()
				state[p] = rec
			}
			first, ds := Next(state, in, w.now)
			ds.Deadline(w.now)
			if second, _ := Next(first, in, w.now); !reflect.DeepEqual(first, second) {
				t.Fatalf("a second look changes\n%+v\nto\n%+v", first, second)
			}
		}
	})
}

// sameState compares by text, which knows no time zones.
func sameState(a, b State) bool {
	x, errA := a.Encode()
	y, errB := b.Encode()
	return errA == nil && errB == nil && string(x) == string(y)
}

// FuzzReport decodes what another site may say, and decides with it.
func FuzzReport(f *testing.F) {
	w := sample(&testing.T{})
	for _, s := range w.sites {
		text, err := s.last.VIPs[vipA].Report.Encode()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Add([]byte(`{"generation":1,"role":"primary","place":"full","announced":true,"healthy":true,"want":9223372036854775807,"holds":{"a":9223372036854775807}}`))
	s := w.sites[0]
	in := w.inputs(s)
	f.Fuzz(func(t *testing.T, text []byte) {
		r, err := DecodeReport(text)
		if err != nil {
			return
		}
		in := in.clone()
		view := in.VIPs[vipA].Sites["b"]
		view.Report, view.Heard = &r, w.now
		in.VIPs[vipA].Sites["b"] = view
		for _, h := range []Health{good, bad} {
			v := in.VIPs[vipA]
			v.Health, v.Health.Lease = h, w.now
			in.VIPs[vipA] = v
			first, ds := Next(s.state, in, w.now)
			if second, _ := Next(first, in, w.now); !reflect.DeepEqual(first, second) {
				t.Fatalf("a second look changes\n%+v\nto\n%+v", first, second)
			}
			if _, err := ds.VIPs[vipA].Report.Encode(); err != nil {
				t.Fatalf("after %q: %v", text, err)
			}
		}
	})
}

func TestDecodeStateRefuses(t *testing.T) {
	w := sample(t)
	text, err := w.sites[0].state.Encode()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ old, new, want string }{
		{"203.0.113.10/32", "203.0.113.10/24", "no prefix of a VIP"},
		{`"place":"draining"`, `"place":"up"`, "no place"},
		{`"flaps":0`, `"flaps":-1`, "out of range"},
		{`"aim":"full"`, `"aim":"high"`, "no aim"},
		{`"isp":3`, `"isp":99`, `group "isp"`},
		{`"since"`, `"sinse"`, "unknown field"},
		{`"role":"primary"`, `"role":"king"`, "no role"},
	} {
		bent := strings.Replace(string(text), c.old, c.new, 1)
		if bent == string(text) {
			t.Fatalf("%s has no %s", text, c.old)
		}
		if _, err := DecodeState([]byte(bent)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.new, err, c.want)
		}
	}
}

func TestReportsThatAreRefused(t *testing.T) {
	ok := `{"generation":1,"role":"primary","place":"full","announced":true,"healthy":true}`
	if _, err := DecodeReport([]byte(ok)); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ text, want string }{
		{ok + ok, "something follows it"},
		{strings.Replace(ok, `"full"`, `"withdrawn"`, 1), "announced and withdrawn"},
		{strings.Replace(ok, "1", "-1", 1), "negative"},
		{strings.Replace(ok, `true}`, `true,"needs":true}`, 1), "need without a request"},
		{strings.Replace(ok, `true}`, `true,"holds":{"b":0}}`, 1), "none that can be granted"},
		{strings.Replace(ok, `true}`, `true,"sees":{"":true}}`, 1), "no name of a site"},
		{ok + strings.Repeat(" ", maxReport), "at most"},
	} {
		if _, err := DecodeReport([]byte(c.text)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.text, err, c.want)
		}
	}
}
