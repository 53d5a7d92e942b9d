package bpf

import (
	"net/netip"
	"testing"

	"anycastle/internal/pkttest"
)

// repeat is the passes of one measurement.
const repeat = 200_000

// flowCounts are those of the cases.
var flowCounts = []int{1, 1_000, 100_000, 3_000_000}

// BenchmarkPacket gives what a program adds to a packet, the harness taken off, the least of all rounds. Cases are named
// KIND/flows=N. Each gives its ratio to flows=1 of its kind, or, in transition, to the steady state of its kind with as
// many flows; each of a peer, KIND/flows=N/peer=PEER, its ratio to ours: always of two that were measured in turns.
func BenchmarkPacket(b *testing.B) {
	lb := newLB(b)
	setScene(b, lb)
	b.Run("no_vip", func(b *testing.B) {
		onOneCPU(b)
		other := pkttest.New(client, netip.MustParseAddrPort("203.0.113.11:25")).Bytes(b)
		compare(b, newMeter(b, lb.prog, traffic{frame: other, flows: 1, stride: inTurn, verdict: xdpPass}), nil, "")
	})
	all := peers(b)
	for _, flows := range flowCounts { // the outer loop, so that no table holds more flows than it meets
		for _, kind := range packetKinds {
			b.Run(kind.at(flows), func(b *testing.B) { kind.measure(b, lb, flows) })
			if !kind.wrappedByPeers {
				continue
			}
			for _, p := range all {
				b.Run(kind.at(flows)+"/peer="+p.name, func(b *testing.B) {
					onOneCPU(b)
					counted := countSent(b, lb, kind.vip)
					m := newMeter(b, lb.prog, kind.traffic(b, flows))
					compare(b, p.newMeter(b, kind.traffic(b, flows)), m, kind.at(flows))
					counted(m)
				})
			}
		}
	}
	if drops := nonZero(b, &lb.program); len(drops) != 0 {
		b.Errorf("packets were dropped: %v", drops)
	}
}

// measure compares a kind with the one that it is to be compared with.
func (k *packetKind) measure(b *testing.B, lb *LB, flows int) {
	onOneCPU(b)
	if k.begin != nil {
		begin := k.traffic(b, flows)
		begin.frame, begin.stride = k.begin().Bytes(b), inTurn
		newHarness(b, lb.prog, begin).run(b, flows)
	}
	counted := countSent(b, lb, k.vip)
	m := newMeter(b, lb.prog, k.traffic(b, flows))
	switch {
	case k.steady != nil:
		compare(b, m, newMeter(b, lb.prog, k.steady.traffic(b, flows)), k.steady.at(flows))
		counted(m)
	case flows != flowCounts[0]:
		first := newMeter(b, lb.prog, k.traffic(b, flowCounts[0]))
		compare(b, m, first, k.at(flowCounts[0]))
		counted(m, first)
	default:
		compare(b, m, nil, "")
		counted(m)
	}
}

// compare measures in turns, and reports m and its ratio to the other, which may be nil.
func compare(b *testing.B, m, other *meter, name string) {
	b.Helper()
	for b.Loop() {
		if other != nil {
			other.turn(b, repeat)
		}
		m.turn(b, repeat)
	}
	b.ReportMetric(0, "ns/op") // that of a round says nothing
	b.ReportMetric(m.net(), "net_ns_per_packet")
	b.ReportMetric(m.kernelAlone, "harness_ns")
	if other != nil {
		b.ReportMetric(m.net()/other.net(), "x/"+name)
	}
	_, err := m.with.made()
	put(b, err)
}

// countSent gives a function that fails the benchmark unless the VIP's counter moved by what the meters made since.
func countSent(b *testing.B, lb *LB, vip uint32) func(...*meter) {
	b.Helper()
	before, err := SumCount(lb.Counts, vip)
	put(b, err)
	return func(meters ...*meter) {
		after, err := SumCount(lb.Counts, vip)
		put(b, err)
		made := uint64(0)
		for _, m := range meters {
			n, err := m.with.made()
			put(b, err)
			made += n
		}
		if sent := after.Packets - before.Packets; sent != made {
			b.Errorf("%d packets were sent in %d passes", sent, made)
		}
	}
}
