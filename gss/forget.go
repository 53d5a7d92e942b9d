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
	e.mu.Lock()
	v, known := e.vantages(f.Since)[f.Vantage]
	e.mu.Unlock()
	alive := slices.ContainsFunc(e.members(), func(m mesh.Member) bool { return m.Name == f.Vantage && m.State == mesh.Alive })
	switch {
	case f.Vantage == e.name:
		return Forget{}, errors.New("it is this site selector itself")
	case !known:
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

// members are the members of the mesh but those that were forgotten since they were lost.
func (e *engine) members() []mesh.Member {
	if e.mesh == nil {
		return nil
	}
	forgotten := map[string]time.Time{}
	for _, item := range e.data.Snapshot() {
		if name, ok := strings.CutPrefix(item.Key, forgetPrefix); ok {
			if f, err := decodeForget(name, item.Value); err == nil {
				forgotten[name] = f.Since
			}
		}
	}
	return slices.DeleteFunc(e.mesh.Members(), func(m mesh.Member) bool {
		return m.State != mesh.Alive && m.Since.Before(forgotten[m.Name])
	})
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
