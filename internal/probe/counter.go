package probe

import "fmt"

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

// Counter applies pass and fail counts to results. The first result decides at once: a target that has never been
// probed has no state worth keeping.
type Counter struct {
	fail, pass int
	state      State
	run        int // results in a row that speak against state
}

// NewCounter makes a counter in state Unknown.
func NewCounter(fail, pass int) *Counter { return &Counter{fail: fail, pass: pass} }

// Add takes one result, nil for healthy, and gives the state after it and whether the state changed.
func (c *Counter) Add(err error) (State, bool) {
	result := Passing
	need := c.pass
	if err != nil {
		result, need = Failing, c.fail
	}
	if c.state == Unknown {
		c.state = result
		return c.state, true
	}
	if result == c.state {
		c.run = 0
		return c.state, false
	}
	c.run++
	if c.run < need {
		return c.state, false
	}
	c.state, c.run = result, 0
	return c.state, true
}
