package lbbench

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// live is a site with two balancers and three reals, and connections with traffic on them.
type live struct {
	*control
	talk    *traffic
	echoers map[string]*process // the server of each real
}

// The methods of transitions, by their names in the config.
const (
	secondChance = "second-chance"
	tracked      = "tracked"
)

// newLive starts everything. All three reals run, and those with a weight are in the farm. No probe fails because the machine
// is busy: that would break connections.
func newLive(t testing.TB, method string, transition time.Duration, weights map[string]int) *live {
	t.Helper()
	forward := map[string]string{secondChance: "gue", tracked: "ipip"}[method]
	l := &live{echoers: map[string]*process{}, control: newControl(t, 2, 3, fmt.Sprintf("      forward: %s\n"+
		"      transition: {method: %s, time: %v}\n      probes: [{type: tcp, interval: 1s, timeout: 900ms, fail: 5}]\n", forward, method, transition))}
	for _, real := range []string{"mx1", "mx2", "mx3"} {
		l.echoers[real] = l.serveApart(real)
		l.up(real)
	}
	for _, lb := range bothLBs {
		l.role(lb, "lb", l.node(lb, weights))
	}
	l.expectPeers("alive", bothLBs...)
	for real := range weights {
		l.expectStates(bothLBs, real+" active")
	}
	l.route(bothLBs...)
	return l
}

// node gives a balancer's node file with these reals and weights alone.
func (l *live) node(lb string, weights map[string]int) string {
	text := l.nodes[lb]
	for _, real := range []string{"mx1", "mx2", "mx3"} {
		line, entry := fmt.Sprintf("        - {name: %s, address: %v}\n", real, l.addr[real]), ""
		if w, ok := weights[real]; ok {
			entry = strings.Replace(line, "}", fmt.Sprintf(", weight: %d}", w), 1)
		}
		if !strings.Contains(text, line) {
			l.t.Fatalf("no %q in\n%s", line, text)
		}
		text = strings.Replace(text, line, entry, 1)
	}
	return text
}

// reweigh has the farm consist of other reals or weights, by a reload of every balancer.
func (l *live) reweigh(weights map[string]int) {
	l.t.Helper()
	for _, lb := range bothLBs {
		check(l.t, os.WriteFile(filepath.Join(l.dir, lb, "node.yml"), []byte(l.node(lb, weights)), 0o600))
		l.mustRun(lb, "reload", "lb")
	}
}

// eachLB waits until something is true of every balancer that runs.
func (l *live) eachLB(what string, cond func(lb string) bool) {
	l.t.Helper()
	for _, lb := range bothLBs {
		if l.running[lb].cmd.ProcessState == nil {
			eventually(l.t, lb+": "+what, func() bool { return cond(lb) })
		}
	}
}

// moving gives how many slots of the farm are in transition, and -1 if the balancer does not answer.
func (l *live) moving(lb string) int {
	farms := show[struct {
		Moving int `json:"slots_in_transition"`
	}](l.control, lb, "farm")
	if len(farms) != 1 {
		return -1
	}
	return farms[0].Moving
}

func (l *live) inTransition(lb string) bool { return l.moving(lb) > 0 }
func (l *live) steady(lb string) bool       { return l.moving(lb) == 0 }

// killLB kills a balancer's process and takes its link down: the router sees that, and sends everything to the other.
func (l *live) killLB(lb string) {
	l.t.Helper()
	l.running[lb].stop(syscall.SIGKILL)
	link, err := l.hosts[lb].Link.LinkByName("eth1")
	check(l.t, err)
	check(l.t, l.hosts[lb].Link.LinkSetDown(link))
}

// stopReal ends a server and its agent, as an operator does who was told that it is safe.
func (l *live) stopReal(real string) {
	l.t.Helper()
	l.echoers[real].stop(syscall.SIGKILL)
	l.running[real].stop(syscall.SIGTERM)
}
