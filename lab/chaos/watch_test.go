package chaos

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// state is what a store says of its replica of a LUN.
type state struct {
	Name    string       `json:"name"`
	Replica replicaState `json:"replica"`
}

// replicaState is the part of it that is there for LUNs with replicas.
type replicaState struct {
	State   string `json:"state"`
	Why     string `json:"why"`
	Unfit   string `json:"unfit"`
	Active  string `json:"active"`
	Serving bool   `json:"serving"` // this one is active, and its lease holds
	Term    uint64 `json:"term"`
	Applied uint64 `json:"applied"`
	Scrub   struct {
		Running   bool      `json:"running"`
		Ended     time.Time `json:"ended"`
		Rotten    int       `json:"rotten"`
		Repaired  int       `json:"repaired"`
		Differing []string  `json:"differing"`
		Err       string    `json:"err"`
	} `json:"scrub"`
	Members []struct {
		Name     string `json:"name"`
		Self     bool   `json:"self"`
		Voter    bool   `json:"voter"`
		Complete uint64 `json:"complete"`
	} `json:"replicas"`
}

// complete is the operation up to which the replica says that it has everything; 0 while it does not follow.
func (r replicaState) complete() uint64 {
	for _, m := range r.Members {
		if m.Self && (r.State == "following" || r.State == "active" || r.State == "passive") {
			return m.Complete
		}
	}
	return 0
}

// watch asks every store twenty times a second whether it is active.
type watch struct {
	w     *world
	begun time.Time
	rest  atomic.Bool // nobody is asked now

	mu      sync.Mutex
	samples []Sample
	last    map[[2]string]state // by LUN and store; none while it does not answer
}

const (
	lookEvery = 50 * time.Millisecond
	lookTime  = 300 * time.Millisecond // for an answer
)

func newWatch(w *world) *watch {
	return &watch{w: w, begun: time.Now(), last: map[[2]string]state{}}
}

// run asks until ctx ends.
func (o *watch) run(ctx context.Context) {
	var wg sync.WaitGroup
	for _, name := range o.w.storeHosts() {
		wg.Go(func() {
			tick := time.NewTicker(lookEvery)
			defer tick.Stop()
			for ctx.Err() == nil {
				if !o.rest.Load() {
					o.look(ctx, name)
				}
				select {
				case <-ctx.Done():
				case <-tick.C:
				}
			}
		})
	}
	wg.Wait()
}

func (o *watch) look(ctx context.Context, name string) {
	ctx, cancel := context.WithTimeout(ctx, lookTime)
	defer cancel()
	var list []state
	asked := time.Since(o.begun)
	err := o.w.ask(ctx, name+"-store", "/v1/lun", &list)
	answered := time.Since(o.begun)
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, l := range o.w.luns() {
		delete(o.last, [2]string{l.name, name})
	}
	if err != nil {
		return
	}
	for _, s := range list {
		o.last[[2]string{s.Name, name}] = s
		o.samples = append(o.samples, Sample{s.Name, name, asked, answered, s.Replica.Serving, s.Replica.Term})
	}
}

// active gives the store that is active for a LUN, of the newest term; empty: none.
func (o *watch) active(lun string) (name string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	term := uint64(0)
	for k, s := range o.last {
		if k[0] == lun && s.Replica.Serving && s.Replica.Term >= term {
			name, term = k[1], s.Replica.Term
		}
	}
	return name
}

// newest gives the last operation of each LUN that some replica has done.
func (o *watch) newest() map[string]uint64 {
	o.mu.Lock()
	defer o.mu.Unlock()
	all := map[string]uint64{}
	for k, s := range o.last {
		if s.Replica.Applied > 0 {
			all[k[0]] = max(all[k[0]], s.Replica.Applied)
		}
	}
	return all
}

// behind says which replicas do not have everything up to these operations; empty: all have.
func (o *watch) behind(want map[string]uint64) string {
	o.mu.Lock()
	defer o.mu.Unlock()
	var late []string
	for _, l := range o.w.luns() {
		for _, name := range o.w.replicas(l) {
			if s, ok := o.last[[2]string{l.name, name}]; !ok || s.Replica.complete() < want[l.name] || want[l.name] == 0 {
				late = append(late, fmt.Sprintf("%s at %s (%s %s, %d of %d)", l.name, name, s.Replica.State, s.Replica.Why, s.Replica.complete(), want[l.name]))
			}
		}
	}
	return strings.Join(late, ", ")
}

// voters says whether every mail replica has a vote, as the active store of its LUN has it.
func (o *watch) voters() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, l := range o.w.luns() {
		n := 0
		for k, s := range o.last {
			if k[0] != l.name || !s.Replica.Serving {
				continue
			}
			for _, m := range s.Replica.Members {
				if m.Voter {
					n++
				}
			}
		}
		if n < len(o.w.replicas(l)) {
			return false
		}
	}
	return true
}

// scrubbed says which replicas have not been scrubbed since a moment; empty: all have.
func (o *watch) scrubbed(since time.Time) string {
	o.mu.Lock()
	defer o.mu.Unlock()
	var late []string
	for _, l := range o.w.luns() {
		for _, name := range o.w.replicas(l) {
			if s := o.last[[2]string{l.name, name}].Replica.Scrub; s.Running || s.Ended.Before(since) {
				late = append(late, fmt.Sprintf("%s at %s (%+v)", l.name, name, s))
			}
		}
	}
	return strings.Join(late, ", ")
}
