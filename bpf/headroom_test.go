package bpf

import (
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
)

// TestNoHeadroom puts a program in front of the balancer that begins the frame further ahead, as far as leaves less room
// than an outer header takes. (Metadata would fill the room too, but Linux 6.1 takes at most 32 bytes of it.)
func TestNoHeadroom(t *testing.T) {
	r := newRig(t)
	const ahead = 200 // of 256 bytes, of which the kernel itself keeps 40
	frame := tcp().Bytes(t)
	progs, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.ProgramArray, KeySize: 4, ValueSize: 4, MaxEntries: 1})
	put(t, err)
	defer progs.Close()
	put(t, progs.Put(uint32(0), r.prog))
	code := asm.Instructions{
		asm.Mov.Reg(asm.R6, asm.R1),
		asm.Mov.Imm(asm.R2, -ahead),
		asm.FnXdpAdjustHead.Call(),
		asm.LoadMem(asm.R2, asm.R6, 0, asm.Word), // data
		asm.LoadMem(asm.R3, asm.R6, 4, asm.Word), // data_end
		asm.Mov.Reg(asm.R4, asm.R2),
		asm.Add.Imm(asm.R4, int32(len(frame))),
		asm.JGT.Reg(asm.R4, asm.R3, "out"),
	}
	for at, b := range frame {
		code = append(code, asm.StoreImm(asm.R2, int16(at), int64(b), asm.Byte))
	}
	code = append(code,
		asm.Mov.Reg(asm.R1, asm.R6),
		asm.LoadMapPtr(asm.R2, progs.FD()),
		asm.Mov.Imm(asm.R3, 0),
		asm.FnTailCall.Call(),
		asm.Mov.Imm(asm.R0, 0).WithSymbol("out"), // XDP_ABORTED: not reached
		asm.Return(),
	)
	// the kernel lets a program tail-call only those of its own attach type
	prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.XDP, AttachType: ebpf.AttachXDP, License: "Dual BSD/GPL", Instructions: code})
	put(t, err)
	defer prog.Close()
	verdict, _, err := prog.Test(frame)
	put(t, err)
	if verdict != xdpDrop {
		t.Errorf("verdict %d, want %d", verdict, xdpDrop)
	}
	r.check(t, dropped("no_headroom"), 0)
}
