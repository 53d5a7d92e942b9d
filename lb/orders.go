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

	"anycastle/internal/strict"
)

// Kind is what is ordered of a real.
type Kind string

// The kinds of an Order.
const (
	KindDrain    Kind = "drain"    // no new flows; suspended when none is left or the deadline passes
	KindSuspend  Kind = "suspend"  // no flows, at once
	KindActivate Kind = "activate" // flows again, whatever was ordered before
)

const (
	maxBySize  = 64  // bytes
	maxWhySize = 200 // bytes: with the rest of an order they fit what the LBs of a site can tell each other
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

// String says it in short, as the reason of a state.
func (o Order) String() string {
	text := "order " + string(o.Kind)
	if o.By != "" {
		text += " by " + o.By
	}
	if o.Why != "" {
		text += ": " + o.Why
	}
	return text
}

// Where orders are kept, by farm and real, and each LB's states, by its name in the mesh, farm and address.
const (
	orderPrefix = "order/"
	statePrefix = "state/"
)

// storeKey gives a key of the prefix and parts with slashes between. No part can reach into another's place.
func storeKey(prefix string, parts ...string) string {
	for i, p := range parts {
		if i > 0 {
			prefix += "/"
		}
		prefix += url.PathEscape(p)
	}
	return prefix
}

// cutStoreKey is the reverse, for n parts. Parts have one key, and what is no such key is an error.
func cutStoreKey(prefix, key string, n int) (parts []string, err error) {
	rest, ok := strings.CutPrefix(key, prefix)
	for _, p := range strings.SplitN(rest, "/", n) {
		part, e := url.PathUnescape(p)
		parts, err = append(parts, part), errors.Join(err, e)
	}
	if err != nil || !ok || len(parts) != n || storeKey(prefix, parts...) != key {
		return make([]string, n), fmt.Errorf("%q is not %s and %d parts", key, prefix, n)
	}
	return parts, nil
}

// Key says where the order is kept.
func (o Order) Key() string { return storeKey(orderPrefix, o.Farm, o.Real) }

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

func validatePlace(farm, name string, since time.Time) error {
	switch {
	case farm == "" || !validText(farm, maxName):
		return fmt.Errorf("%.80q is no name of a farm", farm)
	case name == "" || !validText(name, maxName):
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

// DecodeOrder reads what is kept under a key. Only what Encode gives is taken.
func DecodeOrder(key string, value []byte) (Order, error) {
	var o Order
	parts, err := cutStoreKey(orderPrefix, key, 2)
	if err == nil {
		err = strict.Unmarshal(value, &o)
	}
	if o.Farm, o.Real = parts[0], parts[1]; err == nil {
		err = sameAgain(value, o.Encode)
	}
	if err != nil {
		return Order{}, fmt.Errorf("order under %q: %w", key, err)
	}
	return o, nil
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

// sameAgain refuses what says the same as Encode in another way, or more: a key twice, a name that the key has, text
// behind the end.
func sameAgain(value []byte, encode func() ([]byte, error)) error {
	again, err := encode()
	if err == nil && !bytes.Equal(again, value) {
		err = errors.New("it is not written as it should be")
	}
	return err
}
