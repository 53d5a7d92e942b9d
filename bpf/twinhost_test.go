package bpf

import (
	"fmt"
	"net/netip"
	"testing"

	"anycastle/internal/modeltest"
	"anycastle/internal/pkttest"

	"github.com/cilium/ebpf"
	"github.com/google/go-cmp/cmp"
)

// twinHost is the program of a real and the model of it.
type twinHost struct {
	host  *RealHost
	model *modeltest.Host
	out   []byte
	drops dropWatch
}

func newTwinHost(t testing.TB, m *modeltest.Host) *twinHost {
	t.Helper()
	host, err := LoadReal(pinDir(t))
	put(t, err)
	t.Cleanup(func() { host.Close() })
	put(t, host.SetAddresses(unmapped(m.Own), unmapped(m.VIPs)))
	for to, h := range m.Hops {
		put(t, host.SetHop(netip.AddrFrom16(to).Unmap(), Hop{Ifindex: int(h.Ifindex), DstMAC: h.DstMAC, SrcMAC: h.SrcMAC}))
	}
	flags := uint32(0)
	if m.RedirectAlways {
		flags = RealRedirect
	}
	put(t, host.SetUplinkFlags(modeltest.Ingress, flags))
	return &twinHost{host: host, model: m, out: make([]byte, 4096), drops: newDropWatch(&host.program)}
}

func unmapped(set map[[16]byte]bool) (addrs []netip.Addr) {
	for key := range set {
		addrs = append(addrs, netip.AddrFrom16(key).Unmap())
	}
	return addrs
}

// forget empties what both keep of fragments.
func (w *twinHost) forget(t testing.TB) {
	t.Helper()
	if len(w.model.Fragments) > 0 {
		clearMap(t, w.host.objs.Decisions)
		w.model.Forget()
	}
}

// try gives one frame to both.
func (w *twinHost) try(t testing.TB, frame []byte) difference {
	t.Helper()
	opts := ebpf.RunOptions{Data: frame, DataOut: w.out}
	verdict, err := w.host.prog.Run(&opts)
	put(t, err)
	r := w.model.Run(frame)
	switch {
	case verdict != uint32(r.Verdict):
		return difference{fmt.Sprintf("verdict %d, the model's is %d %s", verdict, r.Verdict, r.Reason),
			fmt.Sprintf("counted under %v\n%s", w.drops.moved(t), pkttest.Diff(r.Out, opts.DataOut))}
	case verdict == xdpDrop:
		if moved := w.drops.moved(t); len(moved) != 1 || moved[0] != r.Reason {
			return difference{"dropped, the model's reason is " + r.Reason, fmt.Sprintf("counted under %v", moved)}
		}
		return difference{}
	}
	if diff := pkttest.Diff(r.Out, opts.DataOut); diff != "" {
		return difference{"bytes", diff}
	}
	return difference{}
}

// compare holds everything that is counted against the model.
func (w *twinHost) compare(t testing.TB) {
	t.Helper()
	if diff := cmp.Diff(nonZeroOf(w.model.Drops), nonZero(t, &w.host.program)); diff != "" {
		t.Errorf("drops (-model +program):\n%s", diff)
	}
	here, err := w.host.Decapsulated()
	put(t, err)
	on, err := w.host.PassedOn()
	put(t, err)
	got := [2]modeltest.Count{{Packets: here.Packets, Bytes: here.Bytes}, {Packets: on.Packets, Bytes: on.Bytes}}
	if want := [2]modeltest.Count{w.model.Here, w.model.On}; got != want {
		t.Errorf("taken off and passed on: %v, the model's %v", got, want)
	}
}
