package bodies

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"anycastle/mailroles/store"
)

// giving starts receivers at all but the first replica, and makes a fetcher for that one.
func giving(t *testing.T, list []*replica) *Fetcher {
	t.Helper()
	for _, r := range list[1:] {
		r.run(NewReceiver(r.opt, nil).Run)
	}
	return NewFetcher(list[0].opt, nil)
}

// fetched waits until nothing is missing.
func fetched(t *testing.T, r *replica) {
	t.Helper()
	waitFor(t, "nothing is missing", nil, func() bool { _, n := r.store.Missing(0); return n == 0 })
}

func TestFetchesWhatIsMissing(t *testing.T) {
	list := newReplicas(t, "east", "east", "west")
	var want []Body
	for i := range 2*maxBatch + 10 {
		b := list[1+i%2].store.add(t, fmt.Sprintf("m%d", i), content(i, byte(i)))
		want = append(want, b)
	}
	want = append(want, list[2].store.add(t, "large", content(5<<20, 1)))
	list[0].store.miss(want...)
	var mu sync.Mutex
	told := map[string]int{}
	f := giving(t, list)
	f.taken = func(b Body) {
		mu.Lock()
		defer mu.Unlock()
		told[b.Name]++
	}
	list[0].run(f.Run)
	fetched(t, list[0])
	waitFor(t, "all are told of", nil, func() bool {
		mu.Lock()
		defer mu.Unlock()
		return len(told) == len(want)
	})
	for _, b := range want {
		if !list[0].store.HasBody(b) || list[0].store.took[b.Name] != 1 {
			t.Errorf("%s: there %t, taken %d times", b.Name, list[0].store.HasBody(b), list[0].store.took[b.Name])
		}
	}
	late := list[2].store.add(t, "late", content(1000, 1))
	list[0].store.miss(late)
	f.Poke()
	fetched(t, list[0])
}

// TestLeaderIsAskedFirst has everybody have the bodies.
func TestLeaderIsAskedFirst(t *testing.T) {
	list := newReplicas(t, "east", "east", "west")
	list[0].opt.Leader = func() string { return "c" }
	for i := range 10 {
		name := fmt.Sprintf("m%d", i)
		list[1].store.add(t, name, content(1000, 1))
		list[0].store.miss(list[2].store.add(t, name, content(1000, 1)))
	}
	list[1].store.opening = func(Body) error {
		t.Error("another one than the leader was asked")
		return nil
	}
	list[0].run(giving(t, list).Run)
	fetched(t, list[0])
}

// TestBadPeerDoesNotStopFetching has the first peer be bad in each way, and the second have all.
func TestBadPeerDoesNotStopFetching(t *testing.T) {
	for _, tc := range []struct {
		name string
		make func(t *testing.T, bad *replica)
	}{
		{"away", func(_ *testing.T, bad *replica) { bad.stop() }},
		{"silent", func(_ *testing.T, bad *replica) { bad.relay.freeze() }},
		{"has none", func(_ *testing.T, bad *replica) { clear(bad.store.bodies) }},
		{"cannot read", func(_ *testing.T, bad *replica) {
			bad.store.opening = func(Body) error { return errors.New("input/output error") }
		}},
		{"its disk hangs", func(t *testing.T, bad *replica) {
			hang := make(chan struct{})
			t.Cleanup(func() { close(hang) })
			bad.store.opening = func(Body) error { <-hang; return nil }
		}},
		{"has others of that name", func(t *testing.T, bad *replica) {
			for name, b := range bad.store.bodies {
				bad.store.add(t, name, content(int(b.Size), 77))
				bad.store.bodies[name] = b
			}
		}},
		{"has truncated files", func(t *testing.T, bad *replica) {
			for name, b := range bad.store.bodies {
				bad.store.add(t, name, nil)
				bad.store.bodies[name] = b
			}
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			list := newReplicas(t, "east", "east", "west")
			for _, r := range list {
				r.opt.Times.Timeout = 200 * time.Millisecond
			}
			for i := range 40 {
				name := fmt.Sprintf("m%d", i)
				list[1].store.add(t, name, content(1000*i, 1))
				list[0].store.miss(list[2].store.add(t, name, content(1000*i, 1)))
			}
			f := giving(t, list)
			tc.make(t, list[1])
			list[0].run(f.Run)
			fetched(t, list[0])

			b := list[2].store.add(t, "urgent", content(10, 1))
			list[1].store.bodies["urgent"] = Body{}
			if err := f.Get(t.Context(), b); err != nil || !list[0].store.HasBody(b) {
				t.Errorf("get: %v", err)
			}
		})
	}
}

