package link

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"anycastle/internal/porttest"
)

// next has the next command that begins so answered otherwise.
func (s *fakeStore) next(begin, answer string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.once[begin] = answer
}

// mails gives the MAIL commands so far.
func (s *fakeStore) mails() (list []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, line := range s.said {
		if strings.HasPrefix(line, "MAIL") {
			list = append(list, line)
		}
	}
	return list
}

func TestStoreThatMovesIsTriedAgain(t *testing.T) {
	const moving = "451 4.3.2 no active store here"
	for name, tc := range map[string]struct {
		begin, answer string
		bodies        int
	}{
		"before the transaction":    {"MAIL", moving, 1},
		"at a recipient":            {"RCPT", moving, 1},
		"at the body":               {"DATA", moving, 1},
		"after the body":            {"(reply 0)", moving, 2},
		"connection ends":           {"MAIL", "", 1},
		"connection ends with body": {"(reply 0)", "", 2},
		"store ends":                {"MAIL", "421 4.3.2 going away", 1},
		"not greeted":               {"LHLO", "", 1},
	} {
		t.Run(name, func(t *testing.T) {
			s := newFakeStore(t)
			s.next(tc.begin, tc.answer)
			s.deliver("[250]", "alice")
			if _, bodies := s.count(); bodies != tc.bodies {
				t.Errorf("the body came %d times, want %d", bodies, tc.bodies)
			}
			mails := s.mails()
			if n := len(slices.Compact(mails)); n != 1 || !strings.Contains(mails[0], "ENVID=") {
				t.Errorf("tries differ, or have no transaction id: %q", mails)
			}
			if tc.begin == "(reply 0)" || tc.begin == "LHLO" {
				return
			}
			s.next(tc.begin, tc.answer)
			if tc.begin != "DATA" {
				s.ask("[250]", "alice")
			}
		})
	}
}

// TestOnlyWhoHasNoResultIsTriedAgain has one recipient taken, one refused, and the connection end before two others.
func TestOnlyWhoHasNoResultIsTriedAgain(t *testing.T) {
	s := newFakeStore(t)
	s.set("RCPT TO:<gone@", "550 5.1.1 no such mailbox")
	s.next("(reply 1)", "")
	s.deliver("[550 250 250 250]", "gone", "alice", "bob", "carol")
	var second []string
	s.mu.Lock()
	for _, line := range s.said[slices.Index(s.said, "DATA")+1:] {
		if strings.HasPrefix(line, "RCPT") {
			second = append(second, line)
		}
	}
	s.mu.Unlock()
	if diff := cmp.Diff([]string{"RCPT TO:<bob@example.org>", "RCPT TO:<carol@example.org>"}, second); diff != "" {
		t.Errorf("second try: %s", diff)
	}
}

// TestRefusalAfterAnUnansweredTryIsNone: the mailbox may be full because it has the message.
func TestRefusalAfterAnUnansweredTryIsNone(t *testing.T) {
	s := newFakeStore(t)
	s.next("(reply 0)", "")
	s.next("RCPT", "250 ok")
	s.set("RCPT", "452 4.2.2 full")
	s.deliver("[0]", "alice")
	s.deliver("[452]", "alice")
}

func TestStoreIsNotTriedForEver(t *testing.T) {
	s := newFakeStore(t)
	s.ask("[250]", "alice")
	s.pool.retryTime = time.Second
	s.set("MAIL", "451 4.3.2 no active store here")
	begun := time.Now()
	s.deliver("[451]", "alice")
	if took := time.Since(begun); took > 5*time.Second {
		t.Errorf("tried for %v", took)
	}
	if n := len(s.mails()); n < 3 {
		t.Errorf("%d tries, want more than one", n-1)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	s.pool.retryTime = time.Hour
	if got := fmt.Sprint(codes(s.pool.Deliver(ctx, s.addr, message("x\r\n"), names("alice")))); got != "[0]" {
		t.Errorf("ended by its context with %s", got)
	}
}

// TestMessagesAreSparedWhileNobodyTakesThem: each is written and synced at a store that then may not keep it.
func TestMessagesAreSparedWhileNobodyTakesThem(t *testing.T) {
	s := newFakeStore(t)
	s.pool.retryTime = time.Second
	s.set("(reply 0)", "451 4.3.2 no active store here")
	s.deliver("[451]", "alice")
	if _, bodies := s.count(); bodies < 2 || bodies > 6 {
		t.Errorf("the message was sent %d times within a second, want some 4", bodies)
	}
}

// TestStoreThatHangsIsLeft has a store take a message and say nothing, on a connection that stays open.
func TestStoreThatHangsIsLeft(t *testing.T) {
	t.Parallel()
	s := newFakeStore(t)
	s.next("(reply 0)", "100-not yet") // the first of several lines
	begun := time.Now()
	s.deliver("[250]", "alice")
	if took := time.Since(begun); took < replyTime || took > replyTime+5*time.Second {
		t.Errorf("another try took %v, want %v", took, replyTime)
	}
	if conns, bodies := s.count(); conns != 2 || bodies != 2 {
		t.Errorf("%d connections carried %d messages, want 2 and 2", conns, bodies)
	}
}

// TestStoreThatComesBackIsReached has nobody listen for a moment.
func TestStoreThatComesBackIsReached(t *testing.T) {
	s := newFakeStore(t)
	s.addr = porttest.Free(t, "127.0.0.1")
	var coming sync.WaitGroup
	coming.Go(func() {
		time.Sleep(200 * time.Millisecond) // the store is away for that long
		raw, err := net.Listen("tcp", s.addr.String())
		if err != nil {
			t.Error(err)
			return
		}
		ln := tls.NewListener(raw, s.material.Server())
		t.Cleanup(func() { ln.Close() })
		s.open.Go(func() { s.accept(ln) })
	})
	s.deliver("[250]", "alice")
	coming.Wait()
}
