package chaos

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"anycastle/internal/netnstest"
	"anycastle/internal/proctest"
)

var (
	seedFlag    = flag.Uint64("seed", 0, "of the faults; 0: another each time")
	minutesFlag = flag.Float64("minutes", 2, "how long faults strike; ten each minute")
	reportFlag  = flag.String("report", "", "folder for chaos.json and the logs")
	clockFlag   = flag.Bool("clock", false, "set the clock of this machine now and then, for seconds")
	kindsFlag   = flag.String("kinds", "", "only these faults, parted by commas; empty: all")
)

const (
	faultEvery  = 6 * time.Second
	loadBefore  = 50               // operations that are acknowledged before the first fault
	settleTime  = 3 * time.Minute  // for all replicas to be in step when all is healed
	sayEvery    = 10 * time.Second // a line of progress
	senderCount = 4
)

// chaos is one run.
type chaos struct {
	t     *testing.T
	w     *world
	h     *History
	l     *load
	watch *watch
	rnd   *rand.Rand
	begun time.Time
	clock *clock

	mu     sync.Mutex
	busy   map[string]bool
	counts map[kind]int
	errs   []error
	fell   int       // processes that ended by themselves
	ruin   bool      // data is destroyed, and that is not healed yet
	mended time.Time // when it was the last time

	step    map[string]uint64 // operations that all replicas are waited for to have, by LUN; nil: it is not known yet
	stepped time.Time         // when they had them the last time
}

// TestChaos is `make chaos`.
func TestChaos(t *testing.T) {
	netnstest.Root(t)
	seed := *seedFlag
	if seed == 0 {
		seed = uint64(time.Now().UnixNano()) % 1_000_000
	}
	fmt.Printf("chaos: SEED=%d MINUTES=%g\n", seed, *minutesFlag)
	w := newWorld(t, plan{twoSite: map[string]string{"lun-west": "expose"}})
	journal, err := os.Create(w.path("operations.jsonl"))
	proctest.Check(t, err)
	defer journal.Close()
	h := NewHistory(journal)
	c := &chaos{
		t: t, w: w, h: h, l: w.load(h), watch: newWatch(w), rnd: rand.New(rand.NewPCG(seed, 0)), begun: time.Now(), clock: &clock{},
		busy: map[string]bool{}, counts: map[kind]int{},
	}
	defer c.keepLogs()
	defer func() { proctest.Check(t, c.clock.restore()) }()
	w.start()
	var row row
	c.underLoad(seed, func(ctx context.Context) {
		c.flow(loadBefore)
		c.begun = time.Now()
		c.strikeAll(ctx, int(*minutesFlag*60/faultEvery.Seconds()))
		row.LastFault = h.Ended(Acknowledged)
		c.await("all replicas are in step after the last fault")
		c.await("and mail flows again")
	})
	c.finish(&row, seed)
}

// flow waits until so many more operations are acknowledged.
func (c *chaos) flow(n int) {
	c.t.Helper()
	count, deadline := c.h.Ended(Acknowledged), time.Now().Add(settleTime)
	for c.h.Ended(Acknowledged) < count+n {
		if time.Now().After(deadline) {
			c.t.Fatalf("not within %v: %d operations are acknowledged", settleTime, n)
		}
		time.Sleep(lookEvery)
	}
}

// row is what a run comes to.
type row struct {
	Case    string `json:"case"`
	Seed    uint64 `json:"seed"`
	Seconds int    `json:"seconds"`
	Faults  int    `json:"faults"`
	*Verdict
	Unknown   int          `json:"unknown"`
	Refused   int          `json:"refused"`
	TwoActive int          `json:"two_active"`
	Stale     int          `json:"stale"` // a client was shown less than was acknowledged to it
	Fell      int          `json:"fell"`  // processes that ended by themselves, and were started again
	Kinds     map[kind]int `json:"kinds"`
	LastFault int          `json:"-"` // acknowledged by then
}

// underLoad has clients work and the stores watched while f runs.
func (c *chaos) underLoad(seed uint64, f func(ctx context.Context)) {
	ctx, cancel := context.WithCancel(c.t.Context())
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	wg.Go(func() { c.watch.run(ctx) })
	wg.Go(func() { c.l.run(ctx, senderCount, seed) })
	wg.Go(func() { c.progress(ctx) })
	wg.Go(func() { c.revive(ctx) })
	wg.Go(func() { c.steps(ctx) })
	f(ctx)
}

// say prints a line with the time since the first fault.
func (c *chaos) say(format string, args ...any) {
	fmt.Printf("%8.2f  %s\n", time.Since(c.begun).Seconds(), fmt.Sprintf(format, args...))
}

func (c *chaos) progress(ctx context.Context) {
	tick := time.NewTicker(sayEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			c.say("... %d faults, %d acknowledged, %d unknown, %d refused, the last acknowledged %.1f s ago; active: east %s, west %s",
				c.struck(), c.h.Ended(Acknowledged), c.h.Ended(Unknown), c.h.Ended(Refused), time.Since(c.h.Last()).Seconds(),
				c.watch.active("lun-east"), c.watch.active("lun-west"))
		}
	}
}

