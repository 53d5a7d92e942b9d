package lb

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
)

// EchoRequest is Question.Protocol of a ping.
const EchoRequest = "icmp-echo"

// maxQuestionSize bounds a packet that is asked about: with its link header it lies in one page, as frames do that XDP
// takes whole.
const maxQuestionSize = 3400

// Question asks what becomes of a packet of a client.
type Question struct {
	From     netip.AddrPort `json:"from"`
	To       netip.AddrPort `json:"to"`               // no ports for icmp-echo: 0
	Protocol string         `json:"protocol"`         // tcp (default), udp or icmp-echo
	SYN      bool           `json:"syn,omitempty"`    // it opens a tcp connection; else it is of one that is established
	Size     int            `json:"size,omitempty"`   // of the IP packet, in bytes; 0: headers alone
	Uplink   string         `json:"uplink,omitempty"` // that it comes in by; empty: the first
}

// ErrQuestion says that a Question asks about no packet that there can be.
var ErrQuestion = errors.New("no packet to explain")

// ParseEnd reads an end of a flow as people write it: ADDRESS:PORT, or ADDRESS alone where there are no ports. An IPv6
// address with a port stands in brackets.
func ParseEnd(text string) (netip.AddrPort, error) {
	if end, err := netip.ParseAddrPort(text); err == nil {
		return netip.AddrPortFrom(end.Addr().Unmap(), end.Port()), nil
	}
	bare := text
	if inner, ok := strings.CutPrefix(bare, "["); ok {
		if inner, ok = strings.CutSuffix(inner, "]"); ok && strings.Contains(inner, ":") {
			bare = inner
		}
	}
	addr, err := netip.ParseAddr(bare)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("%.80q is no ADDRESS:PORT such as 198.51.100.7:4242 or [2001:db8::1]:4242", text)
	}
	return netip.AddrPortFrom(addr.Unmap(), 0), nil
}

// Complete gives the question with what it leaves open filled in, all but the uplink, or says what is wrong with it.
func (q Question) Complete() (Question, error) {
	if q.Protocol == "" {
		q.Protocol = "tcp"
	}
	q.From = netip.AddrPortFrom(q.From.Addr().Unmap(), q.From.Port())
	q.To = netip.AddrPortFrom(q.To.Addr().Unmap(), q.To.Port())
	if err := q.validate(); err != nil {
		return q, fmt.Errorf("%w: %w", ErrQuestion, err)
	}
	q.Size = max(q.Size, q.headers())
	return q, nil
}

func (q Question) validate() error {
	for _, end := range []struct {
		what string
		at   netip.AddrPort
	}{{"the client", q.From}, {"the VIP", q.To}} {
		switch a := end.at.Addr(); {
		case !a.IsValid():
			return fmt.Errorf("%s has no address", end.what)
		case a.Zone() != "":
			return fmt.Errorf("%v is good on one link only; packets have no zone, leave %%%s out", a, a.Zone())
		}
	}
	if q.From.Addr().Is4() != q.To.Addr().Is4() {
		return fmt.Errorf("%v and %v are of two IP versions; a packet has one", q.From.Addr(), q.To.Addr())
	}
	return errors.Join(q.validatePorts(), q.validateSize())
}

func (q Question) validatePorts() error {
	ports := q.From.Port() != 0 || q.To.Port() != 0
	switch {
	case q.Protocol != "tcp" && q.Protocol != "udp" && q.Protocol != EchoRequest:
		return fmt.Errorf("%.80q is no protocol to ask about; use tcp, udp or %s", q.Protocol, EchoRequest)
	case q.Protocol == EchoRequest && ports:
		return fmt.Errorf("%s has no ports; give the addresses alone", q.Protocol)
	case q.Protocol != EchoRequest && (q.From.Port() == 0 || q.To.Port() == 0):
		return fmt.Errorf("%s has a port at both ends; give ADDRESS:PORT twice", q.Protocol)
	case q.SYN && q.Protocol != "tcp":
		return fmt.Errorf("%s has no SYN; leave it out, or ask about tcp", q.Protocol)
	}
	return nil
}

func (q Question) validateSize() error {
	if least := q.headers(); q.Size != 0 && (q.Size < least || q.Size > maxQuestionSize) {
		return fmt.Errorf("size %d: an IP packet of %s has %d to %d bytes here", q.Size, q.Protocol, least, maxQuestionSize)
	}
	return nil
}

// headers is the size of the smallest packet.
func (q Question) headers() int {
	size := ip4Len
	if q.To.Addr().Is6() {
		size = ip6Len
	}
	if q.Protocol == "tcp" {
		return size + tcpLen
	}
	return size + udpLen // as long as an ICMP header
}

// proto is the number of its protocol.
func (q Question) proto() uint8 {
	switch {
	case q.Protocol == "tcp":
		return protoTCP
	case q.Protocol == "udp":
		return protoUDP
	case q.To.Addr().Is6():
		return protoICMP6
	}
	return protoICMP
}

// String says which packet it is about.
func (q Question) String() string {
	what := q.Protocol
	ends := fmt.Sprintf("%v to %v", q.From, q.To)
	switch {
	case q.Protocol == EchoRequest:
		ends = fmt.Sprintf("%v to %v", q.From.Addr(), q.To.Addr())
	case q.SYN:
		what += " SYN"
	case q.Protocol == "tcp":
		what += " ACK"
	}
	return fmt.Sprintf("%s, %s, %d bytes", ends, what, q.Size)
}
