package bpf

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"testing"

	"anycastle/internal/netnstest"
	"anycastle/internal/pkttest"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
)

// The harness is what every figure rests on, so it has tests of its own.

// harnessed is of every kind of frame that a harness mends.
func harnessed(t testing.TB) map[string]traffic {
	t.Helper()
	netnstest.Root(t)
	return map[string]traffic{
		"ipv4 in ipv4":    {frame: tcp().Bytes(t), grow: 20, verdict: xdpTX},
		"ipv4 in ipv6":    {frame: tcp().Bytes(t), grow: 40, verdict: xdpTX},
		"ipv6 in gue":     {frame: tcp6().Bytes(t), grow: 40 + 8, verdict: xdpTX},
		"ipv4 left alone": {frame: tcp().Bytes(t), verdict: xdpPass},
		"ipv6 left alone": {frame: tcp6().Bytes(t), verdict: xdpPass},
	}
}

// places gives the offsets of the last byte of the source address and of the source port.
func places(frame []byte) (addr, port int) {
	if frame[ipAt]>>4 == 6 {
		return ipAt + 23, ipAt + 40
	}
	return ipAt + 15, ipAt + 20
}

// ofFlow gives the frame with the source of flow n, its checksums as they were.
func ofFlow(frame []byte, n int) []byte {
	frame = bytes.Clone(frame)
	addr, port := places(frame)
	frame[addr] = byte(n)
	binary.BigEndian.PutUint16(frame[port:], uint16(1024+n/256))
	return frame
}

// spoiler gives a program that writes over the headers, and then does what adjuster does.
func spoiler(t testing.TB, l traffic) *ebpf.Program {
	t.Helper()
	_, port := places(l.frame)
	code := asm.Instructions{
		asm.LoadMem(asm.R2, asm.R1, 0, asm.Word),
		asm.LoadMem(asm.R3, asm.R1, 4, asm.Word),
		asm.Mov.Reg(asm.R4, asm.R2),
		asm.Add.Imm(asm.R4, int32(port)+2),
		asm.JGT.Reg(asm.R4, asm.R3, "adjust"),
	}
	for at := range port + 2 {
		code = append(code, asm.StoreImm(asm.R2, int16(at), 0xee, asm.Byte))
	}
	rest := adjust(l.grow, l.verdict)
	rest[0] = rest[0].WithSymbol("adjust")
	return xdpCaller(t, append(code, rest...))
}

