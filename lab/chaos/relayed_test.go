package chaos

import (
	"net"
	"testing"
	"time"

	"anycastle/internal/proctest"
)

// TestDCLinkTakesItsTime measures a round trip over a line that delays packets by 5 ms each way.
func TestDCLinkTakesItsTime(t *testing.T) {
	n := newNetwork(t, 5*time.Millisecond)
	n.join("east-store1", "east")
	n.join("west-store1", "west")
	if rtt := n.roundTrip("east-store1", "west-store1"); rtt < 10*time.Millisecond || rtt > time.Second {
		t.Errorf("a round trip takes %v, want 10 ms and a little", rtt)
	}
}

// roundTrip gives the median time that a connection between two hosts takes to open.
func (n *network) roundTrip(from, to string) time.Duration {
	n.t.Helper()
	var ln net.Listener
	n.hosts[to].ns.Do(func() (err error) {
		ln, err = net.Listen("tcp", ":0")
		return err
	})
	defer ln.Close()
	_, port, err := net.SplitHostPort(ln.Addr().String())
	proctest.Check(n.t, err)
	return median(n.t, 21, func() error {
		conn, err := n.hosts[from].dial(net.Dialer{Timeout: 5 * time.Second}, net.JoinHostPort(n.hosts[to].addr.String(), port))
		if err != nil {
			return err
		}
		return conn.Close()
	})
}
