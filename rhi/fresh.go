package rhi

import (
	"context"
	"log/slog"
	"net/netip"
	"time"
)

// freshTime is how long after its session has begun a peer is sent everything once more.
const freshTime = time.Second

// fresh are peers whose sessions have begun a moment ago. gobgp v4.8.0 reads what it has for such a peer and sends it later, and
// sends what changes meanwhile at once, so that the peer may hear the newer first and the older last, and keep that until the
// route changes again: a router was seen to send to a longer path for a minute. Everything sent once more mends that.
type fresh struct {
	peers map[netip.Addr]bool
	due   *time.Timer
}

func newFresh() *fresh {
	f := &fresh{map[netip.Addr]bool{}, time.NewTimer(time.Hour)}
	f.due.Stop()
	return f
}

func (f *fresh) add(a netip.Addr) {
	f.peers[a] = true
	f.due.Reset(freshTime)
}

// resend is for when it is due. A peer that is gone again hears all when it comes back.
func (f *fresh) resend(ctx context.Context, s *speaker, log *slog.Logger) {
	for a := range f.peers {
		if err := s.resend(ctx, a); err != nil {
			log.Debug("not sent once more", "address", a, "err", err)
		}
	}
	clear(f.peers)
}
