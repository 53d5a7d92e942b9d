package porttest

import (
	"net"
	"net/netip"
	"testing"
)

func TestFree(t *testing.T) {
	seen := map[netip.AddrPort]bool{}
	for range 1000 {
		at := Free(t, "127.0.0.1")
		if seen[at] {
			t.Fatalf("%s is given twice", at)
		}
		seen[at] = true
		if at.Port() < lowest || int(at.Port()) >= firstEphemeral(t) {
			t.Fatalf("%s is one that the kernel chooses too", at)
		}
	}
}

// TestFreeAgain has a test end, and then somebody listen on what it had.
func TestFreeAgain(t *testing.T) {
	var at netip.AddrPort
	t.Run("holder", func(t *testing.T) {
		at = Free(t, "127.0.0.1")
		if take(t, at) {
			t.Errorf("another test may have %s as well", at)
		}
	})
	if t.Run("heir", func(t *testing.T) {
		if !take(t, at) {
			t.Errorf("%s is not free after its test", at)
		}
	}); t.Failed() {
		return
	}
	for _, network := range []string{"tcp", "udp"} {
		t.Run(network, func(t *testing.T) {
			defer listen(t, network, at)()
			if take(t, at) {
				t.Errorf("%s is given, and %s listens there", at, network)
			}
		})
	}
}

func listen(t *testing.T, network string, at netip.AddrPort) (end func() error) {
	t.Helper()
	if network == "udp" {
		conn, err := net.ListenPacket(network, at.String())
		if err != nil {
			t.Fatal(err)
		}
		return conn.Close
	}
	ln, err := net.Listen(network, at.String())
	if err != nil {
		t.Fatal(err)
	}
	return ln.Close
}
