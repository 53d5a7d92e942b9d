package gss

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"

	"anycastle/gss/decide"
	"anycastle/internal/mesh"
	"anycastle/internal/strict"
)

const forgetPrefix = "forget/vantage/"

// Forget is an operator's word that a GSS is gone for good, so that it is no longer among those that there should be. One that
// comes back counts again.
type Forget struct {
	Vantage string    `json:"vantage"`
	Since   time.Time `json:"since"`
	By      string    `json:"by,omitempty"`
}

func (f Forget) check() error {
	switch {
	case !mesh.ValidName(f.Vantage):
		return fmt.Errorf("%.70q is no name of a site selector", f.Vantage)
	case f.Since.Unix() <= 0 || f.Since.Year() > maxYear:
		return fmt.Errorf("given at %v, which is no time of this era", f.Since)
	case len(f.By) > maxWords || strings.ContainsFunc(f.By, unicode.IsControl):
		return fmt.Errorf("who gives it is one line of at most %d bytes", maxWords)
	}
	return nil
}

// forget has all GSSes of the mesh no longer count one that is not heard.
func (e *engine) forget(f Forget) (Forget, error) {
	f.Since = time.Now().UTC().Round(0)
	if err := f.check(); err != nil {
		return Forget{}, err
	}
	alive, missed := e.member(f.Vantage)
	e.mu.Lock()
	v, counts := e.vantages(f.Since)[f.Vantage]
	e.mu.Unlock()
	switch {
	case f.Vantage == e.name:
		return Forget{}, errors.New("it is this site selector itself")
	case !counts && !missed: // one that was forgotten already may be missed elsewhere
		return Forget{}, fmt.Errorf("no site selector %q is missed; `anycastle show vantage` lists those that count", f.Vantage)
	case alive || f.Since.Sub(v.Heard) < decide.DefaultVote().Fresh:
		return Forget{}, fmt.Errorf("%s is heard; stop it, and it is forgotten without an order", f.Vantage)
	}
	text, err := json.Marshal(f)
	if err != nil {
		return Forget{}, err
	}
	if err := e.data.Set(forgetPrefix+f.Vantage, text); err != nil {
		return Forget{}, fmt.Errorf("keep the order: %w", err)
	}
	e.log.Info("vantage forgotten", "vantage", f.Vantage, "by", f.By)
	return f, nil
}

// member says whether the mesh has a member of a name that is alive, or one that is gone.
func (e *engine) member(name string) (alive, gone bool) {
	if e.mesh == nil {
		return false, false
	}
	members := e.mesh.Members()
	i := slices.IndexFunc(members, func(m mesh.Member) bool { return m.Name == name })
	alive = i >= 0 && members[i].State == mesh.Alive
	return alive, i >= 0 && !alive
}

// members are the members of the mesh but those that were forgotten since they were lost, by the clock here: clocks may differ.
// The caller holds mu.
func (e *engine) members(now time.Time) []mesh.Member {
	if e.mesh == nil {
		return nil
	}
	forgotten := map[string]time.Time{}
	for name, f := range e.forgets() {
		forgotten[name], _ = e.sight(forgetPrefix+name, f.Since, now)
	}
	return slices.DeleteFunc(e.mesh.Members(), func(m mesh.Member) bool {
		return m.State != mesh.Alive && m.Since.Before(forgotten[m.Name])
	})
}

// forgets are the orders to forget, by whom they are about.
func (e *engine) forgets() map[string]Forget {
	all := map[string]Forget{}
	for _, item := range e.data.Snapshot() {
		if name, ok := strings.CutPrefix(item.Key, forgetPrefix); ok {
			if f, err := decodeForget(name, item.Value); err == nil {
				all[name] = f
			}
		}
	}
	return all
}

func decodeForget(name string, text []byte) (Forget, error) {
	var f Forget
	if err := strict.Unmarshal(text, &f); err != nil {
		return Forget{}, err
	}
	if f.Vantage != name {
		return Forget{}, fmt.Errorf("it is about %.70q", f.Vantage)
	}
	return f, f.check()
}
