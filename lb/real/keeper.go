package real

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"anycastle/bpf"
)

// keeper puts the programs that count back where somebody else has taken them away, as `tc qdisc del` does.
type keeper struct {
	watch *bpf.Watch
	role  *Role

	mu  sync.Mutex
	err error
}

// run looks from time to time until ctx is done.
func (k *keeper) run(ctx context.Context) error {
	tick := time.NewTicker(repairPause)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			k.repair()
		}
	}
}

func (k *keeper) repair() {
	missing, err := k.watch.Missing(k.role.cfg.Uplinks)
	if err == nil && len(missing) > 0 {
		k.role.log.Warn("counting programs were gone", "uplinks", strings.Join(missing, " "))
		err = k.watch.Attach(k.role.cfg.Uplinks)
	}
	if err != nil {
		err = fmt.Errorf("new connections are not counted on every uplink: %w", err)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if err != nil && k.err == nil {
		k.role.log.Warn("keep the counting programs in place", "err", err)
	}
	k.err = err
}

func (k *keeper) healthy() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.err
}
