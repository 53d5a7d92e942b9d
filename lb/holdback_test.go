package lb

import (
	"maps"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"anycastle/internal/mesh"
	"anycastle/internal/probe"

	"github.com/google/go-cmp/cmp"
)

func TestHoldBack(t *testing.T) {
	start := time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)
	id := realID{"smtp", "mx1"}
	order := func(kind Kind, since time.Duration) Order {
		o := Order{Farm: id.farm, Real: id.name, Kind: kind, Since: start.Add(since)}
		if kind == KindDrain {
			o.Deadline = o.Since.Add(time.Hour)
		}
		return o
	}
	drain, activate, suspend := order(KindDrain, 0), order(KindActivate, 0), order(KindSuspend, 0)
	for _, tc := range []struct {
		name   string
		was    []Order
		stored Order
		alone  bool
		after  time.Duration
		want   []Order
		due    time.Duration // 0: nothing is held back
	}{
		{name: "just given", stored: drain, want: nil, due: orderDelay},
		{name: "heard of late", stored: drain, after: orderDelay - 1, want: nil, due: orderDelay},
		{name: "in force", stored: drain, after: orderDelay, want: []Order{drain}},
		{name: "alone", stored: drain, alone: true, want: []Order{drain}},
		{name: "suspend at once", was: []Order{activate}, stored: suspend, want: []Order{suspend}},
		{name: "the old one until then", was: []Order{drain}, stored: order(KindActivate, time.Minute), after: time.Minute, want: []Order{drain}, due: time.Minute + orderDelay},
		{name: "another deadline", was: []Order{drain}, stored: order(KindDrain, time.Second), after: time.Second, want: []Order{drain}, due: time.Second + orderDelay},
		{name: "in force already", was: []Order{drain}, stored: drain, want: []Order{drain}},
		{name: "from a clock ahead", stored: order(KindDrain, time.Hour), want: nil, due: orderDelay},
	} {
		t.Run(tc.name, func(t *testing.T) {
			was := map[realID]Order{}
			for _, o := range tc.was {
				was[id] = o
			}
			orders, held := holdBack(was, map[realID]Order{id: tc.stored}, nil, !tc.alone, start.Add(tc.after))
			if diff := cmp.Diff(tc.want, slices.Collect(maps.Values(orders))); diff != "" {
				t.Errorf("in force (-want +got):\n%s", diff)
			}
			due := time.Duration(0)
			if d := nextDue(held); !d.IsZero() {
				due = d.Sub(start)
			}
			if due != tc.due {
				t.Errorf("due after %v, want %v", due, tc.due)
			}
			if _, again := holdBack(orders, map[realID]Order{id: tc.stored}, held, !tc.alone, start.Add(tc.after+orderDelay)); len(again) > 0 {
				t.Errorf("still held back %v later: %v", orderDelay, again)
			}
		})
	}
}

// TestLoopHoldsOrdersBack gives an order at a site with another LB, which must hear of it first.
func TestLoopHoldsOrdersBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		data := mesh.NewMap("lb1", nil)
		r := runLoopWith(t, valid, newFakePlane(), data)
		r.start()
		r.end()
		r.expect("announce []")

		again := runLoopWith(t, valid, r.plane, data, r.lb.node)
		again.hops(hopsOfBoth)
		again.probe("mx1", probe.Passing)
		again.probe("mx2", probe.Passing)
		synctest.Wait()
		again.plane.take()
		given := time.Now()
		_, err := again.lb.Order(Order{Farm: "smtp", Real: "mx1", Kind: KindDrain})
		check(t, err)
		<-time.After(orderDelay - time.Millisecond)
		again.expect()
		if s := again.lb.Reals()[0]; s.State != StateActive {
			t.Errorf("%v after the order: %s", time.Since(given), s.State)
		}
		<-time.After(time.Millisecond)
		again.expect("forget flows", "table 0 of [2] before [1 2]")
		if s := again.lb.Reals()[0]; s.State != StateDraining {
			t.Errorf("%v after the order: %s", time.Since(given), s.State)
		}
		again.end()
	})
}