// revive starts processes that have ended by themselves, as a machine's init does, and takes note of those that crashed.
func (c *chaos) revive(ctx context.Context) {
	for ctx.Err() == nil {
		for name, p := range c.w.roles {
			fell, why := p.fell()
			if !fell {
				continue
			}
			c.say("%s has ended by itself: %v", name, why)
			log, err := os.ReadFile(c.w.path(name + ".log"))
			if err == nil && (strings.Contains(string(log), "\npanic: ") || strings.Contains(string(log), "\nfatal error: ")) {
				err = errors.New("it crashed; see its log")
			}
			c.note(fmt.Errorf("%s ended by itself: %w", name, errors.Join(why, err)), err != nil)
			c.note(p.start(), true)
		}
		select {
		case <-ctx.Done():
		case <-time.After(time.Second):
		}
	}
}

// note keeps an error that fails the run, and counts what has ended.
func (c *chaos) note(err error, bad bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err != nil && bad {
		c.errs = append(c.errs, err)
	}
	if !bad {
		c.fell++
	}
}

// steps keeps the time at which all replicas had everything up to some moment before.
func (c *chaos) steps(ctx context.Context) {
	for ctx.Err() == nil {
		c.mu.Lock()
		if len(c.step) < len(c.w.luns()) {
			c.step = c.watch.newest()
		}
		if c.watch.behind(c.step) == "" {
			c.stepped, c.step = time.Now(), nil
		}
		c.mu.Unlock()
		select {
		case <-ctx.Done():
		case <-time.After(lookEvery):
		}
	}
}

func (c *chaos) struck() (n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, k := range c.counts {
		n += k
	}
	return n
}

// kinds are the faults of this run.
func (c *chaos) kinds() []kind {
	all := []kind{killed, stopped, partition, oneWay, diskFull, fsyncError, truncated, bitFlipped, siteCut, witnessCut, twoAtOnce}
	if *clockFlag {
		all = append(all, clockJump)
	}
	if *kindsFlag != "" {
		all = nil
		for k := range strings.SplitSeq(*kindsFlag, ",") {
			all = append(all, kind(k))
		}
	}
	return all
}

// shuffled gives the kinds in a random order.
func (c *chaos) shuffled() []kind {
	deck := c.kinds()
	c.rnd.Shuffle(len(deck), func(i, j int) { deck[i], deck[j] = deck[j], deck[i] })
	return deck
}

// strikeAll lets n faults happen, one every faultEvery, each kind as often as any other, and heals them all.
func (c *chaos) strikeAll(ctx context.Context, n int) {
	var healing sync.WaitGroup
	defer healing.Wait()
	var deck []kind
	for slot := 0; c.struck() < n && ctx.Err() == nil; slot++ {
		if len(deck) == 0 {
			deck = c.shuffled()
		}
		next := time.NewTimer(time.Until(c.begun.Add(time.Duration(slot) * faultEvery)))
		<-next.C
		at := slices.IndexFunc(deck, func(k kind) bool { return c.play(&healing, k) }) // what may not happen now comes later
		if at < 0 {
			c.say("no fault: of %q none may happen; behind: %s", deck, c.watch.behind(c.watch.newest()))
			deck = c.shuffled() // the next time another one
			continue
		}
		deck = slices.Delete(deck, at, at+1)
	}
}

// play lets a fault of a kind happen, or two; false: it may not now.
func (c *chaos) play(healing *sync.WaitGroup, k kind) bool {
	list := []fault{}
	if k == twoAtOnce {
		others := c.kinds()
		others = slices.DeleteFunc(others, func(k kind) bool { return k == twoAtOnce })
		if len(others) == 0 {
			return false
		}
		list = append(list, c.draw(others[c.rnd.IntN(len(others))]), c.draw(others[c.rnd.IntN(len(others))]))
	} else {
		list = append(list, c.draw(k))
	}
	if !c.book(list) {
		return false
	}
	c.mu.Lock()
	c.counts[k]++
	c.mu.Unlock()
	for _, f := range list {
		c.say("%s: %s, for %.1f s", f.kind, f.what, f.length.Seconds())
		c.fail(f, "strike", f.strike())
		healing.Go(func() {
			time.Sleep(f.length) // all that strikes is healed, also when the run is cut short
			err := f.heal()
			c.say("healed: %s: %s", f.kind, f.what)
			c.fail(f, "heal", err)
			c.release(f)
		})
	}
	return true
}

func (c *chaos) fail(f fault, what string, err error) {
	if err == nil {
		return
	}
	c.say("cannot %s %s: %s: %v", what, f.kind, f.what, err)
	c.note(fmt.Errorf("%s %s: %w", what, f.kind, err), true)
}

// book takes what faults touch; false: another has it, or data would be destroyed while the last destruction is not made good.
func (c *chaos) book(list []fault) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	ruins := 0
	want := map[string]bool{}
	for _, f := range list {
		if f.ruins {
			ruins++
		}
		for _, b := range f.busy {
			if c.busy[b] || want[b] {
				return false
			}
			want[b] = true
		}
	}
	if ruins > 1 || ruins == 1 && (c.ruin || !c.stepped.After(c.mended)) {
		return false
	}
	c.ruin = c.ruin || ruins == 1
	maps.Copy(c.busy, want)
	return true
}

// release gives back what a fault has touched. From now on all replicas have to be in step once more before data is destroyed.
func (c *chaos) release(f fault) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, b := range f.busy {
		delete(c.busy, b)
	}
	if f.ruins {
		c.ruin, c.step, c.mended = false, nil, time.Now()
	}
}
