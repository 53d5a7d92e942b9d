package real

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"testing"
	"time"

	"anycastle/bpf"
	"anycastle/internal/netnstest"
	"anycastle/lb/agent"
	"anycastle/lb/real/sockets"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"golang.org/x/sys/unix"
)

// fakeCounters holds what the programs would have counted.
type fakeCounters struct {
	mu      sync.Mutex
	tallies map[bpf.Endpoint]bpf.Tally
	added   []bpf.Endpoint
}

func (f *fakeCounters) Tallies() (map[bpf.Endpoint]bpf.Tally, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.tallies, nil
}

func (f *fakeCounters) Add(e bpf.Endpoint) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.added = append(f.added, e)
	return nil
}

func endpoint(vip netip.Addr, port uint16) bpf.Endpoint {
	return bpf.Endpoint{VIP: netip.AddrPortFrom(vip, port), Protocol: unix.IPPROTO_TCP}
}

func newTestSampler(f *fakeCounters) *sampler {
	return newSampler([]netip.Addr{vip1, vip6}, f, slog.New(slog.DiscardHandler))
}

var equateAddrs = cmpopts.EquateComparable(netip.Addr{}, netip.AddrPort{})

// TestMerge brings together what the programs, the listeners and the flows say.
func TestMerge(t *testing.T) {
	tcp := func(addr string, cookie uint64, queue, backlog uint32) sockets.Listener {
		return sockets.Listener{Protocol: unix.IPPROTO_TCP, Local: netip.MustParseAddrPort(addr), Cookie: cookie, Queue: queue, Backlog: backlog}
	}
	for _, tc := range []struct {
		name      string
		tallies   map[bpf.Endpoint]bpf.Tally
		listeners []sockets.Listener
		flows     map[bpf.Endpoint]int
		want      []agent.Port
		added     []bpf.Endpoint
	}{
		{name: "nothing"},
		{
			name:    "answered, and gone",
			tallies: map[bpf.Endpoint]bpf.Tally{endpoint(vip1, 25): {Syns: 9, SynAcks: 6, Refused: 3, Resets: 2}},
			flows:   map[bpf.Endpoint]int{endpoint(vip1, 25): 4},
			want:    []agent.Port{{Address: vip1, Port: 25, Protocol: "tcp", Flows: 4, SYNs: 9, SYNACKs: 6, Refused: 3, Resets: 2}},
		},
		{
			name:      "all other ports together are none",
			tallies:   map[bpf.Endpoint]bpf.Tally{endpoint(vip1, 0): {Syns: 9}},
			listeners: []sockets.Listener{tcp("0.0.0.0:22", 1, 0, 128)},
		},
		{
			name:      "opened for the vip itself",
			listeners: []sockets.Listener{tcp("203.0.113.10:25", 1, 3, 128)},
			want:      []agent.Port{{Address: vip1, Port: 25, Protocol: "tcp", Listening: true, Queue: 3, Backlog: 128}},
			added:     []bpf.Endpoint{endpoint(vip1, 25)},
		},
		{
			name:      "of every address, and answered for one",
			tallies:   map[bpf.Endpoint]bpf.Tally{endpoint(vip6, 25): {SynAcks: 1}},
			listeners: []sockets.Listener{tcp("[::]:25", 1, 0, 128), tcp("0.0.0.0:22", 2, 0, 128)},
			want:      []agent.Port{{Address: vip6, Port: 25, Protocol: "tcp", Listening: true, Backlog: 128, SYNACKs: 1}},
		},
		{
			name:      "of every address, with flows from before we counted",
			listeners: []sockets.Listener{tcp("[::]:25", 1, 0, 128)},
			flows:     map[bpf.Endpoint]int{endpoint(vip1, 25): 2, endpoint(vip1, 54321): 1}, // the server's own connection is none
			want:      []agent.Port{{Address: vip1, Port: 25, Protocol: "tcp", Flows: 2, Listening: true, Backlog: 128}},
			added:     []bpf.Endpoint{endpoint(vip1, 25)},
		},
		{
			name:      "several that share a port: the fullest",
			listeners: []sockets.Listener{tcp("203.0.113.10:25", 1, 3, 128), tcp("203.0.113.10:25", 2, 7, 8), tcp("203.0.113.10:25", 3, 0, 128)},
			want:      []agent.Port{{Address: vip1, Port: 25, Protocol: "tcp", Listening: true, Queue: 7, Backlog: 8}},
			added:     []bpf.Endpoint{endpoint(vip1, 25)},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := &fakeCounters{}
			s := newTestSampler(f)
			var got []agent.Port
			for _, p := range s.merge(tc.listeners, tc.tallies, tc.flows) {
				got = append(got, p)
			}
			if diff := cmp.Diff(tc.want, got, equateAddrs); diff != "" {
				t.Errorf("ports (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(tc.added, f.added, equateAddrs); diff != "" {
				t.Errorf("counted by themselves from now on (-want +got):\n%s", diff)
			}
		})
	}
}

