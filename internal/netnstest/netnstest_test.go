package netnstest

import (
	"net"
	"net/netip"
	"testing"
	"time"
)

func TestVethJoinsNamespaces(t *testing.T) {
	a, b := New(t), New(t)
	Veth(t, a, "eth1", netip.MustParsePrefix("192.0.2.0/31"), b, "eth1", netip.MustParsePrefix("192.0.2.1/31"))
	var ln net.Listener
	b.Do(func() (err error) {
		ln, err = net.Listen("tcp", "192.0.2.1:25")
		return err
	})
	defer ln.Close()
	a.Do(func() error {
		c, err := net.DialTimeout("tcp", "192.0.2.1:25", 20*time.Second)
		if err == nil {
			c.Close()
		}
		return err
	})
}
