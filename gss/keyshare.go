package gss

import (
	"bytes"
	"cmp"
	"compress/flate"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"anycastle/gss/sign"
	"anycastle/internal/mesh"
	"anycastle/internal/strict"
)

// What the mesh has of a zone's keys. All is encrypted on its way.
const (
	sharedStates = "dnssec/state/" // and the zone: the state, deflated
	sharedKeys   = "dnssec/key/"   // and the ID: the key, deflated
	sharedTurns  = "dnssec/turn/"  // and the zone, a slash, and a site selector: its turn

	maxShared = 1 << 20 // bytes of any of them
)

// keyShare is how the site selectors of a mesh have the keys of their zones in common: the one that keeps them gives them to all,
// and each says how far it is.
type keyShare struct {
	node    string
	data    *mesh.Map
	members func() []mesh.Member
}

// turn is how far a site selector is with the keys of a zone.
type turn struct {
	Serial uint64 `json:"serial"` // of the state that it answers by
	Keeps  bool   `json:"keeps"`  // it rolls the keys
}

// give gives the keys that are kept to the others, and gives what is wrong with that.
func (k *keyShare) give(zone string, keeper *sign.Keeper) error {
	state, keys := keeper.Share()
	if there, err := k.state(zone); err == nil && there.Serial >= state.Serial {
		return nil // it is what they have, or others know more, which turns tells of
	}
	for id, key := range keys {
		if err := k.set(sharedKeys+id, key.Encode()); err != nil {
			return err
		}
	}
	text, err := state.Encode()
	if err == nil {
		err = k.set(sharedStates+zone, text)
	}
	if err != nil {
		return err
	}
	for _, item := range k.data.Snapshot() {
		id, ok := strings.CutPrefix(item.Key, sharedKeys)
		if _, used := keys[id]; ok && !used && sign.KeyIsOf(id, zone) {
			k.data.Delete(item.Key)
		}
	}
	return nil
}

// take puts the keys that the keeper has given into the store if they are newer than those there.
func (k *keyShare) take(zone string, store *sign.Store) error {
	state, err := k.state(zone)
	if err != nil || state.Serial == 0 {
		return err
	}
	own, _, err := store.Load()
	if err != nil || state.Serial <= own.Serial {
		return err
	}
	keys := map[string]*sign.Key{}
	for id := range state.Keys {
		text, err := k.get(sharedKeys + id)
		if err != nil || text == nil {
			return err // it is on its way
		}
		if keys[id], err = sign.DecodeKey(text); err != nil {
			return fmt.Errorf("key %s of the mesh: %w", id, err)
		}
	}
	return store.Take(state, keys)
}

// state gives the state that was given last; the zero one: none was.
func (k *keyShare) state(zone string) (sign.State, error) {
	text, err := k.get(sharedStates + zone)
	if err != nil || text == nil {
		return sign.State{}, err
	}
	return sign.DecodeState(text)
}

func (k *keyShare) set(key string, text []byte) error {
	var b bytes.Buffer
	w, err := flate.NewWriter(&b, flate.BestCompression)
	if err == nil {
		_, err = w.Write(text)
	}
	if err == nil {
		err = w.Close()
	}
	if err == nil {
		err = k.data.Set(key, b.Bytes())
	}
	if err != nil {
		return fmt.Errorf("give the keys to the mesh: %w; until then copy their directory to the other servers", err)
	}
	return nil
}

func (k *keyShare) get(key string) ([]byte, error) {
	packed, ok := k.data.Get(key)
	if !ok {
		return nil, nil
	}
	text, err := io.ReadAll(io.LimitReader(flate.NewReader(bytes.NewReader(packed)), maxShared+1))
	if err == nil && len(text) > maxShared {
		err = errors.New("it is too large")
	}
	if err != nil {
		return nil, fmt.Errorf("%s of the mesh: %w", key, err)
	}
	return text, nil
}

// tell says how far this site selector is.
func (k *keyShare) tell(zone string, t turn) error {
	text, err := json.Marshal(t)
	if err != nil {
		return err
	}
	return k.data.Set(sharedTurns+zone+"/"+k.node, text)
}

// turns gives how far the other site selectors are, those that are members.
func (k *keyShare) turns(zone string) map[string]turn {
	list := map[string]turn{}
	for _, m := range k.members() {
		text, ok := k.data.Get(sharedTurns + zone + "/" + m.Name)
		var t turn
		if ok && !m.Self && strict.Unmarshal(text, &t) == nil {
			list[m.Name] = t
		}
	}
	return list
}

// share has the others know the keys and how far this site selector is, and gives what somebody should do. The caller holds mu.
func (s *signing) share(serial uint64) (alarm string, err error) {
	k := s.shared
	if k == nil || !s.config.Share {
		return "", nil
	}
	err = k.tell(s.origin, turn{Serial: serial, Keeps: s.keeper != nil})
	if s.keeper != nil {
		err = errors.Join(err, k.give(s.origin, s.keeper))
	}
	turns := k.turns(s.origin)
	names := make([]string, 0, len(turns))
	for name := range turns {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		t := turns[name]
		switch {
		case s.keeper != nil && t.Keeps:
			alarm = cmp.Or(alarm, fmt.Sprintf("%s keeps keys of this zone too, and resolvers find two; set `follow: true` on all site selectors but one", name))
		case s.keeper != nil && t.Serial > serial:
			alarm = cmp.Or(alarm, fmt.Sprintf("%s has newer keys than this server, which keeps them; set `follow: true` here, and keep them there", name))
		}
	}
	return alarm, err
}

// hold has nothing be removed that another site selector still answers by. The caller holds mu.
func (s *signing) hold(now time.Time) {
	s.held = false
	if s.shared == nil || !s.config.Share || s.keeper == nil {
		return
	}
	for _, t := range s.shared.turns(s.origin) {
		if t.Serial < s.decision.Serial {
			s.keeper.Behind(now)
			s.held = true
		}
	}
}

// follow takes keys that are newer than those in the store. The caller holds mu.
func (s *signing) follow() error {
	if s.shared == nil || !s.config.Share {
		return nil
	}
	return s.shared.take(s.origin, s.store)
}
