package bpf

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math/bits"
	"net/netip"
	"testing"

	"anycastle/internal/modeltest"
	"anycastle/internal/pkttest"

	"github.com/cilium/ebpf"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// twin is the program and the model of it, with the same in their maps.
type twin struct {
	lb    *LB
	model *modeltest.LB
	out   []byte
	drops dropWatch
	tried int
	told  int // clients that a packet is too big
}

// newTwin loads a program with a world in its maps.
func newTwin(t testing.TB, w *modeltest.World) *twin {
	t.Helper()
	lb, err := LoadLB(pinDir(t), w.LB.Key)
	put(t, err)
	t.Cleanup(func() { lb.Close() })
	write(t, lb, w.LB)
	return &twin{lb: lb, model: w.LB, out: make([]byte, 4096), drops: newDropWatch(&lb.program)}
}

// write brings what the control plane would write into the maps.
func write(t testing.TB, lb *LB, m *modeltest.LB) {
	t.Helper()
	for k, v := range m.VIPs {
		if k.Addr.Is4() {
			put(t, lb.VIPs4.Put(VIPKey4{Addr: Addr4(k.Addr), Port: Port(k.Port), Proto: k.Proto}, newVIP(v, false)))
		} else {
			put(t, lb.VIPs6.Put(VIPKey6{Addr: Addr(k.Addr), Port: Port(k.Port), Proto: k.Proto}, newVIP(v, true)))
		}
	}
	for key, a := range m.Addresses {
		entry := Address{Ranges: uint32(len(a.Ranges))}
		if a.InService {
			entry.Flags = AddressInService
		}
		for i, r := range a.Ranges {
			entry.Range[i].Low, entry.Range[i].High, entry.Range[i].Proto = r.Lo, r.Hi, r.Proto
			entry.Range[i].Vip = newVIP(r.VIP, !netip.AddrFrom16(key).Is4In6())
		}
		put(t, lb.Addresses.Put(key, entry))
	}
	for index, r := range m.Reals {
		put(t, lb.Reals.Put(uint32(index), modelReal(r)))
	}
	for index, farm := range m.Farms {
		slots := make([]Slot, len(farm))
		for i, s := range farm {
			slots[i] = Slot{Primary: s.Primary, Secondary: s.Secondary}
		}
		table, err := lb.NewTable(slots)
		put(t, err)
		put(t, lb.Farms.Put(index, table))
		put(t, table.Close())
	}
	flags := uint32(0)
	if m.ReplyByRedirect {
		flags = RealRedirect
	}
	put(t, lb.SetUplinkFlags(modeltest.Ingress, flags))
}

func newVIP(v modeltest.VIP, v6 bool) VIP {
	out := VIP{Farm: v.Farm, Index: v.Index}
	if v.SecondChance {
		out.Flags = VIPSecondChance
	}
	if v.FollowAll {
		out.Flags |= VIPFollowAll
	}
	if v.Source {
		ones := netip.AddrFrom4([4]byte{255, 255, 255, 255})
		if v6 {
			ones = netip.AddrFrom16([16]byte(bytes.Repeat([]byte{255}, 16)))
		}
		out.Flags |= VIPHashSource
		out.Mask = Addr(netip.PrefixFrom(ones, v.Prefix).Masked().Addr())
	}
	return out
}

func modelReal(r modeltest.Real) Real {
	out := Real{
		Addr: Addr(r.Addr), Source: Addr(r.Source), Ifindex: r.Ifindex, Mtu: uint16(r.MTU), Sum: OuterSum(r.Source, r.Addr),
		DstMac: r.DstMAC, SrcMac: r.SrcMAC, Kind: uint8(r.Kind), Tags: uint8(len(r.Tags)),
	}
	if r.Addr.Is6() {
		out.Flags |= RealIPv6
	}
	if r.Redirect {
		out.Flags |= RealRedirect
	}
	for i, tag := range r.Tags {
		out.Tag[i].Proto, out.Tag[i].Tci = Port(tag.Proto), Port(tag.TCI)
	}
	return out
}

// difference is one between the program and the model about a frame.
type difference struct {
	kind string // empty: there is none
	text string
}

// forget empties what both keep of flows and fragments, so that a frame does not depend on those before it.
func (w *twin) forget(t testing.TB) {
	t.Helper()
	if len(w.model.Flows)+len(w.model.Fragments) > 0 {
		put(t, w.lb.ForgetFlows())
		clearMap(t, w.lb.Fragments)
		w.model.Forget()
	}
}

