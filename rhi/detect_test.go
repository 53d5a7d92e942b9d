package rhi

import (
	"context"
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"anycastle/internal/daemon"
	"anycastle/rhi/bfd"
)

// frrWithBFD is frrConfig with BFD, if the interval is not 0.
func frrWithBFD(node string, interval time.Duration, multiplier int) string {
	text := frrConfig(node, "secret")
	if interval == 0 {
		return text
	}
	text = strings.Replace(text, " neighbor "+node+" passive\n", " neighbor "+node+" passive\n neighbor "+node+" bfd profile fast\n", 1)
	// at the end, for each daemon complains of what is another's, and goes on
	return fmt.Sprintf("%sbfd\n profile fast\n  detect-multiplier %d\n  transmit-interval %d\n  receive-interval %[3]d\n", text, multiplier, interval.Milliseconds())
}

// birdWithBFD is birdConfig with BFD, if the interval is not 0.
func birdWithBFD(node string, interval time.Duration, multiplier int) string {
	text := birdConfig(node, "secret")
	if interval == 0 {
		return text
	}
	text = strings.Replace(text, "\tpassive on;\n", "\tpassive on;\n\tbfd on;\n\terror wait time 1, 2;\n", 1) // 60 s by default
	return fmt.Sprintf("%s\nprotocol bfd { interface \"*\" { interval %d ms; multiplier %d; }; }\n", text, interval.Milliseconds(), multiplier)
}

// bfd asks the speaker's process for its BFD sessions.
func (n *node) bfd() []bfd.Status {
	var list []bfd.Status
	_ = daemon.Get(context.Background(), n.dir, "rhi", "/v1/bfd", &list)
	return list
}

// deafen has the node lose every packet in both directions, without a sign to anybody, until hear is called.
func (n *node) deafen() (hear func()) {
	n.t.Helper()
	n.nft("add table inet deaf; add chain inet deaf in { type filter hook input priority 0; policy drop; }; " +
		"add chain inet deaf out { type filter hook output priority 0; policy drop; }")
	return func() { n.nft("delete table inet deaf") }
}

func (n *node) nft(rules string) {
	n.t.Helper()
	cmd := exec.Command("nft", rules)
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	n.ns.Do(cmd.Start)
	if err := cmd.Wait(); err != nil {
		n.t.Fatalf("nft %q: %v\n%s", rules, err, out.String())
	}
}

// eachRouter runs a test with FRR and with BIRD, over IPv4 and over IPv6, with BFD and a route to the first VIP of the family.
func eachRouter(t *testing.T, test func(t *testing.T, r *benchRouter, prefix string)) {
	for _, name := range []string{"frr", "bird"} {
		for family, prefix := range map[Family]string{IPv4: vip, IPv6: vip6} {
			t.Run(name+" over "+string(family), func(t *testing.T) {
				t.Parallel()
				r := newBenchRouter(t, name, family, 200*time.Millisecond, 10)
				r.lb.set(prefix)
				eventually(t, "route", soon, func() bool { return r.router.kernelHop(prefix) != "" })
				test(t, r, prefix)
				r.lb.end(unix.SIGTERM)
			})
		}
	}
}

// The way to a router is lost without a sign, long before the hold time: both ends take their routes back, and say that it
// was BFD; when the way is back, so are the routes.
func TestBFDFindsALoss(t *testing.T) {
	t.Parallel()
	eachRouter(t, func(t *testing.T, r *benchRouter, prefix string) {
		heal := r.lb.deafen()
		eventually(t, "no route", soon, func() bool { return r.router.kernelHop(prefix) == "" })
		eventually(t, "session down here", soon, func() bool { return strings.Contains(r.lb.peer("router").LastError, "lost by BFD") })
		heal()
		eventually(t, "sessions up again", soon, r.up)
		eventually(t, "route again", soon, func() bool { return r.router.kernelHop(prefix) != "" })
		if s := r.lb.bfd(); len(s) != 1 || s[0].Downs == 0 || s[0].LastLoss == nil {
			t.Errorf("show bfd: %+v", s)
		}
	})
}

// state gives the state of the node's only BFD session.
func (r *benchRouter) state() bfd.State {
	if s := r.lb.bfd(); len(s) == 1 {
		return s[0].State
	}
	return bfd.Init // no test waits for that
}

// An operator takes BFD down at the router, which says nothing about the way: BGP stays.
func TestBFDTakenDownAtRouter(t *testing.T) {
	t.Parallel()
	eachRouter(t, func(t *testing.T, r *benchRouter, prefix string) {
		if r.router.name == "bird" {
			r.router.birdc("disable bfd1") // it says so to nobody, and neither to its BGP
			eventually(t, "silence is a loss", soon, func() bool { return strings.Contains(r.lb.peer("router").LastError, "lost by BFD") })
			eventually(t, "BGP comes back without BFD", soon, func() bool { return r.lb.up("router") && r.state() == bfd.Down })
			return
		}
		since, lost := r.lb.peer("router").Since, r.router.removals(prefix)
		r.router.vtysh("configure terminal\nbfd\nprofile fast\nshutdown")
		eventually(t, "down by order there", soon, func() bool { return r.state() == bfd.Down })
		time.Sleep(3 * time.Second) // more than the detection time
		if p := r.lb.peer("router"); p.State != established || !p.Since.Equal(since) {
			t.Errorf("BGP did not stay: %+v", p)
		}
		if n := lost(); n > 0 {
			t.Errorf("the route was lost %d times", n)
		}
	})
}

// An operator takes BFD down here. FRR 8 and BIRD 2 take that for a loss and end BGP, which RFC 5882 4.2 would not have them
// do; it is not the node that ends it, and it comes back without BFD, and stays.
func TestBFDTakenDownHere(t *testing.T) {
	t.Parallel()
	eachRouter(t, func(t *testing.T, r *benchRouter, prefix string) {
		r.lb.set("bfd-down")
		eventually(t, "down by order", soon, func() bool { return r.state() == bfd.AdminDown })
		eventually(t, "ended by the router", soon, func() bool { return strings.HasPrefix(r.lb.peer("router").LastError, "notification-received code 6") })
		eventually(t, "BGP again", soon, func() bool { return r.lb.up("router") })
		eventually(t, "route again", soon, func() bool { return r.router.kernelHop(prefix) != "" })
		since, lost := r.lb.peer("router").Since, r.router.removals(prefix)
		time.Sleep(3 * time.Second)
		if p := r.lb.peer("router"); p.State != established || !p.Since.Equal(since) || lost() > 0 {
			t.Errorf("BGP did not stay: %+v", p)
		}
		r.lb.set("bfd-up")
		eventually(t, "both up", soon, r.up)
	})
}
