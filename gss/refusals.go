package gss

import (
	"net/netip"
	"sync"
	"time"
)

const (
	maxRefusals = 256       // lines in the time of one
	refusalTime = time.Hour // the same refusal is not logged again for so long
)

// refusals remembers which refusals were logged, so that each is once and nobody can fill the log. Its zero value is ready.
type refusals struct {
	mu   sync.Mutex
	told map[refusal]time.Time
}

// refusal is one sort of refusal; what of it comes from the network is as long as a name.
type refusal struct {
	what string // with the zone and the key
	from netip.Addr
	why  string
}

// isNew says whether a refusal is to be logged, and remembers it.
func (r *refusals) isNew(one refusal, now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if told, ok := r.told[one]; ok && now.Sub(told) < refusalTime {
		return false
	}
	if len(r.told) >= maxRefusals {
		for old, told := range r.told {
			if now.Sub(told) >= refusalTime {
				delete(r.told, old)
			}
		}
	}
	if len(r.told) >= maxRefusals {
		return false
	}
	if r.told == nil {
		r.told = map[refusal]time.Time{}
	}
	r.told[one] = now
	return true
}
