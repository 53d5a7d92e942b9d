package sockets

import (
	"encoding/binary"
	"net/netip"

	"golang.org/x/sys/unix"
)

// maxFiltered bounds the VIPs that the kernel compares each socket with; with more, comparing here is faster.
const maxFiltered = 16

// Instructions of the kernel's filter (linux/inet_diag.h).
const (
	opJump  = 1 // INET_DIAG_BC_JMP
	opLocal = 7 // INET_DIAG_BC_S_COND

	opSize   = 4 // struct inet_diag_bc_op: code, bytes to go on by if it holds, and if not
	condSize = 8 // struct inet_diag_hostcond, to which the address is added
)

// localFilter makes a program that takes sockets whose local address is one of addrs, IPv4 in the IPv6 form included.
// It is one comparison after the other: who passes one jumps to the end, who passes none jumps past the end, which is how
// the kernel is told that a socket does not pass.
func localFilter(addrs []netip.Addr) []byte {
	var program []byte
	size := 0
	for _, a := range addrs {
		size += opSize + condSize + a.BitLen()/8 + opSize
	}
	size -= opSize // the last one needs no jump
	for i, a := range addrs {
		op := opSize + condSize + a.BitLen()/8
		program = append(program, opLocal, byte(op))
		program = binary.NativeEndian.AppendUint16(program, uint16(op+opSize))
		family := byte(unix.AF_INET6)
		if a.Is4() {
			family = unix.AF_INET
		}
		program = append(program, family, byte(a.BitLen()), 0, 0)
		program = binary.NativeEndian.AppendUint32(program, 0xffffffff) // any port
		program = append(program, a.AsSlice()...)
		if i < len(addrs)-1 {
			program = append(program, opJump, opSize)
			program = binary.NativeEndian.AppendUint16(program, uint16(size-len(program)+2))
		}
	}
	return program
}
