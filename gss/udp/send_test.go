package udp

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
	"unsafe"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// TestErrorsOfSending has the kernel refuse some replies: the others go, and each loss is counted for what it is.
func TestErrorsOfSending(t *testing.T) {
	t.Parallel()
	const replies = 7
	for _, tc := range []struct {
		name   string
		errors map[int][]error // what sending this reply gives, before it goes or is given up
		lost   map[Reason]uint64
	}{
		{"none", nil, nil},
		{"no room", map[int][]error{0: {unix.ENOBUFS}, 3: {unix.EAGAIN}}, map[Reason]uint64{NoRoom: 2}},
		{"a filter", map[int][]error{6: {unix.EPERM}}, map[Reason]uint64{Forbidden: 1}},
		{"no route", map[int][]error{2: {unix.ENETUNREACH}, 5: {unix.EHOSTUNREACH}}, map[Reason]uint64{Unreachable: 2}},
		{"an error of an earlier one", map[int][]error{1: {unix.ECONNREFUSED}}, nil},
		{"such errors without end", map[int][]error{1: {unix.ECONNREFUSED, unix.ECONNREFUSED}}, map[Reason]uint64{SendFailed: 1}},
		{"a signal", map[int][]error{0: {unix.EINTR, unix.EINTR}}, nil},
		{"all", map[int][]error{0: {unix.EMSGSIZE}, 1: {unix.EINVAL}, 2: {unix.EPERM}, 3: {unix.EPERM}, 4: {unix.EPERM},
			5: {unix.EPERM}, 6: {unix.EPERM}}, map[Reason]uint64{SendFailed: 2, Forbidden: 5}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			out := make([]header, replies)
			var sent []int
			failures := map[int][]error{}
			for i, list := range tc.errors {
				failures[i] = slices.Clone(list)
			}
			s := &socket{sendAs: func(_ int, headers []header) (int, error) {
				n := 0
				for i := range headers {
					number := int(uintptr(unsafe.Pointer(&headers[i]))-uintptr(unsafe.Pointer(&out[0]))) / int(unsafe.Sizeof(out[0]))
					if list := failures[number]; len(list) > 0 {
						if n > 0 {
							return n, nil // as the kernel does: the error is told when this is the first
						}
						failures[number] = list[1:]
						return 0, list[0]
					}
					sent = append(sent, number)
					n++
				}
				return n, nil
			}}
			lost := s.send(out)
			var want [Reasons]uint64
			for r, n := range tc.lost {
				want[r] = n
			}
			var got [Reasons]uint64
			sum := 0
			for i := range got {
				got[i] = s.counts.dropped[i].Load()
				sum += int(got[i])
			}
			if diff := cmp.Diff(want, got); diff != "" || sum != lost {
				t.Errorf("lost %d (-want +got):\n%s", lost, diff)
			}
			if len(sent)+lost != replies || !slices.IsSorted(sent) {
				t.Errorf("sent %v of %d, %d lost", sent, replies, lost)
			}
		})
	}
}

func TestReasonsHaveNames(t *testing.T) {
	seen := map[string]bool{}
	for r := range Reasons {
		name := r.String()
		if name == "" || seen[name] || name != strings.ToLower(name) {
			t.Errorf("reason %d is called %q", r, name)
		}
		seen[name] = true
	}
	if Reasons.String() != "unknown" {
		t.Error("there is one more name than reasons")
	}
}

