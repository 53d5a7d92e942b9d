package bpf

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"runtime"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"golang.org/x/sys/unix"
)

// BPF_PROG_TEST_RUN with repeat > 1 does not reset the packet between two passes, and with repeat = 1 a system call lies
// between them. So a harness, an XDP program of the test's own, is what is repeated: it takes off what the pass before
// put in front, writes the client's headers anew with the source of the next flow, and tail-calls the program. What a
// harness alone takes is measured beside it, with a program that only makes the room, and subtracted.
//
// The harness counts its passes itself. The number that was asked for is not the number made: a signal, and the Go
// runtime sends its threads many, makes the kernel break a run off, which then begins anew.

// traffic is what is sent through a program: TCP of so many flows. Flow n has the source address of the frame with n mod 256
// for its last byte, and source port 1024 + n/256. Every program meets them in the same order.
type traffic struct {
	frame   []byte // as the client sends it, without VLAN tags, IPv4 options or IPv6 extension headers
	flows   int
	stride  int // from a flow to the one that comes next, modulo their number; prime, so that every flow has its turn
	grow    int // bytes that the program puts in front
	verdict uint32
}

const (
	firstPort = 1024
	maxFlows  = (65536 - firstPort) * 256 // as many as there are source ports left for
)

// Strides. A table's entries lie in memory in the order in which flows began, so that if packets came in that order too
// the CPU would fetch entries before they are asked for.
const (
	inTurn    = 1
	scrambled = 2_654_435_761
)

// harness is a program that repeats another.
type harness struct {
	traffic
	prog  *ebpf.Program
	state *ebpf.Map
	runs  uint64 // begun, those that were broken off included
}

// passes is the harness's memory, in its map.
type passes struct {
	Made  uint64 // times the program was called
	Fresh uint64 // of these, with a frame that had nothing in front; if the program works, the first of each run alone
	Flow  uint64 // of the next pass
}

func newHarness(t testing.TB, prog *ebpf.Program, l traffic) *harness {
	t.Helper()
	if l.flows < 1 || l.flows > maxFlows {
		t.Fatalf("%d flows, want 1 to %d", l.flows, maxFlows)
	}
	progs, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.ProgramArray, KeySize: 4, ValueSize: 4, MaxEntries: 1})
	put(t, err)
	t.Cleanup(func() { progs.Close() })
	put(t, progs.Put(uint32(0), prog))
	state, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: uint32(binary.Size(passes{})), MaxEntries: 1})
	put(t, err)
	t.Cleanup(func() { state.Close() })
	return &harness{traffic: l, state: state, prog: xdpCaller(t, harnessCode(l, progs, state))}
}

// run makes n passes on the thread's CPU and gives the ns of CPU time that one took, a part of the system call included
// that is the same for every program; and what the kernel says it took, which is in whole ns.
func (h *harness) run(t testing.TB, n int) (cpu, kernel float64) {
	t.Helper()
	h.runs++
	begun := threadTime(t)
	verdict, took, err := h.prog.Benchmark(h.frame, n, func() {
		h.runs++
		begun = threadTime(t)
	})
	cpu = float64(threadTime(t)-begun) / float64(n)
	put(t, err)
	if verdict != h.verdict {
		t.Fatalf("verdict %d, want %d", verdict, h.verdict)
	}
	return cpu, float64(took.Nanoseconds())
}

// threadTime gives the CPU time of the thread in ns. The goroutine must be locked to it.
func threadTime(t testing.TB) int64 {
	t.Helper()
	var now unix.Timespec
	put(t, unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &now))
	return now.Nano()
}

// made gives the number of passes, and an error if in one of them the program did not add what the traffic says.
func (h *harness) made() (uint64, error) {
	var p passes
	if err := h.state.Lookup(uint32(0), &p); err != nil {
		return 0, err
	}
	if h.grow != 0 && p.Fresh != h.runs {
		return 0, fmt.Errorf("%d of %d frames, in %d runs, were as the client sends them: the program did not add its %d bytes", p.Fresh, p.Made, h.runs, h.grow)
	}
	return p.Made, nil
}

