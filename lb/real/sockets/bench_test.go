package sockets

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// fill makes connections to a VIP, and as many to another address, from which no file descriptor is left: nobody accepts
// them, and their clients have closed them.
func fill(b *testing.B, connections int) func() (*Reader, error) {
	b.Helper()
	ns := host(b)
	ns.Do(func() error { return os.WriteFile("/proc/sys/net/core/somaxconn", []byte("1000000"), 0) })
	for _, to := range []string{"203.0.113.10:25", "203.0.113.11:25"} {
		listen(b, ns, "tcp4", to, connections)
	}
	connect := func(from, to *unix.SockaddrInet4) error {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		if err := unix.Bind(fd, from); err != nil {
			return err
		}
		return unix.Connect(fd, to)
	}
	ns.Do(func() error {
		for i := range connections {
			from := &unix.SockaddrInet4{Port: 10000 + i%50000, Addr: [4]byte{127, 0, 1, byte(i / 50000)}}
			for _, to := range []netip.Addr{vip4, other} {
				if err := connect(from, &unix.SockaddrInet4{Port: 25, Addr: to.As4()}); err != nil {
					return err
				}
				from.Addr[1]++
			}
		}
		return nil
	})
	return func() (r *Reader, err error) {
		r = New([]netip.Addr{vip4})
		ns.Do(func() error {
			used := cpuTime(b)
			b.ResetTimer()
			for range b.N {
				var n map[Endpoint]int
				if n, err = r.Count(); err != nil {
					return err
				}
				if got := n[Endpoint{netip.AddrPortFrom(vip4, 25), unix.IPPROTO_TCP}]; got != connections {
					return fmt.Errorf("counted %d flows of %d", got, connections)
				}
			}
			b.StopTimer()
			b.ReportMetric(float64(cpuTime(b)-used)/float64(b.N), "cpu_ns_per_op")
			return nil
		})
		return r, err
	}
}

// cpuTime is what the thread has used, which counts on a machine that is busy with other things too.
func cpuTime(b *testing.B) int64 {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_THREAD, &u); err != nil {
		b.Fatal(err)
	}
	return u.Utime.Nano() + u.Stime.Nano()
}

// BenchmarkCount counts the flows of a VIP among twice as many sockets of other work.
func BenchmarkCount(b *testing.B) {
	for _, n := range []int{1000, 100000} {
		b.Run(fmt.Sprintf("sockets/count/flows=%d", n), func(b *testing.B) {
			if _, err := fill(b, n)(); err != nil {
				b.Fatal(err)
			}
		})
	}
}

// BenchmarkListeners is what is read every few milliseconds.
func BenchmarkListeners(b *testing.B) { b.Run("sockets/listeners", benchListeners) }

func benchListeners(b *testing.B) {
	ns := host(b)
	for port := range 20 {
		listen(b, ns, "tcp4", net.JoinHostPort(vip4.String(), fmt.Sprint(1000+port)), 0)
	}
	r := New([]netip.Addr{vip4})
	ns.Do(func() error {
		for b.Loop() {
			if list, err := r.Listeners(); err != nil || len(list) != 20 {
				return fmt.Errorf("%d listeners, %v", len(list), err)
			}
		}
		return nil
	})
}
