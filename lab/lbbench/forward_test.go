package lbbench

import (
	"net/netip"
	"testing"

	"anycastle/internal/pkttest"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"github.com/gopacket/gopacket/layers"
	"golang.org/x/sys/unix"
)

// forwardFlows is how many flows the frames are of: as many source ports.
const forwardFlows = 1024

// batch is how many frames one system call sends: as many as the kernel hands on in one go. More would overrun the rings
// of the links, whose other ends have no turn on the processor before the call ends.
const batch = 64

// xdpMD is struct xdp_md: what a test run is told of a frame.
type xdpMD struct{ Data, DataEnd, DataMeta, IngressIfindex, RxQueueIndex, EgressIfindex uint32 }

// BenchmarkForward sends frames of TCP segments into the balancer as fast as one CPU makes them, and counts those that
// arrive at the reals. HAProxy forwards no frames, so it is not here. What making a frame costs is part of each figure. The
// ratio is that of packets_per_s to ours.
func BenchmarkForward(b *testing.B) {
	ours := 0.0
	for _, bc := range balancers[:2] {
		b.Run(bc.caseOf("forward"), func(b *testing.B) {
			s := newSite(b, 1, 2)
			s.serve("mx1")
			s.serve("mx2")
			bc.start(s)
			// connections now have every neighbour known, and show that the way is there
			s.onThreads(1, func(int) error {
				d := dialer()
				for range 32 {
					c, err := s.connect(&d, vipTarget)
					if err != nil {
						return err
					}
					c.Close()
				}
				return nil
			})
			count := s.countArrivals("mx1", "mx2")
			send := s.frameSender()
			for range 16 * forwardFlows / batch {
				send() // connection tracking knows the flows from here on
			}
			before := count()
			b.ResetTimer()
			sent, cpu := 0, cpuTime(b)
			for b.Loop() {
				send()
				sent += batch
			}
			used := cpuTime(b) - cpu
			arrived := count() - before
			took := b.Elapsed()
			rate := float64(arrived) / took.Seconds()
			b.ReportMetric(rate, "packets_per_s")
			bc.compare(b, "forward", rate, &ours)
			b.ReportMetric(float64(used.Nanoseconds())/float64(arrived), "cpu_ns_per_packet")
			b.ReportMetric(float64(sent-int(arrived))/float64(sent)*100, "lost_percent")
		})
	}
}

// frameSender gives a function that sends a batch of frames from the router's end of lb1's link.
func (s *site) frameSender() func() {
	s.t.Helper()
	out, err := s.router.Link.LinkByName("to-lb1")
	check(s.t, err)
	in, err := s.hosts["lb1"].Link.LinkByName("eth1")
	check(s.t, err)
	f := pkttest.New(netip.AddrPortFrom(s.addr["client"], 0), netip.MustParseAddrPort(vipTarget))
	f.Eth.SrcMAC, f.Eth.DstMAC = out.Attrs().HardwareAddr, in.Attrs().HardwareAddr
	f.L4.(*layers.TCP).Window = portAndWindow
	frame := f.Bytes(s.t)
	prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type: ebpf.XDP, License: "Dual BSD/GPL", Instructions: sourcePorts(out.Attrs().Index),
	})
	check(s.t, err)
	s.t.Cleanup(func() { prog.Close() })
	// one thread in the router's namespace sends them all
	orders, done := make(chan struct{}), make(chan error)
	go s.router.Do(func() error {
		for range orders {
			_, err := prog.Run(&ebpf.RunOptions{
				Data: frame, Repeat: batch, Flags: unix.BPF_F_TEST_XDP_LIVE_FRAMES, Context: xdpMD{DataEnd: uint32(len(frame))},
			})
			done <- err
		}
		close(done)
		return nil
	})
	s.t.Cleanup(func() { close(orders); <-done })
	return func() {
		orders <- struct{}{}
		check(s.t, <-done)
	}
}

// portAndWindow is the sum of source port and window in every frame: what one gets the other loses, so that the checksum
// stays right, which connection tracking looks at.
const portAndWindow = 0x2020 // the same in both byte orders

