package bodies

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// sending starts a sender at the first replica and receivers at the others.
func sending(t *testing.T, list []*replica) *Sender {
	t.Helper()
	for _, r := range list[1:] {
		r.run(NewReceiver(r.opt, nil).Run)
	}
	s := NewSender(list[0].opt)
	list[0].run(s.Run)
	return s
}

// confirmed waits until peers, and no others, have a body.
func confirmed(t *testing.T, s *Sender, b Body, peers ...string) {
	t.Helper()
	waitFor(t, fmt.Sprintf("%s at %v", b.Name, peers), s.Changed, func() bool { return len(s.Acked(b.Name)) >= len(peers) })
	got := s.Acked(b.Name)
	slices.Sort(got)
	if diff := cmp.Diff(peers, got); diff != "" {
		t.Errorf("peers that confirmed %s: %s", b.Name, diff)
	}
}

func TestPushReachesAllPeers(t *testing.T) {
	list := newReplicas(t, "east", "east", "west")
	s := sending(t, list)
	for _, size := range []int{0, 1, maxChunk, maxSmall, maxSmall + 1, laneLimit, laneLimit + 1, 3 << 20} {
		b := list[0].store.add(t, fmt.Sprintf("m%d", size), content(size, 1))
		s.Push(b)
		confirmed(t, s, b, "b", "c")
		for _, r := range list[1:] {
			if !r.store.HasBody(b) {
				t.Errorf("%s confirmed %d octets and does not have them", r.opt.Self.Name, size)
			}
		}
		s.Forget(b.Name)
		if got := s.Acked(b.Name); got != nil {
			t.Errorf("still confirmed by %v", got)
		}
	}
	waitFor(t, "nothing is queued", nil, func() bool {
		return !slices.ContainsFunc(s.Status(), func(st Sending) bool { return st.Queued > 0 || !st.Connected || st.Sent != 8 })
	})
}

// TestBodiesAreTakenTogether has none be on disk before all are on their way: their fsyncs are shared.
func TestBodiesAreTakenTogether(t *testing.T) {
	list := newReplicas(t, "east", "west")
	const n = maxTaking
	var all sync.WaitGroup
	all.Add(n)
	list[1].store.taking = func(Body) error {
		all.Done()
		all.Wait()
		return nil
	}
	s := sending(t, list)
	var bodies []Body
	for i := range n {
		b := list[0].store.add(t, fmt.Sprintf("m%d", i), content(2000, byte(i)))
		s.Push(b)
		bodies = append(bodies, b)
	}
	for _, b := range bodies {
		confirmed(t, s, b, "b")
	}
}

// TestLargeBodyDelaysNoSmallOne has a peer be busy with a large one.
func TestLargeBodyDelaysNoSmallOne(t *testing.T) {
	list := newReplicas(t, "east", "west")
	release := make(chan struct{})
	list[1].store.taking = func(b Body) error {
		if b.Size > laneLimit {
			<-release
		}
		return nil
	}
	s := sending(t, list)
	large := list[0].store.add(t, "large", content(16<<20, 1))
	small := list[0].store.add(t, "small", content(100, 2))
	s.Push(large)
	s.Push(small)
	confirmed(t, s, small, "b")
	if got := s.Acked(large.Name); got != nil {
		t.Errorf("the large one is confirmed by %v", got)
	}
	close(release)
	waitFor(t, "the large one arrives, or is skipped by a peer that was too slow", s.Changed, func() bool {
		st := s.Status()[0]
		return st.Queued == 0 && st.Sent+st.Skipped == 2
	})
}

func TestRefusedBodyIsNotConfirmed(t *testing.T) {
	list := newReplicas(t, "east", "west")
	list[1].store.taking = func(b Body) error {
		if b.Name == "refused" {
			return errors.New("no space left on device")
		}
		return nil
	}
	s := sending(t, list)
	s.Push(list[0].store.add(t, "refused", content(3<<20, 1)))
	s.Push(bodyOf("gone", content(10, 1))) // removed before its turn
	truncated := list[0].store.add(t, "truncated", content(1000, 1))
	truncated.Size += 500_000
	list[0].store.bodies["truncated"] = truncated
	s.Push(truncated)
	rotten := list[0].store.add(t, "rotten", content(1000, 1))
	rotten.Sum = bodyOf("rotten", content(1000, 2)).Sum
	list[0].store.bodies["rotten"] = rotten
	s.Push(rotten)
	good := list[0].store.add(t, "good", content(1000, 1))
	s.Push(good)
	confirmed(t, s, good, "b")
	waitFor(t, "four are skipped", nil, func() bool { st := s.Status()[0]; return st.Skipped == 4 && st.Sent == 1 && st.Queued == 0 })
	for _, name := range []string{"refused", "gone", "truncated", "rotten"} {
		if got := s.Acked(name); len(got) > 0 {
			t.Errorf("%s is confirmed by %v", name, got)
		}
	}
	if st := s.Status()[0]; !st.Connected || st.Err != "" {
		t.Errorf("the connection has not lasted: %+v", st)
	}
}