// field is a part of the headers. The harness writes as the programs are likely to read: a load that lies across two
// stores just made would wait for them, as it never does on a frame that a network card wrote.
type field struct {
	at   int16
	size asm.Size
}

// headerFields gives what lies in front of the ports, of which the one at index source ends with the source address.
func headerFields(frame []byte) (fields []field, source int, port int16) {
	fields = []field{{0, asm.DWord}, {8, asm.Word}, {12, asm.Half}}
	if frame[ipAt]>>4 == 6 {
		fields = append(fields, field{14, asm.DWord}, field{22, asm.DWord}, field{30, asm.DWord}, field{38, asm.DWord}, field{46, asm.DWord})
		return fields, 5, 54
	}
	fields = append(fields, field{14, asm.Word}, field{18, asm.Word}, field{22, asm.Word}, field{26, asm.Word}, field{30, asm.Word})
	return fields, 6, 34
}

// value gives the bytes of a field as a number that has them in memory order.
func (f field) value(frame []byte) int64 {
	var b [8]byte
	copy(b[:], frame[f.at:int(f.at)+f.size.Sizeof()])
	return int64(binary.LittleEndian.Uint64(b[:]))
}

const (
	aborted = 0 // the verdict that no program under test gives

	offMade, offFresh, offFlow = 0, 8, 16 // in passes

	regCtx, regData, regState, regFlow = asm.R6, asm.R7, asm.R8, asm.R9
)

func harnessCode(l traffic, progs, state *ebpf.Map) asm.Instructions {
	fields, source, port := headerFields(l.frame)
	code := asm.Instructions{
		asm.Mov.Reg(regCtx, asm.R1),
		asm.LoadMapValue(regState, state.FD(), 0),
		asm.LoadMem(regData, regCtx, 0, asm.Word),
		asm.LoadMem(asm.R3, regCtx, 4, asm.Word), // data_end
		asm.Mov.Reg(asm.R4, asm.R3),
		asm.Sub.Reg(asm.R4, regData),
		asm.JEq.Imm(asm.R4, int32(len(l.frame)), "fresh"),
		asm.JNE.Imm(asm.R4, int32(len(l.frame)+l.grow), "abort"),
		asm.Mov.Reg(asm.R1, regCtx),
		asm.Mov.Imm(asm.R2, int32(l.grow)),
		asm.FnXdpAdjustHead.Call(),
		asm.LoadMem(regData, regCtx, 0, asm.Word),
		asm.LoadMem(asm.R3, regCtx, 4, asm.Word),
		asm.Ja.Label("write"),
		asm.LoadMem(asm.R4, regState, offFresh, asm.DWord).WithSymbol("fresh"),
		asm.Add.Imm(asm.R4, 1),
		asm.StoreMem(regState, offFresh, asm.R4, asm.DWord),
		asm.Mov.Reg(asm.R4, regData).WithSymbol("write"),
		asm.Add.Imm(asm.R4, int32(port)+2),
		asm.JGT.Reg(asm.R4, asm.R3, "abort"),
	}
	code = append(code, countPass(l)...)
	for i, f := range fields {
		code = append(code, asm.LoadImm(asm.R0, f.value(l.frame), asm.DWord))
		if i == source { // with another last byte, which in memory order is the most significant one
			shift := int32(8 * (f.size.Sizeof() - 1))
			code[len(code)-1].Constant &^= int64(0xff) << shift
			code = append(code,
				asm.Mov.Reg(asm.R1, regFlow),
				asm.And.Imm(asm.R1, 0xff),
				asm.LSh.Imm(asm.R1, shift),
				asm.Or.Reg(asm.R0, asm.R1),
			)
		}
		code = append(code, asm.StoreMem(regData, f.at, asm.R0, f.size))
	}
	return append(code,
		asm.RSh.Imm(regFlow, 8),
		asm.Add.Imm(regFlow, firstPort),
		asm.HostTo(asm.BE, regFlow, asm.Half),
		asm.StoreMem(regData, port, regFlow, asm.Half),
		asm.Mov.Reg(asm.R1, regCtx),
		asm.LoadMapPtr(asm.R2, progs.FD()),
		asm.Mov.Imm(asm.R3, 0),
		asm.FnTailCall.Call(),
		asm.Mov.Imm(asm.R0, aborted).WithSymbol("abort"),
		asm.Return(),
	)
}

