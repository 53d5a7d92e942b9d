package lb

import (
	"maps"
	"math"
	"net/netip"
	"time"

	"anycastle/bpf"
	"anycastle/internal/probe"
)

// mostPhases bounds a prediction. Transitions end together, or one after the other where changes of weight are gathered.
const mostPhases = 128

// phase is what is installed from some moment on, if nothing happens but that time passes.
type phase struct {
	chooser
	at      time.Time
	soon    bool                  // at once, or as soon as reals that are new pass their probes
	forgets bool                  // the flows that were stored are forgotten before it
	who     inputs                // config and states, to name reals by
	nobody  map[netip.Addr]string // addresses that are not announced, and why
	vips    map[vipKey]*VIP
	farms   map[string]uint32 // by name
	addrs   []netip.Addr      // of reals, by index
}

// now is the phase of what is installed.
func (s *snapshot) now() *phase {
	p := newPhase(&s.in, s.have, s.at)
	p.soon = true
	return p
}

func newPhase(in *inputs, have tables, at time.Time) *phase {
	p := &phase{chooser: chooser{have, [16]byte(in.cfg.HashKey)}, at: at, vips: in.cfg.vipsByKey(),
		who: inputs{cfg: in.cfg, states: maps.Clone(in.states)}, farms: map[string]uint32{}, addrs: make([]netip.Addr, bpf.MaxReals)}
	_, p.nobody = in.announce()
	for key, e := range have.allVIPs() {
		if v := p.vips[key]; v != nil {
			p.farms[v.Farm] = e.farm
		}
	}
	for i, r := range have.reals {
		p.addrs[i] = r.addr
	}
	return p
}

// predict says what follows from another config: by what a reload does, and then by the passing of time. Probes that have no
// result are taken to pass, and next hops that nobody has looked for to be there.
func (s *snapshot) predict(cfg *Config) []*phase {
	in := s.in.clone()
	in.setConfig(cfg)
	in.forget()
	last := s.have
	var phases []*phase
	look := func(at time.Time, soon bool) {
		in.evolve(at)
		want := in.desired(last, at)
		p := newPhase(&in, want, at)
		p.soon, p.forgets = soon, !last.tracks() && want.tracks()
		last = want
		phases = append(phases, p)
	}
	look(s.at, true)
	in.assume()
	look(s.at, true)
	for at := in.deadline(s.at); !at.IsZero() && len(phases) < mostPhases; at = in.deadline(at) {
		look(at, false)
	}
	return phases
}

// assume has everything pass of which nothing is known.
func (in *inputs) assume() {
	for _, b := range in.farms {
		for _, targets := range b.targets {
			for _, t := range targets {
				if in.probes[t.id].state == probe.Unknown {
					in.probes[t.id] = probed{state: probe.Passing, advice: probe.Advice{Weight: 100}}
				}
			}
		}
	}
	for _, addr := range in.addresses() {
		if _, looked := in.hops[addr]; !looked {
			in.hops[addr] = Hop{Source: addr, Ifindex: math.MaxInt32, MTU: math.MaxUint16}
		}
	}
}
