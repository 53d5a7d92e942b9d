package screen

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/emersion/go-smtp"

	"anycastle/mailroles/resolver"
)

// Verdicts on clients, under which they are counted.
const (
	Exempt   = "exempt"
	Passed   = "passed"
	Sessions = "source-sessions" // too many at a time
	Rate     = "source-rate"     // too many each minute
	Early    = "early-talker"    // spoke before the banner
	Listed   = "dnsbl"
	Left     = "left" // was gone, or the role ended, before there was a verdict
)

// Refusal is why a client is not let in. It unwraps to the *smtp.SMTPError that the client is told.
type Refusal struct {
	Reason string // one of the verdicts
	reply  *smtp.SMTPError
}

// Error implements error.
func (r *Refusal) Error() string { return fmt.Sprintf("screen: %s: %s", r.Reason, r.reply.Message) }

// Unwrap gives the reply.
func (r *Refusal) Unwrap() error { return r.reply }

func refusal(reason string, code, class int, format string, args ...any) *Refusal {
	return &Refusal{Reason: reason, reply: &smtp.SMTPError{
		Code: code, EnhancedCode: smtp.EnhancedCode{class, 7, 1}, Message: fmt.Sprintf(format, args...),
	}}
}

// Screen lets clients in or not. It is safe for concurrent use.
type Screen struct {
	cfg     Config
	lists   *lists // nil for none
	log     *slog.Logger
	sources *sources

	mu     sync.Mutex
	counts map[string]uint64
}

// New makes a screen. Its lists are asked also before Run is called.
func New(cfg Config, log *slog.Logger) *Screen {
	s := &Screen{cfg: cfg, log: log, sources: newSources(cfg), counts: map[string]uint64{}}
	if cfg.DNSBL != nil {
		s.lists = newLists(*cfg.DNSBL, resolver.At(cfg.DNSBL.Resolver), log)
	}
	return s
}

// Run tests the lists until ctx ends.
func (s *Screen) Run(ctx context.Context) error {
	if s.lists == nil {
		<-ctx.Done()
		return nil
	}
	return s.lists.watch(ctx)
}

// Counts gives the verdicts since the start.
func (s *Screen) Counts() map[string]uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.counts)
}

// Lists gives the state of the block lists, in the order of the config.
func (s *Screen) Lists() []ListStatus {
	if s.lists == nil {
		return nil
	}
	return s.lists.status()
}

func (s *Screen) count(verdict string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.counts[verdict]++
}

// Admit lets a client in, or refuses it with a *Refusal. early waits for as long as it is told, and reports whether the
// client spoke meanwhile. release must be called once the session of a client that was let in has ended.
func (s *Screen) Admit(ctx context.Context, client netip.Addr, early func(context.Context, time.Duration) bool) (func(), error) {
	client = client.Unmap()
	for _, p := range s.cfg.Exempt {
		if p.Contains(client) {
			s.count(Exempt)
			return func() {}, nil
		}
	}
	release, stranger, reason := s.sources.enter(client)
	err, gone := refusalOf(reason), false
	if err == nil {
		err, gone = s.look(ctx, client, stranger, early)
	}
	switch {
	case err != nil:
		s.count(err.Reason)
		s.log.Info("client refused", "client", client.String(), "reason", err.Reason, "reply", err.reply.Message)
		release()
		return nil, err
	case ctx.Err() != nil:
		s.count(Left)
		release()
		return nil, ctx.Err()
	case gone: // its session ends by itself, and it has not shown that it waits
		s.count(Left)
		return release, nil
	}
	s.count(Passed)
	s.sources.passed(client)
	return release, nil
}

// refusalOf says what a source is told that has spent its share.
func refusalOf(reason string) *Refusal {
	switch reason {
	case Sessions:
		return refusal(reason, 421, 4, "Your address has too many sessions here, try again later")
	case Rate:
		return refusal(reason, 421, 4, "Your address begins too many sessions, try again later")
	}
	return nil
}

// earlyFunc waits for as long as it is told, and reports whether the client spoke meanwhile.
type earlyFunc = func(context.Context, time.Duration) bool

// look has a client wait, and its address looked up, at the same time. gone says that the wait has ended early, and not by
// the client's speaking.
func (s *Screen) look(ctx context.Context, client netip.Addr, stranger bool, early earlyFunc) (refused *Refusal, gone bool) {
	var listed []string
	var asking sync.WaitGroup
	if s.lists != nil {
		asking.Go(func() { listed = s.lists.ask(ctx, client) })
	}
	began, spoke := time.Now(), false
	if stranger && s.cfg.GreetDelay > 0 {
		spoke = early(ctx, s.cfg.GreetDelay)
		gone = !spoke && time.Since(began) < s.cfg.GreetDelay
	}
	asking.Wait()
	if spoke {
		return refusal(Early, 554, 5, "You spoke before it was your turn"), false
	}
	if len(listed) > 0 {
		return refusal(Listed, 554, 5, "Your address [%s] is listed by %s", client, strings.Join(listed, ", ")), false
	}
	return nil, gone
}
