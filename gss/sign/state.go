package sign

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"time"
)

// State is all that is known of a zone's keys: which were, and may still be, where. It is kept on disk beside the keys; without
// it a roll would have to begin anew. The zero State is that of a zone that was never signed.
type State struct {
	Serial  uint64               `json:"serial"` // grows with each change
	Keys    map[string]KeyRecord `json:"keys"`   // by ID
	Goal    string               `json:"goal"`   // ID of the key that is to be alone in the end; "" if the zone is to be unsigned
	Roll    bool                 `json:"roll,omitempty"`
	DNSKEY  []Version            `json:"dnskey"` // what the DNSKEY set was, the last of them what it is
	Data    []Version            `json:"data"`   // who signed the zone's data
	DS      []Version            `json:"ds"`     // what the parent has, had, or was asked for
	Request Request              `json:"request"`
	Seen    Observation          `json:"seen"` // the last complete one
}

// KeyRecord is what is known of one key.
type KeyRecord struct {
	Algorithm   uint8     `json:"algorithm"`
	Made        time.Time `json:"made"`
	Trusted     time.Time `json:"trusted,omitzero"` // when no cache could have DS records without it any more
	Compromised bool      `json:"compromised,omitempty"`
}

// Version is a set of keys that was in one place for a time.
type Version struct {
	Keys      []string      `json:"keys"` // sorted
	From      time.Time     `json:"from"`
	Until     time.Time     `json:"until,omitzero"`     // zero: still
	Withdrawn time.Time     `json:"withdrawn,omitzero"` // of DS: when it was no longer asked for
	TTL       time.Duration `json:"ttl"`                // the greatest that it had
	Lag       time.Duration `json:"lag"`                // how long after Until servers may be late with what came then, at most
}

// Request is what CDS and CDNSKEY say (RFC 7344, RFC 8078).
type Request struct {
	Keys   []string  `json:"keys,omitempty"` // none, and no Delete: there is no such record
	Delete bool      `json:"delete,omitempty"`
	Since  time.Time `json:"since,omitzero"`
	Fresh  bool      `json:"fresh,omitempty"` // the parent cannot have had it before, so that to see it there says that it was done
}

// Observation is what the parent's servers said of the zone's DS set.
type Observation struct {
	At       time.Time     `json:"at,omitzero"`
	Sets     [][]string    `json:"sets,omitempty"` // that were seen: sorted IDs of keys, or DS records of others
	Complete bool          `json:"complete,omitempty"`
	TTL      time.Duration `json:"ttl,omitempty"` // the greatest, 0 if not known
}

// same says whether two lists are one set of keys.
func same(a, b []string) bool { return slices.Equal(a, b) }

func with(keys []string, id string) []string {
	if slices.Contains(keys, id) {
		return keys
	}
	keys = append(slices.Clone(keys), id)
	slices.Sort(keys)
	return keys
}

func minus(keys []string, id string) []string {
	return slices.DeleteFunc(slices.Clone(keys), func(k string) bool { return k == id })
}

// possible says whether a cache may hold the version.
func (v *Version) possible(now time.Time) bool { return v.Until.IsZero() || now.Before(v.gone()) }

// wholeSecond is how much longer than its TTL a cache may keep a set: many count whole seconds, as Unbound does.
const wholeSecond = time.Second

// gone is when no cache holds it any more; zero if it is still in place.
func (v *Version) gone() time.Time {
	if v.Until.IsZero() {
		return time.Time{}
	}
	return v.Until.Add(v.Lag + v.TTL + wholeSecond)
}

func current(vs []Version) []string { return vs[len(vs)-1].Keys }

// clone is deep, but for the sets of keys, which are never changed in place.
func (s State) clone() State {
	s.Keys = maps.Clone(s.Keys)
	s.DNSKEY, s.Data, s.DS = slices.Clone(s.DNSKEY), slices.Clone(s.Data), slices.Clone(s.DS)
	return s
}

var idPattern = regexp.MustCompile(`^K.*\+0(13|15)\+[0-9]{5}$`)

// DecodeState reads a state and refuses one that Next could not have made.
func DecodeState(text []byte) (State, error) {
	var s State
	if err := json.Unmarshal(text, &s); err != nil {
		return State{}, fmt.Errorf("decode the state of keys: %w", err)
	}
	if err := s.check(); err != nil {
		return State{}, fmt.Errorf("decode the state of keys: %w", err)
	}
	return s, nil
}

