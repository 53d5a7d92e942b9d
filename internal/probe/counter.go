package probe

import (
	"fmt"
	"math/bits"
)

// State is what a target's probes say of it.
type State int

// The states of a target.
const (
	Unknown State = iota // no probe has ended yet
	Passing
	Failing
)

var stateNames = [...]string{"unknown", "passing", "failing"}

// String gives the state's name.
func (s State) String() string { return stateNames[s] }

// MarshalText implements encoding.TextMarshaler.
func (s State) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (s *State) UnmarshalText(text []byte) error {
	for i, name := range stateNames {
		if name == string(text) {
			*s = State(i)
			return nil
		}
	}
	return fmt.Errorf("probe: no state is called %q", text)
}

// maxWindow is how many results a window can hold: a bit each.
const maxWindow = 64

// Window is a failure window: Fail failures among the last Size results take a target out, in a row or not. The zero
// Window takes none out.
type Window struct {
	Size int `yaml:"size"` // results that are looked at, 2 to 64
	Fail int `yaml:"fail"` // failures among them that take the target out, 2 to size
}

// Counter applies pass and fail counts and a failure window to results. The first result decides at once: a target that
// has never been probed has no state worth keeping.
type Counter struct {
	fail, pass int
	window     Window
	state      State
	run        int    // results in a row that speak against state
	recent     uint64 // the results since the target came to pass, the newest in bit 0; a bit that is set is a failure
}

// NewCounter makes a counter in state Unknown.
func NewCounter(fail, pass int, window Window) *Counter {
	return &Counter{fail: fail, pass: pass, window: window}
}

// Add takes one result, nil for healthy, and gives the state after it and whether the state changed.
func (c *Counter) Add(err error) (State, bool) {
	result := Passing
	need := c.pass
	if err != nil {
		result, need = Failing, c.fail
	}
	c.recent <<= 1
	if err != nil {
		c.recent |= 1
	}
	switch {
	case c.state == Unknown:
	case result == c.state:
		c.run = 0
		return c.state, false
	default:
		c.run++
		if c.run < need && !c.tripped() {
			return c.state, false
		}
	}
	// the window begins anew with each state: what took a target out is paid for by the passes that brought it back
	c.state, c.run, c.recent = result, 0, 0
	return c.state, true
}

// tripped says whether the window takes a passing target out.
func (c *Counter) tripped() bool {
	if c.state != Passing || c.window.Size == 0 {
		return false
	}
	return bits.OnesCount64(c.recent<<(maxWindow-c.window.Size)) >= c.window.Fail
}
