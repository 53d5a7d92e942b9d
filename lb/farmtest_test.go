package lb

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var epoch = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

// farmTest takes a farm of reals a, b, c ... through time. Each has weight 1.
type farmTest struct {
	t     *testing.T
	rules rules
	now   time.Time
	is    map[netip.Addr]situation
	state farmState
	peers []farmState
}

func newFarmTest(t *testing.T, method string, names ...string) *farmTest {
	f := &farmTest{t: t, rules: rules{time: time.Hour, secondChance: method == SecondChance}, now: epoch,
		is: map[netip.Addr]situation{}, state: farmState{}}
	for _, name := range names {
		f.add(name)
	}
	return f
}

// realAddr is the address of the real of that name.
func realAddr(name string) netip.Addr { return testAddr(int(name[0] - 'a')) }

func (f *farmTest) add(name string) {
	f.is[realAddr(name)] = situation{name: name, forward: ForwardIPIP, base: weightOne, percent: 100, known: true}
}

func (f *farmTest) change(name string, change func(s *situation)) {
	s := f.is[realAddr(name)]
	change(&s)
	f.is[realAddr(name)] = s
}

func (f *farmTest) fail(name string) {
	f.change(name, func(s *situation) { s.fails = "connection refused" })
}

func (f *farmTest) pass(name string) { f.change(name, func(s *situation) { s.fails = "" }) }

func (f *farmTest) percent(name string, percent int) {
	f.change(name, func(s *situation) { s.percent = percent })
}

func (f *farmTest) drain(name string, d time.Duration) {
	f.change(name, func(s *situation) {
		s.order = &Order{Kind: KindDrain, Since: f.now, Deadline: f.now.Add(d)}
	})
}

func (f *farmTest) suspend(name string) {
	f.change(name, func(s *situation) { s.order = &Order{Kind: KindSuspend, Since: f.now} })
}

func (f *farmTest) activate(name string) { f.change(name, func(s *situation) { s.order = nil }) }

func (f *farmTest) flows(name string, left, zeros int) {
	f.change(name, func(s *situation) { s.flows = flowCount{known: true, left: left, zeros: zeros} })
}

func (f *farmTest) remove(name string) { f.change(name, func(s *situation) { s.gone = true }) }

// after lets time pass, with a look at every deadline on the way.
func (f *farmTest) after(d time.Duration) {
	end := f.now.Add(d)
	for {
		f.step()
		next := f.state.deadline(f.now)
		if next.IsZero() || next.After(end) {
			break
		}
		f.now = next
	}
	f.now = end
	f.step()
}

// step looks once, and once more to see that it changes nothing.
func (f *farmTest) step() {
	f.t.Helper()
	f.state = f.rules.next(f.state, f.is, f.peers, f.now)
	again := f.rules.next(f.state, f.is, f.peers, f.now)
	if !maps.Equal(f.state, again) {
		f.t.Fatalf("a second look at the same time changes\n%v\nto\n%v", f.lines(), again)
	}
	for addr, rec := range f.state {
		text, err := rec.encode()
		if err != nil {
			f.t.Fatalf("%v: %+v: %v", addr, rec, err)
		}
		if decoded, err := decodeRecord(text); err != nil || decoded != rec {
			f.t.Fatalf("%v: the record %s comes back as %+v, %v", addr, text, decoded, err)
		}
	}
}

// expect takes lines such as "a active 1/1" and "b joining 1/0 30m0s": state, weights for new and for established flows,
// time until the state ends, and "weight 1h0m0s" until a change of weight does, and "follow 1h0m0s" until stored flows are no
// longer followed.
func (f *farmTest) expect(want ...string) {
	f.t.Helper()
	f.step()
	if diff := cmp.Diff(want, f.lines()); diff != "" {
		f.t.Errorf("states after %v (-want +got):\n%s", f.now.Sub(epoch), diff)
	}
}

func (f *farmTest) lines() []string {
	var lines []string
	for _, addr := range slices.SortedFunc(maps.Keys(f.state), netip.Addr.Compare) {
		r := f.state[addr]
		line := fmt.Sprintf("%s %s %.4g/%.4g", r.Name, r.State, float64(r.primary())/weightOne, float64(r.Held)/weightOne)
		if !r.Until.IsZero() {
			line += fmt.Sprintf(" %v", r.Until.Sub(f.now))
		}
		if !r.HeldUntil.IsZero() {
			line += fmt.Sprintf(" weight %v", r.HeldUntil.Sub(f.now))
		}
		if !r.Follow.IsZero() {
			line += fmt.Sprintf(" follow %v", r.Follow.Sub(f.now))
		}
		lines = append(lines, line)
	}
	return lines
}

func (f *farmTest) why(name, want string) {
	f.t.Helper()
	if got := f.state[realAddr(name)].Why; !strings.Contains(got, want) {
		f.t.Errorf("%s is %s because %q, want %q", name, f.state[realAddr(name)].State, got, want)
	}
}

// eachMethod runs a test of what is the same with both.
func eachMethod(t *testing.T, test func(t *testing.T, method string)) {
	for _, method := range []string{Tracked, SecondChance} {
		t.Run(method, func(t *testing.T) { test(t, method) })
	}
}
