package replica

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"anycastle/mailroles/replica/bodies"
	"anycastle/mailroles/replica/chain"
	"anycastle/mailroles/replica/group"
	"anycastle/mailroles/replica/wire"
	"anycastle/mailroles/store"
)

const (
	helloTime    = 2 * time.Second        // for a member's answer
	helloPause   = 300 * time.Millisecond // between two rounds of questions
	seedTime     = 30 * time.Minute       // for a whole manifest
	baseTime     = time.Minute            // for a member that leads to say where to follow from
	manifestTry  = 3                      // how often a manifest is asked for anew when it is too old by the time that it is here
	questionWord = "hello"
	neverIn      = "it was in no group" // why a new replica has no state
)

// Hello is what a member says of itself.
type Hello struct {
	Initialized bool   `json:"initialized"` // it is or was in the group
	Blank       bool   `json:"blank"`       // it does not trust what it has
	Mail        bool   `json:"mail"`        // it has mail from before it was in a group
	Era         uint64 `json:"era"`
	Term        uint64 `json:"term"`
	Leader      string `json:"leader,omitempty"`
	Leading     bool   `json:"leading"`
	Last        uint64 `json:"last"` // index of its log
	LastTerm    uint64 `json:"last_term"`
	Committed   uint64 `json:"committed"`
}

// newer reports whether a log that ends so has something that another one may lack. Indexes alone do not say: the end of a log may
// be what a leader that was cut off never got committed.
func (h Hello) newer(last, term uint64) bool {
	return h.LastTerm > term || h.LastTerm == term && h.Last > last
}

// prepare returns when the replica has a state that it can follow from: its own, that of the active one, or none in a group
// that it begins.
func (l *life) prepare(ctx context.Context) error {
	r, told, said := l.r, "", ""
	for {
		lack := l.lack()
		if lack == "" {
			return nil
		}
		if l.mail != nil && l.mail.Err() != nil && !errors.Is(l.mail.Err(), store.ErrBlank) {
			return fmt.Errorf("take a state: %w", l.mail.Err()) // only one that is opened anew can
		}
		if lack != told {
			told = lack
			level := slog.LevelWarn
			if lack == neverIn {
				level = slog.LevelInfo
			}
			r.log.Log(ctx, level, "replica has no state to follow from", "why", lack)
		}
		heard, silent := r.greet(ctx)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		why, done, err := l.begin(ctx, heard, silent)
		if err != nil {
			why = err.Error()
			if why != said {
				r.log.Warn("replica cannot take part yet", "err", err)
			}
			said = why
		}
		if done {
			return nil
		}
		r.enter(Blank, why+" ("+lack+")")
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(helloPause):
		}
	}
}

// lack says why the replica cannot follow from what it has; empty: it can.
func (l *life) lack() string {
	if text, err := os.ReadFile(l.mark()); err == nil {
		return cmp.Or(strings.TrimSpace(string(text)), "it is marked so")
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err.Error()
	}
	if l.mail != nil && l.mail.Blank() {
		return l.mail.BlankWhy()
	}
	if !group.Initialized(l.dir) {
		return neverIn
	}
	if _, err := group.Inspect(l.dir); errors.Is(err, group.ErrBlank) {
		return err.Error()
	}
	return ""
}

// begin makes a step on the way into the group.
func (l *life) begin(ctx context.Context, heard map[string]Hello, silent []string) (why string, done bool, err error) {
	r := l.r
	if leader := leaderOf(heard); leader != "" {
		r.enter(Seeding, "takes the state of "+leader)
		err := l.rejoin(ctx, leader)
		return "", err == nil, err
	}
	for name, h := range heard {
		if h.Initialized {
			return fmt.Sprintf("waits for a leader: %s is in the group, and knows none", name), false, nil
		}
	}
	if group.Initialized(l.dir) || l.marked() {
		return "waits for a replica that has the state", false, nil
	}
	if len(silent) > 0 {
		return "first start: waits for " + strings.Join(silent, ", "), false, nil
	}
	first, err := r.first(heard, l.hasMail())
	if err != nil {
		return "", false, err
	}
	if first != r.self.Name {
		return "first start: waits for " + first, false, nil
	}
	r.log.Info("replica begins the group")
	return "", true, l.bootstrap()
}

func (l *life) marked() bool {
	_, err := os.Stat(l.mark())
	return err == nil
}

// bootstrap makes a group of this replica alone.
func (l *life) bootstrap() error {
	return group.Bootstrap(l.dir, l.r.self.Name, l.mail.Saved())
}

// hasMail reports whether the store has mail from before there was a group.
func (l *life) hasMail() bool {
	return l.mail != nil && (l.mail.Saved().Index > 0 || len(l.mail.Mailboxes()) > 0)
}

