package modeltest

import (
	"net/netip"

	"anycastle/internal/flowhash"
)

// segment sends a TCP segment or a datagram, or its first fragment, to a real.
func (m *LB) segment(p packet) Result {
	least := 8
	if p.proto == protoTCP {
		least = 20
	}
	if len(p.l4) < least {
		return m.refuse(p, "truncated")
	}
	flow := Flow{netip.AddrPortFrom(p.src, be16(p.l4)), netip.AddrPortFrom(p.dst, be16(p.l4[2:])), p.proto}
	vip, ok := m.vip(flow)
	if !ok {
		return pass(p)
	}
	const syn, ack = 0x02, 0x10
	opens := p.proto == protoTCP && p.l4[13]&(syn|ack) == syn
	c, reason := m.choose(vip, flow, opens)
	if reason != "" {
		return drop(reason)
	}
	if p.fragment != nil {
		m.Fragments[p.fragmentKey()] = c
	}
	return m.send(p, c)
}

func (p packet) fragmentKey() FragmentKey { return FragmentKey{p.src, p.dst, p.fragment.id, p.proto} }

// laterFragment follows the first.
func (m *LB) laterFragment(p packet) Result {
	if _, ours := m.address(p.dst); !ours {
		return pass(p)
	}
	c, ok := m.Fragments[p.fragmentKey()]
	if !ok {
		return Result{Verdict: Drop, Reason: "fragment_early", Held: true}
	}
	return m.send(p, c)
}

// vip gives the VIP that a flow is for.
func (m *LB) vip(f Flow) (VIP, bool) {
	if v, ok := m.VIPs[VIPKey{f.Dst.Addr(), f.Dst.Port(), f.Proto}]; ok {
		return v, true
	}
	address, _ := m.address(f.Dst.Addr())
	for _, r := range address.Ranges {
		if r.Proto == f.Proto && r.Lo <= f.Dst.Port() && f.Dst.Port() <= r.Hi {
			return r.VIP, true
		}
	}
	return VIP{}, false
}

// choose gives where a packet of a flow, or an ICMP error about one, goes. One that opens a TCP connection goes to the
// primary alone; with second chance so do datagrams and errors about them, as no real knows whether they open anything.
func (m *LB) choose(v VIP, f Flow, opens bool) (Choice, string) {
	table := m.Farms[v.Farm]
	if table == nil {
		return Choice{}, "no_table"
	}
	hash := m.hash(v, f)
	slot := table[flowhash.Slot(hash)]
	first, second := slot.Primary, uint16(0)
	switch {
	case slot.Primary == slot.Secondary && !v.FollowAll:
	case v.SecondChance && slot.Primary != slot.Secondary && m.passOn(slot):
		switch {
		case opens:
		case first == 0:
			first = slot.Secondary
		case f.Proto == protoTCP:
			second = slot.Secondary
		}
	case opens:
		if first != 0 && first < maxReals {
			m.Flows[f] = first
		}
	default:
		first = firstOf(m.Flows[f], slot.Secondary, slot.Primary)
	}
	if first == 0 {
		return Choice{}, "no_real"
	}
	return Choice{Real: first, Second: second, VIP: v.Index, Hash: hash}, ""
}

// maxReals is how many reals the program has room for. Tables may name others, and no flow is kept with one of those.
const maxReals = 4096

// passOn says whether the reals of a slot understand a second hop, as far as they are there, and can reach each other.
func (m *LB) passOn(s Slot) bool {
	primary, secondary := m.Reals[s.Primary], m.Reals[s.Secondary]
	for _, r := range []Real{primary, secondary} {
		if r.Addr.IsValid() && r.Kind != GUE {
			return false
		}
	}
	return !primary.Addr.IsValid() || !secondary.Addr.IsValid() || primary.Addr.Is4() == secondary.Addr.Is4()
}

func firstOf(reals ...uint16) uint16 {
	for _, r := range reals {
		if r != 0 {
			return r
		}
	}
	return 0
}

func (m *LB) hash(v VIP, f Flow) uint64 {
	if v.Source {
		return flowhash.OfSource(m.Key, netip.PrefixFrom(f.Src.Addr(), v.Prefix))
	}
	return m.FlowHash(f)
}

// FlowHash is the hash of a flow itself, whatever its VIP hashes.
func (m *LB) FlowHash(f Flow) uint64 { return flowhash.Of(m.Key, f.Src, f.Dst, f.Proto) }