// TestOurAddress makes control data of replies.
func TestOurAddress(t *testing.T) {
	control := func(level, kind int32, data ...byte) []byte {
		b := make([]byte, unix.SizeofCmsghdr, 64)
		c := (*unix.Cmsghdr)(unsafe.Pointer(&b[0]))
		c.Level, c.Type = level, kind
		c.SetLen(len(b) + len(data))
		return append(b, data...)
	}
	four := []byte{1, 2, 3, 4, 192, 0, 2, 1, 192, 0, 2, 1}
	four0 := append(make([]byte, 4), four[4:]...)
	six := func(addr string, link byte) []byte {
		a := netip.MustParseAddr(addr).As16()
		return append(a[:], link, 0, 0, 0)
	}
	for _, tc := range []struct {
		name     string
		in, want []byte
	}{
		{"none", nil, nil},
		{"stub", make([]byte, unix.SizeofCmsghdr-1), nil},
		{"IPv4", control(unix.IPPROTO_IP, unix.IP_PKTINFO, four...), control(unix.IPPROTO_IP, unix.IP_PKTINFO, four0...)},
		{"IPv6", control(unix.IPPROTO_IPV6, unix.IPV6_PKTINFO, six("2001:db8::1", 3)...),
			control(unix.IPPROTO_IPV6, unix.IPV6_PKTINFO, six("2001:db8::1", 0)...)},
		{"link-local", control(unix.IPPROTO_IPV6, unix.IPV6_PKTINFO, six("fe80::1", 3)...),
			control(unix.IPPROTO_IPV6, unix.IPV6_PKTINFO, six("fe80::1", 3)...)},
		{"too short", control(unix.IPPROTO_IP, unix.IP_PKTINFO, four[:11]...), nil},
		{"another", control(unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, make([]byte, 16)...), nil},
	} {
		got := slices.Clone(tc.in)
		if got = got[:ourAddress(got)]; string(got) != string(tc.want) {
			t.Errorf("%s: %x, want %x", tc.name, got, tc.want)
		}
	}
}

// TestNothingIsAllocated takes full batches through all that a reader does.
func TestNothingIsAllocated(t *testing.T) {
	s := listen(t, Config{Sockets: 1}, &quiet{})
	r := &reader{Server: s, sock: s.sockets[0], lane: &quiet{}, b: newBatch(s.sockets[0])}
	c := dial(t, s.Addrs()[0])
	raw, err := c.SyscallConn()
	check(t, err)
	query := []byte("fast")
	n, failed := 0, error(nil)
	allocs := testing.AllocsPerRun(50, func() {
		raw.Control(func(fd uintptr) {
			for range batchSize {
				if _, err := unix.Write(int(fd), query); err != nil {
					failed = err
				}
			}
		})
		got, err := r.b.receive(r.sock.fd, unix.MSG_WAITFORONE)
		if err != nil {
			failed = err
			return
		}
		r.serve(time.Now(), got)
		n += got
	})
	check(t, failed)
	if allocs > 2 { // the test's own, of RawConn.Control
		t.Errorf("%v allocations for a batch", allocs)
	}
	if n != 51*batchSize || s.Counters()[0].Fast != uint64(n) {
		t.Errorf("%d queries, %+v", n, s.Counters())
	}
}

// quiet answers everything.
type quiet struct{}

func (q *quiet) Lane(int) Lane                              { return q }
func (*quiet) Slow(dst, query []byte, _ netip.AddrPort) int { return copy(dst, query) }
func (*quiet) Begin(time.Time)                              {}
func (*quiet) Fast(dst, query []byte, _ netip.AddrPort) (n int, why Verdict) {
	return copy(dst, query), Answered
}

func TestWorthWaiting(t *testing.T) {
	const pause = 100 * time.Microsecond
	for _, tc := range []struct {
		name  string
		since time.Duration
		n     int
		pause time.Duration
		want  bool
	}{
		{"the first of all", 1000 * time.Hour, 1, pause, false},
		{"a thousand a second", time.Millisecond, 1, pause, false},
		{"ten thousand a second", 100 * time.Microsecond, 1, pause, true},
		{"twenty thousand a second, by fours", 200 * time.Microsecond, 4, pause, true},
		{"many at once after a rest", time.Second, 63, pause, false},
		{"more than a batch holds", 100 * time.Microsecond, batchSize, pause, false},
		{"no pause wanted", 0, 1, -1, false},
	} {
		if got := worthWaiting(tc.since, tc.n, tc.pause); got != tc.want {
			t.Errorf("%s: %v", tc.name, got)
		}
	}
}

// TestBusySocketGathers asks without a rest: batches have more than one query in them, and each query its reply.
func TestBusySocketGathers(t *testing.T) {
	t.Parallel()
	const asked, window = 5000, 32
	s := listen(t, Config{Sockets: 1, Gather: time.Millisecond}, &quiet{})
	serve(t, s)
	c := dial(t, s.Addrs()[0])
	for i := range asked {
		send(t, c, "fast")
		if i >= window {
			expect(t, c, "fast")
		}
	}
	for range window {
		expect(t, c, "fast")
	}
	eventually(t, "all replies are counted", func() bool { return total(s).Fast == asked })
	batches := uint64(0)
	for _, n := range total(s).Batches {
		batches += n
	}
	if batches > asked/4 {
		t.Errorf("%d replies in %d batches", asked, batches)
	}
}
