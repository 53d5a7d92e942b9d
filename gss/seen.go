package gss

import (
	"fmt"
	"hash/fnv"
	"net/netip"
	"slices"
	"strings"
	"time"

	"anycastle/gss/decide"
	"anycastle/internal/probe"
)

// watched is what the probes of this GSS say of an answer.
type watched struct {
	answer  *Answer
	targets []target // by address and probe
	since   time.Time
	digest  uint32 // of what is probed; not 0
}

// target is one probe of one address of an answer.
type target struct {
	probe.Target
	state probe.State
	err   error // of the last probe that could be made
	lack  error // why the last could not be: this machine's own want of something
	last  time.Time
	asked time.Time // since when its first result is awaited
	late  bool      // that has been awaited for too long

	assumed bool // state is that of before a restart
}

// leastWait is how long the first result of a probe is awaited at least; three rounds of it are, if that is longer.
const leastWait = 5 * time.Second

// watch makes what is to be probed for an answer.
func watch(a *Answer) *watched {
	w := &watched{answer: a, digest: a.digest()}
	for _, addr := range a.Addresses {
		for i := range a.Probes {
			p := &a.Probes[i]
			name := fmt.Sprintf("%s/%v/%d", a.Name, netip.AddrPortFrom(addr, p.Port), i)
			w.targets = append(w.targets, target{Target: probe.Target{Name: name, Addr: netip.AddrPortFrom(addr, p.Port), Config: p}})
		}
	}
	return w
}

// digest stands for the addresses of an answer and what is asked of them: views of GSSes with another are of something else.
func (a *Answer) digest() uint32 {
	h := fnv.New32a()
	for _, addr := range slices.SortedFunc(slices.Values(a.Addresses), netip.Addr.Compare) {
		fmt.Fprintln(h, addr)
	}
	for i := range a.Probes {
		fmt.Fprintln(h, a.Probes[i].Asks())
	}
	return max(h.Sum32(), 1)
}

// keep takes over what another, of the same answer in an older config, knows of probes that are the same.
func (w *watched) keep(was *watched) {
	w.since = was.since
	for i := range w.targets {
		t := &w.targets[i]
		for _, old := range was.targets {
			if old.Name == t.Name {
				old.Target = t.Target
				*t = old
			}
		}
	}
}

// take takes a result, and says whether it says something new of the answer.
func (w *watched) take(r probe.Result) (news bool) {
	before, awaited := w.seen(), false
	for i := range w.targets {
		if t := &w.targets[i]; t.Name == r.Target.Name {
			awaited = t.awaited() && !r.Ours
			t.state, t.last, t.lack = r.State, r.At, nil
			if r.Ours {
				t.lack = r.Err
			} else {
				t.err, t.assumed = r.Err, false
			}
		}
	}
	after := w.seen()
	if before.View != after.View {
		w.since = r.At.Add(r.Took)
	}
	return awaited || before.View != after.View || before.Failed != after.Failed
}

// seen is what the probes say together: all must pass. What was never probed though there was time for it does not.
func (w *watched) seen() decide.Seen { return w.see(true) }

// tells is what the other GSSes are told: nothing of what was not probed since the start.
func (w *watched) tells() view { return view{Seen: w.see(false), digest: w.digest} }

func (w *watched) see(guess bool) decide.Seen {
	s := decide.Seen{View: decide.Passing}
	for i := range w.targets {
		t := &w.targets[i]
		switch {
		case t.assumed && !guess || t.state == probe.Unknown && !t.late:
			if s.View == decide.Passing {
				s.View = decide.NoView
			}
		case t.state == probe.Failing && s.View != decide.Failing:
			s.View, s.Why = decide.Failing, t.why()
		case t.state == probe.Unknown && s.View != decide.Failing:
			s.View = decide.NoView
			if guess {
				s.View, s.Why = decide.Failing, "was never probed: "+t.missing()
			}
		}
		if t.err != nil {
			s.Failed = true
			if s.Why == "" {
				s.Why = t.why()
			}
		}
	}
	return s
}

// assume has the state of before a restart count until there are results, and then be counted against; it gives it by target.
func (w *watched) assume(s probe.State) map[string]probe.State {
	states := map[string]probe.State{}
	for i := range w.targets {
		t := &w.targets[i]
		t.state, t.assumed = s, true
		states[t.Name] = s
	}
	return states
}

// missing are its probes that have not ended once, and why, and whether all of them have been awaited for too long.
func (w *watched) missing() (list []string, late bool) {
	late = true
	for i := range w.targets {
		if t := &w.targets[i]; t.awaited() {
			list, late = append(list, t.missing()), late && t.late
		}
	}
	return list, late
}

// await gives until when the answer's first probes are awaited; zero: they are not. It says whether they have just come to be
// late.
func (w *watched) await(now time.Time) (until time.Time, late bool) {
	for i := range w.targets {
		t := &w.targets[i]
		if !t.awaited() || t.late {
			continue
		}
		if t.asked.IsZero() {
			t.asked = now
		}
		ends := t.asked.Add(t.patience())
		if !now.Before(ends) {
			t.late, late = true, true
			continue
		}
		if ends.After(until) {
			until = ends
		}
	}
	return until, late
}

// awaited says whether the target has had no result since the start.
func (t *target) awaited() bool { return t.state == probe.Unknown || t.assumed }

// patience is how long the first result of the probe is awaited.
func (t *target) patience() time.Duration {
	return max(leastWait, 3*(t.Config.Interval+t.Config.Timeout))
}

// missing says why there is no first result yet.
func (t *target) missing() string {
	if t.lack != nil {
		return fmt.Sprintf("%v: %v", t, t.lack)
	}
	if t.late {
		return fmt.Sprintf("%v: no result within %v", t, t.patience())
	}
	return t.String()
}

func (t *target) String() string { return fmt.Sprintf("%s %v", t.Config.Type, t.Addr) }

func (t *target) why() string {
	if t.assumed {
		return "failed before the restart, and is not probed since: " + t.missing()
	}
	if t.err == nil {
		return t.String() + " passed its last probe, but not enough in a row yet"
	}
	said := strings.TrimPrefix(t.err.Error(), fmt.Sprintf("tcp %v: ", t.Addr)) // as an error of a connection begins
	return fmt.Sprintf("%v: %s", t, said)
}
