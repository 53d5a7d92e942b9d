package replica

import (
	"context"
	"errors"
	"fmt"
	"time"

	"anycastle/mailroles/store"
)

const (
	scrubLook    = time.Minute            // how often it is looked whether a scrub is due
	digestTries  = 20                     // how often a mailbox that changes is compared again
	digestPause  = 100 * time.Millisecond // before that
	keptMailbox  = 20                     // mailboxes that a status names
	differs      = reason("scrub")
	defaultScrub = 50 << 20 // octets a second
)

// ScrubStatus is what the last scrub of this replica found, or the one that runs.
type ScrubStatus struct {
	Running   bool      `json:"running"`
	Begun     time.Time `json:"begun,omitzero"`
	Ended     time.Time `json:"ended,omitzero"`
	With      string    `json:"with,omitempty"` // the replica that the mailboxes were compared to
	Mailboxes int       `json:"mailboxes"`
	Checked   int       `json:"checked"` // bodies
	Rotten    int       `json:"rotten"`
	Repaired  int       `json:"repaired"`            // of those, fetched again by the end
	Differing []string  `json:"differing,omitempty"` // mailboxes
	Err       string    `json:"err,omitempty"`
}

// scrub is guarded by the replica's mu.
type scrub struct {
	is   ScrubStatus
	kick chan struct{} // holds one; made when it is first needed
}

func (s *scrub) status() ScrubStatus {
	is := s.is
	is.Differing = append([]string(nil), is.Differing...)
	return is
}

func (s *scrub) kicked() chan struct{} {
	if s.kick == nil {
		s.kick = make(chan struct{}, 1)
	}
	return s.kick
}

// beginScrub has this replica be scrubbed now.
func (r *Replica) beginScrub() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.scrub.is.Running {
		return errors.New("a scrub is under way")
	}
	select {
	case r.scrub.kicked() <- struct{}{}:
	default:
	}
	return nil
}

// Scrub has all mail replicas that are heard of be scrubbed now. Each compares itself to the active one, which is compared to one at
// another site.
func (r *Replica) Scrub(ctx context.Context) error {
	if r.epoch.Load() == nil {
		return r.notActive()
	}
	errs := []error{r.beginScrub()}
	for _, m := range r.others() {
		if r.alive(m.Name) {
			if err := r.ask(ctx, m.Name, "scrub", nil, nil); err != nil {
				errs = append(errs, fmt.Errorf("%s: %w", m.Name, err))
			}
		}
	}
	return errors.Join(errs...)
}

// scrubs scrubs when it is ordered, and when it is time.
func (r *Replica) scrubs(ctx context.Context) error {
	r.mu.Lock()
	kick := r.scrub.kicked()
	r.mu.Unlock()
	tick := time.NewTicker(scrubLook)
	defer tick.Stop()
	last := time.Now()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-kick:
		case <-tick.C:
			if r.opt.ScrubEvery == 0 || time.Since(last) < r.opt.ScrubEvery {
				continue
			}
		}
		last = time.Now()
		r.runScrub(ctx)
	}
}

func (r *Replica) noteScrub(note func(*ScrubStatus)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	note(&r.scrub.is)
}

// runScrub reads every body of this replica, and compares every mailbox to that of another one. A replica that is alone with what
// it has, against two that agree, takes the state of the others; an active one hands over before.
func (r *Replica) runScrub(ctx context.Context) {
	with := r.awaitFellow(ctx)
	r.noteScrub(func(s *ScrubStatus) { *s = ScrubStatus{Running: true, Begun: time.Now(), With: with} })
	err := r.scrubAll(ctx, with)
	r.noteScrub(func(s *ScrubStatus) {
		s.Running, s.Ended = false, time.Now()
		if err != nil {
			s.Err = err.Error()
		}
	})
	r.mu.Lock()
	is := r.scrub.status()
	r.mu.Unlock()
	r.log.Info("scrubbed", "checked", is.Checked, "rotten", is.Rotten, "repaired", is.Repaired, "differing", len(is.Differing), "err", err)
	if err == nil && with != "" {
		why := ""
		if len(is.Differing) > 0 {
			why = fmt.Sprintf("%d mailboxes differ from those of %s, such as %s", len(is.Differing), with, is.Differing[0])
		}
		if r.epoch.Load() == nil { // of two that differ the active one stays
			r.setUnfit(differs, why)
		} else if why != "" {
			r.log.Error("replicas differ", "why", why)
		}
	}
}

// awaitFellow gives a replica that has just begun the time to hear of the others.
func (r *Replica) awaitFellow(ctx context.Context) string {
	for range 2 * int(siteGone/digestPause) {
		if with := r.scrubFellow(); with != "" {
			return with
		}
		select {
		case <-ctx.Done():
			return ""
		case <-time.After(digestPause):
		}
	}
	return ""
}