// sourcePorts sends each frame out of a link, with one of the source ports by chance.
func sourcePorts(ifindex int) asm.Instructions {
	const port, window = pkttest.L4Start, pkttest.L4Start + 14
	return asm.Instructions{
		asm.Mov.Reg(asm.R6, asm.R1),
		asm.FnGetPrandomU32.Call(),
		asm.And.Imm(asm.R0, forwardFlows-1),
		asm.Add.Imm(asm.R0, 2048),
		asm.LoadMem(asm.R2, asm.R6, 0, asm.Word),
		asm.LoadMem(asm.R3, asm.R6, 4, asm.Word),
		asm.Mov.Reg(asm.R4, asm.R2),
		asm.Add.Imm(asm.R4, window+2),
		asm.JGT.Reg(asm.R4, asm.R3, "out"),
		asm.StoreMem(asm.R2, port, asm.R0, asm.Half),
		asm.Mov.Imm(asm.R1, portAndWindow),
		asm.Sub.Reg(asm.R1, asm.R0),
		asm.StoreMem(asm.R2, window, asm.R1, asm.Half),
		asm.Mov.Imm(asm.R1, int32(ifindex)).WithSymbol("out"),
		asm.Mov.Imm(asm.R2, 0),
		asm.FnRedirect.Call(),
		asm.Return(),
	}
}

// countArrivals has every IPv4 packet that arrives at these hosts counted and dropped, and gives a function that says how
// many there were. Where the product's program is, it goes.
func (s *site) countArrivals(hosts ...string) func() uint64 {
	s.t.Helper()
	counter, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.PerCPUArray, KeySize: 4, ValueSize: 8, MaxEntries: 1})
	check(s.t, err)
	s.t.Cleanup(func() { counter.Close() })
	prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.XDP, License: "Dual BSD/GPL", Instructions: asm.Instructions{
		asm.LoadMem(asm.R2, asm.R1, 0, asm.Word),
		asm.LoadMem(asm.R3, asm.R1, 4, asm.Word),
		asm.Mov.Reg(asm.R4, asm.R2),
		asm.Add.Imm(asm.R4, pkttest.EthLen),
		asm.JGT.Reg(asm.R4, asm.R3, "pass"),
		asm.LoadMem(asm.R4, asm.R2, 12, asm.Half),
		asm.JNE.Imm(asm.R4, 0x0008, "pass"), // ARP goes on
		asm.StoreImm(asm.RFP, -4, 0, asm.Word),
		asm.Mov.Reg(asm.R2, asm.RFP),
		asm.Add.Imm(asm.R2, -4),
		asm.LoadMapPtr(asm.R1, counter.FD()),
		asm.FnMapLookupElem.Call(),
		asm.JEq.Imm(asm.R0, 0, "out"),
		asm.LoadMem(asm.R1, asm.R0, 0, asm.DWord),
		asm.Add.Imm(asm.R1, 1),
		asm.StoreMem(asm.R0, 0, asm.R1, asm.DWord),
		asm.Mov.Imm(asm.R0, 1).WithSymbol("out"),
		asm.Return(),
		asm.Mov.Imm(asm.R0, 2).WithSymbol("pass"),
		asm.Return(),
	}})
	check(s.t, err)
	s.t.Cleanup(func() { prog.Close() })
	if p := s.running["lb1"]; p != nil && p.cmd.ProcessState == nil {
		p.stop(unix.SIGKILL) // its program forwards on, by tables in which both reals are alive
	}
	for _, h := range hosts {
		if p := s.running[h]; p != nil {
			p.stop(unix.SIGTERM)
		}
		s.hosts[h].Do(func() error {
			eth, err := s.hosts[h].Link.LinkByName("eth1")
			if err != nil {
				return err
			}
			l, err := link.AttachXDP(link.XDPOptions{Program: prog, Interface: eth.Attrs().Index, Flags: link.XDPDriverMode})
			if err == nil {
				s.t.Cleanup(func() { l.Close() })
			}
			return err
		})
	}
	return func() uint64 {
		var perCPU []uint64
		check(s.t, counter.Lookup(uint32(0), &perCPU))
		sum := uint64(0)
		for _, n := range perCPU {
			sum += n
		}
		return sum
	}
}
