package replica

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"anycastle/mailroles/replica/bodies"
	"anycastle/mailroles/replica/chain"
	"anycastle/mailroles/replica/group"
)

// base is where a blank replica follows from.
type base struct {
	At   chain.Position `json:"at"`
	Base []byte         `json:"base"`
}

// errNotLeading answers who asks the wrong member.
var errNotLeading = errors.New("this member does not lead")

// answers are those to the questions of other members.
func (r *Replica) answers() map[string]bodies.Answer {
	return map[string]bodies.Answer{
		questionWord: func(context.Context, string, []byte, io.Writer) (any, error) { return r.hello() },
		"admit": func(ctx context.Context, from string, _ []byte, _ io.Writer) (any, error) {
			g := r.group.Load()
			if g == nil || !g.Status().Leading {
				return nil, errNotLeading
			}
			r.log.Info("blank replica asks to be admitted", "member", from)
			return g.Status().Era, g.Admit(ctx, from)
		},
		"base": r.answerBase,
		"chosen": func(_ context.Context, from string, arg []byte, _ io.Writer) (any, error) {
			var m Move
			if err := json.Unmarshal(arg, &m); err != nil {
				return nil, fmt.Errorf("read order: %w", err)
			}
			r.choose(m)
			return nil, nil
		},
		"scrub": func(context.Context, string, []byte, io.Writer) (any, error) { return nil, r.beginScrub() },
	}
}

// answerBase tells a member that the group has admitted where it follows from: the state that it has, or, having none, ours.
func (r *Replica) answerBase(_ context.Context, from string, arg []byte, _ io.Writer) (any, error) {
	g := r.group.Load()
	if g == nil || !g.Status().Leading {
		return nil, errNotLeading
	}
	// one that has a vote would vote without what it had; to one that is in no group nothing would be sent
	if p := peerOf(g.Status(), from); !p.In || p.Voter {
		return nil, fmt.Errorf("%s has not been admitted", from)
	}
	var at chain.Position
	if err := json.Unmarshal(arg, &at); err != nil {
		return nil, fmt.Errorf("read position: %w", err)
	}
	if at.Index == 0 {
		at = g.Status().Applied
	}
	b, err := g.Base(at)
	return base{At: at, Base: b}, err
}

func peerOf(s group.Status, member string) group.Peer {
	for _, p := range s.Peers {
		if p.Name == member {
			return p
		}
	}
	return group.Peer{}
}

// hello says how this member is. One whose store is not open says nothing: at the first start who begins the group is found
// out by each from the same answers, and whether there is mail must be in them.
func (r *Replica) hello() (Hello, error) {
	l := life{r: r, dir: r.groupDir(), mail: r.store.get()}
	if l.mail == nil && !r.self.Witness {
		return Hello{}, errNoStore
	}
	h := Hello{Initialized: group.Initialized(l.dir), Era: r.era.Load(), Blank: l.marked()}
	if !h.Initialized {
		h.Mail = l.hasMail()
	}
	if g := r.group.Load(); g != nil {
		s := g.Status()
		h.Era, h.Term, h.Leader, h.Leading, h.Last, h.Committed = s.Era, s.Term, s.Leader, s.Leading, s.Last, s.Committed
		var err error
		if h.Last, h.LastTerm, err = g.Latest(); err != nil {
			return h, err
		}
	}
	return h, nil
}
