package lab

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"

	"anycastle/internal/netnstest"
	"anycastle/lab/runner"
)

const (
	smtpVIP  = "203.0.113.25"
	eastVIP  = "203.0.113.11" // of the answer smtp-east
	siteSoon = 30 * time.Second
	sampleHz = 1000
)

var balancers = []string{"east-lb1", "east-lb2", "west-lb1", "west-lb2"}

// site is a lab of two sites, for tests of what their balancers decide together.
type site struct {
	t    *testing.T
	root string
}

func newSite(t *testing.T) *site {
	t.Helper()
	netnstest.Root(t)
	s := &site{t, t.TempDir()}
	before := leftovers(t, s.root)
	t.Cleanup(func() {
		out, err := ours(context.WithoutCancel(t.Context()), s.root, "lab", "down", "two-site-light").CombinedOutput()
		if err != nil {
			t.Errorf("down: %v\n%s", err, out)
		}
		leavesNothing(t, before, s.root)
	})
	s.lab("up", "two-site-light")
	s.eventually("all announce plainly", func() bool { return s.places() == "full full full full" })
	s.eventually("all have heard all", func() bool {
		return !slices.ContainsFunc(balancers, func(b string) bool { return s.heard(b, "east")+s.heard(b, "west") < len(balancers) })
	})
	return s
}

