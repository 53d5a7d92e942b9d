package lbbench

import (
	"context"
	wire "encoding/binary"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const (
	discardPort = "9" // of the UDP VIP
	udpFlows    = 64
	// udpWindow bounds how many datagrams are under way: fewer than the ring of any link holds, so that one that is lost is
	// lost by the balancer and not by a busy machine.
	udpWindow = 128
	// At most udpBurst datagrams leave each udpPause.
	udpBurst = 4
	udpPause = time.Millisecond
	// echoPause is between two echoes of a connection.
	echoPause = 50 * time.Millisecond
)

// load is traffic through the VIP: numbered datagrams, counted where they arrive, and connections with numbered echoes.
type load struct {
	s        *site
	cancel   context.CancelFunc
	senders  sync.WaitGroup
	readers  sync.WaitGroup
	sockets  []net.PacketConn
	conns    []net.Conn
	window   chan struct{}
	sent     atomic.Uint64
	received atomic.Uint64
	echoes   []atomic.Uint64 // of each connection

	mu      sync.Mutex
	seen    []bool            // datagrams, by number
	home    [udpFlows]string  // the real of each flow
	moved   int               // datagrams that arrived at another
	doubled int               // datagrams that arrived again
	broken  []error           // what ended a connection
	arrived map[string]uint64 // datagrams by real
}

// loadReport says what became of a load.
type loadReport struct {
	packets, lost, doubled, moved uint64
	connections, broken           int
	causes                        []error
}

// startLoad sends through lb1 to these reals, which serve, until stop is called.
func (s *site) startLoad(connections int, reals ...string) *load {
	s.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	l := &load{s: s, cancel: cancel, window: make(chan struct{}, udpWindow), arrived: map[string]uint64{},
		conns: make([]net.Conn, connections), echoes: make([]atomic.Uint64, connections)}
	s.t.Cleanup(l.end)
	for _, real := range reals {
		l.count(real)
	}
	s.onThreads(connectors, func(i int) (err error) {
		d := dialer()
		for ; i < connections && err == nil; i += connectors {
			l.conns[i], err = s.connect(&d, vipTarget)
		}
		return err
	})
	for i := range l.conns {
		l.senders.Go(func() {
			if err := l.echo(ctx, i); err != nil {
				l.mu.Lock()
				l.broken = append(l.broken, fmt.Errorf("connection %v: %w", l.conns[i].LocalAddr(), err))
				l.mu.Unlock()
			}
		})
	}
	flows := make([]net.Conn, udpFlows)
	s.client.Do(func() (err error) {
		for i := range flows {
			if flows[i], err = net.Dial("udp4", net.JoinHostPort(vip, discardPort)); err != nil {
				return err
			}
		}
		return nil
	})
	l.senders.Go(func() { l.send(ctx, flows) })
	l.await("the load flows", 1)
	return l
}

// count counts the datagrams that arrive at a real.
func (l *load) count(real string) {
	l.s.t.Helper()
	cfg := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) (err error) {
		c.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 8<<20) })
		return err
	}}
	var socket net.PacketConn
	l.s.hosts[real].Do(func() (err error) {
		socket, err = cfg.ListenPacket(context.Background(), "udp4", ":"+discardPort)
		return err
	})
	l.sockets = append(l.sockets, socket)
	l.readers.Go(func() {
		buf := make([]byte, 64)
		for {
			n, _, err := socket.ReadFrom(buf)
			if err != nil {
				return // closed
			}
			if n == 8 {
				l.arrive(real, wire.BigEndian.Uint64(buf))
			}
		}
	})
}

func (l *load) arrive(real string, number uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	flow := number % udpFlows
	if l.home[flow] == "" {
		l.home[flow] = real
	}
	if l.home[flow] != real {
		l.moved++
	}
	if number >= uint64(len(l.seen)) {
		l.seen = append(l.seen, make([]bool, number+1-uint64(len(l.seen)))...)
	}
	if l.seen[number] {
		l.doubled++
		return
	}
	l.seen[number] = true
	l.arrived[real]++
	l.received.Add(1)
	select {
	case <-l.window:
	default: // the sender has given one up that was only late
	}
}

