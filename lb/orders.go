package lb

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Kind is what an operator orders of a real.
type Kind string

// The kinds of an Order.
const (
	KindDrain    Kind = "drain"    // no new flows; suspended when none is left or the deadline passes
	KindSuspend  Kind = "suspend"  // no flows, at once
	KindActivate Kind = "activate" // flows again, whatever was ordered before
)

// State is what a real of a farm is in.
type State string

// The states of a real.
const (
	StateActive    State = "active"
	StateJoining   State = "joining"
	StateDraining  State = "draining"
	StateSuspended State = "suspended"
	StateFailed    State = "failed"
)

const (
	maxNameSize = 64  // bytes of a farm's or a real's name
	maxBySize   = 64  // bytes
	maxWhySize  = 200 // bytes: with the rest of an order they fit what the LBs of a site can tell each other
)

// Order is an operator's will about one real of a farm. The LBs of a site have their orders in common, one a real, of
// which the last counts.
type Order struct {
	Farm     string    `json:"farm,omitempty"`
	Real     string    `json:"real,omitempty"`
	Kind     Kind      `json:"kind"`
	Deadline time.Time `json:"deadline,omitzero"` // of a drain, and only of one
	Since    time.Time `json:"since"`
	By       string    `json:"by,omitempty"` // who gave it
	Why      string    `json:"why,omitempty"`
}

// StoredState is what an LB remembers of one real of a farm, so that it, or another one, goes on with the same table
// after a restart in the middle of a transition.
type StoredState struct {
	Farm            string    `json:"farm,omitempty"`
	Real            string    `json:"real,omitempty"`
	State           State     `json:"state"`
	Since           time.Time `json:"since"`
	Until           time.Time `json:"until,omitzero"`   // when its transition ends; zero: it is in none
	PrimaryWeight   uint32    `json:"primary_weight"`   // in the slot table, for new flows
	SecondaryWeight uint32    `json:"secondary_weight"` // in the slot table, for established flows
}

// Where orders and states are kept, by farm and real.
const (
	orderPrefix = "order/"
	statePrefix = "state/"
)

// storeKey gives the key of a farm's real: prefix, farm, slash, real. No name can reach into the other's place.
func storeKey(prefix, farm, name string) string {
	return prefix + url.PathEscape(farm) + "/" + url.PathEscape(name)
}

// cutStoreKey is the reverse. Each pair of names has one key, and what is no such key is an error.
func cutStoreKey(prefix, key string) (farm, name string, err error) {
	rest, ok := strings.CutPrefix(key, prefix)
	first, second, both := strings.Cut(rest, "/")
	if farm, err = url.PathUnescape(first); err == nil {
		name, err = url.PathUnescape(second)
	}
	if err != nil || !ok || !both || storeKey(prefix, farm, name) != key {
		return "", "", fmt.Errorf("%q is no key of the form %sFARM/REAL", key, prefix)
	}
	return farm, name, nil
}

// Key says where the order is kept.
func (o Order) Key() string { return storeKey(orderPrefix, o.Farm, o.Real) }

// Key says where the state is kept.
func (s StoredState) Key() string { return storeKey(statePrefix, s.Farm, s.Real) }

// IsOrderKey says whether an order is kept under the key.
func IsOrderKey(key string) bool { return strings.HasPrefix(key, orderPrefix) }

// IsStateKey says whether a state is kept under the key.
func IsStateKey(key string) bool { return strings.HasPrefix(key, statePrefix) }

// Validate says what is wrong with an order.
func (o Order) Validate() error {
	if err := validatePlace(o.Farm, o.Real, o.Since); err != nil {
		return err
	}
	switch {
	case o.Kind != KindDrain && o.Kind != KindSuspend && o.Kind != KindActivate:
		return fmt.Errorf("kind %q is none of drain, suspend and activate", o.Kind)
	case o.Kind != KindDrain && !o.Deadline.IsZero():
		return fmt.Errorf("only a drain has a deadline; leave it out of %s", o.Kind)
	case o.Kind == KindDrain && !o.Deadline.After(o.Since):
		return errors.New("a drain needs a deadline after its beginning")
	case !timeFits(o.Deadline):
		return fmt.Errorf("deadline %v is no time of this era", o.Deadline)
	case !validText(o.By, maxBySize):
		return fmt.Errorf("`by` is not text of at most %d bytes on one line", maxBySize)
	case !validText(o.Why, maxWhySize):
		return fmt.Errorf("`why` is not text of at most %d bytes on one line", maxWhySize)
	}
	return nil
}

