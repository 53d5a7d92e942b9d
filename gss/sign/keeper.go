package sign

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"sync"
	"time"
)

// Keeper rolls the keys of one zone in a Store. Of the servers of a zone one is the keeper; the others have a copy of its
// directory, and Follow. Its methods are safe for concurrent use.
type Keeper struct {
	store *Store
	lock  *os.File

	mu     sync.Mutex
	policy Policy
	state  State
	keys   map[string]*Key
	behind time.Time
	saved  uint64    // serial of the state on disk
	seen   time.Time // of its observation
}

// NewKeeper reads what the store has. No other process can keep the same keys until Close. Key files of the zone without a
// state are an error, ErrNoState.
func NewKeeper(store *Store, policy Policy) (*Keeper, error) {
	if err := policy.Check(); err != nil {
		return nil, fmt.Errorf("policy of the keys of %s: %w", store.zone, err)
	}
	lock, err := store.lock()
	if err != nil {
		return nil, fmt.Errorf("keep the keys of %s: %w", store.zone, err)
	}
	state, keys, err := store.Load()
	if err == nil && len(state.Keys) == 0 {
		err = store.refuseOrphans(state)
	}
	if err != nil {
		return nil, errors.Join(err, unlock(lock))
	}
	return &Keeper{store: store, lock: lock, policy: policy, state: state, keys: keys, saved: state.Serial, seen: state.Seen.At}, nil
}

// Close lets others keep the keys.
func (k *Keeper) Close() error { return unlock(k.lock) }

// SetPolicy changes the policy from the next Step on.
func (k *Keeper) SetPolicy(policy Policy) error {
	if err := policy.Check(); err != nil {
		return fmt.Errorf("policy of the keys of %s: %w", k.store.zone, err)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.policy = policy
	return nil
}

// Behind tells that some server of the zone answers now by a Decision that is older than the last, as the servers know of each
// other by Decision.Serial. It is to be told again for as long as that is so, more often than Policy.Propagation. Nothing that
// such a server needs is removed then.
func (k *Keeper) Behind(now time.Time) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.behind = now
}

// Roll orders that the next key takes the place of the present one.
func (k *Keeper) Roll() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.state = k.state.AskRoll()
}

// DSSeen gives the observation, for Step, of an operator who has seen that all of the parent's servers have the DS records of
// these keys and of no others; of none at all if there are none. The clock is taken to be right, as it was perhaps not before.
func (k *Keeper) DSSeen(now time.Time, ids ...string) (Observation, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	set := []string{}
	for _, id := range ids {
		if _, known := k.state.Keys[id]; !known {
			return Observation{}, fmt.Errorf("no key %s; there are %v", id, slices.Sorted(maps.Keys(k.state.Keys)))
		}
		set = with(set, id)
	}
	k.state = k.state.dated(now.UTC().Round(0))
	return Observation{At: now, Sets: [][]string{set}, Complete: true}, nil
}

// Keys gives the keys by ID, for Parent.Observe.
func (k *Keeper) Keys() map[string]*Key {
	k.mu.Lock()
	defer k.mu.Unlock()
	return maps.Clone(k.keys)
}

// Compromise orders that a key, which others have got hold of, is replaced as fast as all caches validate.
func (k *Keeper) Compromise(id string) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if _, known := k.state.Keys[id]; !known {
		return fmt.Errorf("no key %s; there are %v", id, slices.Sorted(maps.Keys(k.state.Keys)))
	}
	k.state = k.state.Compromise(id)
	return nil
}

