package mesh

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
)

// What a host without the key can make us hold is bounded by these: memberlist reads a whole stream into memory before it
// knows whether the key fits.
const (
	maxStreams   = 16                   // at once, all peers
	maxStreamsOf = 4                    // at once, of one address
	maxStream    = maxMessage + 256<<10 // bytes: the map, and the members with it
	maxPacket    = 2048                 // bytes: members send 1,400

	acceptAgain = 50 * time.Millisecond // after an error, such as no descriptor left
)

// Of memberlist's wire format, what is looked at before memberlist does.
const (
	mlEncrypted = 10  // first byte of an encrypted stream; 4 bytes of length follow
	mlLabelled  = 244 // first byte of a label; 1 byte of length and the label follow
	mlVersion   = 1   // of the encryption: AES-GCM without padding
	mlOverhead  = 29  // of the encryption: version, nonce and tag
)

// network is where sockets come from.
type network struct {
	listenTCP func(netip.AddrPort) (net.Listener, error)
	listenUDP func(netip.AddrPort) (*net.UDPConn, error)
	dial      func(ctx context.Context, from netip.Addr, to string) (net.Conn, error)
}

// hostNetwork is the network of this process.
func hostNetwork() network {
	return network{
		listenTCP: func(a netip.AddrPort) (net.Listener, error) { return net.ListenTCP("tcp", net.TCPAddrFromAddrPort(a)) },
		listenUDP: func(a netip.AddrPort) (*net.UDPConn, error) { return net.ListenUDP("udp", net.UDPAddrFromAddrPort(a)) },
		dial: func(ctx context.Context, from netip.Addr, to string) (net.Conn, error) {
			// the own address, also where another route would choose another one: members know us by it
			d := net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(from, 0))}
			return d.DialContext(ctx, "tcp", to)
		},
	}
}

// transport carries memberlist's packets and streams. It is memberlist's own in small, with bounds, and with an end that
// waits for whoever uses a stream.
type transport struct {
	addr   netip.AddrPort
	net    network
	reject func(reason string)

	tcp     net.Listener
	udp     *net.UDPConn
	packets chan *memberlist.Packet
	streams chan net.Conn

	// life ends with Shutdown. It is kept here because memberlist's calls carry no context.
	life context.Context
	end  context.CancelFunc
	wg   sync.WaitGroup // the loops, and every stream that is dialled or open

	mu     sync.Mutex
	closed bool
	open   map[*stream]netip.Addr
}

// listen opens the sockets and starts the loops. Who calls it calls Shutdown.
func listen(addr netip.AddrPort, n network, reject func(reason string)) (*transport, error) {
	t := &transport{
		addr: addr, net: n, reject: reject,
		packets: make(chan *memberlist.Packet), streams: make(chan net.Conn), open: map[*stream]netip.Addr{},
	}
	var err error
	if t.tcp, err = n.listenTCP(addr); err != nil {
		return nil, fmt.Errorf("listen for the mesh: %w; give an address of this machine and a free port", err)
	}
	if t.udp, err = n.listenUDP(addr); err != nil {
		t.tcp.Close()
		return nil, fmt.Errorf("listen for the mesh: %w; give an address of this machine and a free port", err)
	}
	t.life, t.end = context.WithCancel(context.Background())
	t.wg.Go(t.acceptStreams)
	t.wg.Go(t.readPackets)
	return t, nil
}

// FinalAdvertiseAddr implements memberlist.Transport.
func (t *transport) FinalAdvertiseAddr(string, int) (net.IP, int, error) {
	return t.addr.Addr().AsSlice(), int(t.addr.Port()), nil
}

// WriteTo implements memberlist.Transport.
func (t *transport) WriteTo(b []byte, addr string) (time.Time, error) {
	to, err := netip.ParseAddrPort(addr)
	if err == nil {
		_, err = t.udp.WriteToUDPAddrPort(b, to)
	}
	return time.Now(), err
}

// WriteToAddress implements memberlist.NodeAwareTransport.
func (t *transport) WriteToAddress(b []byte, a memberlist.Address) (time.Time, error) {
	return t.WriteTo(b, a.Addr)
}

// PacketCh implements memberlist.Transport.
func (t *transport) PacketCh() <-chan *memberlist.Packet { return t.packets }

// StreamCh implements memberlist.Transport.
func (t *transport) StreamCh() <-chan net.Conn { return t.streams }

// DialTimeout implements memberlist.Transport.
func (t *transport) DialTimeout(addr string, timeout time.Duration) (net.Conn, error) {
	t.mu.Lock()
	if t.closed {
		t.mu.Unlock()
		return nil, net.ErrClosed
	}
	t.wg.Add(1)
	t.mu.Unlock()
	defer t.wg.Done()
	ctx, cancel := context.WithTimeout(t.life, timeout)
	defer cancel()
	c, err := t.net.dial(ctx, t.addr.Addr(), addr)
	if err != nil {
		return nil, err
	}
	if s := t.track(c, netip.Addr{}); s != nil {
		return s, nil
	}
	return nil, errors.Join(net.ErrClosed, c.Close())
}

