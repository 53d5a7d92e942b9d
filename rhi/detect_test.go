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

// The way to a router is lost without a sign, long before the hold time: both ends take their routes back, and say that it
// was BFD; when the way is back, so are the routes. An operator at the router then takes BFD down, and BGP stays.
func TestBFDFindsALoss(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"frr", "bird"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newBenchRouter(t, name, 200*time.Millisecond, 10)
			r.lb.set(vip)
			eventually(t, "route", soon, func() bool { return r.router.kernelHop(vip) != "" })
			heal := r.lb.deafen()
			eventually(t, "no route", soon, func() bool { return r.router.kernelHop(vip) == "" })
			eventually(t, "session down here", soon, func() bool { return strings.Contains(r.lb.peer("router").LastError, "lost by BFD") })
			heal()
			eventually(t, "sessions up again", soon, r.up)
			eventually(t, "route again", soon, func() bool { return r.router.kernelHop(vip) != "" })
			if s := r.lb.bfd(); len(s) != 1 || s[0].Downs == 0 || s[0].LastLoss == nil {
				t.Errorf("show bfd: %+v", s)
			}
			if name == "frr" {
				since := r.lb.peer("router").Since
				r.router.vtysh("configure terminal\nbfd\nprofile fast\nshutdown")
				eventually(t, "taken down by FRR's operator", soon, func() bool { s := r.lb.bfd(); return len(s) == 1 && s[0].State == bfd.Down })
				if p := r.lb.peer("router"); p.State != established || !p.Since.Equal(since) {
					t.Errorf("BGP did not stay: %+v", p)
				}
			}
			r.lb.end(unix.SIGTERM)
		})
	}
}
