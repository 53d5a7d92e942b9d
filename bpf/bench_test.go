package bpf

import (
	"encoding/binary"
	"math"
	"net/netip"
	"testing"

	"anycastle/internal/pkttest"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
)

// BPF_PROG_TEST_RUN with repeat > 1 does not reset the packet between two passes, and with repeat = 1 a system call lies
// between them. So a harness, an XDP program of the test's own, is what is repeated: it takes the encapsulation of the
// pass before off, puts the client's headers back, and tail-calls the program. What a harness alone takes is measured
// beside it, with a program that only does to the frame's length what lb does, and subtracted.
const (
	repeat    = 20_000
	adjusting = -pkttest.IPLen
)

// harness gives a program that mends the frame and tail-calls prog. With manyFlows it makes up a source port for each pass.
func harness(b *testing.B, prog *ebpf.Program, frame []byte, manyFlows bool) *ebpf.Program {
	b.Helper()
	progs, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.ProgramArray, KeySize: 4, ValueSize: 4, MaxEntries: 1})
	put(b, err)
	b.Cleanup(func() { progs.Close() })
	put(b, progs.Put(uint32(0), prog))
	word := func(at int) int32 { return int32(binary.NativeEndian.Uint32(frame[at:])) }
	load := asm.Instructions{
		asm.Mov.Reg(asm.R6, asm.R1),
		asm.LoadMem(asm.R2, asm.R6, 0, asm.Word), // data
		asm.LoadMem(asm.R3, asm.R6, 4, asm.Word), // data_end
	}
	mend := asm.Instructions{
		asm.Mov.Reg(asm.R4, asm.R3),
		asm.Sub.Reg(asm.R4, asm.R2),
		asm.JEq.Imm(asm.R4, int32(len(frame)), "whole"),
		asm.Mov.Reg(asm.R1, asm.R6),
		asm.Mov.Imm(asm.R2, -adjusting),
		asm.FnXdpAdjustHead.Call(),
		asm.LoadMem(asm.R2, asm.R6, 0, asm.Word),
		asm.LoadMem(asm.R3, asm.R6, 4, asm.Word),
		asm.Mov.Reg(asm.R4, asm.R2).WithSymbol("whole"),
		asm.Add.Imm(asm.R4, pkttest.L4Start+4),
		asm.JGT.Reg(asm.R4, asm.R3, "call"),
	}
	for _, at := range []int{0, 4, 8, 12, 16, 20, 24} { // Ethernet, and IP as far as its checksum
		mend = append(mend, asm.StoreImm(asm.R2, int16(at), int64(word(at)), asm.Word))
	}
	if manyFlows {
		mend = append(mend,
			asm.Mov.Reg(asm.R7, asm.R2),
			asm.FnGetPrandomU32.Call(),
			asm.StoreMem(asm.R7, pkttest.L4Start, asm.R0, asm.Half),
		)
	}
	call := asm.Instructions{
		asm.Mov.Reg(asm.R1, asm.R6).WithSymbol("call"),
		asm.LoadMapPtr(asm.R2, progs.FD()),
		asm.Mov.Imm(asm.R3, 0),
		asm.FnTailCall.Call(),
		asm.Mov.Imm(asm.R0, 0), // not reached
		asm.Return(),
	}
	return xdpProgram(b, append(append(load, mend...), call...))
}

func xdpProgram(b *testing.B, code asm.Instructions) *ebpf.Program {
	b.Helper()
	// the kernel lets a program tail-call only those of its own attach type
	spec := ebpf.ProgramSpec{Type: ebpf.XDP, AttachType: ebpf.AttachXDP, License: "Dual BSD/GPL", Instructions: code}
	prog, err := ebpf.NewProgram(&spec)
	put(b, err)
	b.Cleanup(func() { prog.Close() })
	return prog
}

// adjuster gives a program that makes room as lb does, or none, and gives a verdict.
func adjuster(b *testing.B, by int32, verdict int32) *ebpf.Program {
	b.Helper()
	code := asm.Instructions{asm.Mov.Imm(asm.R0, verdict), asm.Return()}
	if by != 0 {
		code = append(asm.Instructions{asm.Mov.Imm(asm.R2, by), asm.FnXdpAdjustHead.Call()}, code...)
	}
	return xdpProgram(b, code)
}

// BenchmarkPacket gives as ns/op what lb adds to a packet by the kernel's own clock, the least of all rounds. The case
// no_vip is a TCP packet to an address that is no VIP's; the others give their ratio to it, measured in turns with it.
func BenchmarkPacket(b *testing.B) {
	lb := newLB(b)
	vip := tcp().Bytes(b)
	other := pkttest.New(client, netip.MustParseAddrPort("203.0.113.11:25")).Bytes(b)
	for _, bc := range []struct {
		name      string
		frame     []byte
		manyFlows bool
		by        int32
		verdict   uint32
	}{
		{"no_vip", other, false, 0, xdpPass},
		{"vip_one_flow", vip, false, adjusting, xdpTX},
		{"vip_many_flows", vip, true, adjusting, xdpTX},
	} {
		b.Run(bc.name, func(b *testing.B) {
			plainOther := newMeter(b, lb.prog, adjuster(b, 0, xdpPass), other, false, xdpPass)
			m := newMeter(b, lb.prog, adjuster(b, bc.by, int32(bc.verdict)), bc.frame, bc.manyFlows, bc.verdict)
			before, err := SumCount(lb.Counts, vipIndex)
			put(b, err)
			passes := uint64(0)
			for b.Loop() {
				plainOther.round(b)
				m.round(b)
				passes += repeat
			}
			after, err := SumCount(lb.Counts, vipIndex)
			put(b, err)
			if sent := after.Packets - before.Packets; bc.verdict == xdpTX && sent != passes || bc.verdict == xdpPass && sent != 0 {
				b.Errorf("%d packets were sent in %d passes", sent, passes)
			}
			b.ReportMetric(m.net(), "ns/op")
			b.ReportMetric(m.net()/plainOther.net(), "x/no_vip")
		})
	}
	if drops := nonZero(b, &lb.program); len(drops) != 0 {
		b.Errorf("packets were dropped: %v", drops)
	}
}

// meter measures a program in its harness, and beside it what the harness takes.
type meter struct {
	frame       []byte
	verdict     uint32
	with, alone *ebpf.Program
	least       [2]float64 // ns of a pass with the program and without
}

func newMeter(b *testing.B, prog, nothing *ebpf.Program, frame []byte, manyFlows bool, verdict uint32) *meter {
	most := math.Inf(1)
	return &meter{
		frame: frame, verdict: verdict, least: [2]float64{most, most},
		with: harness(b, prog, frame, manyFlows), alone: harness(b, nothing, frame, manyFlows),
	}
}

func (m *meter) round(b *testing.B) {
	b.Helper()
	for i, prog := range []*ebpf.Program{m.with, m.alone} {
		verdict, took, err := prog.Benchmark(m.frame, repeat, nil)
		put(b, err)
		if verdict != m.verdict {
			b.Fatalf("verdict %d, want %d", verdict, m.verdict)
		}
		m.least[i] = min(m.least[i], float64(took.Nanoseconds()))
	}
}

func (m *meter) net() float64 { return m.least[0] - m.least[1] }
