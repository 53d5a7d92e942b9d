package real

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	"anycastle/bpf"
	"anycastle/lb/agent"
	"anycastle/lb/real/sockets"

	"golang.org/x/sys/unix"
)

const (
	// countShare bounds the time that goes into counting flows: after each count so many times its duration is rest. A
	// server with 100,000 flows is counted every few seconds, a small one for nearly every report.
	countShare = 20
	countPause = 50 * time.Millisecond // at least
	loadPause  = time.Second           // between two looks at the machine's load
)

// counters are the counts of the programs on the uplinks; *bpf.Watch is them.
type counters interface {
	Tallies() (map[bpf.Endpoint]bpf.Tally, error)
	Add(bpf.Endpoint) error
}

// sampler takes reports. It is safe for concurrent use: however many ask, what is young enough is not read again.
type sampler struct {
	vips     []netip.Addr
	counters counters
	log      *slog.Logger
	since    time.Time

	wanted chan struct{} // tells count that a report was asked for

	mu        sync.Mutex
	sockets   *sockets.Reader
	last      agent.Report
	urgent    uint64 // grows with every report in which something was refused, reset or dropped since the one before
	overflows overflows
	load      float64
	loadAt    time.Time
	known     map[bpf.Endpoint]bool // to the counters, by us
	tooMany   bool

	countMu sync.Mutex
	flows   map[bpf.Endpoint]int
	counted time.Time
}

func newSampler(vips []netip.Addr, c counters, log *slog.Logger) *sampler {
	return &sampler{
		vips: vips, counters: c, log: log, since: time.Now(), wanted: make(chan struct{}, 1), sockets: sockets.New(vips),
		known: map[bpf.Endpoint]bool{},
	}
}

// report gives a report that is at most so old, and how many of those so far had something urgent in them.
func (s *sampler) report(age time.Duration) (agent.Report, uint64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case s.wanted <- struct{}{}:
	default:
	}
	if time.Since(s.last.At) < age {
		return s.last, s.urgent, nil
	}
	r, err := s.take()
	if err != nil {
		return agent.Report{}, 0, err
	}
	if isUrgent(s.last, r) {
		s.urgent++
	}
	s.last = r
	return r, s.urgent, nil
}

// take makes a report. s.mu is held.
func (s *sampler) take() (agent.Report, error) {
	// who listens comes first: what was refused before the listener was gone is not in the tallies without its end
	listeners, err := s.sockets.Listeners()
	if err != nil {
		return agent.Report{}, err
	}
	drops, err := readListenDrops()
	if err != nil {
		return agent.Report{}, err
	}
	s.overflows.add(s.vips, listeners, drops.Overflows)
	now := time.Now()
	tallies, err := s.counters.Tallies()
	if err != nil {
		return agent.Report{}, err
	}
	if now.Sub(s.loadAt) >= loadPause {
		if s.load, err = hostLoad(); err != nil {
			return agent.Report{}, err
		}
		s.loadAt = now
	}
	s.countMu.Lock()
	flows, counted := s.flows, s.counted
	s.countMu.Unlock()

	ports := s.merge(listeners, tallies, flows)
	r := agent.Report{At: now, Since: s.since, Load: s.load, Counted: counted, VIPs: slices.Collect(maps.Values(ports))}
	slices.SortFunc(r.VIPs, func(a, b agent.Port) int {
		return cmp.Or(a.Key().VIP.Compare(b.Key().VIP), cmp.Compare(a.Protocol, b.Protocol))
	})
	if len(r.VIPs) > agent.MaxPorts {
		if !s.tooMany {
			s.log.Warn("more ports of vips are served than a report has room for", "ports", len(r.VIPs), "reported", agent.MaxPorts)
		}
		s.tooMany = true
		r.VIPs = r.VIPs[:agent.MaxPorts]
	}
	for _, p := range r.VIPs {
		if p.Protocol == agent.TCP && p.Listening {
			r.Load = max(r.Load, float64(p.Queue)/(float64(p.Backlog)+1))
		}
	}
	return r, nil
}

