package gss

import (
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"anycastle/gss/decide"
	"anycastle/internal/probe"
)

// TestAgentOfAnAnswer has an agent speak for an answer, by a fake of its probe.
func TestAgentOfAnAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := startTold(t, func(c *Config) {
			c.Balancers = nil
			c.Answers[0].Agent = &Agent{Address: netip.MustParseAddrPort("198.51.100.40:5025"), Interval: time.Second}
		})
		defer d.end()
		var mu sync.Mutex
		advice, fail := probe.Advice{Weight: 100}, error(nil)
		d.sites.mu.Lock()
		d.sites.agent = func(said *probe.Advice) error {
			mu.Lock()
			defer mu.Unlock()
			*said = advice
			return fail
		}
		d.sites.mu.Unlock()
		says := func(a probe.Advice, err error) {
			mu.Lock()
			advice, fail = a, err
			mu.Unlock()
			d.after(1100 * time.Millisecond)
		}
		says(probe.Advice{Weight: 100}, nil)
		d.expect("at first", decide.Serving)
		says(probe.Advice{Weight: 5}, nil)
		d.expect("nearly full", decide.Hot)
		says(probe.Advice{Weight: 100, Admin: probe.AdminDrain}, nil)
		d.expect("draining", decide.Draining)
		says(probe.Advice{Weight: 100, Down: "down"}, fmt.Errorf("agent says down: %w", probe.ErrAgentDown))
		d.expect("down, with probes that pass", decide.Serving)
		d.sites.set(east)
		d.after(501 * time.Millisecond)
		d.expect("down, and a probe agrees", decide.Out)
		d.sites.set()
		says(probe.Advice{Weight: 5}, nil)
		d.expect("nearly full again", decide.Hot)
		says(probe.Advice{Weight: 5}, errors.New("connection refused"))
		d.after(3 * time.Second)
		d.expect("when it does not answer", decide.Serving)
		if a := d.Answers()[0]; a.Agent != "connection refused" || a.Reports[0].From != "agent 198.51.100.40:5025" {
			t.Errorf("answer %+v", a)
		}
	})
}