// Step goes on as far as is safe now, and keeps on disk what it did before it tells. The ring is for Signer.Use, which may be
// given the same again. On an error nothing has changed, and the ring is that of before: it stays right for as long as need be.
//
// Step is to be called at Decision.Next, after each order, with each observation, and every hour or so.
func (k *Keeper) Step(observed *Observation, now time.Time) (Ring, Decision, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	state, decision, keys, err := k.next(observed, now)
	if err == nil {
		err = k.save(state)
	}
	if err != nil {
		decision = Look(k.state, k.policy, now)
		ring, missing := makeRing(decision, k.keys, k.policy)
		return ring, decision, errors.Join(err, missing)
	}
	k.state = state
	for id := range keys {
		if _, used := state.Keys[id]; used {
			continue
		}
		// A private key that signs nothing any more is but a danger.
		if err := k.store.Remove(id); err != nil && decision.Alarm == "" {
			decision.Alarm = err.Error()
		}
		delete(keys, id)
	}
	k.keys = keys
	ring, err := makeRing(decision, keys, k.policy)
	return ring, decision, err
}

// save keeps a state that differs from the one on disk. A new key whose state cannot be kept is removed again.
func (k *Keeper) save(state State) error {
	if state.Serial == k.saved && state.Seen.At.Equal(k.seen) {
		return nil
	}
	if err := k.store.Save(state); err != nil {
		for id := range state.Keys {
			if _, old := k.state.Keys[id]; !old {
				err = errors.Join(err, k.store.Remove(id))
			}
		}
		return err
	}
	k.saved, k.seen = state.Serial, state.Seen.At
	return nil
}

// next is Next, with the key that it needs.
func (k *Keeper) next(observed *Observation, now time.Time) (State, Decision, map[string]*Key, error) {
	in := Inputs{Policy: k.policy, Observed: observed, Behind: k.behind}
	state, decision := Next(k.state, in, now)
	keys := maps.Clone(k.keys)
	if decision.Need == 0 {
		return state, decision, keys, nil
	}
	key, err := k.newKey(decision.Need)
	if err == nil {
		err = k.store.Add(key)
	}
	if err != nil {
		return k.state, decision, nil, err
	}
	keys[key.ID()] = key
	in.Spare = &Spare{ID: key.ID(), Algorithm: key.Algorithm()}
	state, decision = Next(k.state, in, now)
	return state, decision, keys, nil
}

// newKey makes a key whose tag no other key of the zone has: a validator should not have to try several.
func (k *Keeper) newKey(algorithm uint8) (*Key, error) {
	for {
		key, err := NewKey(k.store.zone, algorithm)
		if err != nil {
			return nil, err
		}
		taken := false
		for _, other := range k.keys {
			taken = taken || other.tag == key.tag
		}
		if !taken {
			return key, nil
		}
	}
}

// Follow tells what another server's keeper decided last, of whose directory the store has a copy. Without a copy, or with half
// of one, it is an error, and the former ring stays right for Policy.Propagation, or for as long as Keeper.Behind is told of it.
func Follow(store *Store, policy Policy, now time.Time) (Ring, Decision, error) {
	state, keys, err := store.Load()
	if err == nil && state.Serial == 0 {
		err = fmt.Errorf("%w: nothing to follow at %s; copy the keeper's directory", ErrNoState, store.statePath())
	}
	if err != nil {
		return Ring{}, Decision{}, err
	}
	decision := Look(state, policy, now)
	ring, err := makeRing(decision, keys, policy)
	return ring, decision, err
}

// makeRing takes the keys of a decision.
func makeRing(d Decision, keys map[string]*Key, p Policy) (Ring, error) {
	ring := Ring{Delete: d.Request.Delete, TTL: uint32(p.KeyTTL / time.Second)}
	var missing []string
	take := func(ids []string) (list []*Key) {
		for _, id := range ids {
			if k := keys[id]; k != nil {
				list = append(list, k)
			} else {
				missing = append(missing, id)
			}
		}
		return list
	}
	ring.Apex, ring.Data, ring.Parent = take(d.DNSKEY), take(d.Data), take(d.Request.Keys)
	if len(missing) > 0 {
		return ring, fmt.Errorf("%w: there is none of %v", ErrKeyFile, missing)
	}
	return ring, nil
}
