package inject

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"time"

	"anycastle/internal/wholefile"
	"anycastle/rhi/decide"
)

// Files in Config.StateDir.
const (
	ordersFile = "orders"
	stateFile  = "decisions"
)

// maxGone bounds how many VIPs are remembered that the balancer has no more.
const maxGone = 1024

// recall moves records between what is and what is no more. One that comes back is as of another process: what it had
// asked of others is void. The caller holds mu.
func (i *Injector) recall() {
	for prefix, rec := range i.state {
		if _, has := i.services[prefix]; !has && len(i.gone) < maxGone {
			rec.Boot = time.Time{}
			i.gone[prefix] = rec
		}
	}
	for prefix := range i.services {
		rec, was := i.gone[prefix]
		if _, has := i.state[prefix]; was && !has {
			i.state[prefix] = rec
		}
		delete(i.gone, prefix)
	}
}

// records is all that is to be kept. The caller holds mu.
func (i *Injector) records() decide.State {
	all := maps.Clone(i.gone)
	maps.Copy(all, i.state)
	return all
}

// hold makes the directory and has no other process use it, until what it gives is closed.
func (i *Injector) hold() (io.Closer, error) {
	if err := os.MkdirAll(i.cfg.StateDir, 0o700); err != nil {
		return nil, fmt.Errorf("make the directory of orders and decisions: %w; give another with rhi.state_dir", err)
	}
	held, err := wholefile.Hold(filepath.Join(i.cfg.StateDir, stateFile))
	if errors.Is(err, wholefile.ErrHeld) {
		return nil, fmt.Errorf("%w; stop that one, or give this one another directory with rhi.state_dir", err)
	}
	if err != nil {
		return nil, fmt.Errorf("write decisions: %w; let this user write there, or give another directory with rhi.state_dir", err)
	}
	return held, nil
}

// load reads what the process before has left.
func (i *Injector) load() error {
	dir := i.cfg.StateDir
	if err := i.data.Load(filepath.Join(dir, ordersFile)); err != nil {
		return err
	}
	text, err := os.ReadFile(filepath.Join(dir, stateFile))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("read decisions: %w", err)
	}
	state := decide.State{}
	if err == nil {
		if state, err = decide.DecodeState(text); err != nil {
			i.log.Warn("the decisions of before cannot be used, and are forgotten", "file", stateFile, "err", err)
			state = decide.State{}
		}
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.gone, i.loaded = state, true
	return nil
}

// keep writes down what was decided if it differs from what was written last, and gives what is written now.
func (i *Injector) keep(written []byte) []byte {
	i.mu.Lock()
	text, err := i.records().Encode()
	i.mu.Unlock()
	if err == nil && bytes.Equal(text, written) {
		return written
	}
	if err == nil {
		err = i.write(text)
	}
	if err != nil {
		i.log.Warn("keep decisions", "err", err)
		return written
	}
	return text
}

// save is keep at the end. The caller holds mu.
func (i *Injector) save() error {
	text, err := i.records().Encode()
	if err != nil {
		return err
	}
	return i.write(text)
}

func (i *Injector) write(text []byte) error {
	return wholefile.Put(filepath.Join(i.cfg.StateDir, stateFile), text)
}