// TestBodyThatNobodyHas keeps no other one waiting, and is fetched once somebody has it.
func TestBodyThatNobodyHas(t *testing.T) {
	list := newReplicas(t, "east", "east", "west")
	late := content(1000, 9)
	for i := range maxBatch + 5 {
		list[0].store.miss(bodyOf(fmt.Sprintf("lost%d", i), late))
	}
	there := list[2].store.add(t, "there", content(1000, 1))
	list[0].store.miss(there)
	f := giving(t, list)
	list[0].run(f.Run)
	waitFor(t, "what is there is fetched", nil, func() bool { return list[0].store.HasBody(there) })
	for i := range maxBatch + 5 {
		list[1].store.add(t, fmt.Sprintf("lost%d", i), late)
	}
	fetched(t, list[0])
}

// TestAbsent has a body be proven absent only where each replica of a site has said so.
func TestAbsent(t *testing.T) {
	list := newReplicas(t, "east", "east", "west", "west")
	lost := bodyOf("lost", content(1000, 1))
	list[0].store.miss(lost)
	hide := errors.New("input/output error")
	list[1].store.opening = func(Body) error { return hide }
	list[3].store.opening = func(Body) error { return hide }
	f := giving(t, list)
	list[0].run(f.Run)
	asked := func() bool {
		f.mu.Lock()
		defer f.mu.Unlock()
		return f.tries[lost] != nil && f.tries[lost].count > 1
	}
	waitFor(t, "two rounds", nil, asked)
	if got := f.Absent(); got != nil {
		t.Errorf("absent although one of each site did not say so: %v", got)
	}
	list[1].store.mu.Lock()
	list[1].store.opening = nil
	list[1].store.mu.Unlock()
	want := []Absent{{Body: lost, Sites: []string{"east"}}}
	waitFor(t, "absent in the east", nil, func() bool { return cmp.Equal(want, f.Absent()) })
	list[3].store.mu.Lock()
	list[3].store.opening = nil
	list[3].store.mu.Unlock()
	want[0].Sites = []string{"east", "west"}
	waitFor(t, "absent everywhere", nil, func() bool { return cmp.Equal(want, f.Absent()) })
	if err := f.Get(t.Context(), lost); !errors.Is(err, store.ErrNoMessage) {
		t.Errorf("get: %v, want ErrNoMessage", err)
	}
	list[2].store.add(t, "lost", content(1000, 1))
	fetched(t, list[0])
	waitFor(t, "absent no more", nil, func() bool { return f.Absent() == nil })
}

func TestGet(t *testing.T) {
	list := newReplicas(t, "east", "east", "west")
	f := giving(t, list)
	var all sync.WaitGroup
	for i := range 4 {
		b := list[2].store.add(t, fmt.Sprintf("m%d", i), content(i<<20, 1))
		for range 2 * maxGets {
			all.Go(func() {
				if err := f.Get(t.Context(), b); err != nil || !list[0].store.HasBody(b) {
					t.Errorf("get: %v", err)
				}
			})
		}
	}
	all.Wait()
	if len(f.flights) > 0 {
		t.Errorf("%d calls are still waited for", len(f.flights))
	}
	list[1].stop()
	if err := f.Get(t.Context(), bodyOf("none", nil)); err == nil || errors.Is(err, store.ErrNoMessage) {
		t.Errorf("get what an absent peer may have: %v", err)
	}
	list[2].relay.freeze()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	began := time.Now()
	if err := f.Get(ctx, bodyOf("none", nil)); !errors.Is(err, context.DeadlineExceeded) || time.Since(began) > quick.Timeout {
		t.Errorf("get of a silent peer: %v after %s", err, time.Since(began))
	}
}

// TestGetGoesOnForOthers has the call that others wait for be given up.
func TestGetGoesOnForOthers(t *testing.T) {
	list := newReplicas(t, "east", "west")
	f := giving(t, list)
	b := list[1].store.add(t, "m", content(1000, 1))
	asked, release := make(chan struct{}, 10), make(chan struct{})
	list[1].store.opening = func(Body) error {
		asked <- struct{}{}
		<-release
		return nil
	}
	ctx, cancel := context.WithCancel(t.Context())
	var both sync.WaitGroup
	defer both.Wait()
	both.Go(func() {
		if err := f.Get(ctx, b); !errors.Is(err, context.Canceled) {
			t.Errorf("get that is given up: %v", err)
		}
	})
	<-asked
	both.Go(func() {
		if err := f.Get(t.Context(), b); err != nil {
			t.Errorf("get of another: %v", err)
		}
	})
	cancel()
	<-asked
	close(release)
}

