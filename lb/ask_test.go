package lb

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"anycastle/internal/probe"
)

// behind asks the loop.
func (r *running) behind() (text string) {
	r.t.Helper()
	check(r.t, r.lb.ask(r.t.Context(), func(l *loop) { text = l.behind() }))
	return text
}

func TestLoopSaysHowFarItIs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := runLoop(t)
		if got := r.behind(); !strings.Contains(got, "the first probes have not finished") {
			t.Errorf("before all: %q", got)
		}
		r.start()
		if got := r.behind(); got != "" {
			t.Errorf("with all in service: %q", got)
		}
		r.plane.failAt = 1
		r.probe("mx1", probe.Failing)
		synctest.Wait()
		if got := r.behind(); !strings.Contains(got, "swap slot table 0: refused") {
			t.Errorf("after a step that failed: %q", got)
		}
		<-time.After(2 * retryAfter)
		r.expect("table 0 of [2]")
		if got := r.behind(); got != "" {
			t.Errorf("after it was tried again: %q", got)
		}
		r.end()
		if err := r.lb.ask(t.Context(), func(*loop) { t.Error("answered after its end") }); !errors.Is(err, ErrNotRunning) {
			t.Errorf("after its end: %v", err)
		}
	})
}

// TestLoopAnswersBetweenChanges reloads and asks at once: what is known when it answers is what is installed.
func TestLoopAnswersBetweenChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := runLoop(t)
		r.start()
		for i := range 3 {
			cfg := mustParse(t, strings.Replace(valid, "port: 25,", fmt.Sprintf("port: %d,", 26+i), 1))
			var wg sync.WaitGroup
			hold := make(chan struct{}) // until both wait
			r.lb.events <- func(*loop) bool { <-hold; return false }
			wg.Go(func() { check(t, r.lb.Reload(t.Context(), *cfg)) })
			synctest.Wait() // it comes first
			wg.Go(func() {
				check(t, r.lb.ask(t.Context(), func(l *loop) {
					for key := range l.have.allVIPs() {
						if v := l.toVIP(key); v.Name == "" {
							t.Errorf("VIP %v is installed and not in the config", key)
						}
					}
				}))
			})
			synctest.Wait()
			close(hold)
			wg.Wait()
		}
		r.end()
	})
}
