package gss

import (
	"bytes"
	"cmp"
	"compress/flate"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
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
	state, keys, ok := keeper.Share()
	if !ok {
		return nil // the disk has not taken it
	}
	if there, err := k.state(zone); err == nil && there.Serial > state.Serial {
		return nil // others know more, which turns tells of
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

// leave takes the turns of zones back whose keys are not shared here any more: nobody is to wait for this site selector.
func (k *keyShare) leave(shared func(zone string) bool) {
	for _, item := range k.data.Snapshot() {
		about, turns := strings.CutPrefix(item.Key, sharedTurns)
		if zone, own := strings.CutSuffix(about, "/"+k.node); turns && own && !shared(zone) {
			k.data.Delete(item.Key)
		}
	}
}

// news is different whenever others have said something new of a zone's keys.
func (k *keyShare) news(zone string) string {
	var b strings.Builder
	state, _ := k.data.Get(sharedStates + zone)
	fmt.Fprintf(&b, "%x\n", state)
	for _, item := range k.data.Snapshot() {
		if id, ok := strings.CutPrefix(item.Key, sharedKeys); ok && sign.KeyIsOf(id, zone) {
			fmt.Fprintln(&b, id)
		}
	}
	turns := k.turns(zone)
	for _, name := range slices.Sorted(maps.Keys(turns)) {
		fmt.Fprintln(&b, name, turns[name])
	}
	return b.String()
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
	for _, name := range slices.Sorted(maps.Keys(turns)) {
		t := turns[name]
		switch {
		case s.keeper != nil && t.Keeps:
			alarm = cmp.Or(alarm, fmt.Sprintf("%s keeps keys of this zone too, and resolvers find two; set `follow: true` on all site selectors but one", name))
		case s.keeper != nil && t.Serial > serial:
			alarm = cmp.Or(alarm, fmt.Sprintf("%s has newer keys than this server, which keeps them; set `follow: true` here, and keep them there", name))
		}
	}
	if late := s.late; len(late.names) > 0 && s.now().Sub(late.since) > max(s.config.Propagation, lateAlarm) {
		alarm = cmp.Or(alarm, fmt.Sprintf("no key goes, as %s answers by older ones; mend it, or `anycastle forget vantage` it",
			strings.Join(late.names, ", ")))
	}
	return alarm, err
}

// lateAlarm is for how long a site selector may be behind, at least, before somebody should look.
const lateAlarm = 10 * time.Minute

// late is who answers by older keys than the keeper has.
type late struct {
	names []string
	since time.Time
	held  time.Time // when the keeper was last told
}

// hold has nothing be removed that another site selector still answers by. Each time that the keeper is told it has another state
// to keep and to give, so it is told as seldom as will do. The caller holds mu.
func (s *signing) hold(now time.Time) {
	state, _, _ := s.keeper.Share()
	was := s.late
	s.late = late{since: now, held: was.held}
	if s.shared == nil || !s.config.Share {
		return
	}
	turns := s.shared.turns(s.origin)
	for _, name := range slices.Sorted(maps.Keys(turns)) {
		if turns[name].Serial < state.Serial {
			s.late.names = append(s.late.names, name)
		}
	}
	if len(s.late.names) == 0 {
		return
	}
	if len(was.names) > 0 {
		s.late.since = was.since
	}
	if since := now.Sub(was.held); since < 0 || since >= s.config.Propagation/4 {
		s.keeper.Behind(now)
		s.late.held = now
	}
}

// listen notes what others have said of the keys, before that is looked at. The caller holds mu.
func (s *signing) listen() {
	if s.shared != nil {
		s.told = s.shared.news(s.origin)
	}
}

// heard says whether others have said something else of the keys since they were looked at.
func (s *signing) heard() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.shared != nil && s.config.Share && s.told != s.shared.news(s.origin)
}

// follow takes keys that are newer than those in the store. The caller holds mu.
func (s *signing) follow() error {
	if s.shared == nil || !s.config.Share {
		return nil
	}
	return s.shared.take(s.origin, s.store)
}
