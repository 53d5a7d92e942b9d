package lb

import (
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

func goodState() StoredState {
	return StoredState{Farm: "smtp", Real: "mx1", State: StateJoining, Since: orderTime, Until: orderTime.Add(time.Hour), PrimaryWeight: 65536}
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

func TestStateAsStored(t *testing.T) {
	s := goodState()
	text, err := s.Encode()
	check(t, err)
	const want = `{"state":"joining","since":"2026-03-01T12:00:00.5Z","until":"2026-03-01T13:00:00.5Z","primary_weight":65536,"secondary_weight":0}`
	if s.Key() != "state/smtp/mx1" || string(text) != want {
		t.Errorf("%s: %s", s.Key(), text)
	}
	got, err := DecodeState(s.Key(), text)
	check(t, err)
	if diff := cmp.Diff(s, got); diff != "" {
		t.Errorf("decoded (-want +got):\n%s", diff)
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
			if f, n, err := cutStoreKey(orderPrefix, key); f != farm || n != name || err != nil {
				t.Errorf("%q gives %q, %q, %v", key, f, n, err)
			}
			if !IsOrderKey(key) || IsStateKey(key) || !IsStateKey(StoredState{Farm: farm, Real: name}.Key()) {
				t.Errorf("%q: what is kept there?", key)
			}
		}
	}
	for _, key := range []string{"", "order/", "order/a", "order/a/b/c", "order/a/%zz", "order/%61/b", "state/a/b", "order/a b/c"} {
		if _, _, err := cutStoreKey(orderPrefix, key); err == nil {
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

func TestStateValidate(t *testing.T) {
	for _, tc := range []struct {
		name   string
		change func(*StoredState)
		want   string
	}{
		{"no farm", func(s *StoredState) { s.Farm = "" }, "no name of a farm"},
		{"state", func(s *StoredState) { s.State = "up" }, `state "up" is none of`},
		{"joining with flows", func(s *StoredState) { s.SecondaryWeight = 1 }, "a real that is joining has no established flows"},
		{"draining with new flows", func(s *StoredState) { s.State = StateDraining }, "a real that is draining takes no new flows"},
		{"failed with new flows", func(s *StoredState) { s.State = StateFailed }, "a real that is failed takes no new flows"},
		{"suspended with flows", func(s *StoredState) { s.State, s.PrimaryWeight, s.SecondaryWeight = StateSuspended, 0, 1 }, "has no established flows"},
		{"until before since", func(s *StoredState) { s.Until = s.Since.Add(-1) }, "a transition from"},
	} {
		s := goodState()
		tc.change(&s)
		if _, err := s.Encode(); err == nil || !strings.Contains(err.Error(), tc.want) {
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
	if _, err := DecodeState("state/smtp/mx1", text); err == nil {
		t.Error("an order was taken for a state")
	}
}

// The longest order and state that are valid fit the map that LBs share.
func TestStoredFitsTheMesh(t *testing.T) {
	o, s := goodOrder(), goodState()
	o.Farm, o.Real = strings.Repeat("/", maxNameSize), strings.Repeat(" ", maxNameSize)
	s.Farm, s.Real = o.Farm, o.Real
	o.By, o.Why = strings.Repeat(`"`, maxBySize), strings.Repeat(`\`, maxWhySize)
	o.Since = o.Since.Add(123456789)
	o.Deadline, s.Since, s.Until = o.Since.Add(time.Hour), o.Since, o.Since.Add(time.Hour)
	s.PrimaryWeight, s.SecondaryWeight, s.State = 1<<32-1, 1<<32-1, StateActive
	m := mesh.NewMap("lb1", nil)
	text, err := o.Encode()
	check(t, err)
	check(t, m.Set(o.Key(), text))
	text, err = s.Encode()
	check(t, err)
	check(t, m.Set(s.Key(), text))
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

func FuzzDecodeState(f *testing.F) {
	text, err := goodState().Encode()
	check(f, err)
	f.Add("state/smtp/mx1", text)
	f.Fuzz(func(t *testing.T, key string, value []byte) {
		s, err := DecodeState(key, value)
		if err != nil {
			return
		}
		if again, err := s.Encode(); err != nil || string(again) != string(value) || s.Key() != key {
			t.Errorf("%q %q became %+v, and that %q %q, %v", key, value, s, s.Key(), again, err)
		}
		if err := mesh.NewMap("fuzz", nil).Set(key, value); err != nil {
			t.Errorf("valid, and does not fit: %v", err)
		}
	})
}
