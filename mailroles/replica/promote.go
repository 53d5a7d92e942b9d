package replica

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"anycastle/mailroles/replica/group"
)

// Promotion says what is known before a replica is made the only one of its group.
type Promotion struct {
	Refused string   `json:"refused,omitempty"` // why it must not be done
	Safe    []string `json:"safe"`              // what is proven
	Unsafe  []string `json:"unsafe"`            // what is not
	Last    uint64   `json:"last"`              // operation in the log here
	Done    bool     `json:"done"`
}

// order is done when the group is closed.
type order struct {
	do   func(*life) error
	done chan error // holds one
}

// Error has a life end for the order.
func (o *order) Error() string { return "ordered to close the group" }

// Promote says what is safe and what is not if this replica goes on without the others. With confirm it does so, unless
// that must not be done: all that is in the log here counts as committed then, and what is not here is lost.
func (r *Replica) Promote(ctx context.Context, confirm bool, by string) (Promotion, error) {
	p, err := r.weigh(ctx)
	if err != nil || !confirm || p.Refused != "" {
		return p, err
	}
	o := &order{do: func(l *life) error { return group.Recover(l.dir, r.self.Name) }, done: make(chan error, 1)}
	select {
	case r.orders <- o:
	case <-ctx.Done():
		return p, ctx.Err()
	}
	select {
	case err = <-o.done:
	case <-ctx.Done():
		err = ctx.Err()
	}
	p.Done = err == nil
	r.keepMove(Move{At: time.Now(), To: r.self.Name, Why: "promoted, loss accepted", By: by}, err)
	return p, err
}

// weigh finds out what a promotion would cost.
func (r *Replica) weigh(ctx context.Context) (Promotion, error) {
	g := r.group.Load()
	if r.self.Witness {
		return Promotion{}, errors.New("a witness has no mail; promote a mail replica")
	}
	if g == nil {
		return Promotion{}, errors.New("this replica is not in the group; it has no state that could be promoted")
	}
	heard, silent := r.greet(ctx)
	s := g.Status()
	last, term, err := g.Latest()
	if err != nil {
		return Promotion{}, fmt.Errorf("read the end of the log: %w", err)
	}
	p := Promotion{Last: last}
	var voters, there []string
	for _, m := range s.Peers {
		if m.Voter {
			voters = append(voters, m.Name)
		}
	}
	for _, name := range voters {
		h, ok := heard[name]
		if name == r.self.Name || ok && h.Initialized && !h.Blank && h.Era == s.Era {
			there = append(there, name)
		}
	}
	switch leader := leaderOf(heard); {
	case s.Leading:
		p.Refused = "this replica leads the group"
	case leader != "":
		p.Refused = leader + " leads the group"
	case len(there) > len(voters)/2:
		p.Refused = fmt.Sprintf("a quorum is there, %s of %s; it elects an active store by itself", strings.Join(there, ", "), strings.Join(voters, ", "))
	}
	for name, h := range heard {
		if h.Era > s.Era && p.Refused == "" {
			p.Refused = fmt.Sprintf("%s is in era %d, this replica in %d: another was promoted already", name, h.Era, s.Era)
		}
		if m := r.member(name); !m.Witness && h.Initialized && !h.Blank && h.newer(last, term) && p.Refused == "" {
			p.Refused = fmt.Sprintf("%s has operations up to %d of term %d, and this replica only up to %d of term %d; promote that one",
				name, h.Last, h.LastTerm, last, term)
		}
	}
	r.judge(&p, heard, silent, s)
	return p, nil
}

// judge says what is proven to be here.
func (r *Replica) judge(p *Promotion, heard map[string]Hello, silent []string, s group.Status) {
	committed := s.Committed
	safe := func(format string, args ...any) { p.Safe = append(p.Safe, fmt.Sprintf(format, args...)) }
	not := func(format string, args ...any) { p.Unsafe = append(p.Unsafe, fmt.Sprintf(format, args...)) }
	mail := r.store.get()
	safe("operations up to %d are in the log here, and those up to %d are known to be committed", p.Last, committed)
	var hidden, gone []string
	for _, m := range r.others() {
		h, ok := heard[m.Name]
		ok = ok && h.Initialized && !h.Blank
		if ok {
			safe("%s is heard, and has operations up to %d", m.Name, h.Last)
		} else if m.Site == r.self.Site || len(r.mailSites()) > 2 {
			hidden = append(hidden, m.Name)
		}
		if !ok {
			gone = append(gone, fmt.Sprintf("%s (%s, %s)", m.Name, m.Site, heardAgo(r.exchange.View(m.Name).Heard)))
		}
	}
	if len(gone) > 0 {
		not("nothing is heard of %s", strings.Join(gone, ", "))
	}
	if slices.ContainsFunc(silent, func(name string) bool { return r.member(name).Witness }) {
		not("nothing is heard of the witness: whether another replica goes on somewhere cannot be known from here; make sure that none does")
	}
	switch {
	case r.opt.TwoSite == Expose:
		not("the policy is expose: what the other site acknowledged while it did not hear of this one is not here, and is lost")
	case s.Era > firstEra:
		not("the group was promoted before, it is in era %d: what was acknowledged until a replica of the other site was back in it may be at one site only, and is lost if that was the other one", s.Era)
	case len(hidden) > 0:
		not("what was acknowledged since may be, of all that is left, on %s only, and is lost if so", strings.Join(hidden, ", "))
	default:
		safe("the policy is wait: whatever was acknowledged is at both sites, so every operation that was acknowledged is here")
	}
	if mail == nil {
		return
	}
	if list, total := mail.Missing(1); total > 0 {
		not("%d bodies are not here, such as %s of %s; they are there again when a replica that has them comes back as a member", total, list[0].Name, list[0].Mailbox)
	} else if complete := mail.Complete(); complete >= committed {
		safe("all bodies of operations up to %d are here", complete)
	} else {
		not("whether all bodies are here is known up to operation %d only", complete)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.exposed.since.IsZero() {
		not("%d operations were exposed since %s", r.exposed.operations, r.exposed.since.Format(time.RFC3339))
	}
}

func heardAgo(t time.Time) string {
	if t.IsZero() {
		return "not heard since the start"
	}
	return "last heard " + time.Since(t).Round(time.Second).String() + " ago"
}
