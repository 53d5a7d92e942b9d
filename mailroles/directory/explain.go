package directory

import (
	"context"
	"errors"
	"fmt"
	"strings"
)

// Question is what Explain is asked: where mail for an address goes. From is a mailbox whose user has logged in to send it;
// empty: it comes from elsewhere.
type Question struct {
	Address string `json:"address"`
	From    string `json:"from,omitempty"`
}

// Explanation says where mail for an address goes, and why.
type Explanation struct {
	Question
	Steps   []Step `json:"steps"`
	Verdict string `json:"verdict"` // accepted, refused or deferred
	Why     string `json:"why"`
}

// Step is an address on the way.
type Step struct {
	Address string   `json:"address"`
	Depth   int      `json:"depth"` // how many addresses led to it
	Kind    string   `json:"kind"`  // mailbox, alias, group or nothing
	LUN     string   `json:"lun,omitempty"`
	Says    string   `json:"says"`
	To      []string `json:"to,omitempty"`
}

// Verdicts about mail for an address.
const (
	Accepted = "accepted"
	Refused  = "refused"  // for good: there is no such address, or not for this sender
	Deferred = "deferred" // the directory cannot tell now
)

// maxSteps bounds an explanation.
const maxSteps = 1000

// Explain follows an address step by step.
func (d *Directory) Explain(ctx context.Context, q Question) Explanation {
	x := Explanation{Question: q}
	s := d.source()
	x.follow(ctx, s, q.Address, 0, map[string]bool{})
	if q.From != "" && !x.sends(ctx, s) {
		return x
	}
	boxes, err := d.ResolveFrom(ctx, q.From, q.Address)
	switch {
	case errors.Is(err, ErrSender):
		x.Verdict = Refused
		x.Why = "a group on the way takes no mail from anyone but those whom it names; it would if one of these had logged in"
	case errors.Is(err, ErrUnknown):
		x.Verdict, x.Why = Refused, "there is no such mailbox, alias or group"
	case err != nil:
		x.Verdict, x.Why = Deferred, err.Error()
	default:
		x.Verdict = Accepted
		x.Why = fmt.Sprintf("it goes to %d mailboxes; the store of each may still say that it is full", len(boxes))
		if len(boxes) == 1 {
			x.Why = fmt.Sprintf("it goes to one mailbox, on LUN %s; its store may still say that it is full", boxes[0].LUN)
		}
	}
	return x
}

// sends says whether the user of From can send at all; when not, the explanation says why.
func (x *Explanation) sends(ctx context.Context, s source) bool {
	m, err := mailbox(ctx, s, x.From)
	switch {
	case errors.Is(err, ErrUnknown):
		x.Verdict, x.Why = Refused, x.From+" is no mailbox, so nobody can log in with it to send"
	case err != nil:
		x.Verdict, x.Why = Deferred, err.Error()
	case m.Disabled:
		x.Verdict, x.Why = Refused, x.From+" is disabled, so its user cannot log in to send"
	default:
		return true
	}
	return false
}

func (x *Explanation) follow(ctx context.Context, s source, address string, depth int, seen map[string]bool) {
	if len(x.Steps) >= maxSteps {
		return
	}
	step := Step{Address: address, Depth: depth, Kind: "nothing"}
	normal, ok := Normalize(address)
	e, at, err := lookup(ctx, s, address, false)
	switch {
	case !ok:
		step.Says = "this is no address that a mailbox may have"
	case !s.local(domainOf(normal)):
		step.Says = fmt.Sprintf("%s is not one of our domains", domainOf(normal))
	case errors.Is(err, ErrUnknown):
		step.Says = "the directory has no such address"
	case err != nil:
		step.Says = err.Error()
	default:
		step.tell(e, at, normal)
	}
	if seen[at] && err == nil {
		step.Says, step.To = "it was met before, and counts once", nil
	}
	x.Steps = append(x.Steps, step)
	if err != nil || seen[at] {
		return
	}
	seen[at] = true
	for _, to := range e.to {
		x.follow(ctx, s, to, depth+1, seen)
	}
}

// tell says what is at an address.
func (s *Step) tell(e *entry, at, normal string) {
	s.Kind, s.LUN, s.To = string(e.kind), e.box.LUN, e.to
	var says []string
	if at != normal {
		says = append(says, "as a subaddress of "+at)
	}
	switch e.kind {
	case aMailbox:
		says = append(says, "on LUN "+e.box.LUN)
		if e.box.Quota.Bytes > 0 {
			says = append(says, "quota "+Size(e.box.Quota.Bytes).String())
		}
		if e.box.Quota.Messages > 0 {
			says = append(says, fmt.Sprintf("quota %d messages", e.box.Quota.Messages))
		}
		if e.box.Disabled {
			says = append(says, "disabled: no login, but mail arrives")
		}
	case anAlias:
		says = append(says, "to "+strings.Join(e.to, ", "))
	case aGroup:
		says = append(says, fmt.Sprintf("%d members; %s may write to it", len(e.to), map[Senders]string{
			Anyone: "anyone", Members: "its own mailboxes", Domain: "mailboxes of its domain",
		}[e.from]))
	}
	s.Says = strings.Join(says, "; ")
}