// Encode is what DecodeState reads.
func (s State) Encode() ([]byte, error) { return json.MarshalIndent(s, "", "\t") }

// Bounds of a state, which keep Next quick. Nothing comes near them unless keys are ordered by the dozen within the TTLs, or the
// parent is mad.
const (
	maxKeys     = 16
	maxVersions = 64
)

func (s *State) check() error {
	for id, k := range s.Keys {
		if !idPattern.MatchString(id) || !supported(k.Algorithm) {
			return fmt.Errorf("%q is no key of ours", id)
		}
	}
	if len(s.Keys) > maxKeys {
		return fmt.Errorf("there are %d keys, %d at most", len(s.Keys), maxKeys)
	}
	if _, known := s.Keys[s.Goal]; s.Goal != "" && !known {
		return fmt.Errorf("the goal is key %s, of which nothing is known", s.Goal)
	}
	for name, vs := range map[string][]Version{"dnskey": s.DNSKEY, "data": s.Data, "ds": s.DS} {
		if len(vs) == 0 && (len(s.DNSKEY)+len(s.Data)+len(s.DS) > 0) || len(vs) > maxVersions {
			return fmt.Errorf("%s has %d versions", name, len(vs))
		}
		for i, v := range vs {
			if v.TTL < 0 || v.Lag < 0 || !slices.IsSorted(v.Keys) || len(slices.Compact(slices.Clone(v.Keys))) != len(v.Keys) {
				return fmt.Errorf("version %d of %s is none", i, name)
			}
			if name != "ds" {
				if last := i == len(vs)-1; last != v.Until.IsZero() {
					return fmt.Errorf("version %d of %s: only the last goes on", i, name)
				}
				for _, id := range v.Keys {
					if _, known := s.Keys[id]; !known {
						return fmt.Errorf("%s has key %s, of which nothing is known", name, id)
					}
				}
			}
		}
	}
	if s.Request.Delete && len(s.Request.Keys) > 0 {
		return errors.New("the parent is asked for a DS record and for none")
	}
	for _, id := range s.Request.Keys {
		if _, known := s.Keys[id]; !known {
			return fmt.Errorf("the parent is asked for key %s, of which nothing is known", id)
		}
	}
	return nil
}

// Adopt is the state of a zone that was signed with that key alone before, elsewhere, and whose parent has its DS record.
func Adopt(id string, algorithm uint8, now time.Time) State {
	now = now.UTC().Round(0)
	alone := []Version{{Keys: []string{id}, From: now}}
	return State{
		Serial: 1, Goal: id, Keys: map[string]KeyRecord{id: {Algorithm: algorithm, Made: now, Trusted: now}},
		DNSKEY: alone, Data: slices.Clone(alone), DS: slices.Clone(alone),
	}
}

// latest is the latest time of something that has happened, by the clock of then.
func (s *State) latest() time.Time {
	at := later(s.Seen.At, s.Request.Since)
	for _, k := range s.Keys {
		at = later(at, later(k.Made, k.Trusted))
	}
	for _, vs := range [][]Version{s.DNSKEY, s.Data, s.DS} {
		for _, v := range vs {
			at = later(at, later(later(v.From, v.Until), v.Withdrawn))
		}
	}
	return at
}

// dated is the state with all that would have happened later happening now. It is right only if the clock is, and was ahead before.
func (s State) dated(now time.Time) State {
	if !s.latest().After(now) {
		return s
	}
	s = s.clone()
	cut := func(at *time.Time) {
		if at.After(now) {
			*at = now
		}
	}
	cut(&s.Seen.At)
	cut(&s.Request.Since)
	for id, k := range s.Keys {
		cut(&k.Made)
		cut(&k.Trusted)
		s.Keys[id] = k
	}
	for _, vs := range [][]Version{s.DNSKEY, s.Data, s.DS} {
		for i := range vs {
			cut(&vs[i].From)
			cut(&vs[i].Until)
			cut(&vs[i].Withdrawn)
		}
	}
	s.Serial++
	return s
}

// AskRoll has the next key made as soon as Next sees it.
func (s State) AskRoll() State {
	s = s.clone()
	s.Roll = true
	s.Serial++
	return s
}

// Compromise marks a key as known to others. If it is the goal, the next key is made and takes its place as fast as all caches
// validate; else it is on its way out already, or in.
func (s State) Compromise(id string) State {
	s = s.clone()
	if k, known := s.Keys[id]; known {
		k.Compromised = true
		s.Keys[id] = k
		s.Serial++
	}
	return s
}
