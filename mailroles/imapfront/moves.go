package imapfront

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"anycastle/mailroles/directory"
)

const (
	// sweepEvery is how often sessions are compared with the directory though nobody has told of a change.
	sweepEvery = time.Minute
	// moveTime is how long the session of a mailbox that has moved may wait for the end of a command.
	moveTime = 30 * time.Second
	// lookTime bounds a look into the directory.
	lookTime = 10 * time.Second
)

// followMoves ends the sessions of mailboxes that are on another LUN now, or are gone, so that their clients log in again
// and come to where they belong.
func (s *Server) followMoves(ctx context.Context) {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for {
		var changed <-chan struct{}
		if s.opt.Changed != nil {
			changed = s.opt.Changed() // before the sweep, so that no change is missed
		}
		s.mu.Lock()
		s.sweeps++
		all := slices.Collect(maps.Keys(s.joined))
		s.mu.Unlock()
		s.endMoved(ctx, all)
		select {
		case <-ctx.Done():
			return
		case <-changed:
		case <-tick.C:
		}
	}
}

// endMoved ends those of the sessions whose mailbox the directory has elsewhere or not at all. While the directory cannot
// tell, they go on.
func (s *Server) endMoved(ctx context.Context, sessions []*joined) {
	moved := map[string]bool{} // by address
	for _, j := range sessions {
		if ctx.Err() != nil {
			return
		}
		is, known := moved[j.address]
		if !known {
			is = s.hasMoved(ctx, j)
			moved[j.address] = is
		}
		if is && j.end(byeMoved, moveTime) {
			s.opt.Tally.Reject("moved")
		}
	}
}

func (s *Server) hasMoved(ctx context.Context, j *joined) bool {
	ctx, cancel := context.WithTimeout(ctx, lookTime)
	defer cancel()
	m, err := s.opt.Directory.Mailbox(ctx, j.address)
	return errors.Is(err, directory.ErrUnknown) || err == nil && m.LUN != j.lun
}
