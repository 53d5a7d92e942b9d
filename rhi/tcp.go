package rhi

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"time"
	"unsafe"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// tcpCount is how many bytes went into a TCP socket so far, and how many of them the peer's TCP has acknowledged.
type tcpCount struct{ written, acked uint64 }

// socketID is how the kernel knows a socket (struct inet_diag_sockid): ports, addresses, interface, and a cookie that no
// later socket has.
type socketID [48]byte

// socketDiag asks the kernel about TCP sockets (sock_diag(7)). The speaker's connections are gobgp's own; a duplicate of
// a file descriptor would keep the connection open after gobgp has closed it, so they are looked at from outside.
type socketDiag struct{ handle *nl.SocketHandle }

// Sizes of struct inet_diag_msg and, in it, what comes before the socketID.
const (
	diagMsgSize  = 72
	diagHeadSize = 4
	diagInfo     = 2 // INET_DIAG_INFO: struct tcp_info
	tcpStateUp   = 1 // TCP_ESTABLISHED
)

// openSocketDiag works on the network namespace of the calling thread.
func openSocketDiag() (*socketDiag, error) {
	s, err := nl.Subscribe(unix.NETLINK_INET_DIAG)
	if err != nil {
		return nil, fmt.Errorf("open socket diagnostics: %w", err)
	}
	limit := unix.NsecToTimeval(int64(time.Second)) // the kernel answers at once; never hang on it
	if err := s.SetReceiveTimeout(&limit); err != nil {
		s.Close()
		return nil, fmt.Errorf("open socket diagnostics: %w", err)
	}
	return &socketDiag{&nl.SocketHandle{Socket: s}}, nil
}

func (d *socketDiag) close() { d.handle.Socket.Close() }

// find looks for the established connection with a peer by its ports: the kernel goes through all connections once.
func (d *socketDiag) find(peer netip.Addr, local, remote uint16) (socketID, error) {
	var like socketID
	binary.BigEndian.PutUint16(like[0:], local)
	binary.BigEndian.PutUint16(like[2:], remote)
	answers, err := d.ask(familyOf(peer), unix.NLM_F_DUMP, 0, like)
	if err != nil {
		return socketID{}, fmt.Errorf("find the connection with %v: %w", peer, err)
	}
	for _, a := range answers {
		if len(a) < diagMsgSize {
			continue
		}
		id := socketID(a[diagHeadSize:])
		if id.remote(peer.Is4()) == peer.WithZone("") {
			return id, nil
		}
	}
	return socketID{}, fmt.Errorf("find the connection with %v: none from port %d to %d", peer, local, remote)
}

// count reads the counters of a socket; an error also when it is closed.
func (d *socketDiag) count(peer netip.Addr, id socketID) (tcpCount, error) {
	answers, err := d.ask(familyOf(peer), 0, 1<<(diagInfo-1), id)
	if err != nil {
		return tcpCount{}, fmt.Errorf("look at the connection with %v: %w", peer, err)
	}
	for _, a := range answers {
		if len(a) < diagMsgSize || a[1] != tcpStateUp {
			continue
		}
		attrs, err := nl.ParseRouteAttr(a[diagMsgSize:])
		if err != nil {
			return tcpCount{}, fmt.Errorf("look at the connection with %v: %w", peer, err)
		}
		for _, attr := range attrs {
			if attr.Attr.Type == diagInfo && len(attr.Value) >= int(unsafe.Offsetof(unix.TCPInfo{}.Bytes_retrans))+8 {
				return countOf(attr.Value), nil
			}
		}
	}
	return tcpCount{}, fmt.Errorf("look at the connection with %v: the kernel counts no bytes of it (closed, or a kernel before 4.19)", peer)
}

// countOf reads a struct tcp_info. The kernel fills it under the socket's lock, so that its counters fit together, which
// the length of the send queue beside it need not do. On a connection that we dialled bytes_acked counts the SYN as well;
// one byte too many does no harm, as no segment of a few messages ends one byte before theirs.
func countOf(info []byte) tcpCount {
	at := func(offset uintptr) uint64 { return binary.NativeEndian.Uint64(info[offset:]) }
	unsent := binary.NativeEndian.Uint32(info[unsafe.Offsetof(unix.TCPInfo{}.Notsent_bytes):])
	return tcpCount{
		written: at(unsafe.Offsetof(unix.TCPInfo{}.Bytes_sent)) - at(unsafe.Offsetof(unix.TCPInfo{}.Bytes_retrans)) + uint64(unsent),
		acked:   at(unsafe.Offsetof(unix.TCPInfo{}.Bytes_acked)),
	}
}

// ask sends one request (struct inet_diag_req_v2).
func (d *socketDiag) ask(family uint8, flags int, extensions uint8, id socketID) ([][]byte, error) {
	req := nl.NewNetlinkRequest(nl.SOCK_DIAG_BY_FAMILY, flags)
	req.Sockets = map[int]*nl.SocketHandle{unix.NETLINK_INET_DIAG: d.handle}
	req.AddRawData([]byte{family, unix.IPPROTO_TCP, extensions, 0})
	req.AddRawData(binary.NativeEndian.AppendUint32(nil, 1<<tcpStateUp))
	req.AddRawData(id[:])
	return req.Execute(unix.NETLINK_INET_DIAG, 0)
}

// remote is the far address of the socket.
func (id socketID) remote(is4 bool) netip.Addr {
	if is4 {
		return netip.AddrFrom4([4]byte(id[20:]))
	}
	return netip.AddrFrom16([16]byte(id[20:]))
}
