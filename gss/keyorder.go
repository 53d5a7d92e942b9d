package gss

import (
	"fmt"
	"slices"
	"time"

	"anycastle/gss/sign"
)

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
