package bodies

import (
	"errors"
	"fmt"
	"sync"
	"testing"
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
	waitFor(t, "all but one count, before the connection ends", nil, func() bool {
		p := f.Progress()
		return p.Missing == 1 && p.Got == n-1 && p.Octets == (n-1)*size && p.ETA > 0 && !p.Since.IsZero()
	})
	close(gate)
	fetched(t, list[0])
	waitFor(t, "no progress to tell of", nil, func() bool { return f.Progress() == Progress{} })
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

// TestEarly has each reason to leave a missing body alone for now.
func TestEarly(t *testing.T) {
	now := time.Now()
	b := bodyOf("m", nil)
	for _, tc := range []struct {
		name   string
		coming bool
		total  int
		since  time.Duration // it was first missing; negative: it has just been seen
		want   time.Duration // at most 0: it is asked for
	}{
		{"just seen", false, few, -1, quick.Retry},
		{"seen half the time ago", false, few, quick.Retry / 2, quick.Retry / 2},
		{"seen long ago", false, few, time.Hour, quick.Retry - time.Hour},
		{"one of many", false, few + 1, -1, 0},
		{"just seen and coming", true, few + 1, -1, quick.Retry},
		{"coming", true, few, maxComing - 1, quick.Retry},
		{"coming for too long", true, few, maxComing, quick.Retry - maxComing},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := NewFetcher(Options{Times: quick}, nil)
			f.coming = func(string) bool { return tc.coming }
			if tc.since >= 0 {
				f.seen = map[Body]time.Time{b: now.Add(-tc.since)}
			}
			if got := f.early(b, map[Body]time.Time{}, tc.total, now); got != tc.want {
				t.Errorf("left alone for %s, want %s", got, tc.want)
			}
		})
	}
}