// merge brings together what is known of each port. A port is reported that has answered, that a process has opened for
// the VIP itself, or that has flows and a process: one of a hundred services that listen on every address of the machine
// is of no interest to a balancer.
func (s *sampler) merge(listeners []sockets.Listener, tallies map[bpf.Endpoint]bpf.Tally, flows map[bpf.Endpoint]int) map[bpf.Endpoint]agent.Port {
	ports := map[bpf.Endpoint]agent.Port{}
	for e, t := range tallies {
		if e.VIP.Port() != 0 {
			p := newPort(e)
			p.SYNs, p.SYNACKs, p.Refused, p.Resets = t.Syns, t.SynAcks, t.Refused, t.Resets
			ports[e] = p
		}
	}
	for _, l := range listeners {
		for _, vip := range s.vips {
			e := bpf.Endpoint{VIP: netip.AddrPortFrom(vip, l.Local.Port()), Protocol: l.Protocol}
			p, ok := ports[e]
			own := l.Local.Addr() == vip
			if !l.Covers(vip) || !ok && !own && flows[e] == 0 {
				continue
			}
			if !ok {
				p = newPort(e)
				s.add(e)
			}
			fuller := int64(l.Queue)-int64(l.Backlog) > int64(p.Queue)-int64(p.Backlog)
			if l.Protocol == unix.IPPROTO_TCP && (!p.Listening || fuller) {
				p.Queue, p.Backlog = l.Queue, l.Backlog // of several that share the port, the fullest
			}
			p.Listening = true
			ports[e] = p
		}
	}
	for e, p := range ports {
		p.Flows, p.Overflows = flows[e], s.overflows.ports[e]
		ports[e] = p
	}
	return ports
}

// add has a port counted by itself from now on, so that it does not vanish with its listener. When the map is full it
// goes on among those that are counted together.
func (s *sampler) add(e bpf.Endpoint) {
	if s.known[e] || len(s.known) >= agent.MaxPorts {
		return
	}
	s.known[e] = true
	if err := s.counters.Add(e); err != nil {
		s.log.Warn("count a port by itself", "vip", e.VIP, "err", err)
	}
}

func newPort(e bpf.Endpoint) agent.Port {
	return agent.Port{Address: e.VIP.Addr(), Port: e.VIP.Port(), Protocol: protocolName(e.Protocol)}
}

func protocolName(proto uint8) string {
	if proto == unix.IPPROTO_UDP {
		return agent.UDP
	}
	return agent.TCP
}

// isUrgent says whether a report must not wait for its turn.
func isUrgent(before, after agent.Report) bool {
	old := make(map[agent.Key]agent.Port, len(before.VIPs))
	for _, p := range before.VIPs {
		old[p.Key()] = p
	}
	for _, p := range after.VIPs {
		was, ok := old[p.Key()]
		if !ok {
			continue
		}
		if p.Refused != was.Refused || p.Resets != was.Resets || p.Overflows != was.Overflows || was.Listening && !p.Listening {
			return true
		}
	}
	return false
}

// count counts flows as often as reports are asked for and its share of the time allows, until ctx is done.
func (s *sampler) count(ctx context.Context) error {
	reader := sockets.New(s.vips)
	failed := false
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		}
		select {
		case <-ctx.Done():
			return nil
		case <-s.wanted:
		}
		start := time.Now()
		n, err := reader.Count()
		if (err != nil) != failed {
			s.log.Warn("count flows", "err", err)
		}
		if failed = err != nil; !failed {
			s.counts(n, start)
		}
		timer.Reset(max(countShare*time.Since(start), countPause))
	}
}

func (s *sampler) counts(n map[sockets.Endpoint]int, at time.Time) {
	flows := make(map[bpf.Endpoint]int, len(n))
	for e, count := range n {
		flows[bpf.Endpoint(e)] = count
	}
	s.countMu.Lock()
	defer s.countMu.Unlock()
	s.flows, s.counted = flows, at
}

// errEnough ends a list that is as long as was asked for.
var errEnough = errors.New("enough")

// list gives at most limit flows.
func (s *sampler) list(limit int) ([]agent.Flow, error) {
	flows := []agent.Flow{}
	err := sockets.New(s.vips).Flows(func(f sockets.Flow) error {
		if len(flows) == limit {
			return errEnough
		}
		flows = append(flows, agent.Flow{Client: f.Client, VIP: f.VIP, Protocol: protocolName(f.Protocol)})
		return nil
	})
	if err != nil && !errors.Is(err, errEnough) {
		return nil, fmt.Errorf("list flows: %w", err)
	}
	return flows, nil
}
