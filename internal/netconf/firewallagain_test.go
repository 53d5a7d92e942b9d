package netconf

import (
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"anycastle/internal/firewall"
)

// TestFirewallIsSetAgain has packets pass while the rules are made anew, again and again: none of those that are allowed is lost,
// and none of the others passes.
func TestFirewallIsSetAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	cfg, err := decode(routerNode)
	if err != nil {
		t.Fatal(err)
	}
	first := cfg.Firewall.Allow[0]
	for range 20 { // a transaction takes a while then
		cfg.Firewall.Allow = append(cfg.Firewall.Allow, first)
	}
	allowed, forbidden := w.stream("outside", "front", 53), w.stream("outside", "back", 53)
	w.router.Do(func() error {
		for range 20 {
			if err := firewall.Apply(*cfg.Firewall); err != nil {
				return err
			}
		}
		return nil
	})
	if sent, got := allowed(); sent == 0 || got != sent {
		t.Errorf("%d of %d allowed packets came", got, sent)
	}
	if sent, got := forbidden(); sent == 0 || got != 0 {
		t.Errorf("%d of %d forbidden packets came", got, sent)
	}
}

// stream sends packets from one machine to another until stop, which tells how many were sent and how many came.
func (w *world) stream(from, to string, port uint16) (stop func() (sent, got int64)) {
	w.t.Helper()
	target := netip.AddrPortFrom(w.v4[to], port)
	var in *net.UDPConn
	w.nodes[to].Do(func() (err error) {
		if in, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(target)); err == nil {
			err = in.SetReadBuffer(1 << 20)
		}
		return err
	})
	var out *net.UDPConn
	w.nodes[from].Do(func() (err error) {
		out, err = net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(target))
		return err
	})
	var sent, got atomic.Int64
	var reading, sending sync.WaitGroup
	reading.Go(func() {
		for buf := make([]byte, 16); ; got.Add(1) {
			if _, err := in.Read(buf); err != nil {
				return // it is closed
			}
		}
	})
	end := make(chan struct{})
	sending.Go(func() {
		tick := time.NewTicker(200 * time.Microsecond)
		defer tick.Stop()
		for {
			select {
			case <-end:
				return
			case <-tick.C:
				if _, err := out.Write([]byte("packet")); err != nil {
					w.t.Error(err)
					return
				}
				sent.Add(1)
			}
		}
	})
	return func() (int64, int64) {
		close(end)
		sending.Wait()
		for last := time.Now().Add(impatience); time.Now().Before(last) && got.Load() < sent.Load(); time.Sleep(time.Millisecond) {
		}
		in.Close()
		out.Close()
		reading.Wait()
		return sent.Load(), got.Load()
	}
}
