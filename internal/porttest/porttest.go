// Package porttest gives tests ports of their own, for programs that are told where to listen, stop listening, and listen there again.
//
// A port that the kernel chose and that was closed again is anyone's: another test's client gets it the next moment, and what was to
// listen there fails, or worse, a test talks to another test's program. The ports given here are never chosen by the kernel, and no
// other test has them, of this process or another.
package porttest

import (
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"testing"
)

// lowest of the ports that are given. Below it are those of services that a machine may run.
const lowest = 10_000

// Free is an address with a port that is the test's until it ends, for TCP and UDP alike. ip is one of the machine's own.
func Free(t testing.TB, ip string) netip.AddrPort {
	t.Helper()
	addr, err := netip.ParseAddr(ip)
	if err != nil {
		t.Fatal(err)
	}
	end := firstEphemeral(t)
	first := rand.IntN(end - lowest)
	for i := range end - lowest {
		at := netip.AddrPortFrom(addr, uint16(lowest+(first+i)%(end-lowest)))
		if take(t, at) {
			return at
		}
	}
	t.Fatalf("no port of %s from %d to %d is free", ip, lowest, end-1)
	return netip.AddrPort{}
}

// firstEphemeral is the first port that the kernel chooses by itself (ip_local_port_range, ip(7)).
func firstEphemeral(t testing.TB) int {
	t.Helper()
	const file = "/proc/sys/net/ipv4/ip_local_port_range"
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var first, last int
	if _, err := fmt.Sscan(string(text), &first, &last); err != nil || first <= lowest {
		t.Fatalf("%s: %q leaves no ports above %d to tests: %v", file, text, lowest, err)
	}
	return first
}

// take has the port if no test has it and nobody listens there. Who has it shows by an abstract socket (unix(7)), which the kernel
// lets go of with the process, whatever becomes of it.
func take(t testing.TB, at netip.AddrPort) bool {
	t.Helper()
	lock, err := net.Listen("unix", fmt.Sprintf("@anycastle-porttest-%d", at.Port()))
	if err != nil {
		return false
	}
	if !unused(at) {
		lock.Close()
		return false
	}
	t.Cleanup(func() { lock.Close() })
	return true
}

// unused says whether one can listen there.
func unused(at netip.AddrPort) bool {
	ln, err := net.Listen("tcp", at.String())
	if err != nil {
		return false
	}
	defer ln.Close()
	conn, err := net.ListenPacket("udp", at.String())
	if err != nil {
		return false
	}
	conn.Close()
	return true
}
