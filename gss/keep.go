package gss

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"

	"anycastle/gss/decide"
)

// Files in Config.StateDir.
const (
	ordersFile = "orders"
	stateFile  = "decisions"
)

// keepEvery is how often decisions are written down if there are new ones.
const keepEvery = time.Second

// load reads what the process before has left.
func (e *engine) load(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make the directory of orders and decisions: %w; give another with gss.state_dir", err)
	}
	if err := e.data.Load(filepath.Join(dir, ordersFile)); err != nil {
		return err
	}
	text, err := os.ReadFile(filepath.Join(dir, stateFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read decisions: %w", err)
	}
	state, err := decide.DecodeState(text)
	if err != nil {
		e.log.Warn("the decisions of before cannot be used, and are forgotten", "file", stateFile, "err", err)
		return nil
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.state = state
	return nil
}

// keep writes down orders and decisions until ctx is done, and once more then.
func (e *engine) keep(ctx context.Context, dir string) error {
	g, inner := errgroup.WithContext(ctx)
	g.Go(func() error { return e.data.Keep(inner, filepath.Join(dir, ordersFile)) })
	g.Go(func() error {
		tick := time.NewTicker(keepEvery)
		defer tick.Stop()
		var written []byte
		for {
			select {
			case <-inner.Done():
				return e.write(dir, &written)
			case <-tick.C:
				if err := e.write(dir, &written); err != nil {
					e.log.Warn("keep decisions", "err", err)
				}
			}
		}
	})
	return g.Wait()
}

// write writes the decisions down if they are not those that were written last. It leaves the old file or the new one if the power
// fails; it may be lost, so nobody waits for the disk.
func (e *engine) write(dir string, written *[]byte) error {
	e.mu.Lock()
	text, err := json.Marshal(e.state)
	e.mu.Unlock()
	if err != nil || bytes.Equal(text, *written) {
		return err
	}
	path := filepath.Join(dir, stateFile)
	if err := os.WriteFile(path+".new", text, 0o600); err != nil {
		return err
	}
	if err := os.Rename(path+".new", path); err != nil {
		return err
	}
	*written = text
	return nil
}
