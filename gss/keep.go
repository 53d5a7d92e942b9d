package gss

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"

	"anycastle/gss/decide"
	"anycastle/internal/mesh"
	"anycastle/internal/probe"
	"anycastle/internal/strict"
	"anycastle/internal/wholefile"
)

// Files in Config.StateDir.
const (
	ordersFile = "orders"
	stateFile  = "decisions"
	aroundFile = "around" // the decisions
)

// unwritten is how many decisions a crash may lose, at most.
const unwritten = 1000

// keepEvery is how often decisions are written down if there are new ones that are worth it.
const keepEvery = time.Second

// around is what is kept beside the decisions to judge by, after a restart, what they are worth.
type around struct {
	At      time.Time         `json:"at"`      // when it was so, to the minute
	Members []mesh.Member     `json:"members"` // of the mesh
	Digests map[string]uint32 `json:"digests"` // of the answers that were decided about

	Forgets map[string]sighting `json:"forgets,omitempty"` // orders to forget, by whom they are about
}

// recent is how long what the process before agreed on is worth more than one probe.
const recent = 24 * time.Hour

// hold makes the directory and has no other process use it, until what it gives is closed: a second one would write what it has
// read over what the first has changed since.
func hold(dir string) (io.Closer, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, stateError("make the directory of orders and decisions", err)
	}
	held, err := wholefile.Hold(filepath.Join(dir, stateFile))
	if errors.Is(err, wholefile.ErrHeld) {
		return nil, fmt.Errorf("%w; stop that one, or give this one another directory with gss.state_dir", err)
	}
	return held, stateError("write decisions", err)
}

// load reads what the process before has left.
func (e *engine) load(dir string) error {
	if err := e.data.Load(filepath.Join(dir, ordersFile)); err != nil {
		return stateError("read orders", err)
	}
	var was around
	e.mu.Lock()
	defer e.mu.Unlock()
	err := e.read(filepath.Join(dir, stateFile), func(text []byte) error {
		state, err := decide.DecodeState(text)
		if err == nil {
			e.state = state
		}
		return err
	})
	if err != nil {
		return err
	}
	e.state.Generation = skip(e.state.Generation, time.Now())
	err = e.read(filepath.Join(dir, aroundFile), func(text []byte) (err error) { was, err = decodeAround(text); return err })
	if err == nil {
		e.resume(was, time.Now())
	}
	return err
}

// skip gives a generation beyond all that were given to decisions before, of which the last may not have been written down, or
// none where the disk is new: the clock has more seconds than there were decisions.
func skip(last uint64, now time.Time) uint64 { return max(last+unwritten, uint64(max(now.Unix(), 0))) }

// read decodes a file. One that does not decode counts as none.
func (e *engine) read(path string, decode func([]byte) error) error {
	text, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return stateError("read decisions", err)
	}
	if err := decode(text); err != nil {
		e.log.Warn("the decisions of before cannot be used, and are forgotten", "file", filepath.Base(path), "err", err)
	}
	return nil
}

func decodeAround(text []byte) (around, error) {
	var was around
	if err := strict.Unmarshal(text, &was); err != nil {
		return around{}, err
	}
	return was, nil
}

// resume goes on from what the process before has left. If that was lately, what was agreed is not overthrown by less than fail or
// pass ask for; and who was in the mesh counts among those that there should be, heard or not. The caller holds mu.
func (e *engine) resume(was around, now time.Time) {
	if e.mesh != nil {
		e.mesh.Remember(was.Members, was.At)
	}
	for name, f := range e.forgets() {
		at := was.Forgets[name]
		if !at.Since.Equal(f.Since) {
			at.At = f.Since // it came in the last moment
		}
		e.sight(forgetPrefix+name, f.Since, at.At)
	}
	if now.Sub(was.At) > recent {
		return
	}
	views := map[decide.View]probe.State{decide.Passing: probe.Passing, decide.Failing: probe.Failing}
	for name, w := range e.watched {
		if s := views[e.state.Answers[name].Agreed]; s != probe.Unknown && was.Digests[name] == w.digest {
			e.prober.Assume(w.assume(s))
		}
	}
}

// stateError says what cannot be done with the directory, and the mend if it is not a file that is to blame. Nil stays nil.
func stateError(what string, err error) error {
	var at *fs.PathError
	if err == nil || !errors.As(err, &at) {
		return err
	}
	return fmt.Errorf("%s: %w; let this user write there, or give another directory with gss.state_dir", what, err)
}

// keep writes down orders and decisions until ctx is done, and once more then.
func (e *engine) keep(ctx context.Context, dir string) error {
	g, inner := errgroup.WithContext(ctx)
	g.Go(func() error { return stateError("write orders", e.data.Keep(inner, filepath.Join(dir, ordersFile))) })
	g.Go(func() error {
		tick := time.NewTicker(keepEvery)
		defer tick.Stop()
		last := &written{}
		for {
			select {
			case <-inner.Done():
				return e.write(dir, &written{})
			case <-tick.C:
				if err := e.write(dir, last); err != nil {
					e.log.Warn("keep decisions", "err", err)
				}
			}
		}
	})
	return g.Wait()
}

// written is what was written down last.
type written struct {
	state  decide.State
	around []byte
}

// write writes down the decisions, and what is around them, if after a restart they are worth more than those that were written
// last.
func (e *engine) write(dir string, last *written) error {
	now := around{At: time.Now().UTC().Truncate(time.Minute), Forgets: map[string]sighting{}}
	if e.mesh != nil {
		now.Members = e.mesh.Members()
	}
	e.mu.Lock()
	for name, f := range e.forgets() {
		at, _ := e.sight(forgetPrefix+name, f.Since, time.Now())
		now.Forgets[name] = sighting{f.Since, at}
	}
	decided, state := e.decided, e.state // which no decision changes: it makes another
	now.Digests = e.inForce().digests()
	e.mu.Unlock()
	if !decided {
		return nil // what was loaded is there
	}
	if !state.KeptBy(last.state) {
		text, err := json.Marshal(state)
		if err == nil {
			err = wholefile.Put(filepath.Join(dir, stateFile), text)
		}
		if err != nil {
			return err
		}
		last.state = state
	}
	text, err := json.Marshal(now)
	if err != nil || bytes.Equal(text, last.around) {
		return err
	}
	if err := wholefile.Put(filepath.Join(dir, aroundFile), text); err != nil {
		return err
	}
	last.around = text
	return nil
}
