package replica

import (
	"context"
	"errors"
	"fmt"
	"time"

	"anycastle/mailroles/replica/group"
)

const (
	moveTime  = 8 * time.Second // for a planned move
	holdTime  = 2 * time.Second // for sessions to come to rest
	drainTime = time.Second     // for the bodies of the last operations to be at the other replica
	keptMoves = 20
)

// Move is a change of the active replica.
type Move struct {
	At   time.Time     `json:"at"`
	From string        `json:"from"`
	To   string        `json:"to"`
	Why  string        `json:"why"`
	By   string        `json:"by,omitempty"`
	Took time.Duration `json:"took,omitempty"`
	Err  string        `json:"err,omitempty"`
}

// Move hands the LUN over to another replica without a failed command. by and why are the operator's.
func (r *Replica) Move(ctx context.Context, to, by, why string) error {
	g := r.group.Load()
	if g == nil || r.epoch.Load() == nil {
		return r.notActive()
	}
	if to == r.self.Name {
		return fmt.Errorf("%s is the active store already", to)
	}
	m := r.member(to)
	if m.Name == "" || m.Witness {
		return fmt.Errorf("%s is no mail replica of %s", to, r.opt.LUN)
	}
	if not := r.unable(g, to); not != "" {
		return fmt.Errorf("%s cannot be active now: %s", to, not)
	}
	ctx, cancel := context.WithTimeout(ctx, moveTime)
	defer cancel()
	chosen := Move{At: time.Now(), From: r.self.Name, To: to, Why: why, By: by}
	if err := r.ask(ctx, to, "chosen", chosen, nil); err != nil {
		return fmt.Errorf("tell %s that it is chosen: %w", to, err)
	}
	err := r.move(ctx, g, to)
	r.keepMove(chosen, err)
	return err
}

// notActive is the answer to an order that is the active replica's to carry out.
func (r *Replica) notActive() error {
	if leader := r.leader(); leader != "" {
		return fmt.Errorf("%w: %s is the active store of %s; give the order there", ErrNotActive, leader, r.opt.LUN)
	}
	return fmt.Errorf("%w: no replica of %s is active", ErrNotActive, r.opt.LUN)
}

// ErrNotActive is when an order is for another replica.
var ErrNotActive = errors.New("this replica is not active")

// move holds the sessions at rest, waits until the other replica has all, and hands over.
func (r *Replica) move(ctx context.Context, g *group.Group, to string) error {
	holding, cancel := context.WithTimeout(ctx, holdTime)
	release := r.opt.Hold(holding)
	cancel()
	defer release()
	return r.handOver(ctx, g, to)
}

// handOver waits a moment for the other replica to have all bodies, and has it elected.
func (r *Replica) handOver(ctx context.Context, g *group.Group, to string) error {
	draining, cancel := context.WithTimeout(ctx, drainTime)
	defer cancel()
	for draining.Err() == nil {
		changed := r.exchange.Changed()
		if v := r.view(to); v.Known && v.State.Complete >= g.Status().Applied.Index {
			break
		}
		select {
		case <-draining.Done():
		case <-changed:
		}
	}
	if err := g.Transfer(ctx, to); err != nil {
		return fmt.Errorf("hand %s over to %s: %w", r.opt.LUN, to, err)
	}
	return nil
}

// HandOver makes this replica step back, and keeps it from being active until Return is called. It returns when it is not
// active, when there is nobody to hand over to, or when ctx ends.
func (r *Replica) HandOver(ctx context.Context, why string) {
	g, e := r.group.Load(), r.epoch.Load()
	if g == nil || e == nil {
		r.setUnfit(ordered, why)
		return
	}
	to, none := r.successor(g)
	if to == "" {
		r.log.Warn("nobody to hand over to", "why", why, "others", none)
		r.setUnfit(ordered, why)
		return // whoever waited would do so in vain
	}
	moving, cancel := context.WithTimeout(ctx, moveTime)
	defer cancel()
	r.noteMove(to, why, r.move(moving, g, to))
	r.setUnfit(ordered, why)
	select {
	case <-e.served:
	case <-moving.Done():
	}
}

// Return lets the replica be active again.
func (r *Replica) Return() { r.setUnfit(ordered, "") }

// choose notes that an operator wants this replica to be active.
func (r *Replica) choose(m Move) {
	r.pin(time.Now())
	r.keepMove(m, nil)
}

// noteMove logs and keeps a move that this replica has made by itself.
func (r *Replica) noteMove(to, why string, err error) {
	r.keepMove(Move{At: time.Now(), From: r.self.Name, To: to, Why: why}, err)
}

func (r *Replica) keepMove(m Move, err error) {
	m.Took = time.Since(m.At)
	if err != nil {
		m.Err = err.Error()
	}
	r.log.Info("lun moves", "from", m.From, "to", m.To, "why", m.Why, "by", m.By, "err", err)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.moves = append(r.moves, m)
	r.moves = r.moves[max(0, len(r.moves)-keptMoves):]
}