// lab runs a lab command.
func (s *site) lab(args ...string) string {
	s.t.Helper()
	out, err := exec.CommandContext(s.t.Context(), binary, append([]string{"lab", "--state", s.root}, args...)...).CombinedOutput()
	if err != nil {
		s.t.Fatalf("anycastle lab %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// on runs a command of the product inside a node.
func (s *site) on(node string, args ...string) string {
	s.t.Helper()
	return s.lab(append([]string{"exec", "two-site-light", node, "--", "anycastle"}, args...)...)
}

// place gives where a balancer has the VIP, and how its peers are sent it; "none" while it does not answer.
func (s *site) place(balancer string) (place, sent string) {
	s.t.Helper()
	var list []struct {
		VIP    netip.Prefix      `json:"vip"`
		Place  string            `json:"place"`
		Groups map[string]string `json:"groups"`
	}
	show := exec.CommandContext(s.t.Context(), binary, "lab", "--state", s.root, "exec", "two-site-light", balancer, "--",
		"anycastle", "show", "announcement", "-o", "json")
	if text, err := show.Output(); err != nil || json.Unmarshal(text, &list) != nil {
		return "none", ""
	}
	for _, a := range list {
		if a.VIP.Addr().String() == smtpVIP {
			return a.Place, a.Groups["default"]
		}
	}
	return "none", ""
}

// heard counts the balancers of a site that a balancer has heard so lately that it counts.
func (s *site) heard(balancer, of string) (n int) {
	s.t.Helper()
	var list []struct {
		Site  string `json:"site"`
		Fresh bool   `json:"fresh"`
	}
	if err := json.Unmarshal([]byte(s.on(balancer, "show", "site", "-o", "json")), &list); err != nil {
		s.t.Fatal(err)
	}
	for _, b := range list {
		if b.Site == of && b.Fresh {
			n++
		}
	}
	return n
}

// places gives the places at all balancers in their order.
func (s *site) places() string {
	s.t.Helper()
	var all []string
	for _, b := range balancers {
		p, _ := s.place(b)
		all = append(all, p)
	}
	return strings.Join(all, " ")
}

func (s *site) eventually(what string, ok func() bool) {
	s.t.Helper()
	for end := time.Now().Add(siteSoon); !ok(); time.Sleep(200 * time.Millisecond) {
		if time.Now().After(end) {
			s.t.Fatalf("not within %v: %s; %s", siteSoon, what, s.places())
		}
	}
}

// sampler looks a thousand times a second whether a router's kernel has a route to the VIP.
type sampler struct {
	looked, absent int
	longest        time.Duration
}

// sample watches a router until stop, which gives what it saw.
func (s *site) sample(node string) (stop func() sampler) {
	s.t.Helper()
	var status runner.Status
	if err := json.Unmarshal([]byte(s.lab("status", "two-site-light", "-o", "json")), &status); err != nil {
		s.t.Fatal(err)
	}
	i := slices.IndexFunc(status.Nodes, func(n runner.NodeStatus) bool { return n.Name == node })
	ns, err := netns.GetFromPid(status.Nodes[i].Pid)
	if err != nil {
		s.t.Fatal(err)
	}
	defer ns.Close()
	h, err := netlink.NewHandleAt(ns)
	if err != nil {
		s.t.Fatal(err)
	}
	var saw sampler
	var wg sync.WaitGroup
	done := make(chan struct{})
	wg.Go(func() {
		defer h.Close()
		tick := time.NewTicker(time.Second / sampleHz)
		defer tick.Stop()
		since := time.Time{}
		for {
			select {
			case <-done:
				return
			case now := <-tick.C:
				routes, err := h.RouteGet(net.ParseIP(smtpVIP))
				saw.looked++
				if err == nil && len(routes) > 0 {
					since = time.Time{}
					continue
				}
				saw.absent++
				if since.IsZero() {
					since = now
				}
				saw.longest = max(saw.longest, now.Sub(since))
			}
		}
	})
	return func() sampler { close(done); wg.Wait(); return saw }
}

// Whatever fails in whatever order, and be it everything at once, no router ever is without a route to the VIP, and it comes
// back to whoever is fit.
func TestNeverBothSitesWithdrawn(t *testing.T) {
	s := newSite(t)
	stops := map[string]func() sampler{}
	for _, router := range []string{"ispa", "ispb"} {
		stops[router] = s.sample(router)
	}
	reals := []string{"east-mx1", "east-mx2", "west-mx1", "west-mx2"}
	kill := func(names ...string) {
		var wg sync.WaitGroup
		for _, n := range names {
			wg.Go(func() { s.lab("kill", "two-site-light", n) })
		}
		wg.Wait()
	}
	start := func(names ...string) {
		for _, n := range names {
			s.lab("start", "two-site-light", n)
		}
	}

	kill("east-mx1", "east-mx2")
	s.eventually("east is withdrawn, west stays", func() bool { return s.places() == "withdrawn withdrawn full full" })
	kill("west-mx1", "west-mx2")
	s.eventually("all are at the end of the ladder", func() bool { return s.places() == "last last last last" })
	if _, sent := s.place("west-lb1"); sent != "med 200, prepend 3, gshut" {
		t.Errorf("at the end of the ladder peers are sent %q", sent)
	}
	start("west-mx1")
	s.eventually("west carries it", func() bool {
		return strings.Contains(s.places()[len("last last"):], "full") || strings.HasSuffix(s.places(), "full")
	})
	start("west-mx2", "east-mx1", "east-mx2")
	for range 3 {
		rand.Shuffle(len(reals), func(i, j int) { reals[i], reals[j] = reals[j], reals[i] })
		kill(reals...) // at once
		time.Sleep(time.Duration(rand.IntN(2000)) * time.Millisecond)
		for _, r := range reals {
			start(r)
			time.Sleep(time.Duration(rand.IntN(500)) * time.Millisecond)
		}
	}
	s.eventually("somebody carries it or all flapped too much", func() bool { return !strings.Contains(s.places(), "withdrawn") })

	// who hears nobody does not know that nobody is there, and stays
	s.lab("cut", "two-site-light", "east")
	s.eventually("west hears nobody of east", func() bool { return s.heard("west-lb1", "east") == 0 && s.heard("west-lb2", "east") == 0 })
	kill("west-mx1", "west-mx2")
	s.eventually("west, unfit and with nobody to ask, stays low on the ladder", func() bool {
		west := strings.Fields(s.places())[2:]
		return !slices.ContainsFunc(west, func(p string) bool { return p != "last" && p != "parked" })
	})
	for _, router := range slices.Sorted(maps.Keys(stops)) {
		saw := stops[router]()
		t.Logf("%s looked %d times; absent %d, for %v at most", router, saw.looked, saw.absent, saw.longest)
		if saw.looked < 1000 {
			t.Errorf("%s was looked at %d times only", router, saw.looked)
		}
		if saw.absent > 0 {
			t.Errorf("%s was without a route %d of %d times, for %v at most", router, saw.absent, saw.looked, saw.longest)
		}
	}
}

// An operator takes a site out of service and back, and new connections find the other one meanwhile.
func TestDrainSite(t *testing.T) {
	s := newSite(t)
	out := s.on("west-lb1", "drain", "site", "east", "--deadline", "4s", "--wait", "--why", "reboot", "--vip", smtpVIP)
	if !strings.HasSuffix(out, "site east, "+smtpVIP+": withdrawn\n") || !strings.Contains(out, smtpVIP+" draining at east-lb1") {
		t.Errorf("it said\n%s", out)
	}
	if p := s.places(); p != "withdrawn withdrawn full full" {
		t.Errorf("after the drain: %s", p)
	}
	if banner := s.banner(); !strings.Contains(banner, "west.example.org") {
		t.Errorf("a new connection finds %q", banner)
	}
	if out := s.on("east-lb2", "show", "site-order"); !strings.Contains(out, "reboot") {
		t.Errorf("orders at the other balancer:\n%s", out)
	}
	if out := s.on("east-lb1", "explain", "vip", smtpVIP); !strings.Contains(out, "order drain by root: reboot") {
		t.Errorf("explained as\n%s", out)
	}
	s.on("east-lb1", "activate", "site", "--vip", smtpVIP)
	s.eventually("east is back", func() bool { return s.places() == "full full full full" })
	s.eventually("a new connection finds east", func() bool { return strings.Contains(s.banner(), "east.example.org") })

	// the site selectors of both sites follow: the balancers tell them
	s.eventually("names are served from east", func() bool { return s.answer("east-gss") == "serving" && s.answer("west-gss") == "serving" })
	s.on("west-lb1", "drain", "site", "east", "--why", "reboot", "--vip", eastVIP)
	s.eventually("names are not", func() bool { return s.answer("east-gss") == "draining" && s.answer("west-gss") == "draining" })
	if who := s.on("east-lb2", "show", "selector"); !strings.Contains(who, "east-gss") || !strings.Contains(who, "west-gss") {
		t.Errorf("who listens to a balancer:\n%s", who)
	}
	s.on("east-lb1", "activate", "site", "--vip", eastVIP)
	s.eventually("names are served from east again", func() bool { return s.answer("east-gss") == "serving" && s.answer("west-gss") == "serving" })
}

// answer gives where a site selector has the answer smtp-east; "none" while it does not say.
func (s *site) answer(gss string) string {
	s.t.Helper()
	var list []struct {
		Name  string `json:"name"`
		Place string `json:"place"`
	}
	if err := json.Unmarshal([]byte(s.on(gss, "show", "answer", "-o", "json")), &list); err != nil {
		s.t.Fatal(err)
	}
	for _, a := range list {
		if a.Name == "smtp-east" {
			return a.Place
		}
	}
	return "none"
}

// An operator takes a site out of what names are answered with, by an order at one selector: it counts at all of them, ends when no
// resolver can hold the old answer any more, and is undone at another.
func TestDrainSiteAtSelectors(t *testing.T) {
	s := newSite(t)
	const name = "smtp.mail.example.org"
	answered := func(selector string) string {
		out := s.on(selector, "explain", "name", name, "A", "192.0.2.1")
		_, after, _ := strings.Cut(out, " IN A ")
		return strings.TrimSpace(strings.SplitN(after, "\n", 2)[0])
	}
	both := func(address string) func() bool {
		return func() bool { return answered("east-gss") == address && answered("west-gss") == address }
	}
	s.eventually("both answer with east", both("203.0.113.11"))
	s.eventually("each hears the other", func() bool {
		return strings.Count(s.on("east-gss", "show", "vantage"), " yes ") == 2 && strings.Count(s.on("west-gss", "show", "vantage"), " yes ") == 2
	})
	began := time.Now()
	out := s.on("west-gss", "drain", "site", "east", "--wait", "--why", "reboot")
	if took := time.Since(began); took < 5*time.Second || took > 15*time.Second {
		t.Errorf("with a TTL of 5s it took %v", took)
	}
	for _, want := range []string{"site east: drain ordered\n", "smtp-east: given for ", "smtp-east: drained, no resolver can hold it any more\n", "imap-east: drained"} {
		if !strings.Contains(out, want) {
			t.Errorf("it said\n%s\nwant %s", out, want)
		}
	}
	if !both("203.0.113.21")() {
		t.Errorf("after the drain east-gss answers with %s and west-gss with %s", answered("east-gss"), answered("west-gss"))
	}
	if out := s.on("east-gss", "show", "answer"); !strings.Contains(out, "order drain by root: reboot") {
		t.Errorf("answers at the other selector:\n%s", out)
	}
	s.on("east-gss", "activate", "site", "east")
	s.eventually("both answer with east again", both("203.0.113.11"))
}

// banner gives the SMTP banner that the client outside finds at the VIP.
func (s *site) banner() string {
	s.t.Helper()
	return fmt.Sprint(s.lab("exec", "two-site-light", "client", "--", "bash", "-c", "exec 3<>/dev/tcp/"+smtpVIP+"/25 && head -n1 <&3"))
}