func TestProgress(t *testing.T) {
	list := newReplicas(t, "east", "west")
	const n, size = 20, 1000
	for i := range n {
		list[0].store.miss(list[1].store.add(t, fmt.Sprintf("m%d", i), content(size, 1)))
	}
	gate := make(chan struct{})
	list[0].store.taking = func(b Body) error {
		if b.Name == "m0" {
			<-gate
		}
		return nil
	}
	f := giving(t, list)
	list[0].run(f.Run)
	waitFor(t, "all but one are taken", nil, func() bool { _, left := list[0].store.Missing(0); return left == 1 })
	if p := f.Progress(); p.Missing != 1 || p.Since.IsZero() {
		t.Errorf("progress %+v", p)
	}
	close(gate)
	fetched(t, list[0])
	waitFor(t, "no progress to tell of", nil, func() bool { return f.Progress() == Progress{} })
}

func TestLimiter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := limiter{rate: 1000}
		began := time.Now()
		for _, step := range []struct {
			octets int64
			want   time.Duration // since the beginning, when they pass
		}{
			{500, 0}, {500, 500 * time.Millisecond}, {10_000, time.Second}, {1, 11 * time.Second},
		} {
			if err := l.take(t.Context(), step.octets); err != nil {
				t.Fatal(err)
			}
			if got := time.Since(began); got != step.want {
				t.Errorf("%d octets passed after %s, want %s", step.octets, got, step.want)
			}
		}
		time.Sleep(time.Hour) // a pause is no credit
		for i, want := range []time.Duration{0, time.Second} {
			began := time.Now()
			if err := l.take(t.Context(), 1000); err != nil || time.Since(began) != want {
				t.Errorf("after the pause, %d: %v after %s, want %s", i, err, time.Since(began), want)
			}
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		if err := l.take(ctx, 1); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("took after the end: %v", err)
		}
		free := limiter{rate: -1}
		if err := free.take(t.Context(), 1<<40); err != nil {
			t.Error(err)
		}
	})
}

// TestRateBoundsTheBackground has Get not be bound by it.
func TestRateBoundsTheBackground(t *testing.T) {
	list := newReplicas(t, "east", "west")
	list[0].opt.Rate = 1 // the second one has to wait for hours
	f := giving(t, list)
	var all []Body
	for i := range 3 {
		all = append(all, list[1].store.add(t, fmt.Sprintf("m%d", i), content(10_000, 1)))
	}
	list[0].store.miss(all...)
	list[0].run(f.Run)
	waitFor(t, "the first", nil, func() bool { _, left := list[0].store.Missing(0); return left == 2 })
	for _, b := range all {
		if err := f.Get(t.Context(), b); err != nil {
			t.Error(err)
		}
	}
	fetched(t, list[0])
}

// TestBodyThatIsBeingPushedIsNotFetched has it be missing while it comes in.
func TestBodyThatIsBeingPushedIsNotFetched(t *testing.T) {
	list := newReplicas(t, "east", "west")
	begun, release := make(chan struct{}), make(chan struct{})
	b := list[0].store.add(t, "m", content(3<<20, 1))
	list[1].store.taking = func(Body) error {
		close(begun) // once: a second time would panic
		<-release
		return nil
	}
	receiver, fetcher := NewReceiver(list[1].opt, nil), NewFetcher(list[1].opt, nil)
	receiver.Join(NewSender(list[1].opt), fetcher)
	list[1].run(receiver.Run)
	list[1].run(fetcher.Run)
	list[0].run(NewReceiver(list[0].opt, nil).Run)
	sender := NewSender(list[0].opt)
	list[0].run(sender.Run)
	sender.Push(b)
	<-begun
	list[1].store.miss(b)
	fetcher.Poke()
	missing := time.Now()
	waitFor(t, "time goes by", nil, func() bool { return time.Since(missing) > 10*quick.Retry })
	close(release)
	fetched(t, list[1])
	if receiver.isComing(b.Name) {
		waitFor(t, "it comes no more", nil, func() bool { return !receiver.isComing(b.Name) })
	}
}

// TestFetchedBodyIsConfirmed has a peer fetch what it did not take when it was pushed.
func TestFetchedBodyIsConfirmed(t *testing.T) {
	list := newReplicas(t, "east", "west")
	var mu sync.Mutex
	refuse := true
	list[1].store.taking = func(Body) error {
		mu.Lock()
		defer mu.Unlock()
		if refuse {
			return errors.New("no space left on device")
		}
		return nil
	}
	s := NewSender(list[0].opt)
	receiver := NewReceiver(list[0].opt, nil)
	receiver.Join(s, NewFetcher(list[0].opt, nil))
	list[0].run(receiver.Run)
	list[0].run(s.Run)
	list[1].run(NewReceiver(list[1].opt, nil).Run)
	b := list[0].store.add(t, "m", content(1000, 1))
	s.Push(b)
	waitFor(t, "it is refused", nil, func() bool { return s.Status()[0].Skipped == 1 })
	mu.Lock()
	refuse = false
	mu.Unlock()
	list[1].store.miss(b)
	list[1].run(NewFetcher(list[1].opt, nil).Run)
	confirmed(t, s, b, "b")
}
