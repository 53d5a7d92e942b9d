package lb

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"anycastle/internal/mesh"

	"github.com/google/go-cmp/cmp"
)

var orderTime = time.Date(2026, 3, 1, 12, 0, 0, 500_000_000, time.UTC)

func goodOrder() Order {
	return Order{Farm: "smtp", Real: "mx1", Kind: KindDrain, Since: orderTime, Deadline: orderTime.Add(time.Hour), By: "root", Why: "new disk"}
}

func goodRecord() record {
	return record{Name: "mx1", Forward: ForwardGUE, State: StateActive, Why: "it came into service", Since: orderTime,
		Base: weightOne, Weight: weightOne, Held: 2 * weightOne, HeldUntil: orderTime.Add(time.Hour), Follow: orderTime.Add(time.Minute)}
}

// What is stored is read by LBs of other versions.
func TestOrderAsStored(t *testing.T) {
	o := goodOrder()
	elsewhere := o
	elsewhere.Since = o.Since.In(time.FixedZone("here", 3600))
	for _, o := range []Order{o, elsewhere} {
		text, err := o.Encode()
		check(t, err)
		const want = `{"kind":"drain","deadline":"2026-03-01T13:00:00.5Z","since":"2026-03-01T12:00:00.5Z","by":"root","why":"new disk"}`
		if o.Key() != "order/smtp/mx1" || string(text) != want {
			t.Errorf("%s: %s", o.Key(), text)
		}
		got, err := DecodeOrder(o.Key(), text)
		check(t, err)
		if diff := cmp.Diff(goodOrder(), got); diff != "" {
			t.Errorf("decoded (-want +got):\n%s", diff)
		}
	}
	for _, o := range []Order{{Farm: "f", Real: "r", Kind: KindSuspend, Since: orderTime}, {Farm: "f", Real: "r", Kind: KindActivate, Since: orderTime}} {
		text, err := o.Encode()
		check(t, err)
		got, err := DecodeOrder(o.Key(), text)
		if err != nil || got != o {
			t.Errorf("%s became %+v, %v", text, got, err)
		}
	}
}

func TestRecordAsStored(t *testing.T) {
	text, err := goodRecord().encode()
	check(t, err)
	const want = `{"name":"mx1","forward":"gue","state":"active","why":"it came into service","since":"2026-03-01T12:00:00.5Z",` +
		`"base":65536,"weight":65536,"held":131072,"held_until":"2026-03-01T13:00:00.5Z","follow":"2026-03-01T12:01:00.5Z"}`
	if string(text) != want {
		t.Errorf("%s", text)
	}
	got, err := decodeRecord(text)
	check(t, err)
	if got != goodRecord() {
		t.Errorf("it comes back as %+v", got)
	}
}

func TestStoreKeys(t *testing.T) {
	seen := map[string][2]string{}
	names := []string{"smtp", "a/b", "a", "b", "a%2Fb", "a b", "ä", "/", "%", "..", "a/"}
	for _, farm := range names {
		for _, name := range names {
			key := Order{Farm: farm, Real: name}.Key()
			if was, ok := seen[key]; ok {
				t.Errorf("%q is the key of %q and %q", key, was, []string{farm, name})
			}
			seen[key] = [2]string{farm, name}
			if p, err := cutStoreKey(orderPrefix, key, 2); p[0] != farm || p[1] != name || err != nil {
				t.Errorf("%q gives %q, %v", key, p, err)
			}
			state := stateKey(farm, name, realAddr("a"))
			if f, n, a, err := cutStateKey(state); f != farm || n != name || a != realAddr("a") || err != nil {
				t.Errorf("%q gives %q, %q, %v, %v", state, f, n, a, err)
			}
			if !IsOrderKey(key) || IsStateKey(key) || !IsStateKey(state) {
				t.Errorf("%q: what is kept there?", key)
			}
		}
	}
	for _, key := range []string{"", "state/a/b", "state/a/b/c", "state/a/b/198.51.100.1/d", "state/a/b/2001:db8:0::1", "order/a/b/198.51.100.1"} {
		if _, _, _, err := cutStateKey(key); err == nil {
			t.Errorf("%q is taken for a key of a state", key)
		}
	}
	for _, key := range []string{"", "order/", "order/a", "order/a/b/c", "order/a/%zz", "order/%61/b", "state/a/b", "order/a b/c"} {
		if _, err := cutStoreKey(orderPrefix, key, 2); err == nil {
			t.Errorf("%q is taken for a key", key)
		}
	}
}

