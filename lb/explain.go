package lb

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"

	"anycastle/bpf"
	"anycastle/internal/strict"
)

// maxQuestionBody bounds a question on the socket, in bytes.
const maxQuestionBody = 4096

// Explain runs the loaded program on a packet, against the tables that are installed, and says what became of it. It changes
// and counts nothing. An error is ErrQuestion, ErrNotRunning or the kernel's.
func (l *LB) Explain(ctx context.Context, q Question) (Answer, error) {
	q, err := q.Complete()
	if err != nil {
		return Answer{}, err
	}
	uplinks := l.config().Uplinks
	if q.Uplink == "" {
		q.Uplink = uplinks[0]
	}
	if !slices.Contains(uplinks, q.Uplink) {
		return Answer{}, fmt.Errorf("%w: %.80q is no uplink; there are %q", ErrQuestion, q.Uplink, uplinks)
	}
	var a Answer
	asked := l.ask(ctx, func(l *loop) { a, err = l.explain(q) })
	return a, errors.Join(asked, err)
}

// ask has the loop answer between two changes: what is known then is what is installed.
func (l *LB) ask(ctx context.Context, question func(*loop)) error {
	l.mu.Lock()
	running := l.running
	l.mu.Unlock()
	if !running {
		return ErrNotRunning
	}
	done := make(chan struct{})
	select {
	case l.questions <- func(l *loop) { defer close(done); question(l) }:
		<-done
		return nil
	case <-l.ended:
		return ErrNotRunning
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (l *loop) explain(q Question) (Answer, error) {
	link, err := netlink.LinkByName(q.Uplink)
	if err != nil {
		return Answer{}, fmt.Errorf("find uplink %s: %w", q.Uplink, err)
	}
	in := link.Attrs()
	if !slices.Contains(l.uplinks, in.Index) {
		return Answer{}, fmt.Errorf("uplink %s is not the interface any more that the program is on; restart the balancer", q.Uplink)
	}
	to := in.HardwareAddr
	if len(to) != len(asker) {
		to = make(net.HardwareAddr, len(asker)) // a link without addresses
	}
	trace, out, err := l.plane.Explain(q.frame(to), in.Index)
	if err != nil {
		return Answer{}, err
	}
	a := Answer{Question: q, OnAddress: l.vipsOn(q.To.Addr()), Behind: l.behind()}
	e, err := l.place(&a, trace)
	if err != nil {
		return a, err
	}
	if err := l.send(&a, trace, out, in.Index); err != nil {
		return a, err
	}
	return a, l.word(&a, trace, e, out)
}

// behind says why what is installed is not what should be.
func (l *loop) behind() string {
	switch {
	case !l.ready:
		return "the first probes have not finished: what is installed is what an earlier process left"
	case l.failed != nil:
		return fmt.Sprintf("the last change did not succeed, and is tried again: %v", l.failed)
	}
	return ""
}

// place fills in the VIP and the slot that the program found.
func (l *loop) place(a *Answer, t bpf.Trace) (vipEntry, error) {
	if t.Vip == 0 {
		return vipEntry{}, nil
	}
	key, e, ok := l.have.findVIP(t.Vip - 1)
	if !ok {
		return e, fmt.Errorf("the program found a VIP with counter %d, which nobody has installed", t.Vip-1)
	}
	vip := l.toVIP(key)
	a.VIP = &vip
	s := &ToSlot{Number: int(t.Slot), InTransition: t.Primary != t.Secondary,
		Primary: l.toReal(vip.Farm, t.Primary), Secondary: l.toReal(vip.Farm, t.Secondary)}
	a.Slot = s
	a.Real, a.Second = l.toReal(vip.Farm, t.Real), l.toReal(vip.Farm, t.Second)
	if !s.InTransition && !e.followAll || a.reason(t) == "no_table" {
		return e, nil
	}
	if s.Method = l.have.method(e, t); s.Method == SecondChance {
		return e, nil
	}
	stored, err := l.plane.StoredFlow(a.Question.flow())
	s.Followed, s.Stored = true, l.toReal(vip.Farm, stored)
	return e, err
}

// flow is the packet's.
func (q Question) flow() flow { return flow{q.From, q.To, q.proto()} }

// findVIP gives the VIP that has a counter.
func (t tables) findVIP(index uint32) (vipKey, vipEntry, bool) {
	for key, e := range t.allVIPs() {
		if e.index == index {
			return key, e, true
		}
	}
	return vipKey{}, vipEntry{}, false
}

// method is how the program treats an established flow of a slot where somebody has to look: two reals of which one is
// no agent cannot have second chances, whatever the farm has.
func (t tables) method(e vipEntry, trace bpf.Trace) string {
	agent := func(index uint16) bool { r, ok := t.reals[uint32(index)]; return !ok || r.kind == bpf.KindGUE }
	primary, secondary := t.reals[uint32(trace.Primary)].addr, t.reals[uint32(trace.Secondary)].addr
	oneVersion := !primary.IsValid() || !secondary.IsValid() || primary.Is4() == secondary.Is4()
	if e.secondChance && trace.Primary != trace.Secondary && oneVersion && agent(trace.Primary) && agent(trace.Secondary) {
		return SecondChance
	}
	return Tracked
}

func (l *loop) toVIP(key vipKey) ToVIP {
	v := ToVIP{Address: key.addr, Protocol: "tcp", Port: key.ports, InService: l.have.addresses[key.addr].inService}
	if key.proto == protoUDP {
		v.Protocol = "udp"
	}
	for i := range l.in.cfg.VIPs {
		if c := &l.in.cfg.VIPs[i]; c.key() == key {
			v.Name, v.Farm = c.Name, c.Farm
		}
	}
	return v
}

// vipsOn gives the VIPs that are installed on an address, the narrowest first.
func (l *loop) vipsOn(addr netip.Addr) []ToVIP {
	var keys []vipKey
	for key := range l.have.allVIPs() {
		if key.addr == addr {
			keys = append(keys, key)
		}
	}
	slices.SortFunc(keys, vipKey.compare)
	list := make([]ToVIP, 0, len(keys))
	for _, key := range keys {
		list = append(list, l.toVIP(key))
	}
	return list
}

// toReal tells of the real that is installed under an index: nil for none.
func (l *loop) toReal(farm string, index uint16) *ToReal {
	if index == none {
		return nil
	}
	e, ok := l.have.reals[uint32(index)]
	if !ok {
		return &ToReal{Farm: farm, State: StateFailed, Why: fmt.Sprintf("nothing is installed as real %d", index)}
	}
	r := &ToReal{Farm: farm, Address: e.addr, Forward: forwardOf(e.kind), NextHop: e.hop.String(), Why: "it is in no config and no record"}
	if hop := l.in.hops[e.addr]; !e.hop.Resolved() && !hop.Resolved() {
		r.NextHop = hop.String() // it says why
	}
	for i := range l.in.cfg.Farms {
		f := &l.in.cfg.Farms[i]
		if f.Name != farm && farm != "" { // of a VIP that has left the config no farm is known
			continue
		}
		for _, s := range l.showReals(f, counted{}) {
			if s.Address == e.addr {
				r.Farm, r.Name, r.State, r.Why, r.Since = s.Farm, s.Name, s.State, s.Why, s.Since
			}
		}
	}
	return r
}

// forwardOf undoes Forward.kind.
func forwardOf(kind uint8) Forward {
	for _, w := range []Forward{ForwardGUE, ForwardL2} {
		if w.kind() == kind {
			return w
		}
	}
	return ForwardIPIP
}

// send says how the packet leaves, if it goes to a real: by the frame that the program made.
func (l *loop) send(a *Answer, t bpf.Trace, out []byte, in int) error {
	if v := bpf.Verdict(t.Verdict); v != bpf.TX && v != bpf.Redirect || t.Real == none {
		return nil
	}
	e := l.have.reals[uint32(t.Real)]
	h, err := readFrame(out, e.kind == bpf.KindGUE)
	if err != nil {
		return fmt.Errorf("read the frame that the program made: %w", err)
	}
	a.Sent = h.sentFrame(a.Question, forwardOf(e.kind))
	a.Sent.MTU, a.Sent.Uplink = e.hop.MTU, a.Question.Uplink
	if e.hop.Ifindex != in {
		a.Sent.Uplink = fmt.Sprintf("interface %d", e.hop.Ifindex)
		if link, err := net.InterfaceByIndex(e.hop.Ifindex); err == nil {
			a.Sent.Uplink = link.Name
		}
	}
	return nil
}

// serveExplain takes a Question as JSON and answers with an Answer.
func (l *LB) serveExplain(w http.ResponseWriter, r *http.Request) {
	var q Question
	if err := strict.Decode(http.MaxBytesReader(w, r.Body, maxQuestionBody), &q); err != nil {
		http.Error(w, fmt.Sprintf("read the question: %v", err), http.StatusUnprocessableEntity)
		return
	}
	a, err := l.Explain(r.Context(), q)
	switch {
	case errors.Is(err, ErrQuestion):
		http.Error(w, err.Error(), http.StatusUnprocessableEntity)
	case errors.Is(err, ErrNotRunning):
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
	case err != nil:
		http.Error(w, err.Error(), http.StatusInternalServerError)
	default:
		w.Header().Set("Content-Type", "application/json")
		if err := json.NewEncoder(w).Encode(a); err != nil {
			l.log.Warn("answer a question", "err", err)
		}
	}
}
