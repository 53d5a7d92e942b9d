package chaos

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"anycastle/internal/proctest"
)

// median gives the median time of n times.
func median(t testing.TB, n int, do func() error) time.Duration {
	t.Helper()
	var took []time.Duration
	for range n {
		begun := time.Now()
		proctest.Check(t, do())
		took = append(took, time.Since(begun))
	}
	return middle(took)
}

func middle(list []time.Duration) time.Duration {
	list = slices.Clone(list)
	slices.Sort(list)
	return list[len(list)/2]
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// bench is a world in which something is measured.
type bench struct {
	b     *testing.B
	w     *world
	h     *History
	l     *load
	watch *watch
}

// newBench makes a world, has it serve, and watches it until the benchmark ends.
func newBench(b *testing.B, p plan) *bench {
	b.Helper()
	w := newWorld(b, p)
	h := NewHistory(nil)
	x := &bench{b: b, w: w, h: h, l: w.load(h), watch: newWatch(w)}
	w.start()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		x.watch.run(ctx)
	}()
	b.Cleanup(func() {
		cancel()
		<-done
	})
	x.calm()
	return x
}

// calm waits until all replicas are in step, have a vote, and the home site's first is active.
func (x *bench) calm() {
	x.b.Helper()
	for _, l := range x.w.luns() {
		proctest.Eventually(x.b, l.name+" takes mail", func() bool {
			return x.l.deliver(x.l.smtp[0], mailbox(l.name, 0), Seal("<calm@chaos.example>", "x@example.net", mailbox(l.name, 0), "calm\r\n")) == nil
		})
	}
	var want map[string]uint64
	proctest.Eventually(x.b, "the stores say what each LUN's newest operation is", func() bool {
		want = x.watch.newest()
		return len(want) == len(x.w.luns())
	})
	step := func() bool { return x.watch.behind(want) == "" && x.watch.voters() }
	for deadline := time.Now().Add(proctest.Patience); !step(); time.Sleep(lookEvery) {
		if time.Now().After(deadline) {
			x.b.Fatalf("not within %v: all replicas are in step with %v: behind: %q, all have a vote: %v", proctest.Patience, want, x.watch.behind(want), x.watch.voters())
		}
	}
}

// active waits for the active store of lun-east.
func (x *bench) active() (name string) {
	x.b.Helper()
	proctest.Eventually(x.b, "lun-east has an active store", func() bool {
		name = x.watch.active("lun-east")
		return name != ""
	})
	return name
}

// until gives the time from now to the acknowledgement of the first delivery that is begun from now on: every 20 ms another is tried
// in a session of its own.
func (x *bench) until(front, to string) time.Duration {
	x.b.Helper()
	begun := time.Now()
	ctx, cancel := context.WithTimeout(context.Background(), proctest.Patience)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	first := make(chan time.Duration, 1)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	slots := make(chan struct{}, 200) // sessions at a time
	for {
		select {
		case took := <-first:
			return took
		case <-ctx.Done():
			x.b.Fatalf("no delivery is acknowledged within %v", proctest.Patience)
		case <-tick.C:
		}
		select {
		case slots <- struct{}{}:
		default:
			continue
		}
		wg.Go(func() {
			defer func() { <-slots }()
			_, text := x.l.message(stranger, to, rand.New(rand.NewPCG(1, 2)))
			if x.l.deliver(front, to, text) != nil {
				return
			}
			select {
			case first <- time.Since(begun):
			default: // another was before
			}
		})
	}
}

// rounds reports the worst and the median of times.
func (x *bench) rounds(b *testing.B, list []time.Duration) {
	b.ReportMetric(ms(slices.Max(list)), "worst_ms")
	b.ReportMetric(ms(middle(list)), "median_ms")
	b.ReportMetric(float64(len(list)), "rounds")
	b.ReportMetric(0, "ns/op") // the clock of the benchmark measures the harness
	b.Logf("%v", list)
}

// BenchmarkStoreKilled kills the active store, again and again, and looks when mail is acknowledged again.
func BenchmarkStoreKilled(b *testing.B) {
	x := newBench(b, plan{})
	b.Run("store-killed", func(b *testing.B) {
		var took []time.Duration
		for range 20 {
			x.calm()
			p := x.w.roles[x.active()+"-store"]
			p.kill()
			took = append(took, x.until(x.l.smtp[1], mailbox("lun-east", 0)))
			proctest.Check(b, p.start())
		}
		x.rounds(b, took)
	})
}

// BenchmarkStoreSite cuts the site of the active store off, and looks when mail is acknowledged again at the other.
func BenchmarkStoreSite(b *testing.B) {
	x := newBench(b, plan{twoSite: map[string]string{"lun-east": "expose", "lun-west": "expose"}})
	c := &chaos{w: x.w}
	b.Run("site-cut/two_site=expose", func(b *testing.B) {
		var took []time.Duration
		for range 10 {
			x.calm()
			site := x.w.hosts[x.active()].site
			front := x.w.hosts[other(site)+"-front"].addr.String() + ":25"
			proctest.Check(b, c.cutSite(site, true))
			took = append(took, x.until(front, mailbox("lun-east", 0)))
			proctest.Check(b, c.cutSite(site, false))
		}
		x.rounds(b, took)
	})
}

