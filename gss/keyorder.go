package gss

import (
	"context"
	"fmt"
	"slices"
	"time"

	"anycastle/gss/sign"
)

// KeyOrder is what is ordered about the keys of a zone.
type KeyOrder struct {
	Zone string `json:"zone"`
	Kind string `json:"kind"`          // roll, compromise or confirm
	Key  string `json:"key,omitempty"` // that is compromised
}

// order takes an order about keys. To confirm is to say that all of the parent's servers have the DS records that are asked for.
func (s *signing) order(ctx context.Context, o KeyOrder) error {
	s.mu.Lock()
	keeper, d := s.keeper, s.decision
	s.mu.Unlock()
	if keeper == nil {
		return fmt.Errorf("the keys of %s are kept by another server; order it there", bare(s.origin))
	}
	var seen *sign.Observation
	switch o.Kind {
	case "roll":
		if err := underWay(d); err != nil {
			return err
		}
		keeper.Roll()
	case "compromise":
		if err := keeper.Compromise(o.Key); err != nil {
			return err
		}
	case "confirm":
		if len(d.Request.Keys) == 0 && !d.Request.Delete {
			return fmt.Errorf("the parent of %s is asked for nothing; `anycastle show key` says what is waited for", bare(s.origin))
		}
		o, err := keeper.DSSeen(s.now(), d.Request.Keys...)
		if err != nil {
			return err
		}
		seen = &o
	default:
		return fmt.Errorf("no order about keys is called %q; there are roll, compromise and confirm", o.Kind)
	}
	s.log.Info("order taken", "kind", o.Kind, "key", o.Key)
	// an order that was taken is carried out even if nobody waits for it any more
	if err := s.step(context.WithoutCancel(ctx), seen); err != nil {
		return err
	}
	s.look()
	return nil
}

// underWay says that a key is on its way into the place of another already, as to roll again would begin the wait anew.
func underWay(d sign.Decision) error {
	for _, k := range d.Keys {
		if !slices.Contains([]sign.KeyState{sign.Made, sign.Signing, sign.Published, sign.Ready}, k.State) {
			continue
		}
		until := "until that is so"
		if !k.Until.IsZero() {
			until = "until " + k.Until.UTC().Format(time.RFC3339)
		}
		return fmt.Errorf("a roll is under way: key %s is %s and waits %s, %s", k.ID, k.State, k.Waits, until)
	}
	return nil
}
