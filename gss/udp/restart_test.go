package udp

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// asker sends numbered queries from one port after the other and counts those without a reply.
type asker struct {
	to            netip.AddrPort
	asked, silent atomic.Uint64
}

// run asks until ctx ends. Each query is from a new port, so that the kernel chooses a socket for it anew.
func (a *asker) run(ctx context.Context, kind byte) error {
	buf := make([]byte, 64)
	for n := uint64(0); ctx.Err() == nil; n++ {
		c, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(a.to))
		if err != nil {
			return err
		}
		query := binary.BigEndian.AppendUint64([]byte{kind}, n)
		c.SetDeadline(time.Now().Add(5 * time.Second))
		a.asked.Add(1)
		if _, err = c.Write(query); err == nil {
			var size int
			if size, err = c.Read(buf); err == nil && string(buf[:size]) != string(query) {
				err = errors.New("reply to another query")
			}
		}
		c.Close()
		if err != nil {
			a.silent.Add(1)
			return fmt.Errorf("query %d: %w", n, err)
		}
	}
	return nil
}

// TestRestartsLoseNothing has one server follow another under load, some times over.
func TestRestartsLoseNothing(t *testing.T) {
	for _, family := range []string{"127.0.0.1:0", "[::1]:0", "0.0.0.0:0"} {
		t.Run(family, func(t *testing.T) {
			t.Parallel()
			cfg := Config{Listen: []netip.AddrPort{netip.MustParseAddrPort(family)}, Sockets: 3}
			s := listen(t, cfg, newEcho())
			stop := serve(t, s)
			cfg.Listen = s.Addrs()
			to := cfg.Listen[0]
			if to.Addr().IsUnspecified() {
				to = netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), to.Port())
			}
			a := &asker{to: to}
			ctx, cancel := context.WithCancel(t.Context())
			var askers sync.WaitGroup
			for i := range 8 {
				askers.Go(func() {
					if err := a.run(ctx, "fs"[i%2]); err != nil {
						t.Error(err)
					}
				})
			}
			for range 5 {
				next := listen(t, cfg, newEcho())
				stopNext := serve(t, next)
				eventually(t, "the successor is asked", func() bool { return total(next).Received > 20 })
				if err := stop(); !errors.Is(err, context.Canceled) {
					t.Errorf("Serve: %v", err)
				}
				before := total(next).Received
				eventually(t, "it alone is asked", func() bool { return total(next).Received > before+100 })
				stop = stopNext
			}
			cancel()
			askers.Wait()
			if a.silent.Load() > 0 || a.asked.Load() < 500 {
				t.Errorf("of %d queries %d have no reply", a.asked.Load(), a.silent.Load())
			}
		})
	}
}
