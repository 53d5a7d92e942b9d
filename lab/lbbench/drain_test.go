package lbbench

import (
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestDrainWaits drains a real that has connections from the command line, and stops its server when that says so.
func TestDrainWaits(t *testing.T) {
	for method, farm := range map[string]string{
		"tracked":       farmIPIP,
		"second-chance": "      forward: gue\n      transition: {method: second-chance}\n" + farmIPIP,
	} {
		t.Run(method, func(t *testing.T) {
			t.Parallel()
			c := newControl(t, 2, 2, farm)
			c.listen("mx1", "mx2")
			c.up(bothLBs...)
			c.expectPeers("alive", bothLBs...)
			c.expectStates(bothLBs, "mx1 active", "mx2 active")
			c.route(bothLBs...)
			on := c.open(12, "mx1", "mx2")
			here, there := on["mx1"], on["mx2"]

			drain := c.begin("lb1", "drain", "smtp/mx1", "--wait")
			says := func(flows int) {
				t.Helper()
				eventually(t, fmt.Sprintf("%d flows left", flows), func() bool {
					return strings.Contains(drain.said(), fmt.Sprintf(" %d flows left, waits for lb1, lb2", flows))
				})
				if drain.ended() {
					t.Fatalf("drain --wait has ended with %d flows left:\n%s", flows, drain.said())
				}
			}
			says(len(here))
			c.expectDrain(bothLBs, "with all flows", func(d drainRow) bool {
				return d.Real == "mx1" && d.State == "draining" && d.Flows != nil && *d.Flows == len(here)
			})
			for len(here) > 2 {
				here = end(t, here)
			}
			says(2)
			c.expectDrain(bothLBs, "with an end to be expected", func(d drainRow) bool {
				return d.Real == "mx1" && d.State == "draining" && !d.Safe && d.Flows != nil && *d.Flows == 2 && !d.ETA.IsZero()
			})
			if fresh := c.open(8, "mx2"); len(fresh["mx1"]) > 0 {
				t.Errorf("%d new connections are on a real that drains", len(fresh["mx1"]))
			}
			echoes(t, here, there)
			here = end(t, here)
			says(1)
			echoes(t, here, there)
			end(t, here)
			eventually(t, "the command ends", drain.ended)
			if err := <-drain.done; err != nil || !strings.Contains(drain.said(), "smtp/mx1: safe to stop: drained: no flow is left") {
				t.Errorf("it ended with %v:\n%s", err, drain.said())
			}
			for _, lb := range bothLBs { // at once: that is what the command has said
				if s := c.real(lb, "mx1"); s.State != "suspended" {
					t.Errorf("mx1 is %s on %s", s.State, lb)
				}
			}
			c.servers["mx1"].stop()
			c.running["mx1"].stop(syscall.SIGKILL)
			c.open(20, "mx2")
			echoes(t, there)

			c.listen("mx1")
			c.mustRun("lb2", "activate", "smtp/mx1")
			c.expectStates(bothLBs, "mx1 joining")
			echoes(t, there)
			c.open(12, "mx1", "mx2")
		})
	}
}

// TestWhatBreaksConnections takes a real out at once, and lets a drain come to its deadline.
func TestWhatBreaksConnections(t *testing.T) {
	t.Parallel()
	c := newControl(t, 1, 2, farmFast)
	c.listen("mx1", "mx2")
	c.up("lb1")
	lb := []string{"lb1"}
	c.expectStates(lb, "mx1 active", "mx2 active")
	c.route("lb1")
	on := c.open(12, "mx1", "mx2")
	c.mustRun("lb1", "suspend", "smtp/mx1", "--why", "it burns")
	c.expectStates(lb, "mx1 suspended")
	if out := c.mustRun("lb1", "show", "real"); !strings.Contains(out, "order suspend by ") || !strings.Contains(out, ": it burns") {
		t.Errorf("show real does not say why:\n%s", out)
	}
	for _, conn := range on["mx1"] {
		broken(t, conn)
	}
	echoes(t, on["mx2"])

	c.mustRun("lb1", "activate", "smtp/mx1")
	c.expectStates(lb, "mx1 active") // when its transition time is over
	on = c.open(12, "mx1", "mx2")
	out := c.mustRun("lb1", "drain", "smtp/mx1", "--wait", "--deadline", "2s")
	// more than those of the clients: the server has not heard of the end of those that were reset before
	if !strings.Contains(out, "smtp/mx1: safe to stop: drained: the deadline has passed with ") || !strings.HasSuffix(out, " flows left\n") {
		t.Errorf("drain --wait says\n%s", out)
	}
	broken(t, on["mx1"][0])
	echoes(t, on["mx2"])

	c.mustRun("lb1", "activate", "smtp/mx1")
	c.expectStates(lb, "mx1 active")
	on = c.open(12, "mx1", "mx2")
	drain := c.begin("lb1", "drain", "smtp/mx1", "--wait")
	eventually(t, "flows are left", func() bool { return strings.Contains(drain.said(), "flows left") })
	c.mustRun("lb1", "activate", "smtp/mx1")
	eventually(t, "the command ends", drain.ended)
	if err := <-drain.done; err == nil || !strings.Contains(drain.said(), "another order has taken the place of the drain of smtp/mx1") {
		t.Errorf("drain --wait ended with %v:\n%s", err, drain.said())
	}
	echoes(t, on["mx1"], on["mx2"])
}

// open opens connections to the VIP until each of the reals has three, and at least so many. They are closed with the test.
func (c *control) open(n int, reals ...string) map[string][]net.Conn {
	c.t.Helper()
	on := map[string][]net.Conn{}
	few := func() bool {
		for _, r := range reals {
			if len(on[r]) < 3 {
				return true
			}
		}
		return false
	}
	c.onThreads(1, func(int) error {
		d := dialer()
		for i := 0; i < n || few(); i++ {
			conn, err := c.connect(&d, vipTarget)
			if err != nil {
				return err
			}
			c.t.Cleanup(func() { conn.Close() })
			name := c.realOf(conn)
			if on[name] = append(on[name], conn); i > 200 {
				return fmt.Errorf("of %d connections %d are on mx1 and %d on mx2", i, len(on["mx1"]), len(on["mx2"]))
			}
		}
		return nil
	})
	return on
}

// realOf finds the real that has a connection.
func (c *control) realOf(conn net.Conn) string {
	for name, v := range c.servers {
		if v.has(conn.LocalAddr().String()) {
			return name
		}
	}
	return "nobody"
}

// has says whether a client is connected.
func (v *server) has(client string) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	for conn := range v.conns {
		if conn.RemoteAddr().String() == client {
			return true
		}
	}
	return false
}

// end closes the last connection.
func end(t *testing.T, conns []net.Conn) []net.Conn {
	t.Helper()
	check(t, conns[len(conns)-1].Close())
	return conns[:len(conns)-1]
}

// echoes has each connection carry something there and back.
func echoes(t *testing.T, lists ...[]net.Conn) {
	t.Helper()
	for _, conns := range lists {
		for _, conn := range conns {
			if err := echo(conn); err != nil {
				t.Errorf("%v is broken: %v", conn.LocalAddr(), err)
			}
		}
	}
}

func echo(conn net.Conn) error {
	if err := conn.SetDeadline(time.Now().Add(answerTime)); err != nil {
		return err
	}
	if _, err := io.WriteString(conn, "ping"); err != nil {
		return err
	}
	_, err := io.ReadFull(conn, make([]byte, 4))
	return err
}

// broken waits until a connection is reset, as its client learns when it sends something.
func broken(t *testing.T, conn net.Conn) {
	t.Helper()
	if err := echo(conn); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("%v: %v, want a reset", conn.LocalAddr(), err)
	}
}