// scrubFellow gives a replica to compare with; empty: there is none. It is the active one: compared with a third, nobody would know
// which of the two is wrong. The active one takes one at another site, or one at its own if there is none.
func (r *Replica) scrubFellow() string {
	if leader := r.leader(); leader != "" && leader != r.self.Name && !r.member(leader).Witness {
		return leader
	}
	near := ""
	for _, m := range r.others() {
		switch {
		case !r.alive(m.Name) || r.view(m.Name).State.Blank:
		case m.Site != r.self.Site:
			return m.Name
		case near == "":
			near = m.Name
		}
	}
	return near
}

func (r *Replica) scrubAll(ctx context.Context, with string) error {
	mail := r.store.get()
	if mail == nil {
		return errNoStore
	}
	select {
	case <-mail.Settled(): // nothing can be said of it before
	case <-ctx.Done():
		return ctx.Err()
	}
	_, before := mail.Missing(0)
	for _, mailbox := range mail.Mailboxes() {
		checked, rotten, err := mail.Verify(ctx, mailbox, r.pace(ctx))
		r.noteScrub(func(s *ScrubStatus) { s.Mailboxes++; s.Checked += checked; s.Rotten += rotten })
		if err != nil {
			return fmt.Errorf("read bodies of %s: %w", mailbox, err)
		}
		if rotten > 0 {
			r.fetcher.Poke()
		}
		if with == "" {
			continue
		}
		same, err := r.compare(ctx, mail, with, mailbox)
		if err != nil {
			return fmt.Errorf("compare %s: %w", mailbox, err)
		}
		if same {
			continue
		}
		r.noteScrub(func(s *ScrubStatus) {
			if len(s.Differing) < keptMailbox {
				s.Differing = append(s.Differing, mailbox)
			}
		})
		if r.outvoted(ctx, mail, mailbox) {
			return mail.Distrust(mailbox + " differs from what two other replicas have")
		}
	}
	return r.awaitRepair(ctx, mail, before)
}

// awaitRepair gives what was rotten a while to be fetched again.
func (r *Replica) awaitRepair(ctx context.Context, mail *store.Store, before int) error {
	for range digestTries {
		_, left := mail.Missing(0)
		r.noteScrub(func(s *ScrubStatus) { s.Repaired = max(0, s.Rotten-max(0, left-before)) })
		if left <= before {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(digestPause):
		}
	}
	return nil
}

// compare reports whether a mailbox is the same at another replica. What changes meanwhile is looked at again.
func (r *Replica) compare(ctx context.Context, mail *store.Store, with, mailbox string) (same bool, err error) {
	for range digestTries {
		changed, sum, err := mail.Digest(mailbox)
		if err != nil {
			return false, err
		}
		asking, cancel := context.WithTimeout(ctx, helloTime)
		d, err := r.caller.Digest(asking, with, mailbox)
		cancel()
		if err != nil {
			return false, err
		}
		if d.Changed == changed {
			return d.Sum == sum, nil
		}
		select {
		case <-ctx.Done():
			return false, ctx.Err()
		case <-time.After(digestPause):
		}
	}
	r.log.Info("mailbox changes too fast to be compared", "mailbox", mailbox)
	return true, nil
}

// outvoted reports whether two other replicas have a mailbox alike, and otherwise than this one, and none has it as this one.
// What changes meanwhile is looked at again.
func (r *Replica) outvoted(ctx context.Context, mail *store.Store, mailbox string) bool {
	for range digestTries {
		changed, sum, err := mail.Digest(mailbox)
		if err != nil {
			return false
		}
		votes := map[store.Sum]int{}
		for _, m := range r.others() {
			asking, cancel := context.WithTimeout(ctx, helloTime)
			d, err := r.caller.Digest(asking, m.Name, mailbox)
			cancel()
			if err == nil && d.Changed == changed {
				votes[d.Sum]++
			}
		}
		if votes[sum] > 0 {
			return false
		}
		for _, n := range votes {
			if n > 1 {
				return true
			}
		}
		select {
		case <-ctx.Done():
			return false
		case <-time.After(digestPause):
		}
	}
	return false
}

// pace keeps a scrub from taking the disk from the mail.
func (r *Replica) pace(ctx context.Context) func(n int) error {
	rate := r.opt.CatchUpRate
	if rate <= 0 {
		rate = defaultScrub
	}
	begun, read := time.Now(), int64(0)
	return func(n int) error {
		read += int64(n)
		ahead := time.Duration(float64(read)/float64(rate)*float64(time.Second)) - time.Since(begun)
		if ahead < time.Millisecond {
			return ctx.Err()
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(ahead):
			return nil
		}
	}
}