// Validate says what is wrong with a state.
func (s StoredState) Validate() error {
	if err := validatePlace(s.Farm, s.Real, s.Since); err != nil {
		return err
	}
	first, second := s.PrimaryWeight > 0, s.SecondaryWeight > 0
	switch {
	case s.State != StateActive && s.State != StateJoining && s.State != StateDraining && s.State != StateSuspended && s.State != StateFailed:
		return fmt.Errorf("state %q is none of active, joining, draining, suspended and failed", s.State)
	case first && s.State != StateActive && s.State != StateJoining:
		return fmt.Errorf("a real that is %s takes no new flows; its primary weight is %d", s.State, s.PrimaryWeight)
	case second && s.State != StateActive && s.State != StateDraining:
		return fmt.Errorf("a real that is %s has no established flows; its secondary weight is %d", s.State, s.SecondaryWeight)
	case !s.Until.IsZero() && (s.Until.Before(s.Since) || !timeFits(s.Until)):
		return fmt.Errorf("a transition from %v until %v", s.Since, s.Until)
	}
	return nil
}

func validatePlace(farm, name string, since time.Time) error {
	switch {
	case farm == "" || !validText(farm, maxNameSize):
		return fmt.Errorf("%.80q is no name of a farm", farm)
	case name == "" || !validText(name, maxNameSize):
		return fmt.Errorf("%.80q is no name of a real", name)
	case since.IsZero() || !timeFits(since):
		return errors.New("`since` is missing, or no time of this era")
	}
	return nil
}

func validText(text string, size int) bool {
	return len(text) <= size && utf8.ValidString(text) && strings.IndexFunc(text, unicode.IsControl) < 0
}

// timeFits says whether JSON can hold a time.
func timeFits(t time.Time) bool { return t.UTC().Year() >= 1 && t.UTC().Year() <= 9999 }

// Encode gives what is kept under Key. The names are in the key alone.
func (o Order) Encode() ([]byte, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	o.Farm, o.Real = "", ""
	o.Since, o.Deadline = o.Since.UTC(), o.Deadline.UTC()
	return encodeStored(o)
}

// Encode gives what is kept under Key. The names are in the key alone.
func (s StoredState) Encode() ([]byte, error) {
	if err := s.Validate(); err != nil {
		return nil, err
	}
	s.Farm, s.Real = "", ""
	s.Since, s.Until = s.Since.UTC(), s.Until.UTC()
	return encodeStored(s)
}

// DecodeOrder reads what is kept under a key. Only what Encode gives is taken.
func DecodeOrder(key string, value []byte) (Order, error) {
	var o Order
	farm, name, err := cutStoreKey(orderPrefix, key)
	if err == nil {
		err = decodeStored(value, &o)
	}
	if o.Farm, o.Real = farm, name; err == nil {
		err = sameAgain(value, o.Encode)
	}
	if err != nil {
		return Order{}, fmt.Errorf("order under %q: %w", key, err)
	}
	return o, nil
}

// DecodeState reads what is kept under a key. Only what Encode gives is taken.
func DecodeState(key string, value []byte) (StoredState, error) {
	var s StoredState
	farm, name, err := cutStoreKey(statePrefix, key)
	if err == nil {
		err = decodeStored(value, &s)
	}
	if s.Farm, s.Real = farm, name; err == nil {
		err = sameAgain(value, s.Encode)
	}
	if err != nil {
		return StoredState{}, fmt.Errorf("state under %q: %w", key, err)
	}
	return s, nil
}

func encodeStored(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

func decodeStored(value []byte, v any) error {
	dec := json.NewDecoder(bytes.NewReader(value))
	dec.DisallowUnknownFields()
	return dec.Decode(v)
}

// sameAgain refuses what says the same as Encode in another way, or more: a key twice, a name that the key has, text
// behind the end.
func sameAgain(value []byte, encode func() ([]byte, error)) error {
	again, err := encode()
	if err == nil && !bytes.Equal(again, value) {
		err = errors.New("it is not written as it should be")
	}
	return err
}
