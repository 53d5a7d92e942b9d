package link

import (
	"context"
	"net"
	"net/netip"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A store that is gone without a word, or whose address is another host's by now, is noticed within about 4 s: of what is
// sent to it nothing is acknowledged, or it does not answer probes.
const (
	deafTime   = 4 * time.Second
	probeAfter = 2 * time.Second // of silence
	probeEvery = time.Second
	probeCount = 2
)

// beginAgain is when a second connection is begun beside a first without an answer. Until the next it is twice that, and so on.
const beginAgain = 250 * time.Millisecond

// Dial opens a connection to a store within a time, one that notices that the store is gone.
//
// The address may be on its way from one host to another, and a SYN that is lost meanwhile is sent again only after a second, and
// then after two more (RFC 6298 section 2). So connections are begun beside the one that has no answer.
func Dial(ctx context.Context, addr netip.AddrPort, within time.Duration) (net.Conn, error) {
	d := net.Dialer{
		KeepAliveConfig: net.KeepAliveConfig{
			Enable: true, Idle: probeAfter, Interval: probeEvery, Count: probeCount,
		},
		Control: deaf,
	}
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	return race(ctx, func(ctx context.Context) (net.Conn, error) { return d.DialContext(ctx, "tcp", addr.String()) })
}

// race opens connections until one has ended in some way, which counts.
func race(ctx context.Context, open func(context.Context) (net.Conn, error)) (net.Conn, error) {
	type result struct {
		conn net.Conn
		err  error
	}
	ctx, cancel := context.WithCancel(ctx)
	results, begun := make(chan result), 0
	begin := func() {
		begun++
		go func() {
			conn, err := open(ctx)
			results <- result{conn, err}
		}()
	}
	defer func() {
		cancel()
		for ; begun > 0; begun-- {
			if late := <-results; late.err == nil {
				late.conn.Close()
			}
		}
	}()
	begin()
	pause := beginAgain
	again := time.NewTimer(pause)
	defer again.Stop()
	for {
		select {
		case first := <-results:
			begun--
			return first.conn, first.err
		case <-again.C:
			begin()
			pause *= 2
			again.Reset(pause)
		}
	}
}

// deaf bounds how long what is sent may stay unacknowledged (tcp(7), TCP_USER_TIMEOUT).
func deaf(_, _ string, socket syscall.RawConn) error {
	var err error
	if cerr := socket.Control(func(fd uintptr) {
		err = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(deafTime/time.Millisecond))
	}); cerr != nil {
		return cerr
	}
	return err
}
