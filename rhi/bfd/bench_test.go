package bfd

import (
	"fmt"
	"net/netip"
	"testing"
	"time"
)

// BenchmarkSessions has two speakers keep 200 sessions at 100 ms × 3 with each other, half of them IPv6. An iteration is a
// second. cores is what one of the two uses of a processor.
func BenchmarkSessions(b *testing.B) {
	const sessions = 200
	r := newRig(b)
	var sets [2][]Config
	for i := range sessions {
		own, far := netip.AddrFrom4([4]byte{198, 51, 100, byte(10 + i)}), netip.AddrFrom4([4]byte{203, 0, 113, byte(10 + i)})
		bits := 32
		if i%2 == 1 {
			own, far, bits = netip.MustParseAddr(fmt.Sprintf("2001:db8:1::%x", i+1)), netip.MustParseAddr(fmt.Sprintf("2001:db8:2::%x", i+1)), 128
		}
		addAddress(b, r.ours, "eth1", netip.PrefixFrom(own, bits))
		addAddress(b, r.theirs, "eth1", netip.PrefixFrom(far, bits))
		via := ways[i%2]
		addRoute(b, r.ours, netip.PrefixFrom(far, bits), via.theirs)
		addRoute(b, r.theirs, netip.PrefixFrom(own, bits), via.ours)
		c := Config{Peer: fmt.Sprint("peer ", i), Interface: "eth1", Local: own, Remote: far, Transmit: 100 * ms, Receive: 100 * ms}
		sets[0] = append(sets[0], c)
		c.Local, c.Remote = far, own
		sets[1] = append(sets[1], c)
	}
	nodes := []*node{startNode(b, r.ours, "ours"), startNode(b, r.theirs, "theirs")}
	start := time.Now()
	for i, n := range nodes {
		n.set(sets[i]...)
	}
	eventually(b, "all up and fast", func() bool {
		for _, n := range nodes {
			for _, st := range n.ask(request{}).Status {
				if st.State != Up || st.Transmit != 100*ms {
					return false
				}
			}
		}
		return true
	}, func() string { return "" })
	up := time.Since(start)
	before := []answer{nodes[0].ask(request{}), nodes[1].ask(request{})}
	b.ResetTimer()
	for range b.N {
		time.Sleep(time.Second)
	}
	b.StopTimer()
	var cpu time.Duration
	var downs, stalls, packets uint64
	for i, n := range nodes {
		a := n.ask(request{})
		cpu += a.CPU - before[i].CPU
		for j, st := range a.Status {
			old := before[i].Status[j]
			downs, stalls, packets = downs+st.Downs, stalls+st.Stalls, packets+st.Received-old.Received
		}
	}
	b.ReportMetric(cpu.Seconds()/b.Elapsed().Seconds()/2, "cores")
	b.ReportMetric(float64(downs), "downs")
	b.ReportMetric(float64(stalls), "stalls")
	b.ReportMetric(float64(packets)/b.Elapsed().Seconds()/2, "packets_per_s")
	b.ReportMetric(up.Seconds(), "up_s")
}

// BenchmarkUp measures from the order to a session that is up, of all ways at once, against each of the others.
func BenchmarkUp(b *testing.B) {
	for _, o := range others {
		b.Run(o.name, func(b *testing.B) {
			r := newRig(b)
			o.start(b, r)
			n := startNode(b, r.ours, "ours")
			n.set(configs(nil)...)
			n.awaitAll(Up)
			slowest, sum, count := time.Duration(0), time.Duration(0), 0
			for range b.N {
				n.set()
				time.Sleep(3 * time.Second) // AdminDown has been said, and the other is down
				start := time.Now()
				n.set(configs(nil)...)
				n.awaitAll(Up)
				for _, w := range ways {
					took := n.status(w.name).Since.Sub(start)
					slowest, sum, count = max(slowest, took), sum+took, count+1
				}
			}
			b.ReportMetric(slowest.Seconds(), "slowest_s")
			b.ReportMetric(sum.Seconds()/float64(count), "mean_s")
		})
	}
}

// BenchmarkLoss measures from the loss of every packet to the call of Changed, at 100 ms × 3.
func BenchmarkLoss(b *testing.B) {
	r := newRig(b)
	far, n := startNode(b, r.theirs, "theirs"), startNode(b, r.ours, "ours")
	c := ways[0].config()
	c.Transmit, c.Receive, c.Multiplier = 100*ms, 100*ms, 3
	n.set(c)
	c.Local, c.Remote = c.Remote, c.Local
	far.set(c)
	var slowest, sum time.Duration
	for i := range b.N {
		n.await("ipv4", "up", func(st Status) bool { return st.State == Up && st.Detection == 300*ms })
		hear := deafen(b, r.ours)
		lost := time.Now()
		n.await("ipv4", "lost", func(st Status) bool { return st.Downs == uint64(i+1) })
		took := n.status("ipv4").Since.Sub(lost)
		slowest, sum = max(slowest, took), sum+took
		hear()
	}
	b.ReportMetric(slowest.Seconds(), "slowest_s")
	b.ReportMetric(sum.Seconds()/float64(b.N), "mean_s")
}