// TestPeerThatHangsDelaysNobody has one of two peers be there and silent, behind a connection that stays open.
func TestPeerThatHangsDelaysNobody(t *testing.T) {
	list := newReplicas(t, "east", "east", "west")
	s := sending(t, list)
	first := list[0].store.add(t, "first", content(1000, 1))
	s.Push(first)
	confirmed(t, s, first, "b", "c")
	list[2].relay.freeze()
	began := time.Now()
	push := func(when string) {
		for i := range 20 {
			b := list[0].store.add(t, fmt.Sprintf("%s%d", when, i), content(2000, 1))
			s.Push(b)
			confirmed(t, s, b, "b")
		}
	}
	push("hanging")
	waitFor(t, "the peer is found dead", nil, func() bool { return !s.Status()[1].Connected })
	if took := time.Since(began); took > 5*quick.Timeout {
		t.Errorf("found after %s", took)
	}
	push("dead")
	list[2].relay.thaw()
	waitFor(t, "it is back", nil, func() bool { st := s.Status()[1]; return st.Connected && st.Queued == 0 })
	last := list[0].store.add(t, "last", content(1000, 1))
	s.Push(last)
	confirmed(t, s, last, "b", "c")
}

// TestBrokenConnectionLosesNothing cuts connections while bodies are under way.
func TestBrokenConnectionLosesNothing(t *testing.T) {
	list := newReplicas(t, "east", "west")
	hold := make(chan struct{})
	list[1].store.taking = func(Body) error {
		<-hold
		return nil
	}
	s := sending(t, list)
	var bodies []Body
	for i := range 20 {
		b := list[0].store.add(t, fmt.Sprintf("m%d", i), content(2000, 1))
		s.Push(b)
		bodies = append(bodies, b)
	}
	waitFor(t, "connected", nil, func() bool { return s.Status()[0].Connected })
	list[1].relay.cut()
	waitFor(t, "noticed", nil, func() bool { return s.Status()[0].Err != "" })
	close(hold)
	for _, b := range bodies {
		confirmed(t, s, b, "b")
	}
}

// TestPeerThatIsAwayIsSkipped stops a peer, and has the caller not wait.
func TestPeerThatIsAwayIsSkipped(t *testing.T) {
	list := newReplicas(t, "east", "west")
	s := sending(t, list)
	waitFor(t, "connected", nil, func() bool { return s.Status()[0].Connected })
	list[1].stop()
	waitFor(t, "noticed that it is away", nil, func() bool {
		s.Push(list[0].store.add(t, "m", content(10, 1)))
		return s.Status()[0].Skipped > 0
	})
	if st := s.Status()[0]; st.Connected || st.Queued > 0 || st.Err == "" {
		t.Errorf("status %+v", st)
	}
}

func TestAckedIsBounded(t *testing.T) {
	s := NewSender(Options{Peers: []Peer{{Name: "b"}}})
	for i := range maxAcked + 100 {
		s.Push(Body{Name: fmt.Sprint(i), Sum: "x"})
		s.confirmed(Body{Name: fmt.Sprint(i), Sum: "x"}, "b")
	}
	if got := len(s.acked); got > maxAcked || len(s.order) > maxAcked {
		t.Errorf("%d bodies are remembered", got)
	}
	if s.Acked("0") != nil || s.Acked(fmt.Sprint(maxAcked+99)) == nil {
		t.Error("not the oldest are forgotten")
	}
	s.confirmed(Body{Name: fmt.Sprint(maxAcked + 98), Sum: "another"}, "c")
	if diff := cmp.Diff([]string{"b"}, s.Acked(fmt.Sprint(maxAcked+98))); diff != "" {
		t.Error(diff)
	}
	if st := s.Status()[0]; st.Queued > maxQueue {
		t.Errorf("%d bodies are queued", st.Queued)
	}
}

// TestRunEnds has all ends of all connections be waited for.
func TestRunEnds(t *testing.T) {
	list := newReplicas(t, "east", "west")
	ctx, cancel := context.WithCancel(t.Context())
	s, r := NewSender(list[0].opt), NewReceiver(list[1].opt, nil)
	var running sync.WaitGroup
	running.Go(func() { s.Run(ctx) })
	running.Go(func() { r.Run(ctx) })
	waitFor(t, "connected", nil, func() bool { return s.Status()[0].Connected })
	cancel()
	running.Wait()
}
