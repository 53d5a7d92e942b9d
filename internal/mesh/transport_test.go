package mesh

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"anycastle/internal/porttest"
)

// patience bounds every wait; the machine may be busy.
const patience = 60 * time.Second

func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	deadline := time.After(patience)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !cond() {
		select {
		case <-deadline:
			t.Fatalf("not within %v: %s", patience, what)
		case <-tick.C:
		}
	}
}

func startTransport(t *testing.T) (tr *transport, rejected map[string]*atomic.Int64) {
	t.Helper()
	rejected = map[string]*atomic.Int64{reasonStreams: {}, reasonFormat: {}}
	tr, err := listen(porttest.Free(t, "127.0.0.2"), hostNetwork(), func(r string) { rejected[r].Add(1) })
	check(t, err)
	t.Cleanup(func() { check(t, tr.Shutdown()) })
	return tr, rejected
}

func dialFrom(t *testing.T, from string, to netip.AddrPort) net.Conn {
	t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	c, err := d.Dial("tcp", to.String())
	check(t, err)
	t.Cleanup(func() { c.Close() })
	return c
}

func TestStreamsAreBounded(t *testing.T) {
	tr, rejected := startTransport(t)
	var mine []net.Conn
	for range maxStreamsOf {
		dialFrom(t, "127.0.0.3", tr.addr)
		mine = append(mine, <-tr.streams)
	}
	extra := dialFrom(t, "127.0.0.3", tr.addr)
	if _, err := extra.Read(make([]byte, 1)); err == nil || rejected[reasonStreams].Load() != 1 {
		t.Errorf("one stream too many of one address: %v, %d rejected", err, rejected[reasonStreams].Load())
	}
	// others still come in, up to all that there may be
	for i := range maxStreams - maxStreamsOf {
		dialFrom(t, netip.AddrFrom4([4]byte{127, 0, 1, byte(i + 1)}).String(), tr.addr)
		mine = append(mine, <-tr.streams)
	}
	extra = dialFrom(t, "127.0.0.4", tr.addr)
	if _, err := extra.Read(make([]byte, 1)); err == nil || rejected[reasonStreams].Load() != 2 {
		t.Errorf("one stream too many: %v, %d rejected", err, rejected[reasonStreams].Load())
	}
	check(t, mine[0].Close())
	dialFrom(t, "127.0.0.4", tr.addr)
	mine[0] = <-tr.streams
	for _, c := range mine {
		check(t, c.Close())
		c.Close() // twice is once
	}
	if len(tr.open) != 0 {
		t.Errorf("%d streams are still counted", len(tr.open))
	}
}

func TestShutdownWaitsForStreams(t *testing.T) {
	tr, _ := startTransport(t)
	dialFrom(t, "127.0.0.3", tr.addr)
	in := <-tr.streams
	out, err := tr.DialTimeout(tr.addr.String(), patience)
	check(t, err)
	second := <-tr.streams
	ended := make(chan error, 3)
	for _, c := range []net.Conn{in, out, second} {
		go func() {
			_, err := io.Copy(io.Discard, c) // until Shutdown ends it
			ended <- err
			c.Close()
		}()
	}
	check(t, tr.Shutdown())
	for range 3 {
		select {
		case <-ended:
		default:
			t.Error("Shutdown did not wait for who reads a stream")
		}
	}
	tr.net.dial = func(context.Context, netip.Addr, string) (net.Conn, error) {
		t.Error("the network is touched after the end")
		return nil, net.ErrClosed
	}
	if _, err := tr.DialTimeout(tr.addr.String(), patience); !errors.Is(err, net.ErrClosed) {
		t.Errorf("dialled after the end: %v", err)
	}
	if _, err := tr.WriteTo([]byte{1}, tr.addr.String()); !errors.Is(err, net.ErrClosed) {
		t.Errorf("sent after the end: %v", err)
	}
}

func TestListenSaysWhatIsWrong(t *testing.T) {
	tr, _ := startTransport(t)
	if _, err := listen(tr.addr, hostNetwork(), nil); err == nil || !bytes.Contains([]byte(err.Error()), []byte("give an address of this machine and a free port")) {
		t.Errorf("a port that is taken: %v", err)
	}
	half := hostNetwork()
	half.listenUDP = func(netip.AddrPort) (*net.UDPConn, error) { return nil, errors.New("no UDP") }
	addr := porttest.Free(t, "127.0.0.2")
	if _, err := listen(addr, half, nil); err == nil {
		t.Error("listens without UDP")
	}
	l, err := net.Listen("tcp", addr.String())
	if err != nil {
		t.Fatalf("the TCP socket is left open: %v", err)
	}
	l.Close()
}

func TestPacketsAreLookedAt(t *testing.T) {
	tr, rejected := startTransport(t)
	u, err := net.Dial("udp", tr.addr.String())
	check(t, err)
	defer u.Close()
	good := append([]byte{mlVersion}, make([]byte, mlOverhead)...)
	for _, b := range [][]byte{
		{0}, {mlLabelled}, {mlLabelled, 200, 1}, good[:mlOverhead], append([]byte{0}, good[1:]...),
		append(good, make([]byte, maxPacket)...), good,
	} {
		_, err := u.Write(b)
		check(t, err)
	}
	if p := <-tr.packets; !bytes.Equal(p.Buf, good) || p.From.String() != u.LocalAddr().String() {
		t.Errorf("got %x from %v", p.Buf, p.From)
	}
	if n := rejected[reasonFormat].Load(); n != 6 {
		t.Errorf("%d rejected, want 6", n)
	}
}

func TestHeadOfAStream(t *testing.T) {
	for _, tc := range []struct {
		name        string
		b           []byte
		fits, known bool
	}{
		{"nothing yet", nil, false, false},
		{"part of a label", []byte{mlLabelled, 2, 'l'}, false, false},
		{"a label alone", []byte{mlLabelled, 2, 'l', 'b'}, false, false},
		{"part of a length", []byte{mlEncrypted, 0, 0}, false, false},
		{"not encrypted", []byte{6}, true, true}, // memberlist says so
		{"good", []byte{mlEncrypted, 0, 0, 1, 0, mlVersion}, true, true},
		{"good with a label", []byte{mlLabelled, 2, 'l', 'b', mlEncrypted, 0, 0, 1, 0, mlVersion}, true, true},
		{"empty", []byte{mlEncrypted, 0, 0, 0, mlOverhead, mlVersion}, false, true},
		{"padded", []byte{mlEncrypted, 0, 0, 1, 0, 0}, false, true},
		{"too long", []byte{mlEncrypted, 1, 0, 0, 0, mlVersion}, false, true},
	} {
		if fits, known := headFits(tc.b); fits != tc.fits || known != tc.known {
			t.Errorf("%s: %v, %v", tc.name, fits, known)
		}
	}
}

func FuzzHead(f *testing.F) {
	f.Add([]byte{mlLabelled, 2, 'l', 'b', mlEncrypted, 0, 0, 1, 0, mlVersion})
	f.Add([]byte{mlVersion, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		packetFits(b)
		fits, known := headFits(b)
		if !known {
			return
		}
		// what is known of a beginning does not change with what follows
		if again, still := headFits(append(bytes.Clone(b), 1, 2, 3)); again != fits || !still {
			t.Errorf("%x fits: %v; with more of it: %v", b, fits, again)
		}
	})
}
