package lb

import (
	"net"
	"net/netip"
	"time"
)

// Fate is what becomes of a packet.
type Fate string

// The fates.
const (
	Forwarded Fate = "forwarded" // to a real
	Answered  Fate = "answered"  // by the balancer itself
	Passed    Fate = "passed"    // to the kernel of the balancer's machine
	Dropped   Fate = "dropped"
)

// Answer says what becomes of a packet, and why. Where it goes is what the loaded program did with it; names and states are
// those of the tables that the program did it by.
type Answer struct {
	Question Question `json:"question"` // with what it left open
	Fate     Fate     `json:"fate"`
	Why      string   `json:"why"`
	Reason   string   `json:"reason,omitempty"` // of a drop, as `show drops` has it
	Mend     string   `json:"mend,omitempty"`

	VIP       *ToVIP     `json:"vip"`             // null: the program looked for no VIP, or found none
	OnAddress []ToVIP    `json:"vips_on_address"` // the VIPs on the address that it is for
	Slot      *ToSlot    `json:"slot"`            // null: it has no slot
	Real      *ToReal    `json:"real"`            // that it goes to
	Second    *ToReal    `json:"second"`          // that the first passes it on to if the flow is not its own
	Sent      *SentFrame `json:"sent"`            // null: it goes to no real

	// Behind says why the tables are not what they should be by now; empty: they are.
	Behind string `json:"behind,omitempty"`
}

// ToVIP is a VIP that a packet may be for.
type ToVIP struct {
	Name      string     `json:"name"` // empty: it is not in the config any more
	Address   netip.Addr `json:"address"`
	Protocol  string     `json:"protocol"`
	Port      Ports      `json:"port"`
	Farm      string     `json:"farm"`
	InService bool       `json:"in_service"` // its address is answered for: every VIP on it has enough reals
}

// ToSlot is the slot of the farm's table that the packet's flow has.
type ToSlot struct {
	Number       int    `json:"number"`
	InTransition bool   `json:"in_transition"` // new and established flows are at different reals
	Method       string `json:"method"`        // how established flows keep their real then; empty: nobody had to look
	// Followed says that the store of flows was asked for this one, and Stored what it had; null: nothing.
	Followed  bool    `json:"followed"`
	Stored    *ToReal `json:"stored"`
	Primary   *ToReal `json:"primary"`   // for new flows; null: there is none
	Secondary *ToReal `json:"secondary"` // for established flows
}

// ToReal is a real that a packet may go to.
type ToReal struct {
	Name    string     `json:"name"` // empty: it is in no config and no record
	Farm    string     `json:"farm"`
	Address netip.Addr `json:"address"`
	Forward Forward    `json:"forward"`
	State   State      `json:"state"`
	Why     string     `json:"why"`
	Since   time.Time  `json:"since"`
	NextHop string     `json:"next_hop"`
}

// SentFrame is how the packet leaves.
type SentFrame struct {
	Forward     Forward    `json:"forward"`
	Source      netip.Addr `json:"outer_source,omitzero"` // no outer header with l2
	Destination netip.Addr `json:"outer_destination,omitzero"`
	SecondHop   netip.Addr `json:"second_hop,omitzero"` // that GUE carries
	Size        int        `json:"size"`                // of the IP packet with the outer header
	MTU         int        `json:"mtu"`                 // the largest that the way to the real takes
	Uplink      string     `json:"uplink"`
	SourceMAC   string     `json:"source_mac"`
	NextHop     string     `json:"next_hop_mac"`
	VLANs       []int      `json:"vlans"` // outermost first
}

// sentFrame tells a header as the frame of an answer.
func (h header) sentFrame(q Question, w Forward) *SentFrame {
	s := &SentFrame{Forward: w, SecondHop: h.second, Size: h.size, VLANs: append([]int{}, h.vlans...),
		SourceMAC: net.HardwareAddr(h.source[:]).String(), NextHop: net.HardwareAddr(h.nextHop[:]).String()}
	if h.from != q.From.Addr() || h.to != q.To.Addr() {
		s.Source, s.Destination = h.from, h.to
	}
	return s
}
