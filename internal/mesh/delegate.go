package mesh

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/hashicorp/memberlist"
)

// delegate is what memberlist calls. It calls from several goroutines, some of them with its own lock held, so nothing
// here calls memberlist. Once Run has ended nothing here does anything.
type delegate struct{ m *Mesh }

// live runs f unless Run has ended; Run does not end while f runs.
func (d delegate) live(f func()) {
	d.m.mu.RLock()
	defer d.m.mu.RUnlock()
	if !d.m.done {
		f()
	}
}

// NodeMeta implements memberlist.Delegate.
func (d delegate) NodeMeta(int) []byte { return nil }

// NotifyMsg implements memberlist.Delegate.
func (d delegate) NotifyMsg(b []byte) { d.live(func() { d.m.receive(b, true) }) }

// GetBroadcasts implements memberlist.Delegate.
func (d delegate) GetBroadcasts(overhead, limit int) (msgs [][]byte) {
	d.live(func() { msgs = d.m.queue.GetBroadcasts(overhead, limit) })
	return msgs
}

// LocalState implements memberlist.Delegate.
func (d delegate) LocalState(bool) (b []byte) {
	d.live(func() { b = d.m.data.encode() })
	return b
}

// MergeRemoteState implements memberlist.Delegate.
func (d delegate) MergeRemoteState(b []byte, _ bool) { d.live(func() { d.m.receive(b, false) }) }

// NotifyJoin implements memberlist.EventDelegate.
func (d delegate) NotifyJoin(n *memberlist.Node) {
	d.live(func() {
		addr := address(n)
		if d.m.members.set(n.Name, addr, Alive, time.Now()) && n.Name != d.m.name {
			d.m.log.Info("member joined", "member", n.Name, "peer", addr)
		}
		// if its key changes again, that is news
		d.m.strange.forget(reasonKey + " " + addr.Addr().String())
	})
}

// NotifyLeave implements memberlist.EventDelegate.
func (d delegate) NotifyLeave(n *memberlist.Node) {
	d.live(func() {
		if m, changed := d.m.members.gone(n.Name, time.Now()); changed && n.Name != d.m.name {
			d.m.log.Warn("member lost", "member", m.Name, "peer", m.Address)
		}
	})
}

// NotifyUpdate implements memberlist.EventDelegate.
func (d delegate) NotifyUpdate(*memberlist.Node) {}

// NotifyAlive implements memberlist.AliveDelegate.
func (d delegate) NotifyAlive(n *memberlist.Node) (err error) {
	d.live(func() {
		if err = speaks(n); err == nil {
			err = d.m.members.admit(n.Name, address(n), time.Now())
		}
		if err != nil {
			d.m.reject(reasonMembers)
			if _, ok := d.m.notes.due(reasonMembers, noteEvery, time.Now()); ok {
				d.m.log.Warn("a member is not let in", "member", n.Name, "peer", address(n), "err", err)
			}
		}
	})
	return err
}

// speaks says whether a member speaks as we do. memberlist would let it in and then refuse whole exchanges between others.
func speaks(n *memberlist.Node) error {
	const ml = memberlist.ProtocolVersionMax
	if n.PCur != ml || n.PMin > ml || n.PMax < ml || n.DCur != wireVersion || n.DMin > wireVersion || n.DMax < wireVersion {
		return fmt.Errorf("it speaks versions %d and %d; this one %d and %d", n.PCur, n.DCur, ml, wireVersion)
	}
	if len(n.Meta) > memberlist.MetaMaxSize {
		return fmt.Errorf("%d bytes of metadata", len(n.Meta))
	}
	return nil
}

// NotifyConflict implements memberlist.ConflictDelegate.
func (d delegate) NotifyConflict(existing, other *memberlist.Node) {
	d.live(func() {
		d.m.reject(reasonName)
		if _, ok := d.m.notes.due(reasonName+" "+existing.Name, noteEvery, time.Now()); ok {
			d.m.log.Warn("two members have one name: rename one", "member", existing.Name, "peer", address(existing), "other", address(other))
		}
	})
}

func address(n *memberlist.Node) netip.AddrPort {
	ip, _ := netip.AddrFromSlice(n.Addr)
	return netip.AddrPortFrom(ip.Unmap(), n.Port)
}

// receive takes a message of a member. relay says whether what is new in it is told on: a whole map is not, for every
// member gets that by itself, and a change that somebody waits for must not stand in line behind it.
func (m *Mesh) receive(b []byte, relay bool) {
	m.counters.received.Inc()
	msg, err := decode(b)
	if err != nil {
		m.reject(reasonFormat)
		if _, ok := m.notes.due(reasonFormat, noteEvery, time.Now()); ok {
			m.log.Warn("a member sent what does not decode", "err", err)
		}
		return
	}
	if msg.leave != "" {
		if member, changed := m.members.leaves(msg.leave, time.Now()); changed {
			m.log.Info("member left", "member", member.Name, "peer", member.Address)
		}
		return
	}
	if msg.teller != "" {
		if m.told != nil && msg.teller != m.name {
			m.told(msg.teller, msg.told)
		}
		return
	}
	did := m.data.merge(msg.entries, relay)
	m.counters.taken.Add(float64(did.taken))
	m.counters.rejected.WithLabelValues(reasonFull).Add(float64(did.full))
	m.counters.rejected.WithLabelValues(reasonClock).Add(float64(len(did.ahead)))
	for _, e := range did.ahead {
		if _, ok := m.notes.due(reasonClock+" "+e.stamp.node, noteEvery, time.Now()); ok {
			m.log.Warn("a change comes from the future: set the clock of that member, or of this one",
				"member", e.stamp.node, "ahead", time.Until(time.UnixMilli(e.stamp.wall)).Round(time.Second), "key", e.key)
		}
	}
	if did.full > 0 {
		if _, ok := m.notes.due(reasonFull, noteEvery, time.Now()); ok {
			m.log.Error("the map is full and differs from that of other members", "keys", did.full)
		}
	}
}