// TestHarnessMendsTheFrame takes the frame as the third program sees it, after two that spoilt it.
func TestHarnessMendsTheFrame(t *testing.T) {
	for name, l := range harnessed(t) {
		t.Run(name, func(t *testing.T) {
			l.flows, l.stride = 1_000_000, 300_001
			onOneCPU(t)
			h := newHarness(t, spoiler(t, l), l)
			h.run(t, 2)
			_, port := places(l.frame)
			spoilt := append(make([]byte, l.grow), l.frame...)
			copy(spoilt[l.grow:], bytes.Repeat([]byte{0xee}, port+2))
			seen := newHarness(t, adjuster(t, traffic{verdict: l.verdict}), l)
			put(t, seen.state.Put(uint32(0), passes{Flow: uint64(2 * l.stride)}))
			verdict, out, err := seen.prog.Test(spoilt)
			put(t, err)
			if verdict != l.verdict {
				t.Errorf("verdict %d, want %d", verdict, l.verdict)
			}
			if diff := pkttest.Diff(ofFlow(l.frame, 2*l.stride), out); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// recorder gives a program that keeps the source of each frame, and then does what adjuster does.
func recorder(t testing.TB, l traffic) (*ebpf.Program, *ebpf.Map) {
	t.Helper()
	seen, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Hash, KeySize: 4, ValueSize: 4, MaxEntries: 1 << 16})
	put(t, err)
	t.Cleanup(func() { seen.Close() })
	addr, port := places(l.frame)
	code := asm.Instructions{
		asm.Mov.Reg(asm.R6, asm.R1),
		asm.LoadMem(asm.R2, asm.R1, 0, asm.Word),
		asm.LoadMem(asm.R3, asm.R1, 4, asm.Word),
		asm.Mov.Reg(asm.R4, asm.R2),
		asm.Add.Imm(asm.R4, int32(port)+2),
		asm.JGT.Reg(asm.R4, asm.R3, "adjust"),
		asm.LoadMem(asm.R4, asm.R2, int16(addr), asm.Byte),
		asm.LSh.Imm(asm.R4, 16),
		asm.LoadMem(asm.R5, asm.R2, int16(port), asm.Half),
		asm.HostTo(asm.BE, asm.R5, asm.Half),
		asm.Or.Reg(asm.R4, asm.R5),
		asm.StoreMem(asm.RFP, -4, asm.R4, asm.Word),
		asm.LoadMapPtr(asm.R1, seen.FD()),
		asm.Mov.Reg(asm.R2, asm.RFP),
		asm.Add.Imm(asm.R2, -4),
		asm.Mov.Reg(asm.R3, asm.R2),
		asm.Mov.Imm(asm.R4, 0),
		asm.FnMapUpdateElem.Call(),
		asm.Mov.Reg(asm.R1, asm.R6).WithSymbol("adjust"),
	}
	return xdpCaller(t, append(code, adjust(l.grow, l.verdict)...)), seen
}

func TestHarnessSendsEveryFlow(t *testing.T) {
	for name, l := range harnessed(t) {
		t.Run(name, func(t *testing.T) {
			onOneCPU(t)
			l.flows, l.stride = 1_000, scrambled
			prog, seen := recorder(t, l)
			h := newHarness(t, prog, l)
			h.run(t, 600)
			h.run(t, 900) // goes on where the first run ended
			made, err := h.made()
			put(t, err)
			if made < 1_500 {
				t.Errorf("%d passes, want 1500 or more", made)
			}
			got := map[uint32]bool{}
			var source, same uint32
			for entries := seen.Iterate(); entries.Next(&source, &same); {
				got[source] = true
			}
			for n := range l.flows {
				if source := uint32(n%256)<<16 | uint32(1024+n/256); !got[source] {
					t.Fatalf("flow %d did not come", n)
				}
			}
			if len(got) != l.flows {
				t.Errorf("%d flows came, want %d", len(got), l.flows)
			}
		})
	}
}

func TestHarnessTellsOfAProgramThatDoesNothing(t *testing.T) {
	netnstest.Root(t)
	onOneCPU(t)
	l := traffic{frame: tcp().Bytes(t), flows: 1, stride: inTurn, grow: 20, verdict: xdpTX}
	idle := l
	idle.grow = 0
	h := newHarness(t, adjuster(t, idle), l)
	h.run(t, 100)
	if made, err := h.made(); err == nil {
		t.Errorf("%d passes are said to have added %d bytes", made, l.grow)
	}
}

// TestTablePeerKeepsConnections shows that the peer does what ours does, and by its table.
func TestTablePeerKeepsConnections(t *testing.T) {
	netnstest.Root(t)
	table := newTablePeer(t, 1_000)
	realOf := func(f made) netip.Addr {
		t.Helper()
		verdict, out, err := table.prog.Test(f().Bytes(t))
		put(t, err)
		if verdict != xdpTX || len(out) < l4At {
			t.Fatalf("verdict %d, %d bytes", verdict, len(out))
		}
		real := netip.AddrFrom4([4]byte(out[ipAt+16:]))
		if diff := pkttest.Diff(target{addr: real}.gets(f)().Bytes(t), out); diff != "" {
			t.Fatal(diff)
		}
		return real
	}
	home := realOf(tcp)
	other := realAddrs(mx1)[0]
	if home == other {
		t.Fatalf("the flow is at %v already; take another", other)
	}
	for i := range uint32(Slots) {
		put(t, table.ring.Put(i, uint32(1)))
	}
	if got := realOf(tcp); got != home {
		t.Errorf("the flow moved from %v to %v with the ring", home, got)
	}
	if got := realOf(syn); got != other {
		t.Errorf("a SYN went to %v, want %v, where the ring points", got, other)
	}
	if got := realOf(tcp); got != other {
		t.Errorf("the flow that began anew is at %v, want %v", got, other)
	}
}
