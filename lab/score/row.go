package score

import (
	"time"

	"anycastle/lab/client"
)

// Row is one fault, or the way back from it, and what the client saw: an element of lab.json.
type Row struct {
	Fault              string  `json:"fault"`
	Scenario           string  `json:"scenario"`       // name of its file, without the ending
	Back               bool    `json:"back,omitempty"` // the way back: what broke is being mended
	Topology           string  `json:"topology"`
	OutageVIPMS        int64   `json:"outage_vip_ms"`
	OutageNameMS       int64   `json:"outage_name_ms"`
	OutageDeliveryMS   int64   `json:"outage_delivery_ms"`
	OutageSubmissionMS int64   `json:"outage_submission_ms"`
	ConnectionsBroken  int     `json:"connections_broken"`
	IdleBroken         int     `json:"idle_broken"`
	SessionsEnded      int     `json:"sessions_ended"` // by 421 or BYE, between two commands; the client came back
	Failed             int     `json:"failed"`         // attempts of all kinds
	MailsAcknowledged  int     `json:"mails_acknowledged"`
	MailsLost          int     `json:"mails_lost"`
	MailsDoubled       int     `json:"mails_doubled"`
	TookOver           string  `json:"took_over"`
	PromiseMS          int64   `json:"promise_ms"`           // the most that the outage PromiseOf may be
	PromiseOf          Measure `json:"promise_of,omitempty"` // empty: no outage is promised, only counts
	Promise            string  `json:"promise"`              // all of it
	Pass               bool    `json:"pass"`
	Why                string  `json:"why,omitempty"` // what was not kept, or why a figure is not to be trusted
}

// Figure gives one figure of the row.
func (r Row) Figure(of Measure) int64 {
	switch of {
	case VIP:
		return r.OutageVIPMS
	case Name:
		return r.OutageNameMS
	case Delivery:
		return r.OutageDeliveryMS
	case Submission:
		return r.OutageSubmissionMS
	case Broken:
		return int64(r.ConnectionsBroken)
	case Idle:
		return int64(r.IdleBroken)
	case Failed:
		return int64(r.Failed)
	case Lost:
		return int64(r.MailsLost)
	default:
		return int64(r.MailsDoubled)
	}
}

// Window is the time of one fault, or of the way back from it.
type Window struct {
	Fault    string // title of the row
	Scenario string
	Back     bool
	Pod      string // whose client is measured; empty: all
	From, To time.Time
	Marks    []Mark  // what was done to the lab, in order
	TookOver string  // as the lab tells it; empty: as the banners at the VIP tell it
	Promise  Promise // what is to be kept
	Expect   string  // a regular expression that TookOver must match; empty: anything does
	Lost     []string
	Doubled  []string // ids of acknowledged mails, as reading back showed
	Flaws    []string // why no figure of this window can be trusted, if so
}

// Mark is something that was done to the lab.
type Mark struct {
	At   time.Time
	Text string
}

// Lab is one lab that was built and the faults that it went through.
type Lab struct {
	Topology string
	Resolver string // who answered the client's names
	Logs     string // folder with client.jsonl and NODE.log
	Up       time.Duration
	Memory   int64 // bytes of all nodes, once settled; 0: not known
	Windows  []Window
	Rows     []Row // of the windows, in their order
	Events   []client.Event
}

// Run is all that a report is made of.
type Run struct {
	Name  string // "demo" or "lab": lab.json
	Began time.Time
	Took  time.Duration
	Labs  []Lab
}

// Rows gives the rows of all labs.
func (r Run) Rows() []Row {
	var all []Row
	for _, l := range r.Labs {
		all = append(all, l.Rows...)
	}
	return all
}
