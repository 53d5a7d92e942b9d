package events

import "time"

// Kind says what an event is about.
type Kind string

// The kinds.
const (
	Announced Kind = "announced" // a route is sent to the peers
	Withdrawn Kind = "withdrawn" // it is taken back
	Path      Kind = "path"      // it is sent with another preference
	Route     Kind = "route"     // a router's kernel sends packets another way
	Session   Kind = "session"   // BGP or the word of a balancer, up or down
	BFD       Kind = "bfd"
	VIP       Kind = "vip"    // a balancer finds an address fit to be announced, or not
	Real      Kind = "real"   // failed, joined, drained
	Answer    Kind = "answer" // what the site selectors answer
	LUN       Kind = "lun"    // elected, active, handed over, exposed
	Disk      Kind = "disk"   // a store's disk is unfit
	Store     Kind = "store"  // a front end reaches a store, or does not
	Member    Kind = "member" // of a mesh of balancers or site selectors
	Probe     Kind = "probe"
	Order     Kind = "order"   // of an operator
	Process   Kind = "process" // started, stopped, ended
	Alarm     Kind = "alarm"   // a warning or an error of no kind above
)

// Event is one thing that a node said.
type Event struct {
	Time time.Time `json:"time"`
	Node string    `json:"node"`
	Role string    `json:"role,omitempty"`
	Kind Kind      `json:"kind"`
	Text string    `json:"text"` // one line, whole
	// Label is the same in two or three words, without the node. Nodes that see the same thing give the same label.
	Label string `json:"label"`
	// Important says that an outage may begin or end with it.
	Important bool `json:"important,omitempty"`
}

// Log is what was read.
type Log struct {
	Events []Event // by time
	Files  int
	Unread int // lines that are no lines of log/slog
	Left   int // events beyond the most that are kept
}
