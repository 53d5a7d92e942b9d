package lb

import (
	"errors"
	"fmt"
	"math"
	"net/netip"
	"time"

	"anycastle/internal/strict"
)

// maxReason bounds why a real is in its state: what a probe or an agent says.
const maxReason = 400

// State is what a real does.
type State string

// The states of a real.
const (
	StateActive    State = "active"    // takes new flows and keeps those that it has
	StateJoining   State = "joining"   // takes new flows; established ones stay where they are, for the farm's transition time
	StateDraining  State = "draining"  // takes no new flows and keeps those that it has
	StateSuspended State = "suspended" // takes nothing, by order or after a drain
	StateFailed    State = "failed"    // takes nothing, because it cannot
)

// inService says whether a real in that state takes new flows.
func (s State) inService() bool { return s == StateActive || s == StateJoining }

// record is the state of one real of a farm. It outlives the process, and the LBs of a site tell each other theirs: with
// the same records they compute the same table.
type record struct {
	Name    string    `json:"name"` // in the config; a real that was taken out of it drains under the name that it had
	Forward Forward   `json:"forward"`
	State   State     `json:"state"`
	Why     string    `json:"why"`
	Since   time.Time `json:"since"`

	Until time.Time `json:"until,omitzero"` // when the state ends by itself

	Base   uint32 `json:"base"`   // weight that the config gives it, as weigh has it
	Weight uint32 `json:"weight"` // for new flows, while it is in service
	Held   uint32 `json:"held"`   // for established flows

	// HeldUntil is when a change of weight ends: Held becomes Weight.
	HeldUntil time.Time `json:"held_until,omitzero"`

	// Follow is until when stored flows of the farm may be at another real than primary and secondary; see follow.
	Follow time.Time `json:"follow,omitzero"`
}

// farmState has the records of a farm's reals by their addresses: flows are with an address, whatever its name.
type farmState map[netip.Addr]record

// primary is the weight for new flows.
func (r record) primary() uint32 {
	if r.State.inService() {
		return r.Weight
	}
	return 0
}

// units gives a weight as the config has weights.
func (record) units(weight uint32) float64 { return math.Round(1000*float64(weight)/weightOne) / 1000 }

func (r record) kind() uint8 { return r.Forward.kind() }

// enter gives the record in another state, without flows of its own. In the same state only the reason changes.
func (r record) enter(s State, why string, now time.Time) record {
	if r.State != s {
		r.State, r.Since = s, now
	}
	r.Why, r.Until, r.Held, r.HeldUntil = why, time.Time{}, 0, time.Time{}
	return r
}

// settle makes a real active that joins: it holds what it has.
func (r record) settle(at time.Time) record {
	r.State, r.Since, r.Until, r.Held, r.HeldUntil = StateActive, at, time.Time{}, r.Weight, time.Time{}
	return r
}

// at gives the record with what has ended by itself until now. That a drain ends is left to its order.
func (r record) at(now time.Time) record {
	if over(r.HeldUntil, now) {
		held := r.Weight
		if r.State == StateDraining {
			held = min(r.Held, held) // it must not take over what came to others when it began to drain
		}
		r.Held, r.HeldUntil = held, time.Time{}
	}
	if over(r.Follow, now) {
		r.Follow = time.Time{}
	}
	if r.State == StateJoining && over(r.Until, now) {
		r = r.settle(r.Until)
	}
	return r
}

// moving says whether flows of the real's slots may be at two reals.
func (r record) moving(now time.Time) bool { return pending(r.Until, now) || pending(r.HeldUntil, now) }

// over says whether a time that was set has come.
func over(t, now time.Time) bool { return !t.IsZero() && !now.Before(t) }

// pending says whether a time that was set has not come.
func pending(t, now time.Time) bool { return now.Before(t) }

// stateKey says where an LB keeps its record of a real. node is its name in the mesh.
func stateKey(node, farm string, addr netip.Addr) string {
	return storeKey(statePrefix, node, farm, addr.String())
}

// cutStateKey is the reverse.
func cutStateKey(key string) (node, farm string, addr netip.Addr, err error) {
	parts, err := cutStoreKey(statePrefix, key, 3)
	if err == nil {
		addr, err = netip.ParseAddr(parts[2])
	}
	if err != nil || stateKey(parts[0], parts[1], addr) != key {
		return "", "", netip.Addr{}, fmt.Errorf("%q is no key of the form %sNODE/FARM/ADDRESS", key, statePrefix)
	}
	return parts[0], parts[1], addr, nil
}

// encode gives the record as it is kept and sent.
func (r record) encode() ([]byte, error) {
	if err := r.validate(); err != nil {
		return nil, err
	}
	for _, t := range []*time.Time{&r.Since, &r.Until, &r.HeldUntil, &r.Follow} {
		*t = t.UTC()
	}
	return encodeStored(r)
}

// decodeRecord undoes encode, and takes only what that gives. What it lets through no rule trips over, whoever sent it.
func decodeRecord(value []byte) (record, error) {
	var r record
	err := strict.Unmarshal(value, &r)
	if err == nil {
		err = sameAgain(value, r.encode)
	}
	if err != nil {
		return record{}, err
	}
	return r, nil
}

func (r record) validate() error {
	const most = maxWeight * mostFactor * maxPercent / 100
	switch {
	case r.Name == "" || !validText(r.Name, maxName):
		return fmt.Errorf("%.80q is no name of a real", r.Name)
	case !validText(r.Why, maxReason):
		return fmt.Errorf("`why` is not text of at most %d bytes on one line", maxReason)
	case r.Forward != ForwardIPIP && r.Forward != ForwardGUE && r.Forward != ForwardL2:
		return fmt.Errorf("%.80q is no way of forwarding", r.Forward)
	case r.Base == 0 || r.Base > most || r.Weight == 0 || r.Weight > most || r.Held > most:
		return fmt.Errorf("weights %d, %d, %d", r.Base, r.Weight, r.Held)
	case !timeFits(r.Since) || !timeFits(r.Until) || !timeFits(r.HeldUntil) || !timeFits(r.Follow):
		return errors.New("no time of this era")
	}
	var may, must bool // hold flows
	switch r.State {
	case StateActive:
		may, must = true, true
	case StateDraining:
		may = true
	case StateJoining, StateSuspended, StateFailed:
	default:
		return fmt.Errorf("%.80q is no state", r.State)
	}
	ends := r.State == StateJoining || r.State == StateDraining
	switch {
	case r.Since.IsZero():
		return errors.New("`since` is missing")
	case ends && r.Until.IsZero():
		return fmt.Errorf("a real that is %s does so until some time", r.State)
	case !ends && !r.Until.IsZero():
		return fmt.Errorf("a real that is %s does so for ever", r.State)
	case r.Held > 0 && !may || r.Held == 0 && must || !r.HeldUntil.IsZero() && r.Held == 0:
		return fmt.Errorf("a real that is %s holds flows by a weight of %d", r.State, r.Held)
	case r.State == StateActive && r.HeldUntil.IsZero() && r.Held != r.Weight:
		return fmt.Errorf("weights of %d and %d, and no end to that", r.Weight, r.Held)
	}
	return nil
}
