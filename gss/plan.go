package gss

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"anycastle/gss/balancer"
	"anycastle/gss/decide"
	"anycastle/internal/probe"
)

// plan is what a config makes, and what the probes say of its answers.
type plan struct {
	next    *serving
	config  decide.Config
	watched map[string]*watched // by answer
	owner   map[string]string   // answer by name of the target

	subjects []balancer.Subject // that balancers may tell of
}

// newPlan makes the plan of a config. Probes that others have already keep what they know.
func newPlan(next *serving, others ...*plan) plan {
	p := plan{next: next, config: next.config.decide(), watched: map[string]*watched{}, owner: map[string]string{}}
	p.config.Digest = next.digest()
	for i := range next.config.Answers {
		w := watch(&next.config.Answers[i])
		for _, o := range others {
			if was := o.watched[w.answer.Name]; was != nil {
				w.keep(was)
			}
		}
		p.watched[w.answer.Name] = w
		p.subjects = append(p.subjects, w.answer.subject())
		for _, t := range w.targets {
			p.owner[t.Name] = w.answer.Name
		}
	}
	return p
}

// targets are the probes of plans. One that several have is that of the first.
func targets(plans ...*plan) (list []probe.Target) {
	had := map[string]bool{}
	for _, p := range plans {
		for i := range p.next.config.Answers {
			for _, t := range p.watched[p.next.config.Answers[i].Name].targets {
				if !had[t.Name] {
					had[t.Name] = true
					list = append(list, t.Target)
				}
			}
		}
	}
	return list
}

// digests are those of its answers, by name.
func (p *plan) digests() map[string]uint32 {
	all := make(map[string]uint32, len(p.watched))
	for name, w := range p.watched {
		all[name] = w.digest
	}
	return all
}

// plans are the newest, and the former while that is decided by. The caller holds mu.
func (e *engine) plans() []*plan {
	if e.former == nil {
		return []*plan{&e.plan}
	}
	return []*plan{&e.plan, e.former}
}

// inForce is the plan that is decided by. The caller holds mu.
func (e *engine) inForce() *plan {
	if e.former != nil {
		return e.former
	}
	return &e.plan
}

// counts is what is watched of an answer that the others are told of: by the plan in force, or by the newest if only that has it.
// The caller holds mu.
func (e *engine) counts(answer string) *watched {
	if w := e.inForce().watched[answer]; w != nil {
		return w
	}
	return e.watched[answer]
}

// await says whether a first probe of the newest plan is still awaited, and when that ends at the latest; if not, the newest plan
// is decided by from now on. The caller holds mu.
func (e *engine) await(now time.Time) (ends time.Time) {
	for _, w := range e.watched {
		until, late := w.await(now)
		if late {
			missing, _ := w.missing()
			e.log.Warn("answer not probed in time", "answer", w.answer.Name, "counts_as", w.seen().View,
				"cause", strings.Join(missing, "; "))
		}
		if ends.IsZero() || !until.IsZero() && until.Before(ends) {
			ends = until
		}
	}
	if ends.IsZero() && e.former != nil {
		e.former = nil
		err := errors.Join(e.prober.SetTargets(targets(&e.plan)), e.tellers.serve(&e.plan, &e.plan))
		if err != nil { // all was taken before
			e.log.Warn("probes of the former config go on", "err", err)
		}
	}
	return ends
}

// waits says which first probes of an answer are awaited, or, if it stands nowhere yet, of which others. The caller holds mu.
func (e *engine) waits(w *watched, p decide.Place) string {
	missing, late := w.missing()
	if len(missing) > 0 && !late {
		text := "waits for the first result of " + strings.Join(missing, ", ")
		if e.former != nil {
			text += "; until then the former config is decided by"
		}
		return text
	}
	if p != "" {
		return ""
	}
	var others []string
	for name, o := range e.watched {
		if missing, late := o.missing(); len(missing) > 0 && !late {
			others = append(others, name)
		}
	}
	if len(others) == 0 {
		return ErrNotReady.Error()
	}
	slices.Sort(others)
	return fmt.Sprintf("%v: it waits for %s", ErrNotReady, strings.Join(others, ", "))
}