// try gives one frame to both.
func (w *twin) try(t testing.TB, frame []byte) difference {
	t.Helper()
	var said Trace
	var explained []byte
	if w.tried++; w.tried%framesPerExplain == 0 {
		var err error
		said, explained, err = w.lb.Explain(frame, modeltest.Ingress)
		put(t, err)
	}
	opts := ebpf.RunOptions{Data: frame, DataOut: w.out}
	verdict, err := w.lb.prog.Run(&opts)
	put(t, err)
	r := w.model.Run(frame, modeltest.Ingress)
	if explained != nil {
		if d := explains(said, explained, r); d.kind != "" {
			return d
		}
	}
	if r.TooBig && verdict != xdpDrop {
		w.told++
	}
	if r.TooBig && verdict == xdpDrop { // it may have no token left; the counter says whether that was it
		w.model.Limited()
		r = modeltest.Result{Verdict: modeltest.Drop, Reason: "icmp_limited"}
	}
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

// framesPerExplain is how many frames come to one that is explained before it is sent. What an explanation changes, the
// program and the model then disagree about.
const framesPerExplain = 8

// explains holds what the program says that it would do against what the model does.
func explains(said Trace, out []byte, r modeltest.Result) difference {
	if said.Verdict != uint32(r.Verdict) || r.Verdict == modeltest.Drop && ReasonName(said.Reason) != r.Reason {
		return difference{fmt.Sprintf("explained as verdict %d %s, the model's is %d %s", said.Verdict, ReasonName(said.Reason), r.Verdict, r.Reason), ""}
	}
	if r.Real != 0 && (said.Real != r.Real || said.Second != r.Second) {
		return difference{fmt.Sprintf("explained to go to %d and %d, the model's are %d and %d", said.Real, said.Second, r.Real, r.Second), ""}
	}
	if r.Verdict == modeltest.Drop {
		return difference{}
	}
	if diff := pkttest.Diff(r.Out, out); diff != "" {
		return difference{"bytes of the explanation", diff}
	}
	return difference{}
}

// dropWatch tells which counters of drops move.
type dropWatch struct {
	drops *ebpf.Map
	last  []uint64 // by reason
}

func newDropWatch(p *program) dropWatch {
	return dropWatch{p.drops, make([]uint64, lbReasonREASON_MAX)}
}

// moved gives the reasons whose counters moved since it was asked last, each as often as it moved.
func (w *dropWatch) moved(t testing.TB) (reasons []string) {
	t.Helper()
	cpus := ebpf.MustPossibleCPU()
	keys, perCPU := make([]uint32, lbReasonREASON_MAX), make([]uint64, int(lbReasonREASON_MAX)*cpus)
	var cursor ebpf.MapBatchCursor
	if _, err := w.drops.BatchLookup(&cursor, keys, perCPU, nil); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
		t.Fatal(err)
	}
	now := make([]uint64, lbReasonREASON_MAX)
	for i, key := range keys {
		for _, n := range perCPU[i*cpus : (i+1)*cpus] {
			now[key] += n
		}
	}
	for reason, n := range now {
		for range n - w.last[reason] {
			reasons = append(reasons, reasonNames[reason])
		}
	}
	w.last = now
	return reasons
}

// compare holds everything that is counted or kept against the model.
func (w *twin) compare(t testing.TB) {
	t.Helper()
	if w.told == 0 && w.tried >= framesPerLook {
		t.Errorf("in %d frames no client was told that its packet is too big", w.tried)
	}
	if diff := cmp.Diff(nonZeroOf(w.model.Drops), nonZero(t, &w.lb.program)); diff != "" {
		t.Errorf("drops (-model +program):\n%s", diff)
	}
	vips := map[uint32]modeltest.Count{}
	for i := range uint32(MaxVIPs) {
		c, err := SumCount(w.lb.Counts, i)
		put(t, err)
		if c.Packets != 0 {
			vips[i] = modeltest.Count{Packets: c.Packets, Bytes: c.Bytes}
		}
	}
	if diff := cmp.Diff(w.model.Counts, vips); diff != "" {
		t.Errorf("packets and bytes of VIPs (-model +program):\n%s", diff)
	}
	replies, err := w.lb.Replies()
	put(t, err)
	if replies.Echo+replies.TooBig != w.model.Replies {
		t.Errorf("%d answers, the model's %d", replies.Echo+replies.TooBig, w.model.Replies)
	}
	same := cmpopts.EquateComparable(netip.Addr{}, netip.AddrPort{})
	stored, err := w.lb.StoredFlows()
	put(t, err)
	if diff := cmp.Diff(w.flowsOfModel(), stored); diff != "" {
		t.Errorf("flows (-model +program):\n%s", diff)
	}
	if diff := cmp.Diff(w.fragmentsOfModel(), w.fragments(t), same); diff != "" {
		t.Errorf("choices for fragments (-model +program):\n%s", diff)
	}
}

func nonZeroOf(drops map[string]uint64) map[string]uint64 {
	some := maps.Clone(drops)
	maps.DeleteFunc(some, func(_ string, n uint64) bool { return n == 0 })
	return some
}

func (w *twin) flowsOfModel() map[FlowID]uint16 {
	flows := map[FlowID]uint16{}
	for f, real := range w.model.Flows {
		flows[w.lb.FlowID(w.model.FlowHash(f))] = real
	}
	return flows
}

func (w *twin) fragments(t testing.TB) map[modeltest.FragmentKey]modeltest.Choice {
	fragments := map[modeltest.FragmentKey]modeltest.Choice{}
	var key FragmentKey
	var value Fragment
	entries := w.lb.Fragments.Iterate()
	for entries.Next(&key, &value) {
		v6 := key.Family == 6
		id := uint32(Port(uint16(key.Id))) // in network order, the lower half in IPv4
		if v6 {
			id = bits.ReverseBytes32(key.Id)
		}
		k := modeltest.FragmentKey{Src: NetAddr(key.Src, v6), Dst: NetAddr(key.Dst, v6), ID: id, Proto: key.Proto}
		fragments[k] = modeltest.Choice{Real: value.Real, Second: value.Second, VIP: value.Vip - 1} // 0 is no VIP
	}
	put(t, entries.Err())
	return fragments
}

// fragmentsOfModel leaves the hash out, of which the program keeps what it needs.
func (w *twin) fragmentsOfModel() map[modeltest.FragmentKey]modeltest.Choice {
	fragments := map[modeltest.FragmentKey]modeltest.Choice{}
	for k, c := range w.model.Fragments {
		fragments[k] = modeltest.Choice{Real: c.Real, Second: c.Second, VIP: c.VIP}
	}
	return fragments
}