func TestOrderValidate(t *testing.T) {
	for _, tc := range []struct {
		name   string
		change func(*Order)
		want   string
	}{
		{"no farm", func(o *Order) { o.Farm = "" }, "no name of a farm"},
		{"no real", func(o *Order) { o.Real = "" }, "no name of a real"},
		{"long name", func(o *Order) { o.Real = strings.Repeat("n", 65) }, "no name of a real"},
		{"kind", func(o *Order) { o.Kind = "drian" }, `kind "drian" is none of`},
		{"no since", func(o *Order) { o.Since = time.Time{} }, "`since` is missing"},
		{"no deadline", func(o *Order) { o.Deadline = time.Time{} }, "a drain needs a deadline"},
		{"deadline before", func(o *Order) { o.Deadline = o.Since }, "a drain needs a deadline"},
		{"deadline far off", func(o *Order) { o.Deadline = o.Since.AddDate(9000, 0, 0) }, "no time of this era"},
		{"deadline of a suspend", func(o *Order) { o.Kind = KindSuspend }, "only a drain has a deadline"},
		{"by", func(o *Order) { o.By = "a\nb" }, "`by` is not text"},
		{"why", func(o *Order) { o.Why = strings.Repeat("y", 201) }, "`why` is not text"},
		{"not text", func(o *Order) { o.Why = "\xff" }, "`why` is not text"},
	} {
		o := goodOrder()
		tc.change(&o)
		if _, err := o.Encode(); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v", tc.name, err)
		}
	}
}

func TestRecordValidate(t *testing.T) {
	for _, tc := range []struct {
		name   string
		change func(*record)
		want   string
	}{
		{"no name", func(r *record) { r.Name = "" }, "no name of a real"},
		{"why", func(r *record) { r.Why = "a\x1b" }, "`why` is not text"},
		{"forward", func(r *record) { r.Forward = "gre" }, `"gre" is no way of forwarding`},
		{"state", func(r *record) { r.State = "up" }, `"up" is no state`},
		{"no since", func(r *record) { r.Since = time.Time{} }, "`since` is missing"},
		{"far off", func(r *record) { r.Follow = r.Since.AddDate(9000, 0, 0) }, "no time of this era"},
		{"no weight", func(r *record) { r.Weight = 0 }, "weights 65536, 0, 131072"},
		{"too much weight", func(r *record) { r.Held = 1 << 31 }, "weights 65536, 65536, 2147483648"},
		{"joining with flows", func(r *record) { r.State, r.Until = StateJoining, r.Follow }, "a real that is joining holds flows by a weight of 131072"},
		{"joining for ever", func(r *record) { r.State, r.Held = StateJoining, 0 }, "a real that is joining does so until some time"},
		{"active without flows", func(r *record) { r.Held = 0 }, "a real that is active holds flows by a weight of 0"},
		{"active for a time", func(r *record) { r.Until = r.Follow }, "a real that is active does so for ever"},
		{"two weights for ever", func(r *record) { r.HeldUntil = time.Time{} }, "weights of 65536 and 131072, and no end to that"},
		{"failed with flows", func(r *record) { r.State = StateFailed }, "a real that is failed holds flows"},
	} {
		r := goodRecord()
		tc.change(&r)
		if _, err := r.encode(); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v", tc.name, err)
		}
	}
}

