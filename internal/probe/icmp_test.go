package probe

import (
	"context"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"anycastle/internal/netnstest"

	"golang.org/x/sys/unix"
)

func TestICMP(t *testing.T) {
	netnstest.Root(t)
	for _, allowed := range []string{"0 2147483647", "1 0"} { // an unprivileged socket, and a raw one
		t.Run(allowed, func(t *testing.T) {
			a, b := netnstest.New(t), netnstest.New(t)
			netnstest.Veth(t, a, "eth0", netip.MustParsePrefix("192.0.2.1/24"), b, "eth0", netip.MustParsePrefix("192.0.2.2/24"))
			a.Do(func() error { return os.WriteFile("/proc/sys/net/ipv4/ping_group_range", []byte(allowed), 0) })
			kind := unix.SOCK_RAW
			if allowed != "1 0" {
				kind = unix.SOCK_DGRAM
			}
			for addr, want := range map[string]string{
				"192.0.2.2": "", "127.0.0.1": "", "::1": "", "::ffff:192.0.2.2": "",
				"192.0.2.3":    "no answer within 300ms",
				"198.51.100.1": "connect: network is unreachable",
			} {
				cfg := Config{Type: "icmp", Timeout: long}
				if strings.HasPrefix(want, "no answer") {
					cfg.Timeout = 300 * time.Millisecond
				}
				a.Do(func() error {
					_, err := try(t.Context(), t, cfg, netip.AddrPortFrom(netip.MustParseAddr(addr), 0))
					got := ""
					if err != nil {
						got = err.Error()
					}
					if want != "" {
						want = "icmp " + addr + ": " + want
					}
					if got != want {
						t.Errorf("%s: error is %q, want %q", addr, got, want)
					}
					return nil
				})
			}
			a.Do(func() error { checkICMPSocket(t, kind); return nil })
		})
	}
}

// checkICMPSocket expects a marked and bound socket of the kind.
func checkICMPSocket(t *testing.T, kind int) {
	t.Helper()
	target := Target{Addr: netip.MustParseAddrPort("192.0.2.2:0"), Source: netip.MustParseAddr("192.0.2.1"), Mark: 0x0ac00007, Config: &Config{}}
	f, err := target.openICMP()
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	raw, err := f.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	raw.Control(func(fd uintptr) {
		mark, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_MARK)
		if err != nil || mark != 0x0ac00007 {
			t.Errorf("mark is %#x, %v", mark, err)
		}
		if got, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_TYPE); err != nil || got != kind {
			t.Errorf("the socket's type is %d, %v; want %d", got, err, kind)
		}
		sa, err := unix.Getsockname(int(fd))
		if in, ok := sa.(*unix.SockaddrInet4); err != nil || !ok || in.Addr != [4]byte{192, 0, 2, 1} {
			t.Errorf("the socket is bound to %+v, %v", sa, err)
		}
	})
	six := Target{Addr: netip.MustParseAddrPort("[::1]:0"), Source: netip.MustParseAddr("::1"), Mark: 7, Config: &Config{}}
	if f, err := six.openICMP(); err != nil {
		t.Errorf("an IPv6 socket of the kind cannot be bound: %v", err)
	} else {
		f.Close()
	}
	target.Source = netip.MustParseAddr("192.0.2.9")
	if f, err := target.openICMP(); err == nil {
		f.Close()
		t.Error("an address that is not here can be bound to")
	}
}

func TestICMPEndsWithItsContext(t *testing.T) {
	netnstest.Root(t)
	a, b := netnstest.New(t), netnstest.New(t)
	netnstest.Veth(t, a, "eth0", netip.MustParsePrefix("192.0.2.1/24"), b, "eth0", netip.MustParsePrefix("192.0.2.2/24"))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	a.Do(func() error {
		if _, err := try(ctx, t, Config{Type: "icmp", Timeout: long}, netip.MustParseAddrPort("192.0.2.3:0")); err == nil {
			t.Error("a probe with a context that is done passes")
		}
		return nil
	})
}

func FuzzEchoReply(f *testing.F) {
	token := []byte("0123456789abcdef")
	four, six := echoRequest(netip.MustParseAddr("192.0.2.1"), token), echoRequest(netip.MustParseAddr("2001:db8::1"), token)
	four[0], six[0] = echoReply4, echoReply6
	header := append([]byte{0x46}, make([]byte, 23)...)
	f.Add(four, false)
	f.Add(append(header, four...), false)
	f.Add(six, true)
	f.Add([]byte{0x4f}, false)
	f.Add([]byte{}, true)
	f.Add(echoRequest(netip.MustParseAddr("192.0.2.1"), token), false)
	f.Fuzz(func(t *testing.T, packet []byte, v6 bool) {
		if isEchoReply(packet, token, v6) && !strings.Contains(string(packet), string(token[2:])) {
			t.Errorf("%x is taken for a reply", packet)
		}
	})
}

func TestEchoReplies(t *testing.T) {
	token := []byte("0123456789abcdef")
	four, six := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")
	reply := func(to netip.Addr, edit func([]byte)) []byte {
		p := echoRequest(to, token)
		p[0] = map[byte]byte{echoRequest4: echoReply4, echoRequest6: echoReply6}[p[0]]
		edit(p)
		return p
	}
	same := func([]byte) {}
	header := append([]byte{0x46}, make([]byte, 23)...) // with an option
	for name, tc := range map[string]struct {
		packet []byte
		six    bool
		want   bool
	}{
		"IPv4":                {reply(four, same), false, true},
		"IPv4 from a raw one": {append(header, reply(four, same)...), false, true},
		"IPv6":                {reply(six, same), true, true},
		"another identifier":  {reply(four, func(p []byte) { p[4]++ }), false, true},
		"another sequence":    {reply(four, func(p []byte) { p[6]++ }), false, false},
		"other data":          {reply(six, func(p []byte) { p[19]++ }), true, false},
		"a request":           {echoRequest(four, token), false, false},
		"an error":            {reply(four, func(p []byte) { p[0] = 3 }), false, false},
		"of the other family": {reply(six, same), false, false},
		"short":               {reply(four, same)[:19], false, false},
		"a header alone":      {header, false, false},
		"a header cut off":    {header[:20], false, false},
		"nothing":             {nil, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			if got := isEchoReply(tc.packet, token, tc.six); got != tc.want {
				t.Errorf("%x: %v, want %v", tc.packet, got, tc.want)
			}
		})
	}
	if p := echoRequest(four, token); checksum(p) != 0 {
		t.Errorf("the checksum of a request with its checksum is %#x, want 0", checksum(p))
	}
}
