package bpf

import (
	"errors"
	"net/netip"
	"testing"

	"anycastle/internal/netnstest"
	"anycastle/internal/pkttest"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/ringbuf"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// realRig is a decapsulator with small maps, on a host with an address of each family and both VIPs.
type realRig struct {
	*RealHost
	wanted *ringbuf.Reader
	ns     *netnstest.NS // where packets come in; nil: where the test is
}

// The addresses of the host, and of VIPs beside those of the balancer's cases.
var (
	own4, own6           = mx1, ipip6.addr
	otherVIP4, otherVIP6 = netip.MustParseAddr("203.0.113.12"), netip.MustParseAddr("2001:db8:1::12")
)

func newRealRig(t testing.TB) *realRig {
	t.Helper()
	spec, err := loadReal()
	put(t, err)
	for _, name := range []string{realMapDecisions, realMapHops, realMapOwnAddresses, realMapVipAddresses} {
		spec.Maps[name].MaxEntries = rigFlows
	}
	host, err := loadRealSpec(spec, pinDir(t))
	put(t, err)
	t.Cleanup(func() { host.Close() })
	r := &realRig{RealHost: host}
	r.wanted, err = ringbuf.NewReader(host.objs.Wanted)
	put(t, err)
	t.Cleanup(func() { r.wanted.Close() })
	put(t, r.SetAddresses([]netip.Addr{own4, own6}, []netip.Addr{vipTCP.Addr(), vipTCP6.Addr(), otherVIP4, otherVIP6}))
	return r
}

// reset brings the maps to where every case begins.
func (r *realRig) reset(t testing.TB) {
	t.Helper()
	for _, m := range []*ebpf.Map{r.objs.Decisions, r.objs.Hops, r.objs.RealUplinks} {
		clearMap(t, m)
	}
	r.forget(t)
}

// forget sets the counters to 0 and empties the ring of ways that are wanted.
func (r *realRig) forget(t testing.TB) {
	t.Helper()
	cpus := ebpf.MustPossibleCPU()
	reset(t, r.drops, make([]uint64, int(realReasonREASON_MAX)*cpus))
	reset(t, r.objs.Taken, make([]Count, int(r.objs.Taken.MaxEntries())*cpus))
	r.takeWanted(t)
}

// takeWanted gives the reals that a way was wanted to.
func (r *realRig) takeWanted(t testing.TB) []string {
	t.Helper()
	if r.wanted.AvailableBytes() == 0 {
		return nil
	}
	var all []string
	put(t, r.wanted.Flush())
	for {
		record, err := r.wanted.Read()
		if errors.Is(err, ringbuf.ErrFlushed) {
			return all
		}
		put(t, err)
		all = append(all, netip.AddrFrom16([16]byte(record.RawSample)).Unmap().String())
	}
}

// realMoved is every counter that is not 0, and what is written elsewhere.
type realMoved struct {
	Drops     map[string]uint64
	Here, On  Count
	Decisions map[FragmentKey]uint8
	Wanted    []string
}

func (r *realRig) moved(t testing.TB) realMoved {
	t.Helper()
	m := realMoved{Drops: r.dropped(t), Decisions: dump[FragmentKey, uint8](t, r.objs.Decisions), Wanted: r.takeWanted(t)}
	var err error
	m.Here, err = r.Decapsulated()
	put(t, err)
	m.On, err = r.PassedOn()
	put(t, err)
	return m
}

// test runs the program on a frame that came in by the host's lo.
func (r *realRig) test(t testing.TB, in []byte) (verdict uint32, out []byte) {
	t.Helper()
	run := func() (err error) {
		verdict, out, err = r.prog.Test(in)
		return err
	}
	if r.ns == nil {
		put(t, run())
	} else {
		r.ns.Do(run)
	}
	return verdict, out
}

type realCase struct {
	name    string
	prepare func(t *testing.T, r *realRig)
	frame   made // nil: the valid packet
	mangle  func(b []byte) []byte
	verdict uint32
	reason  string // of a drop
	want    made   // nil: the packet is as it came in
	moves   func(m *realMoved)
}

// runReal runs the cases on one host.
func runReal(t *testing.T, cases []realCase) {
	r := newRealRig(t)
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) { r.run(t, tc) })
	}
}

func (r *realRig) run(t *testing.T, tc realCase) {
	t.Helper()
	r.reset(t)
	if tc.prepare != nil {
		tc.prepare(t, r)
		r.forget(t)
	}
	if tc.frame == nil {
		tc.frame = encapsulated
	}
	in := tc.frame().Bytes(t)
	if tc.mangle != nil {
		in = tc.mangle(in)
	}
	want := in
	var moves realMoved
	if tc.reason != "" {
		moves.Drops = map[string]uint64{tc.reason: 1}
	}
	if tc.want != nil {
		f := tc.want()
		want = f.Bytes(t)
		moves.Here = Count{Packets: 1, Bytes: uint64(len(f.Packet(t)))}
		if tc.verdict != xdpPass {
			moves.Here, moves.On = Count{}, moves.Here
		}
	}
	if tc.moves != nil {
		tc.moves(&moves)
	}
	verdict, out := r.test(t, in)
	if verdict != tc.verdict {
		t.Errorf("verdict %v, want %v", Verdict(verdict), Verdict(tc.verdict))
	}
	if diff := pkttest.Diff(want, out); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(moves, r.moved(t), cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("moved (-want +got):\n%s", diff)
	}
}
