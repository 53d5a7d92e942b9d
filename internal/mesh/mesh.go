package mesh

import (
	"context"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
	"github.com/prometheus/client_golang/prometheus"
)

// Options is what a Mesh needs besides its Config.
type Options struct {
	Map   *Map   // what the members have in common; required
	Group string // what the members are, such as "lb": others are not let in, even with the same key; required

	// Told is called with what another member said by Tell. It must be safe for concurrent use, and not wait. Default:
	// nobody listens.
	Told func(member, text string)

	Log      *slog.Logger          // nil: discard
	Registry prometheus.Registerer // nil: no metrics

	timing  *timing  // tests go faster
	network *network // tests have namespaces
}

// timing is how fast things go.
type timing struct {
	probe, probeTimeout time.Duration // how often one member is asked whether it lives, and how long it may think
	gossip              time.Duration // how often changes are sent
	sync                time.Duration // how often whole maps are exchanged, with one member at a time
	forget              time.Duration // how long memberlist keeps a dead member
	rejoin              time.Duration // how often lost members are looked for
	stream              time.Duration // for a whole exchange over TCP
	leave               time.Duration // to tell the others that this member ends
}

func defaultTiming() timing {
	return timing{
		probe: time.Second, probeTimeout: 500 * time.Millisecond, gossip: 200 * time.Millisecond, sync: 15 * time.Second,
		forget: 30 * time.Second, rejoin: 5 * time.Second, stream: 5 * time.Second, leave: 3 * time.Second,
	}
}

// Mesh is this process's membership in a group. It is safe for concurrent use.
type Mesh struct {
	cfg      Config
	name     string
	group    string
	log      *slog.Logger
	data     *Map
	timing   timing
	network  network
	counters counters
	members  *members
	notes    notes
	strange  notes // of peers that are not of this mesh: whoever reaches the port can make many
	queue    memberlist.TransmitLimitedQueue
	told     func(member, text string)

	mu   sync.RWMutex           // read-locked by memberlist's calls
	ml   *memberlist.Memberlist // nil before Run and after
	done bool                   // Run ends: memberlist's calls do nothing any more
}

// New makes a Mesh of a valid config. Run makes it live.
func New(cfg Config, o Options) (*Mesh, error) {
	name, err := cfg.NodeName()
	if err != nil {
		return nil, err
	}
	m := &Mesh{
		cfg: cfg, name: name, group: o.Group, log: o.Log, data: o.Map,
		timing: defaultTiming(), network: hostNetwork(), counters: newCounters(), told: o.Told,
	}
	if m.log == nil {
		m.log = slog.New(slog.DiscardHandler)
	}
	if o.timing != nil {
		m.timing = *o.timing
	}
	if o.network != nil {
		m.network = *o.network
	}
	m.strange.max = 32
	// memberlist must have forgotten who loses its place here, or it would not tell of a return
	m.members = newMembers(name, 4*m.timing.forget)
	m.queue = memberlist.TransmitLimitedQueue{RetransmitMult: 4, NumNodes: func() int { return len(m.members.list()) }}
	if o.Registry != nil {
		reg := prometheus.WrapRegistererWith(prometheus.Labels{"mesh": o.Group}, o.Registry) // a process may be in several
		if err := reg.Register(collector{m}); err != nil {
			return nil, fmt.Errorf("register metrics of the mesh: %w", err)
		}
	}
	return m, nil
}

// Members gives the members of the mesh in the order of their names, this one among them once Run has begun.
func (m *Mesh) Members() []Member { return m.members.list() }

// Remember has the members that there were at a time, by what Members gave then, count as lost until they are heard: a member
// that begins anew is not alone for that. It is to be called before Run.
func (m *Mesh) Remember(list []Member, at time.Time) { m.members.remember(list, at) }

func (m *Mesh) count(which func(Member) bool) int {
	n := 0
	for _, member := range m.members.list() {
		if which(member) {
			n++
		}
	}
	return n
}

// Run takes part in the mesh until ctx is done, and then leaves it. It may be called once. An error means that this
// member could not begin; that others cannot be reached is none.
func (m *Mesh) Run(ctx context.Context) error {
	// before anybody can ask for the map: a change after such an answer has no other way to that member
	m.data.attach(m.broadcast)
	defer m.data.attach(nil)
	t, err := listen(m.cfg.Listen, m.network, m.reject)
	if err != nil {
		return err
	}
	ml, err := memberlist.Create(m.config(t))
	if err != nil {
		return errors.Join(fmt.Errorf("begin the mesh: %w", err), t.Shutdown())
	}
	m.use(ml)
	var wg sync.WaitGroup
	wg.Go(func() { m.rejoin(ctx, ml) })
	<-ctx.Done()

	m.leave(ml)
	m.use(nil)
	err = ml.Shutdown() // also of the transport, so that a join that waits for a peer ends
	wg.Wait()
	m.mu.Lock()
	m.done = true
	m.mu.Unlock()
	return err
}

func (m *Mesh) use(ml *memberlist.Memberlist) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.ml = ml
}

// MaxTold bounds what Tell says at once, in bytes: it fits one packet.
const MaxTold = 1200

// Tell says something to all members that are alive now, each by a packet of its own, which may be lost. Nobody keeps it
// and nobody passes it on. It says nothing while Run does not run.
func (m *Mesh) Tell(text []byte) error {
	if len(text) > MaxTold {
		return fmt.Errorf("tell %d bytes; at most %d", len(text), MaxTold)
	}
	m.mu.RLock()
	ml := m.ml
	m.mu.RUnlock() // memberlist's calls want it with memberlist's own lock held
	if ml == nil {
		return nil
	}
	msg := encodeTold(m.name, text)
	var errs []error
	for _, n := range ml.Members() {
		if n.Name != m.name {
			errs = append(errs, ml.SendBestEffort(n, msg))
		}
	}
	return errors.Join(errs...)
}

