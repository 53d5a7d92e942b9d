package lb

import (
	"bytes"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"

	"anycastle/internal/mesh"
)

// store keeps orders and states in the map that the LBs of a site have in common, which the process keeps in a file too.
// One goroutine uses it.
type store struct {
	data *mesh.Map
	node string                 // this LB's name in the mesh
	here func() map[string]bool // the other LBs that are there
	log  *slog.Logger

	read map[string]kept      // what was read last, by key
	own  map[string]farmState // what is kept of this LB's states
	seen map[string]bool      // what here gave last
}

// kept is one entry of the map.
type kept struct {
	value  []byte
	order  Order
	farm   string
	node   string
	addr   netip.Addr
	record record
	bad    bool // nobody's, or not to be understood
}

func newStore(data *mesh.Map, node string, here func() map[string]bool, log *slog.Logger) *store {
	return &store{data: data, node: node, here: here, log: log, read: map[string]kept{}, own: map[string]farmState{}}
}

// load gives this LB's own states, which it had in its last life.
func (s *store) load() map[string]farmState {
	s.refresh()
	states := map[string]farmState{}
	s.own = map[string]farmState{}
	for key, k := range s.read {
		if IsStateKey(key) && k.node == s.node && !k.bad {
			put(states, k)
			put(s.own, k)
		}
	}
	return states
}

func put(states map[string]farmState, k kept) {
	if states[k.farm] == nil {
		states[k.farm] = farmState{}
	}
	states[k.farm][k.addr] = k.record
}

// view gives the orders that hold and the states of the other LBs that are there, and whether either is new.
func (s *store) view() (orders map[realID]Order, peers map[string]map[string]farmState, changed bool) {
	here := s.here()
	changed = s.refresh() || !maps.Equal(here, s.seen)
	s.seen = here
	orders = map[realID]Order{}
	peers = map[string]map[string]farmState{}
	for key, k := range s.read {
		switch {
		case k.bad:
		case IsOrderKey(key):
			orders[realID{k.order.Farm, k.order.Real}] = k.order
		case k.node != s.node && here[k.node]:
			if peers[k.node] == nil {
				peers[k.node] = map[string]farmState{}
			}
			put(peers[k.node], k)
		}
	}
	return orders, peers, changed
}

// refresh reads what has changed in the map, and says whether anything has that this LB has not written itself.
func (s *store) refresh() (changed bool) {
	read := map[string]kept{}
	for _, item := range s.data.Snapshot() {
		k, ok := s.read[item.Key]
		if !ok || !bytes.Equal(k.value, item.Value) {
			k = s.parse(item)
			changed = changed || k.node != s.node
		}
		read[item.Key] = k
	}
	for key, k := range s.read {
		if _, ok := read[key]; !ok {
			changed = changed || k.node != s.node
		}
	}
	s.read = read
	return changed
}

func (s *store) parse(item mesh.Item) kept {
	k := kept{value: item.Value}
	var err error
	switch {
	case IsOrderKey(item.Key):
		k.order, err = DecodeOrder(item.Key, item.Value)
	case IsStateKey(item.Key):
		k.node, k.farm, k.addr, err = cutStateKey(item.Key)
		if err == nil {
			k.record, err = decodeRecord(item.Value)
		}
	default:
		err = fmt.Errorf("nothing is kept there")
	}
	if err != nil {
		k.bad = true
		s.log.Warn("not understood, and left alone", "key", item.Key, "by", item.By, "err", err)
	}
	return k
}

// keep writes down what has changed of this LB's states.
func (s *store) keep(states map[string]farmState) error {
	var errs []error
	for farm, state := range states {
		for addr, rec := range state {
			if s.own[farm][addr] == rec {
				continue
			}
			text, err := rec.encode()
			if err == nil {
				err = s.data.Set(stateKey(s.node, farm, addr), text)
			}
			if err != nil {
				errs = append(errs, fmt.Errorf("keep the state of real %s of farm %s: %w", rec.Name, farm, err))
				continue
			}
			put(s.own, kept{farm: farm, addr: addr, record: rec})
		}
	}
	for farm, state := range s.own {
		for addr := range state {
			if _, ok := states[farm][addr]; !ok {
				s.data.Delete(stateKey(s.node, farm, addr))
				delete(state, addr)
			}
		}
	}
	return joinFirst(errs)
}

// joinFirst gives the first error and says how many there are: the rest are mostly the same.
func joinFirst(errs []error) error {
	switch len(errs) {
	case 0:
		return nil
	case 1:
		return errs[0]
	}
	return fmt.Errorf("%w (and %d more)", errs[0], len(errs)-1)
}