// send sends numbered datagrams on the flows in turn.
func (l *load) send(ctx context.Context, flows []net.Conn) {
	defer func() {
		for _, c := range flows {
			c.Close()
		}
	}()
	tick := time.NewTicker(udpPause)
	defer tick.Stop()
	var payload [8]byte
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		for range udpBurst {
			select {
			case l.window <- struct{}{}:
			case <-time.After(time.Second): // those under way are lost; go on without them
			}
			number := l.sent.Load()
			wire.BigEndian.PutUint64(payload[:], number)
			if _, err := flows[number%udpFlows].Write(payload[:]); err != nil {
				continue // not sent; an answer of an earlier one that nobody took says so
			}
			l.sent.Add(1)
		}
	}
}

// echo has numbers echoed on a connection until ctx is done, and says what was wrong.
func (l *load) echo(ctx context.Context, i int) error {
	c := l.conns[i]
	tick := time.NewTicker(echoPause)
	defer tick.Stop()
	var out, in [16]byte
	wire.BigEndian.PutUint64(out[:], uint64(i))
	for n := uint64(0); ; n++ {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		wire.BigEndian.PutUint64(out[8:], n)
		if err := c.SetDeadline(time.Now().Add(answerTime)); err != nil {
			return err
		}
		if _, err := c.Write(out[:]); err != nil {
			return err
		}
		if _, err := io.ReadFull(c, in[:]); err != nil {
			return err
		}
		if in != out {
			return fmt.Errorf("echo %x of %x", in, out)
		}
		l.echoes[i].Add(1)
	}
}

// await waits until so many more rounds of all that is sent have come through. What is broken by then counts as broken and
// is not waited for.
func (l *load) await(what string, rounds uint64) {
	l.s.t.Helper()
	first := l.sent.Load()
	before := make([]uint64, len(l.echoes))
	for i := range l.echoes {
		before[i] = l.echoes[i].Load()
	}
	eventually(l.s.t, what, func() bool {
		late := 0
		for i := range l.echoes {
			if l.echoes[i].Load() < before[i]+rounds {
				late++
			}
		}
		l.mu.Lock()
		broken := len(l.broken)
		l.mu.Unlock()
		return l.sent.Load() >= first+rounds*udpFlows && late <= broken
	})
}

// stop ends the load once all that is under way has arrived or will not.
func (l *load) stop() loadReport {
	l.s.t.Helper()
	l.cancel()
	l.senders.Wait()
	r := loadReport{packets: l.sent.Load(), connections: len(l.conns)}
	last, since := uint64(0), time.Now()
	eventually(l.s.t, "all datagrams have arrived, or none has for a second", func() bool {
		if got := l.received.Load(); got != last {
			last, since = got, time.Now()
		}
		return last == r.packets || time.Since(since) > time.Second
	})
	l.end()
	r.lost = r.packets - l.received.Load()
	r.doubled, r.moved, r.broken, r.causes = uint64(l.doubled), uint64(l.moved), len(l.broken), l.broken
	for _, real := range l.home {
		if l.arrived[real] == 0 {
			l.s.t.Errorf("a flow has no real; datagrams by real: %v", l.arrived)
		}
	}
	return r
}

// end ends all without a look at what comes. A second call does nothing.
func (l *load) end() {
	l.cancel()
	l.senders.Wait()
	for _, c := range l.conns {
		if c != nil {
			c.Close()
		}
	}
	for _, c := range l.sockets {
		c.Close()
	}
	l.readers.Wait()
}

// whole says whether nothing was lost, broken or moved, and reports what was.
func (r loadReport) whole(t testing.TB) {
	t.Helper()
	t.Logf("%d datagrams, %d lost, %d doubled, %d at another real; %d connections, %d broken",
		r.packets, r.lost, r.doubled, r.moved, r.connections, r.broken)
	if r.lost+r.doubled+r.moved != 0 || r.broken != 0 {
		t.Errorf("of %d datagrams %d lost, %d doubled, %d at another real; of %d connections %d broken: %v",
			r.packets, r.lost, r.doubled, r.moved, r.connections, r.broken, r.causes)
	}
}