// BenchmarkStoreMove moves a LUN between its stores while clients work.
func BenchmarkStoreMove(b *testing.B) {
	x := newBench(b, plan{})
	b.Run("planned-move", func(b *testing.B) {
		var mu sync.Mutex
		var failed int
		var took, commands []time.Duration
		x.h.OnEnd = func(e End) {
			mu.Lock()
			defer mu.Unlock()
			commands = append(commands, e.Took)
			if e.Outcome != Acknowledged {
				failed++
			}
		}
		ctx, cancel := context.WithCancel(context.Background())
		var wg sync.WaitGroup
		wg.Go(func() { x.l.run(ctx, senderCount, 1) })
		for range 20 {
			proctest.Eventually(b, "operations", func() bool { mu.Lock(); defer mu.Unlock(); return len(commands) > 200*(1+len(took)) })
			from := x.active()
			list := stores("east")
			to := list[(slices.Index(list, from)+1)%len(list)]
			begun := time.Now()
			said, err := tool(binary, "lun", "move", "lun-east", "--to", to, "--run-dir", x.w.path("run-"+from+"-store"))
			took = append(took, time.Since(begun))
			if err != nil {
				b.Errorf("move to %s: %v %s", to, err, said)
			}
			proctest.Eventually(b, to+" is active", func() bool { return x.watch.active("lun-east") == to })
		}
		cancel()
		wg.Wait()
		x.rounds(b, took)
		b.ReportMetric(ms(slices.Max(commands)), "slowest_command_ms")
		b.ReportMetric(float64(failed), "failed_commands")
		b.ReportMetric(float64(len(commands)), "commands")
	})
}

// fsyncTimes gives the median time that the fsync of a new file of 4 KiB takes on the disk of a store, measured ten times a second
// until ctx ends: what one fsync costs there while the store works.
func (x *bench) fsyncTimes(ctx context.Context, name string) (time.Duration, error) {
	var took []time.Duration
	block := make([]byte, 4096)
	path := filepath.Join(x.w.disks[name].at, "fsync")
	once := func() error {
		f, err := os.Create(path)
		if err != nil {
			return err
		}
		defer os.Remove(path)
		defer f.Close()
		if _, err := f.Write(block); err != nil {
			return err
		}
		begun := time.Now()
		err = f.Sync()
		took = append(took, time.Since(begun))
		return err
	}
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		if err := once(); err != nil {
			return 0, err
		}
		select {
		case <-ctx.Done():
			return middle(took), nil
		case <-tick.C:
		}
	}
}

// acknowledge gives the median time from the end of a message to its 250, one at a time, and that of one fsync on the remote store's
// disk meanwhile. Nobody asks the stores how they are: 80 such questions a second cost as much as the mail.
func (x *bench) acknowledge() (each, fsync time.Duration) {
	x.b.Helper()
	x.watch.rest.Store(true)
	defer x.watch.rest.Store(false)
	ctx, cancel := context.WithCancel(x.b.Context())
	var wg sync.WaitGroup
	var err error
	wg.Go(func() { fsync, err = x.fsyncTimes(ctx, "west-store1") })
	defer func() {
		cancel()
		wg.Wait()
		proctest.Check(x.b, err)
	}()
	rnd, to := rand.New(rand.NewPCG(1, 3)), mailbox("lun-east", 0)
	var took []time.Duration
	for range 200 {
		_, text := x.l.message(stranger, to, rnd)
		d, err := x.l.timed(x.l.smtp[0], to, text)
		proctest.Check(x.b, err)
		took = append(took, d)
	}
	cancel()
	wg.Wait()
	return middle(took), fsync
}

// BenchmarkStoreAcknowledge compares what an acknowledgement takes while the other site is cut off, and the policy lets one site do,
// with what it takes when both must have the message. They are 5 ms apart each way.
func BenchmarkStoreAcknowledge(b *testing.B) {
	x := newBench(b, plan{delay: 5 * time.Millisecond, twoSite: map[string]string{"lun-east": "expose"}})
	c := &chaos{w: x.w}
	var single time.Duration
	b.Run("acknowledge-one-site", func(b *testing.B) {
		x.home()
		proctest.Check(b, c.cutSite("west", true))
		x.until(x.l.smtp[0], mailbox("lun-east", 0))
		single, _ = x.acknowledge()
		proctest.Check(b, c.cutSite("west", false))
		b.ReportMetric(ms(single), "median_ms")
		b.ReportMetric(0, "ns/op")
	})
	b.Run("acknowledge-two-sites", func(b *testing.B) {
		x.calm()
		x.home()
		double, fsync := x.acknowledge()
		rtt := x.w.roundTrip("east-store1", "west-store1")
		b.ReportMetric(ms(double), "median_ms")
		b.ReportMetric(ms(rtt), "rtt_ms")
		b.ReportMetric(ms(fsync), "fsync_ms")
		b.ReportMetric(ms(double-single), "more_ms")
		b.ReportMetric(ms(rtt+fsync), "allowed_ms")
		b.ReportMetric(float64(double)/float64(single), "x/acknowledge-one-site")
		b.ReportMetric(0, "ns/op")
	})
}

// home waits until the first replica of lun-east is active.
func (x *bench) home() {
	x.b.Helper()
	proctest.Eventually(x.b, "lun-east is at home", func() bool { return x.watch.active("lun-east") == "east-store1" })
}

// BenchmarkStoreReadBack is mbsync before and after its site is cut off: nothing is to be downloaded again.
func BenchmarkStoreReadBack(b *testing.B) {
	b.Run("mbsync-after-site-cut", func(b *testing.B) {
		x := newBench(b, plan{twoSite: map[string]string{"lun-east": "expose"}})
		got := x.mbsyncAcross()
		b.ReportMetric(float64(got.before), "messages")
		b.ReportMetric(float64(got.again), "downloaded_again")
		b.ReportMetric(0, "ns/op")
		if got.again != 0 || got.before < 50 {
			b.Error(fmt.Errorf("mbsync had %d messages and downloaded %d again", got.before, got.again))
		}
	})
}
