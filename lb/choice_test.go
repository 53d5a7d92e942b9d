package lb

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"
)

// TestChoiceIsThePrograms compares what the tables say of random flows with what the program makes of them: at rest, and while
// reals drain with and without second chances.
func TestChoiceIsThePrograms(t *testing.T) {
	withExplained(t, func(e *explained) {
		sees := map[string]int{}
		for _, drained := range []bool{false, true} {
			if drained {
				e.loop.order(realID{"smtp", "mx1"}, KindDrain)
				e.loop.order(realID{"imap", "imap1"}, KindDrain)
				e.install()
			}
			c := chooser{e.loop.have, [16]byte(e.loop.in.cfg.HashKey)}
			rng := rand.New(rand.NewPCG(7, 11))
			for range 400 {
				f := randomFlow(rng)
				what := compareChoice(t, e, c, f)
				sees[fmt.Sprintf("%v %s", drained, what)]++
			}
		}
		for _, want := range []string{"false no VIP", "false at rest", "true at rest", "true second chance", "true tracked"} {
			if sees[want] < 10 {
				t.Errorf("saw %v, too few of %q", sees, want)
			}
		}
	})
}

func randomFlow(rng *rand.Rand) flow {
	to := []string{"203.0.113.10:25", "203.0.113.10:26", "203.0.113.10:150", "203.0.113.11:53", "203.0.113.11:6080",
		"[2001:db8:0:25::10]:25"}[rng.IntN(6)]
	f := flow{vip: netip.MustParseAddrPort(to), proto: []uint8{protoTCP, protoUDP}[rng.IntN(2)]}
	if f.vip.Port() == 53 || f.vip.Port() == 6080 {
		f.proto = protoUDP
	}
	client := netip.AddrFrom4([4]byte{198, 51, 100, byte(100 + rng.IntN(100))})
	if f.vip.Addr().Is6() {
		client = netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, 0, 7, 15: byte(rng.IntN(256))})
	}
	f.client = netip.AddrPortFrom(client, uint16(1024+rng.IntN(60000)))
	return f
}

// compareChoice says what kind of choice it was.
func compareChoice(t *testing.T, e *explained, c chooser, f flow) string {
	t.Helper()
	a := e.ask(Question{From: f.client, To: f.vip, Protocol: f.protocol()})
	ch, ok := c.find(f)
	if ok != (a.VIP != nil) {
		t.Fatalf("%+v: found a VIP: %v, the program says %+v", f, ok, a.VIP)
	}
	if !ok {
		return "no VIP"
	}
	addrOf := func(r *ToReal) netip.Addr {
		if r == nil {
			return netip.Addr{}
		}
		return r.Address
	}
	primary, secondary := c.addr(ch.pair.primary), c.addr(ch.pair.secondary)
	if !ch.known || a.VIP.Port != ch.vip.ports || a.Slot.Number != int(ch.slot) || addrOf(a.Slot.Primary) != primary || addrOf(a.Slot.Secondary) != secondary {
		t.Fatalf("%+v: chose %+v, the program %+v %+v", f, ch, a.VIP, a.Slot)
	}
	first, second := c.goesTo(ch, f.proto, primary, none), c.goesTo(ch, f.proto, secondary, none)
	wantFirst, wantSecond := addrOf(a.Real), addrOf(a.Real)
	if a.Second != nil {
		wantSecond = a.Second.Address
	}
	if first != wantFirst || second != wantSecond {
		t.Fatalf("%+v: flows of %v and %v go to %v and %v, by the program to %v and %v", f, primary, secondary, first, second, wantFirst, wantSecond)
	}
	switch {
	case !ch.pair.moving():
		return "at rest"
	case c.offersBoth(ch):
		return "second chance"
	}
	return "tracked"
}