// first says which replica begins the group: the one that has mail, else the most preferred one.
func (r *Replica) first(heard map[string]Hello, mail bool) (string, error) {
	var have []string
	if mail {
		have = append(have, r.self.Name)
	}
	for name, h := range heard {
		if h.Mail {
			have = append(have, name)
		}
	}
	slices.Sort(have)
	switch {
	case len(have) == 1:
		return have[0], nil
	case len(have) > 1:
		return "", fmt.Errorf("first start: %s have mail each; empty the directories of all but one", strings.Join(have, " and "))
	}
	for _, m := range r.opt.Members {
		if !m.Witness {
			return m.Name, nil
		}
	}
	return "", errors.New("first start: there is no mail replica")
}

// leaderOf gives the member that leads, of those of the newest era.
func leaderOf(heard map[string]Hello) string {
	leader, era, term := "", uint64(0), uint64(0)
	for name, h := range heard {
		if h.Leading && (leader == "" || h.Era > era || h.Era == era && h.Term > term) {
			leader, era, term = name, h.Era, h.Term
		}
	}
	return leader
}

// greet asks all other members how they are. silent are those that do not say.
func (r *Replica) greet(ctx context.Context) (heard map[string]Hello, silent []string) {
	ctx, cancel := context.WithTimeout(ctx, helloTime)
	defer cancel()
	heard = map[string]Hello{}
	var mu sync.Mutex
	var asking sync.WaitGroup
	for _, m := range r.opt.Members {
		if m.Name == r.self.Name {
			continue
		}
		asking.Go(func() {
			var h Hello
			err := r.caller.Ask(ctx, m.Name, questionWord, nil, nil, &h)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				r.log.Debug("no answer", "member", m.Name, "err", err)
				silent = append(silent, m.Name)
				return
			}
			heard[m.Name] = h
		})
	}
	asking.Wait()
	slices.Sort(silent)
	return heard, silent
}

// rejoin takes the state of the member that leads.
func (l *life) rejoin(ctx context.Context, leader string) error {
	r := l.r
	ctx, cancel := context.WithTimeout(ctx, seedTime)
	defer cancel()
	var era uint64
	if err := r.ask(ctx, leader, "admit", nil, &era); err != nil {
		return fmt.Errorf("ask %s to be admitted: %w", leader, err)
	}
	for try := 1; ; try++ {
		at, err := l.install(ctx, leader)
		if err != nil {
			return err
		}
		var b base
		b, leader, err = l.base(ctx, leader, at)
		if err != nil && l.mail != nil && try < manifestTry && ctx.Err() == nil {
			r.log.Info("state is too old by now", "err", err)
			continue
		}
		if err != nil {
			return fmt.Errorf("ask %s where to follow from: %w", leader, err)
		}
		if err := group.Seed(l.dir, b.At, b.Base); err != nil {
			return fmt.Errorf("begin to follow: %w", err)
		}
		if err := os.Remove(l.mark()); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove mark: %w", err)
		}
		r.setUnfit(differs, "") // it has the state of the active one
		r.log.Info("replica follows", "leader", leader, "index", b.At.Index)
		return nil
	}
}

// base asks where to follow from with a state that is here. Any member that leads by now can say: the chain of operations tells
// whether the state is of its history. from is the one that was asked last.
func (l *life) base(ctx context.Context, leader string, at chain.Position) (b base, from string, err error) {
	r := l.r
	ctx, cancel := context.WithTimeout(ctx, baseTime)
	defer cancel()
	for refused := 0; ; {
		if err = r.ask(ctx, leader, "base", at, &b); err == nil {
			return b, leader, nil
		}
		if errors.Is(err, bodies.ErrAnswer) {
			refused++
		}
		next := ""
		for next == "" {
			select {
			case <-ctx.Done():
				return b, leader, err
			case <-time.After(helloPause):
			}
			heard, _ := r.greet(ctx)
			next = leaderOf(heard)
		}
		switch {
		case next != leader:
			r.log.Info("another member leads by now", "leader", next, "err", err)
			leader, refused = next, 0
		case refused > 1: // it leads, and means it
			return b, leader, err
		}
	}
}

// install makes the state of a member the own one. A witness has none, and takes the place where the leader is.
func (l *life) install(ctx context.Context, leader string) (at chain.Position, err error) {
	if l.mail == nil {
		return at, nil
	}
	file, _, err := l.r.caller.Manifest(ctx, leader, l.r.opt.Dir)
	if err != nil {
		return at, fmt.Errorf("get manifest from %s: %w", leader, err)
	}
	at, err = l.mail.Install(file)
	return at, errors.Join(err, file.Close())
}

// ask asks a member, and does not wait for long.
func (r *Replica) ask(ctx context.Context, member, question string, arg, result any) error {
	ctx, cancel := context.WithTimeout(ctx, 5*helloTime)
	defer cancel()
	return r.caller.Ask(ctx, member, question, arg, nil, result)
}

// dialer gives the group its connections.
func dialer(n bodies.Net) func(ctx context.Context, member string) (net.Conn, error) {
	return func(ctx context.Context, member string) (net.Conn, error) { return n.Dial(ctx, wire.Raft, member) }
}
