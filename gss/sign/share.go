package sign

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"strings"
)

// Share gives the state and the keys that it names, for Store.Take of another server; false: not before the next Step, as it is not
// on disk yet. The keys are secret.
func (k *Keeper) Share() (State, map[string]*Key, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.state.clone(), maps.Clone(k.keys), k.state.Serial == k.saved
}

// Take replaces what the store has by a newer state and the keys that it names, such that a crash leaves either of them whole.
func (s *Store) Take(state State, keys map[string]*Key) error {
	own, _, err := s.Load()
	if err == nil && state.Serial <= own.Serial {
		err = fmt.Errorf("its serial is %d, that of those here %d", state.Serial, own.Serial)
	}
	for id := range state.Keys {
		if key := keys[id]; key == nil || key.ID() != id || key.record.Hdr.Name != s.zone {
			err = errors.Join(err, fmt.Errorf("%w: there is none of %s", ErrKeyFile, id))
		}
	}
	if err != nil {
		return fmt.Errorf("take the keys of %s: %w", s.zone, err)
	}
	for id := range state.Keys {
		if err := s.Add(keys[id]); err != nil {
			return err
		}
	}
	if err := s.Save(state); err != nil {
		return err
	}
	for id := range own.Keys {
		if _, used := state.Keys[id]; !used {
			err = errors.Join(err, s.Remove(id))
		}
	}
	return err
}

// Encode is what DecodeKey reads: both parts of the key.
func (k *Key) Encode() []byte {
	public, private := formatKey(k)
	return bytes.Join([][]byte{public, private}, []byte{0})
}

// DecodeKey reads a key, and sees to it that its parts belong together.
func DecodeKey(text []byte) (*Key, error) {
	public, private, ok := bytes.Cut(text, []byte{0})
	if !ok {
		return nil, fmt.Errorf("%w: it has one part", ErrKeyFile)
	}
	return parseKey(public, private)
}

// KeyIsOf says whether a key's ID is one of the zone's keys.
func KeyIsOf(id, zone string) bool { return strings.HasPrefix(id, "K"+zone+"+") }