func TestIsUrgent(t *testing.T) {
	calm := agent.Port{Address: vip1, Port: 25, Protocol: "tcp", Listening: true, SYNs: 7, SYNACKs: 7, Refused: 1, Resets: 1, Overflows: 1}
	for name, tc := range map[string]struct {
		change func(p *agent.Port)
		want   bool
	}{
		"nothing":         {func(*agent.Port) {}, false},
		"more flows":      {func(p *agent.Port) { p.Flows, p.SYNs, p.SYNACKs = 9, 9, 9 }, false},
		"refused":         {func(p *agent.Port) { p.Refused++ }, true},
		"reset":           {func(p *agent.Port) { p.Resets++ }, true},
		"overflow":        {func(p *agent.Port) { p.Overflows++ }, true},
		"listener gone":   {func(p *agent.Port) { p.Listening = false }, true},
		"of another port": {func(p *agent.Port) { p.Port = 143 }, false},
	} {
		after := calm
		tc.change(&after)
		if got := isUrgent(agent.Report{VIPs: []agent.Port{calm}}, agent.Report{VIPs: []agent.Port{after}}); got != tc.want {
			t.Errorf("%s: %v, want %v", name, got, tc.want)
		}
	}
}

// TestSamplerSeesTheServer has a listener with a full queue, and flows of both families.
func TestSamplerSeesTheServer(t *testing.T) {
	ns := netnstest.New(t)
	f := &fakeCounters{}
	s := newTestSampler(f)
	ns.Do(newRole(t, Config{VIPs: s.vips}).addVIPs)
	var cfg net.ListenConfig
	cfg.SetMultipathTCP(false)
	var ln, six net.Listener
	ns.Do(func() (err error) {
		if ln, err = cfg.Listen(t.Context(), "tcp4", "203.0.113.10:25"); err != nil {
			return err
		}
		six, err = cfg.Listen(t.Context(), "tcp6", "[2001:db8:0:25::10]:25")
		return err
	})
	defer ln.Close()
	defer six.Close()
	raw, err := ln.(*net.TCPListener).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	raw.Control(func(fd uintptr) { err = syscall.Listen(int(fd), 1) })
	if err != nil {
		t.Fatal(err)
	}
	dial := func(local, to string, wait time.Duration) error {
		d := net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(netip.MustParseAddrPort(local)), Timeout: wait}
		var conn net.Conn
		var err error
		ns.Do(func() error {
			conn, err = d.Dial("tcp", to)
			return nil
		})
		if err == nil {
			t.Cleanup(func() { conn.Close() })
		}
		return err
	}
	for range 2 {
		if err := dial("127.0.0.1:0", "203.0.113.10:25", patience); err != nil {
			t.Fatal(err)
		}
	}
	for range 3 {
		if err := dial("[::1]:0", "[2001:db8:0:25::10]:25", patience); err != nil {
			t.Fatal(err)
		}
	}
	get := func() (r agent.Report, urgent uint64) {
		ns.Do(func() (err error) {
			r, urgent, err = s.report(0)
			return err
		})
		return r, urgent
	}
	want := []agent.Port{
		{Address: vip1, Port: 25, Protocol: "tcp", Flows: 2, Listening: true, Queue: 2, Backlog: 1},
		{Address: vip6, Port: 25, Protocol: "tcp", Flows: 3, Listening: true, Queue: 3},
	}
	counting, cancel := context.WithCancel(t.Context())
	var counter sync.WaitGroup
	counter.Go(func() { // a thread of its own: it counts in the namespace
		ns.Do(func() error { return s.count(counting) })
	})
	defer counter.Wait()
	defer cancel()
	backlog := cmpopts.IgnoreFields(agent.Port{}, "Backlog") // the second one's is the machine's default
	eventually(t, "flows counted, and a full queue", func() bool {
		r, urgent := get()
		return cmp.Equal(want, r.VIPs, equateAddrs, backlog) && r.Load >= 1 && urgent == 0 && r.Counted.After(s.since)
	})
	eventually(t, "an overflow", func() bool {
		// again and again, since on a busy machine the time may be over before anything is sent
		if err := dial("127.0.0.1:0", "203.0.113.10:25", 20*time.Millisecond); err == nil {
			t.Error("a third connection was taken")
		}
		r, urgent := get()
		return r.VIPs[0].Overflows > 0 && urgent > 0
	})
	ln.Close()
	f.mu.Lock()
	f.tallies = map[bpf.Endpoint]bpf.Tally{endpoint(vip1, 25): {Refused: 3}}
	f.mu.Unlock()
	r, _ := get()
	if p := r.VIPs[0]; p.Listening || p.Refused != 3 || p.Overflows == 0 {
		t.Errorf("after the listener's end: %+v", p)
	}
	first, _ := get()
	var second agent.Report
	ns.Do(func() (err error) {
		second, _, err = s.report(time.Hour)
		return err
	})
	if !second.At.Equal(first.At) {
		t.Error("a report that is young enough was taken anew")
	}
	var flows []agent.Flow
	ns.Do(func() (err error) {
		flows, err = s.list(2)
		return err
	})
	if len(flows) != 2 || flows[0].VIP.Port() != 25 || !flows[0].Client.Addr().IsLoopback() {
		t.Errorf("flows %+v", flows)
	}
}