func TestDecodeStoredIsStrict(t *testing.T) {
	text, err := goodOrder().Encode()
	check(t, err)
	for name, bad := range map[string]string{
		"nothing":      "",
		"no object":    "[]",
		"unknown key":  `{"kind":"suspend","since":"2026-03-01T12:00:00Z","more":1}`,
		"a name in it": `{"farm":"smtp","kind":"suspend","since":"2026-03-01T12:00:00Z"}`,
		"a key twice":  `{"kind":"suspend","kind":"suspend","since":"2026-03-01T12:00:00Z"}`,
		"upper case":   `{"Kind":"suspend","since":"2026-03-01T12:00:00Z"}`,
		"other zone":   `{"kind":"suspend","since":"2026-03-01T13:00:00+01:00"}`,
		"no since":     `{"kind":"suspend"}`,
		"spaces":       string(text) + " ",
		"more":         string(text) + string(text),
		"cut":          string(text[:len(text)-1]),
	} {
		if o, err := DecodeOrder("order/smtp/mx1", []byte(bad)); err == nil || o != (Order{}) {
			t.Errorf("%s: %+v, %v", name, o, err)
		}
	}
	if _, err := DecodeOrder("state/smtp/mx1", text); err == nil {
		t.Error("an order under the key of a state")
	}
	if _, err := decodeRecord(text); err == nil {
		t.Error("an order was taken for a state")
	}
}

// The longest order and record that are valid fit the map that LBs share.
func TestStoredFitsTheMesh(t *testing.T) {
	o, r := goodOrder(), goodRecord()
	o.Farm, o.Real = strings.Repeat("/", maxName), strings.Repeat(" ", maxName)
	o.By, o.Why = strings.Repeat(`"`, maxBySize), strings.Repeat(`\`, maxWhySize)
	r.Name, r.Why = strings.Repeat(`"`, maxName), strings.Repeat("w", maxReason)
	o.Since = o.Since.Add(123456789)
	o.Deadline = o.Since.Add(time.Hour)
	r.Since, r.HeldUntil, r.Follow = o.Since, o.Deadline, o.Deadline
	m := mesh.NewMap("lb1", nil)
	text, err := o.Encode()
	check(t, err)
	check(t, m.Set(o.Key(), text))
	text, err = r.encode()
	check(t, err)
	check(t, m.Set(stateKey(strings.Repeat("n", 64), o.Farm, netip.MustParseAddr("2001:db8:1111:2222:3333:4444:5555:6666")), text))
}

func FuzzDecodeOrder(f *testing.F) {
	text, err := goodOrder().Encode()
	check(f, err)
	f.Add("order/smtp/mx1", text)
	f.Add("order/a%2Fb/c", []byte(`{"kind":"suspend","since":"2026-03-01T12:00:00Z"}`))
	f.Fuzz(func(t *testing.T, key string, value []byte) {
		o, err := DecodeOrder(key, value)
		if err != nil {
			return
		}
		if again, err := o.Encode(); err != nil || string(again) != string(value) || o.Key() != key {
			t.Errorf("%q %q became %+v, and that %q %q, %v", key, value, o, o.Key(), again, err)
		}
		if err := mesh.NewMap("fuzz", nil).Set(key, value); err != nil {
			t.Errorf("valid, and does not fit: %v", err)
		}
	})
}

func FuzzRecord(f *testing.F) {
	ft := newFarmTest(&testing.T{}, Tracked, "a", "b", "c")
	ft.step()
	ft.drain("a", time.Minute)
	ft.fail("c")
	ft.step()
	ft.pass("c")
	ft.percent("b", 10)
	ft.step()
	for _, rec := range ft.state {
		text, err := rec.encode()
		check(f, err)
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, value []byte) {
		rec, err := decodeRecord(value)
		if err != nil {
			return
		}
		if again, err := rec.encode(); err != nil || string(again) != string(value) {
			t.Fatalf("%q became %+v, and that %q, %v", value, rec, again, err)
		}
		// whatever a peer says, ours stay what they may be
		for _, method := range []string{Tracked, SecondChance} {
			ft := newFarmTest(t, method, "a", "b")
			ft.fail("a")
			ft.step()
			ft.pass("a")
			ft.peers = []farmState{{realAddr("a"): rec, realAddr("b"): rec}}
			ft.step()
			ft.after(time.Hour)
		}
	})
}