// countPass leaves the pass's flow in regFlow and chooses that of the next.
func countPass(l traffic) asm.Instructions {
	return asm.Instructions{
		asm.LoadMem(asm.R4, regState, offMade, asm.DWord),
		asm.Add.Imm(asm.R4, 1),
		asm.StoreMem(regState, offMade, asm.R4, asm.DWord),
		asm.LoadMem(regFlow, regState, offFlow, asm.DWord),
		asm.Mov.Reg(asm.R4, regFlow),
		asm.Add.Imm(asm.R4, int32(l.stride%l.flows)),
		asm.JLT.Imm(asm.R4, int32(l.flows), "next"),
		asm.Sub.Imm(asm.R4, int32(l.flows)),
		asm.StoreMem(regState, offFlow, asm.R4, asm.DWord).WithSymbol("next"),
	}
}

// xdpCaller loads a program that tail-calls another. The kernel lets it call only programs of its own attach type and
// kind of buffer, of which a foreign program does not tell.
func xdpCaller(t testing.TB, code asm.Instructions) *ebpf.Program {
	t.Helper()
	var errs []error
	for _, attach := range []ebpf.AttachType{ebpf.AttachXDP, ebpf.AttachNone} {
		for _, flags := range []uint32{0, unix.BPF_F_XDP_HAS_FRAGS} {
			spec := ebpf.ProgramSpec{Type: ebpf.XDP, AttachType: attach, Flags: flags, License: "Dual BSD/GPL", Instructions: code}
			prog, err := ebpf.NewProgram(&spec)
			if err == nil {
				t.Cleanup(func() { prog.Close() })
				return prog
			}
			errs = append(errs, err)
		}
	}
	t.Fatalf("load the harness: %v", errors.Join(errs...))
	return nil
}

// adjuster gives a program that does no more than to make room, and that gives the verdict.
func adjuster(t testing.TB, l traffic) *ebpf.Program {
	t.Helper()
	return xdpCaller(t, adjust(l.grow, l.verdict))
}

// adjust expects the context in R1.
func adjust(grow int, verdict uint32) asm.Instructions {
	code := asm.Instructions{asm.Mov.Imm(asm.R0, int32(verdict)), asm.Return()}
	if grow == 0 {
		return code
	}
	return append(asm.Instructions{asm.Mov.Imm(asm.R2, int32(-grow)), asm.FnXdpAdjustHead.Call()}, code...)
}

// meter measures a program in its harness, and beside it what the harness takes. Each figure is the least of all runs.
type meter struct {
	with, alone       *harness
	cpuWith, cpuAlone float64
	kernelAlone       float64
}

func newMeter(t testing.TB, prog *ebpf.Program, l traffic) *meter {
	t.Helper()
	most := math.Inf(1)
	return &meter{
		with: newHarness(t, prog, l), alone: newHarness(t, adjuster(t, l), l),
		cpuWith: most, cpuAlone: most, kernelAlone: most,
	}
}

// turn measures twice in a row, since the first time may find the caches full of what another meter did.
func (m *meter) turn(t testing.TB, n int) {
	t.Helper()
	for range 2 {
		with, _ := m.with.run(t, n)
		alone, kernel := m.alone.run(t, n)
		m.cpuWith, m.cpuAlone, m.kernelAlone = min(m.cpuWith, with), min(m.cpuAlone, alone), min(m.kernelAlone, kernel)
	}
}

// net gives the ns that the program adds to a packet.
func (m *meter) net() float64 { return m.cpuWith - m.cpuAlone }

// onOneCPU keeps the test's goroutine on one CPU, as tables that exist once for each CPU need. The thread ends with it.
func onOneCPU(t testing.TB) {
	t.Helper()
	runtime.LockOSThread()
	var may, one unix.CPUSet
	put(t, unix.SchedGetaffinity(0, &may))
	cpu := 1023 // the last one: the first has most interrupts
	for !may.IsSet(cpu) {
		cpu--
	}
	one.Set(cpu)
	put(t, unix.SchedSetaffinity(0, &one))
}
