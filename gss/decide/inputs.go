package decide

import "time"

// Inputs are all that a decision is made from. Next does not change them and keeps nothing of them.
type Inputs struct {
	Config   Config
	Self     string              // this GSS's name among the vantages
	Vantages map[string]Vantage  // all GSSes that there should be, heard or not; this one among them
	Reports  map[string][]Report // by answer: what balancers say of it
	Orders   map[string]Order    // by answer; the one that counts of those about it and its site
}

// Vantage is what one GSS sees.
type Vantage struct {
	Heard   time.Time // by our clock
	Answers map[string]Seen
}

// View is what a vantage's probes say of an answer after their thresholds.
type View string

// The views.
const (
	NoView  View = "" // not probed yet
	Passing View = "passing"
	Failing View = "failing"
)

// Seen is what a vantage knows of an answer.
type Seen struct {
	View   View
	Failed bool   // the last probe did, whatever the view is
	Why    string // why it is not Passing, or the error of the last probe; empty if it passed
}

// Report is what one balancer says of an answer's VIP.
type Report struct {
	From      string
	At        time.Time // by our clock, when it was heard
	Out       bool      // the VIP is not in service there, or its route is not announced
	Draining  bool
	Used      float64 // of Capacity, in its unit
	Capacity  float64 // 0: it does not know
	InService int     // reals
	Reals     int
	Route     string // announced or withdrawn; empty: it cannot say. Only shown
	Why       string // it is out
}

// Kind is what is ordered.
type Kind string

// The kinds of an Order.
const (
	KindSuspend  Kind = "suspend"  // it is not to be given at all
	KindDrain    Kind = "drain"    // it is not to be given to anybody new, once what was given has expired
	KindActivate Kind = "activate" // neither; ends a wait to fail back
)

// Order is an operator's will about an answer.
type Order struct {
	Kind    Kind
	Since   time.Time
	Start   time.Time // of a drain: not before; zero: as soon as it can be
	By, Why string
}

// String says it in short, as a reason.
func (o Order) String() string {
	text := "order " + string(o.Kind)
	if o.By != "" {
		text += " by " + o.By
	}
	if o.Why != "" {
		text += ": " + o.Why
	}
	return text
}
