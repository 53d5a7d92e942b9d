package lb

import (
	"cmp"
	"fmt"
	"strings"

	"anycastle/bpf"
)

// reason is the name of why the program dropped the packet; empty: it did not.
func (a *Answer) reason(t bpf.Trace) string {
	if bpf.Verdict(t.Verdict) != bpf.Drop {
		return ""
	}
	return bpf.ReasonName(t.Reason)
}

// word says in words what became of the packet.
func (l *loop) word(a *Answer, t bpf.Trace, e vipEntry, out []byte) error {
	switch v := bpf.Verdict(t.Verdict); {
	case v == bpf.Drop:
		a.Fate, a.Reason = Dropped, a.reason(t)
		a.Why, a.Mend = dropWords(a.Reason)
		if more := l.dropDetail(a); more != "" {
			a.Why += ": " + more
		}
	case v == bpf.Pass:
		a.Fate = Passed
		a.passedWords()
	case (v == bpf.TX || v == bpf.Redirect) && t.Real != none:
		a.Fate, a.Why = Forwarded, a.forwardedWords(e)
	case v == bpf.TX || v == bpf.Redirect:
		h, err := readFrame(out, false)
		if err != nil {
			return fmt.Errorf("read the frame that the program made: %w", err)
		}
		a.Fate = Answered
		a.answeredWords(h)
	default:
		return fmt.Errorf("the program gave %v, which it never should", v)
	}
	return nil
}

// dropWords says what a reason means, and what mends it.
func dropWords(reason string) (why, mend string) {
	switch reason {
	case "truncated":
		return "a header, or the packet, is cut short", "look on the way for what cuts packets, with `anycastle capture`"
	case "bad_header":
		return "it has no well-formed IP header", "look at its sender; the balancer cannot say whose it is"
	case "ext_header":
		return "its IPv6 extension headers are too many, or its way is not at its end", "look at its sender: no mail needs such headers"
	case "fragment":
		return "it is a fragment of what may not come in fragments", "have the sender send smaller packets"
	case "fragment_early":
		return "it is a fragment, and the first one of its packet has not come", "nothing: it is sent on when that comes"
	case "ttl_expired":
		return "its TTL is used up", "look for a routing loop in front of the balancer"
	case "no_table":
		return "the farm has no slot table", "wait for the first probes, which `anycastle show probe` tells of"
	case "no_real":
		return "the slot names no real that takes it", "see why each real is out with `anycastle show real`; mend or activate one"
	case "no_next_hop":
		return "the MAC address on the way to the real is not known", "check that there is a route to the real, and that the next hop on it answers: `ip route get`, `ip neigh`"
	case "too_big":
		return "with its outer header it is larger than the way to the real takes, and its sender cannot be told", "raise the MTU on the way to the reals"
	case "icmp_limited":
		return "it is too big, and enough senders were told so in this second", "raise the MTU on the way to the reals"
	case "icmp_unhandled":
		return "it is ICMP that is neither a ping from one host nor an error about a flow", "nothing: a VIP answers nothing else"
	case "out_of_service":
		return "a ping is answered only by an address in service", "mend or activate reals until every VIP on the address has its min_reals"
	case "no_headroom":
		return "the driver leaves no room for an outer header", "use an uplink whose driver does, or forward l2"
	case "bad_inner":
		return "what the ICMP error is about is no whole packet of a VIP", "look at its sender: it quotes less than RFC 792 wants"
	}
	return "the program dropped it", "see `anycastle show drops`"
}

// dropDetail says what there is to know of the case in hand.
func (l *loop) dropDetail(a *Answer) string {
	switch a.Reason {
	case "no_next_hop":
		if a.Real != nil {
			return fmt.Sprintf("next hop of %s is %s", a.Real.Title(), a.Real.NextHop)
		}
	case "out_of_service":
		_, withheld := l.in.announce()
		return cmp.Or(withheld[a.Question.To.Addr()], l.behind())
	case "no_real":
		switch {
		case a.Slot.Primary == nil && a.Slot.Secondary == nil:
			return fmt.Sprintf("no real of farm %s takes flows", a.VIP.Farm)
		case a.Slot.Primary == nil:
			return fmt.Sprintf("no real of farm %s takes new flows", a.VIP.Farm)
		}
	}
	return ""
}

func (a *Answer) passedWords() {
	to := a.Question.To.Addr()
	switch {
	case len(a.OnAddress) == 0:
		a.Why = fmt.Sprintf("%v is no VIP's address, so the packet is for this machine or to be routed by it", to)
	default:
		a.Why = fmt.Sprintf("no VIP on %v takes %s port %d", to, a.Question.Protocol, a.Question.To.Port())
	}
	a.Mend = "if it should be balanced, give it a VIP in the node file and `anycastle reload lb`"
}

func (a *Answer) answeredWords(h header) {
	if h.tooBig == 0 {
		a.Why = "a ping to an address in service is answered by the balancer"
		return
	}
	a.Why = fmt.Sprintf("with its outer header it is larger than the way to the real takes; the sender is told that %d bytes fit", h.tooBig)
	a.Mend = "nothing, if the sender heeds that; else raise the MTU on the way to the reals"
}

// forwardedWords says why the packet goes to the real that it goes to.
func (a *Answer) forwardedWords(e vipEntry) string {
	s := a.Slot
	switch {
	case s.Method == "":
		return "the slot has one real for new and established flows"
	case s.Method == SecondChance && a.Question.SYN:
		return "a new flow goes to the slot's primary"
	case s.Method == SecondChance && a.Second != nil:
		return fmt.Sprintf("the packet names both: %s passes it on to %s if the flow is not its own", a.Real.Title(), a.Second.Title())
	case s.Method == SecondChance && s.Primary == nil:
		return "the slot has no primary, and the secondary has its established flows"
	case s.Method == SecondChance:
		return fmt.Sprintf("%s has no second chance, and goes to the slot's primary", a.Question.Protocol)
	}
	var why strings.Builder
	switch {
	case e.secondChance && s.InTransition:
		why.WriteString("not both reals can be given a second chance; ")
	case !s.InTransition:
		why.WriteString("a change was taken back, and flows stored in it are still followed; ")
	}
	switch {
	case a.Question.SYN:
		why.WriteString("a new flow goes to the slot's primary, and is stored")
	case s.Stored != nil:
		fmt.Fprintf(&why, "the flow is stored with %s", s.Stored.Title())
	case s.Secondary != nil:
		why.WriteString("the flow is not stored, so it is older than the transition and with the slot's secondary")
	default:
		why.WriteString("the flow is not stored, and the slot has no secondary")
	}
	return why.String()
}

// Title names a real: FARM/REAL, as orders do, or its address.
func (r *ToReal) Title() string {
	if r.Name == "" {
		return r.Address.String()
	}
	return r.Farm + "/" + r.Name
}