// leave tells the others that this member ends, and waits until that was sent often enough. memberlist's own wait would
// last to its deadline where all members end at once.
func (m *Mesh) leave(ml *memberlist.Memberlist) {
	_ = ml.Leave(time.Nanosecond) // an error says that it did not wait
	sent := make(chan struct{})
	// after memberlist's own message: they share packets, so that one was sent as often by then
	m.queue.QueueBroadcast(broadcast{"leave", encodeLeave(m.name), sync.OnceFunc(func() { close(sent) })})
	late := time.After(m.timing.leave)
	tick := time.NewTicker(m.timing.gossip)
	defer tick.Stop()
	for m.count(func(o Member) bool { return o.State == Alive && !o.Self }) > 0 {
		select {
		case <-tick.C:
		case <-sent:
			return
		case <-late:
			m.log.Warn("the other members may take this one for lost: it could not tell them that it ends")
			return
		}
	}
}

func (m *Mesh) config(t *transport) *memberlist.Config {
	d := delegate{m}
	c := memberlist.DefaultLANConfig()
	c.Name = m.name
	c.Label = m.group
	c.Transport = t
	c.BindAddr, c.BindPort = m.cfg.Listen.Addr().String(), int(m.cfg.Listen.Port())
	c.AdvertiseAddr, c.AdvertisePort = c.BindAddr, c.BindPort
	c.ProtocolVersion = memberlist.ProtocolVersionMax
	c.DelegateProtocolVersion, c.DelegateProtocolMin, c.DelegateProtocolMax = wireVersion, wireVersion, wireVersion
	c.SecretKey = m.cfg.Key
	c.GossipVerifyIncoming, c.GossipVerifyOutgoing = true, true
	c.EnableCompression = false // maps are small
	c.TCPTimeout = m.timing.stream
	c.ProbeInterval, c.ProbeTimeout = m.timing.probe, m.timing.probeTimeout
	c.GossipInterval, c.PushPullInterval = m.timing.gossip, m.timing.sync
	c.GossipToTheDeadTime = m.timing.forget
	c.DeadNodeReclaimTime = m.timing.forget // a machine that is replaced under its name may have another address
	c.DNSConfigPath = ""                    // addresses only
	c.Delegate, c.Events, c.Alive, c.Conflict = d, d, d, d
	c.Logger = log.New(mlWriter{m.log, &m.notes, &m.strange, m.reject}, "", 0)
	return c
}

// rejoin looks for members that are not there, over and over: memberlist tries its seeds once and forgets the dead. It
// exchanges whole maps with each member that came: memberlist does that with one of them, which does not tell the others
// what it learned so.
func (m *Mesh) rejoin(ctx context.Context, ml *memberlist.Memberlist) {
	for {
		m.members.prune(time.Now())
		var wg sync.WaitGroup
		slots := make(chan struct{}, 8) // one that does not answer holds up few others
		join := func(addr netip.AddrPort, joined func()) {
			slots <- struct{}{}
			wg.Go(func() {
				defer func() { <-slots }()
				if ctx.Err() != nil {
					return
				}
				_, err := ml.Join([]string{addr.String()})
				m.joined(ctx, addr, err)
				if err == nil {
					joined()
				}
			})
		}
		for _, addr := range wanted(m.cfg.Listen, m.cfg.Join, m.members.list()) {
			join(addr, func() {})
		}
		for _, member := range m.members.unmet() {
			join(member.Address, func() { m.members.meets(member) })
		}
		wg.Wait()
		select {
		case <-ctx.Done():
			return
		case <-time.After(jitter(m.timing.rejoin, rand.Float64())):
		}
	}
}

// jitter gives d with half of it less to half of it more, so that members do not ask at the same moments.
func jitter(d time.Duration, random float64) time.Duration {
	return d/2 + time.Duration(random*float64(d))
}

// joined takes note of an attempt to reach a member.
func (m *Mesh) joined(ctx context.Context, addr netip.AddrPort, err error) {
	const unreached = "unreached "
	switch {
	case err == nil:
		m.notes.forget(unreached + addr.String())
		m.strange.forget(reasonKey + " " + addr.Addr().String())
	case ctx.Err() != nil:
	case strings.Contains(err.Error(), saysKey[1]):
		m.counters.joins.Inc()
		m.reject(reasonKey)
		m.strange.stranger(m.log, reasonKey, anotherKey, addr.Addr())
	default:
		m.counters.joins.Inc()
		if _, ok := m.notes.due(unreached+addr.String(), once, time.Now()); ok {
			m.log.Warn("a member is not reached; trying on", "peer", addr, "err", strings.Join(strings.Fields(err.Error()), " "))
		}
	}
}

func (m *Mesh) reject(reason string) { m.counters.rejected.WithLabelValues(reason).Inc() }

// broadcast is a message in the queue. A newer one of the same name takes its place.
type broadcast struct {
	name     string
	text     []byte
	finished func()
}

func (m *Mesh) broadcast(e entry) {
	m.queue.QueueBroadcast(broadcast{"key " + e.key, encodeEntries([]entry{e}), func() {}})
}

// Name implements memberlist.NamedBroadcast.
func (b broadcast) Name() string { return b.name }

// Invalidates implements memberlist.Broadcast.
func (b broadcast) Invalidates(other memberlist.Broadcast) bool {
	o, ok := other.(broadcast)
	return ok && o.name == b.name
}

// Message implements memberlist.Broadcast.
func (b broadcast) Message() []byte { return b.text }

// Finished implements memberlist.Broadcast.
func (b broadcast) Finished() { b.finished() }
