package decide

import (
	"maps"
	"net/netip"
	"slices"
	"time"
)

// Inputs are all that a decision is made from. Next does not change them and keeps nothing of them.
type Inputs struct {
	Site   string    // this site's name, as the others know it
	Boot   time.Time // when this process began: what it announced before is gone, and it learns anew
	Config Config
	Order  *Order // about every VIP that has no order of its own; nil: none
	VIPs   map[netip.Prefix]VIP
}

// VIP is what is known of one VIP at this site.
type VIP struct {
	Role   Role // of this site for the VIP
	Health Health
	Min    Minimum // below it the VIP is to be withdrawn
	Full   Minimum // below it the VIP is degraded; zero: whatever meets Min is enough
	Order  *Order  // nil: that of the site
	Flows  Flows
	Sent   Sent
	Sites  map[string]Site // the other sites that announce it, by name; all that the config has, heard or not
}

// Role is what a site is for a VIP.
type Role string

// The roles of a site.
const (
	Primary Role = "primary" // traffic comes here while it can; several primaries share it
	Backup  Role = "backup"  // traffic comes here when no primary takes it
)

// Health is what the health engine says of a VIP.
type Health struct {
	Of        string // what it is the health of, if the VIP has several services
	Known     bool   // it could be checked; if not, the last that was known counts, and nothing rises
	InService int    // reals that take new flows
	Reals     int
	Share     float64   // of the farm's capacity that is in service, 0 to 1
	Lease     time.Time // when the engine last said so; one that hangs no longer does
}

// Minimum is how much of a farm must be in service. Both figures must be met. At least one real always must.
type Minimum struct {
	Count int
	Share float64 // of the capacity, 0 to 1
}

// Flows is how many flows of the VIP are left here.
type Flows struct {
	Known bool
	Left  int
}

// Sent is what the speaker read back after its last apply: intent is no proof.
type Sent struct {
	Known bool
	Peers int // established ones that the VIP stands announced to
}

// Site is what is known here of another site of the VIP.
type Site struct {
	Role   Role
	Report *Report   // the last from it; nil: none ever
	Heard  time.Time // by our clock, when it last gave a sign of life: a report, or that the last one still holds
	Table  Table
}

// Table is what our own BGP tables have of the other site's route.
type Table struct {
	Known bool // there is a session by which it would come
	Seen  bool
	At    time.Time // when the table was read
}

// Kind is what is ordered.
type Kind string

// The kinds of an Order.
const (
	KindAnnounce Kind = "announce" // plainly, whatever health says
	KindDrain    Kind = "drain"    // down the ladder, and withdrawn when no flow is left or the deadline passes
	KindWithdraw Kind = "withdraw" // as soon as another site holds; with Force at once
	KindActivate Kind = "activate" // none of these; forgives flaps and ends a wait to fail back
)

// Order is an operator's will about a VIP at this site. The last one counts.
type Order struct {
	Kind     Kind
	Since    time.Time
	Deadline time.Time // of a drain; zero: Config.Drain after Since
	Force    bool      // do not ask whether another site announces
	By, Why  string
}

// String says it in short, as a reason.
func (o Order) String() string {
	text := "order " + string(o.Kind)
	if o.Force {
		text += " by force"
	}
	if o.By != "" {
		text += " by " + o.By
	}
	if o.Why != "" {
		text += ": " + o.Why
	}
	return text
}

func (o *Order) is(k Kind) bool { return o != nil && o.Kind == k }

// clone copies what a caller may change of Inputs without changing these.
func (in Inputs) clone() Inputs {
	in.Order = in.Order.clone()
	in.Config.Groups = slices.Clone(in.Config.Groups)
	in.VIPs = maps.Clone(in.VIPs)
	for prefix, v := range in.VIPs {
		v.Order = v.Order.clone()
		v.Sites = maps.Clone(v.Sites)
		for name, s := range v.Sites {
			if s.Report != nil {
				r := s.Report.clone()
				s.Report = &r
			}
			v.Sites[name] = s
		}
		in.VIPs[prefix] = v
	}
	return in
}

func (o *Order) clone() *Order {
	if o == nil {
		return nil
	}
	c := *o
	return &c
}
