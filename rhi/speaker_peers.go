package rhi

import (
	"context"
	"strings"
)

// inWords is why a session ended, with what gobgp has no words for yet (RFC 9384).
func inWords(reason string) string {
	return strings.Replace(reason, "code 6(cease) subcode 10(undefined)", "code 6(cease) subcode 10(bfd down)", 1)
}

// addPeers lets the sessions begin. Before it, nothing that is announced leaves the node.
func (s *speaker) addPeers(ctx context.Context) error {
	for _, n := range s.cfg.Neighbors {
		if err := s.addPeer(ctx, n); err != nil {
			return err
		}
	}
	for _, d := range s.cfg.Dynamic {
		if err := s.addRange(ctx, d); err != nil {
			return err
		}
	}
	return nil
}

// mend does what a session's step asks for.
func (s *speaker) mend(ctx context.Context, todo repair) error {
	if todo.drop.IsValid() {
		s.dropPeer(ctx, todo.drop)
	}
	if todo.hold.IsValid() {
		if err := s.holdPeer(ctx, todo.hold); err != nil {
			return err
		}
	}
	if todo.renew != nil {
		return s.renewPeer(ctx, *todo.renew)
	}
	return nil
}
