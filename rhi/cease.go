package rhi

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// bfdDown is a NOTIFICATION (RFC 4271 4.5): marker, length 21, type 3, and Cease, BFD Down (RFC 9384).
const bfdDown = "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff" + "\x00\x15" + "\x03" + "\x06\x0a"

const (
	findLimit = 200 * time.Millisecond // how long a new connection's file is looked for; it takes a few milliseconds unless the machine is busy
	maxGap    = 1024                   // numbers in a row that are no file's: there are none above
	maxQueued = 4                      // segments that the peer has not acknowledged, or that are not sent yet
)

var (
	errNoFile  = errors.New("no file of this process is the connection")
	errNoTrace = errors.New("the connection was not found when the session came up")
)

// file is a socket of this process: its number, which is another's once it is closed, and its cookie, which never is.
type file struct {
	fd     int
	cookie uint64
}

// noteFile finds the file of a peer's new connection, if BFD watches the peer: when it is lost there is no time to look for it.
func (r *Role) noteFile(a netip.Addr) {
	r.mu.Lock()
	p := r.peers[a]
	r.mu.Unlock()
	if p == nil || p.BFD == nil {
		return
	}
	id, err := r.stamps.socket(a)
	var f file
	if err == nil {
		f, err = findFile(id)
	}
	if err != nil {
		r.log.Debug("will not be able to tell a peer that BFD is down", "peer", p.Name, "err", err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	p.file = f
}

// tellLost tells a peer that its session ends because BFD has found the way to it lost. gobgp can only say that the peer is
// not configured any more, and does so right after, when nobody listens. Whether it gets there or not, the session ends. The
// caller holds mu.
func (r *Role) tellLost(p *session) {
	if err := p.file.sayLast(bfdDown); err != nil {
		r.log.Debug("cannot tell a peer that BFD is down", "peer", p.Name, "err", err)
	}
}

// findFile asks the process's files for their cookies. That is quicker than to list /proc/self/fd, and a new file gets the
// least number that is free, so it is found before many numbers were tried that stand for none.
func findFile(id socketID) (file, error) {
	begun, gap := time.Now(), 0
	for fd := 0; gap < maxGap && time.Since(begun) < findLimit; fd++ {
		switch cookie, err := unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_COOKIE); {
		case err == nil && cookie == id.cookie():
			return file{fd, cookie}, nil
		case errors.Is(err, unix.EBADF):
			gap++
		default:
			gap = 0
		}
	}
	return file{}, errNoFile
}

// is asks whether a number stands for the socket; it may stand for anything, or nothing.
func (f file) is(fd int) bool {
	cookie, err := unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_COOKIE)
	return err == nil && cookie == f.cookie
}

// duplicate gives a number of the socket that nobody else closes.
func (f file) duplicate() (int, error) {
	if !f.is(f.fd) {
		return -1, errNoFile
	}
	fd, err := unix.FcntlInt(uintptr(f.fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("duplicate the connection: %w", err)
	}
	if !f.is(fd) { // gobgp has closed it in between, and the number was given away
		unix.Close(fd)
		return -1, errNoFile
	}
	return fd, nil
}

// sayLast writes a message to a connection of gobgp's, after which gobgp must have nothing to say. It never waits.
//
// It must not fall into the middle of a message of gobgp's. Each of those is one write, which the kernel takes whole unless
// the send buffer is full; what is left then follows when a third of it is free. A buffer that holds a few segments is far
// from that, as it has room for twenty at the least. A keepalive or two may well be in it, for a way that is lost brings no
// acknowledgments.
func (f file) sayLast(message string) error {
	fd, err := f.duplicate()
	if err != nil {
		return err
	}
	defer unix.Close(fd) // at once: it keeps the connection open after gobgp has closed it
	info, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
	if err != nil {
		return fmt.Errorf("look at the connection: %w", err)
	}
	if queued := info.Unacked + info.Notsent_bytes/max(1, info.Snd_mss); queued > maxQueued {
		return fmt.Errorf("%d segments are queued: a message may be half written", queued)
	}
	if err := unix.Send(fd, []byte(message), unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL); err != nil {
		return fmt.Errorf("write to the connection: %w", err)
	}
	return nil
}

// cookie is the one that no later socket has. Its halves are in an order of their own, the lower one first.
func (id socketID) cookie() uint64 {
	low, high := binary.NativeEndian.Uint32(id[40:]), binary.NativeEndian.Uint32(id[44:])
	return uint64(high)<<32 | uint64(low)
}