// DialAddressTimeout implements memberlist.NodeAwareTransport.
func (t *transport) DialAddressTimeout(a memberlist.Address, timeout time.Duration) (net.Conn, error) {
	return t.DialTimeout(a.Addr, timeout)
}

// Shutdown implements memberlist.Transport: it closes every socket and waits until memberlist has let go of each stream.
func (t *transport) Shutdown() error {
	t.mu.Lock()
	t.closed = true
	for s := range t.open {
		s.Conn.Close() // who reads or writes it gets an error, and closes the stream
	}
	t.mu.Unlock()
	t.end()
	err := errors.Join(ignoreClosed(t.tcp.Close()), ignoreClosed(t.udp.Close()))
	t.wg.Wait()
	return err
}

// ignoreClosed lets Shutdown be called twice.
func ignoreClosed(err error) error {
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

func (t *transport) acceptStreams() {
	for t.life.Err() == nil {
		c, err := t.tcp.Accept()
		if err != nil {
			t.pause()
			continue
		}
		from, err := netip.ParseAddrPort(c.RemoteAddr().String())
		s := t.track(c, from.Addr())
		if err != nil || s == nil {
			t.reject(reasonStreams)
			c.Close()
			continue
		}
		select {
		case t.streams <- s:
		case <-t.life.Done():
			s.Close()
		}
	}
}

func (t *transport) readPackets() {
	buf := make([]byte, maxPacket+1)
	for t.life.Err() == nil {
		n, from, err := t.udp.ReadFromUDPAddrPort(buf)
		at := time.Now()
		if err != nil {
			t.pause()
			continue
		}
		if !packetFits(buf[:n]) {
			t.reject(reasonFormat)
			continue
		}
		p := &memberlist.Packet{Buf: append([]byte(nil), buf[:n]...), From: net.UDPAddrFromAddrPort(from), Timestamp: at}
		select {
		case t.packets <- p:
		case <-t.life.Done():
		}
	}
}

// pause waits a little after an error, so that one that lasts does not take a core.
func (t *transport) pause() {
	select {
	case <-time.After(acceptAgain):
	case <-t.life.Done():
	}
}

// track counts a stream in, nil when there are too many. An invalid from is an own one, of which memberlist opens few.
func (t *transport) track(c net.Conn, from netip.Addr) *stream {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return nil
	}
	if from.IsValid() {
		all, of := 0, 0
		for _, f := range t.open {
			if f.IsValid() {
				all++
			}
			if f == from {
				of++
			}
		}
		if all >= maxStreams || of >= maxStreamsOf {
			return nil
		}
	}
	s := &stream{Conn: c, t: t}
	t.open[s] = from
	t.wg.Add(1)
	return s
}

// stream is a connection that is looked at as it is read: see headFits.
type stream struct {
	net.Conn
	t    *transport
	once sync.Once

	head []byte // what was read so far, until it is known to be good
	good bool
}

var errHead = errors.New("no stream of this mesh, or too long a one")

// Read implements net.Conn.
func (s *stream) Read(b []byte) (int, error) {
	n, err := s.Conn.Read(b)
	if s.good || n == 0 {
		return n, err
	}
	s.head = append(s.head, b[:n]...)
	fits, known := headFits(s.head)
	if known {
		s.good, s.head = fits, nil
		if !fits {
			s.t.reject(reasonFormat)
			return 0, errors.Join(errHead, s.Conn.Close())
		}
	}
	return n, err
}

// Close implements net.Conn.
func (s *stream) Close() error {
	err := s.Conn.Close()
	s.once.Do(func() {
		s.t.mu.Lock()
		delete(s.t.open, s)
		s.t.mu.Unlock()
		s.t.wg.Done()
	})
	return err
}

// headFits says whether a stream that begins so may be handed to memberlist, once that is known: an encrypted message must
// not be longer than any of ours, and neither empty nor padded, for memberlist trusts who has the key not to do that. What
// is not encrypted memberlist refuses itself.
func headFits(b []byte) (fits, known bool) {
	rest, ok := cutLabel(b)
	switch {
	case !ok || len(rest) == 0:
		return false, false
	case rest[0] != mlEncrypted:
		return true, true
	case len(rest) < 6:
		return false, false
	}
	size := binary.BigEndian.Uint32(rest[1:])
	return size > mlOverhead && size <= maxStream && rest[5] == mlVersion, true
}

// packetFits is the same for a packet.
func packetFits(b []byte) bool {
	rest, ok := cutLabel(b)
	return ok && len(b) <= maxPacket && len(rest) > mlOverhead && rest[0] == mlVersion
}

// cutLabel takes a label off, if there is one; ok is false where it does not end.
func cutLabel(b []byte) (rest []byte, ok bool) {
	if len(b) == 0 || b[0] != mlLabelled {
		return b, true
	}
	if len(b) < 2 || len(b) < 2+int(b[1]) {
		return nil, false
	}
	return b[2+int(b[1]):], true
}
