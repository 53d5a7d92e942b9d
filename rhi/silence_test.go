package rhi

import (
	"encoding/binary"
	"net/netip"
	"os"
	"sync"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// wire tells how long the sessions were silent on the node's links. The time of a packet is that of the kernel, so it does no
// harm that all processors are busy.
type wire struct {
	mu       sync.Mutex
	last     map[netip.Addr]time.Time       // the last packet that said Up; zero: one has said another state since
	silences map[netip.Addr][]time.Duration // those of more than shortSilence
}

// shortSilence is less than the detection time of any session, and more than there is between packets on a machine that is idle.
const shortSilence = fastBFD

func listenOn(b *testing.B, n *node) *wire {
	b.Helper()
	w := &wire{}
	w.begin()
	const all = unix.ETH_P_ALL<<8 | unix.ETH_P_ALL>>8 // in network order
	var file *os.File
	n.ns.Do(func() error {
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, all)
		if err != nil {
			return err
		}
		file = os.NewFile(uintptr(fd), "wire")
		return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1)
	})
	conn, err := file.SyscallConn()
	if err != nil {
		b.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = conn.Read(w.read) // until the file is closed
	}()
	b.Cleanup(func() { file.Close(); <-ended })
	return w
}

// read notes what waits in the socket, and asks to be called again.
func (w *wire) read(fd uintptr) (done bool) {
	var b, control [256]byte
	for {
		n, c, _, _, err := unix.Recvmsg(int(fd), b[:], control[:], 0)
		if err != nil {
			return false
		}
		messages, err := unix.ParseSocketControlMessage(control[:c])
		if err != nil || len(messages) != 1 {
			continue
		}
		at := *(*unix.Timespec)(unsafe.Pointer(&messages[0].Data[0]))
		if from, up, ok := dissect(b[:n]); ok {
			w.note(from, up, time.Unix(at.Unix()))
		}
	}
}

// dissect finds who sent a packet of BFD, and whether it says Up.
func dissect(b []byte) (from netip.Addr, up, ok bool) {
	const udp, bfd, both = 8, 24, 20 + 8 + 24
	if len(b) < both {
		return from, false, false
	}
	rest := b[20:]
	switch {
	case b[0]>>4 == 4 && b[9] == unix.IPPROTO_UDP:
		from = netip.AddrFrom4([4]byte(b[12:]))
	case b[0]>>4 == 6 && b[6] == unix.IPPROTO_UDP:
		from, rest = netip.AddrFrom16([16]byte(b[8:])), b[40:]
	}
	if !from.IsValid() || len(rest) < udp+bfd {
		return from, false, false
	}
	port := binary.BigEndian.Uint16(rest[2:])
	return from, rest[udp+1]>>6 == 3, port == 3784 || port == 4784
}

// begin forgets what was.
func (w *wire) begin() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.last, w.silences = map[netip.Addr]time.Time{}, map[netip.Addr][]time.Duration{}
}

func (w *wire) note(from netip.Addr, up bool, at time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if last := w.last[from]; !last.IsZero() && at.Sub(last) > shortSilence {
		w.silences[from] = append(w.silences[from], at.Sub(last))
	}
	if w.last[from] = at; !up {
		w.last[from] = time.Time{} // from here on it sends once a second
	}
}

// silence gives the longest of an end of a session, 0 if all were short, and how many were as long as the detection time.
func (w *wire) silence(from netip.Addr, detection time.Duration) (longest time.Duration, lost int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, d := range w.silences[from] {
		longest = max(longest, d)
		if d >= detection {
			lost++
		}
	}
	return longest, lost
}

// worst gives the longest silences of the fast sessions, of our ends and of theirs.
func (w *wire) worst(sessions []soakSession) (ours, theirs time.Duration) {
	for _, x := range sessions {
		if x.interval == fastBFD {
			a, _ := w.silence(x.ours, 0)
			b, _ := w.silence(x.theirs, 0)
			ours, theirs = max(ours, a), max(theirs, b)
		}
	}
	return ours.Round(time.Millisecond), theirs.Round(time.Millisecond)
}
