package balancer

import (
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"anycastle/gss/decide"
	"anycastle/internal/vipreport"
)

// saying is a Set of one balancer that has said something.
func saying(b Balancer, at time.Time, r vipreport.Report) *Set {
	s := New(Options{})
	s.SetBalancers([]Balancer{b})
	s.readers[b].take(r, at)
	return s
}

func TestWhichVIPsAnAnswerIs(t *testing.T) {
	mail4, mail6, imap := vip("smtp", "203.0.113.11"), vip("smtp6", "2001:db8::11"), vip("imap", "203.0.113.11")
	for i, v := range []*vipreport.VIP{&mail4, &mail6, &imap} {
		v.InService, v.Reals = 10-i, 10 // tells them apart: the worst counts
	}
	both := []netip.Addr{mail4.Address, mail6.Address}
	for name, tc := range map[string]struct {
		b    Balancer
		s    Subject
		want int // reals in service; 0: no report
	}{
		"by name":             {lb1, Subject{Site: "east", VIP: "smtp"}, 10},
		"by another name":     {lb1, Subject{Site: "east", VIP: "pop3", Addresses: both}, 0},
		"by address":          {lb1, Subject{Site: "east", Addresses: both[1:]}, 9},
		"by both addresses":   {lb1, Subject{Site: "east", Addresses: both}, 8},
		"by no address":       {lb1, Subject{Site: "east", Addresses: []netip.Addr{netip.MustParseAddr("203.0.113.12")}}, 0},
		"of another site":     {lb1, Subject{Site: "west", VIP: "smtp"}, 0},
		"balancer of no site": {lb2, Subject{Site: "west", VIP: "smtp"}, 10},
	} {
		tc.s.Answer = "a"
		r := saying(tc.b, start, reportOf(true, mail4, mail6, imap)).Reports([]Subject{tc.s}, 3*time.Second)["a"]
		if got := append(r, decide.Report{})[0].InService; got != tc.want || len(r) > 1 {
			t.Errorf("%s: %+v, want one with %d reals", name, r, tc.want)
		}
	}
}

func TestWhatAVIPSays(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(v *vipreport.VIP)
		want   decide.Report
	}{
		"in service":        {func(*vipreport.VIP) {}, decide.Report{}},
		"failed":            {func(v *vipreport.VIP) { v.State, v.Why = vipreport.Failed, "too few" }, decide.Report{Out: true, Why: "failed: too few"}},
		"suspended":         {func(v *vipreport.VIP) { v.State = vipreport.Suspended }, decide.Report{Out: true, Draining: true, Why: "suspended"}},
		"draining":          {func(v *vipreport.VIP) { v.Draining = true }, decide.Report{Draining: true}},
		"withdrawn":         {func(v *vipreport.VIP) { v.Route, v.RouteWhy = vipreport.RouteWithdrawn, "order" }, decide.Report{Out: true, Route: "withdrawn", Why: "its route is withdrawn: order"}},
		"failed, withdrawn": {func(v *vipreport.VIP) { v.State, v.Route = vipreport.Failed, vipreport.RouteWithdrawn }, decide.Report{Out: true, Route: "withdrawn", Why: "failed: its route is withdrawn"}},
		"no route":          {func(v *vipreport.VIP) { v.Route = vipreport.RouteUnknown }, decide.Report{}},
		"loaded":            {func(v *vipreport.VIP) { v.Flows, v.Capacity = 30, 40 }, decide.Report{Used: 30, Capacity: 40}},
		"not counted":       {func(v *vipreport.VIP) { v.Capacity = 40 }, decide.Report{}},
		"without capacity":  {func(v *vipreport.VIP) { v.Flows = 30 }, decide.Report{}},
	} {
		v := vip("smtp", "203.0.113.11")
		tc.change(&v)
		tc.want.From, tc.want.At, tc.want.InService, tc.want.Reals = "lb1", start, 2, 2
		if name != "no route" && tc.want.Route == "" {
			tc.want.Route = "announced"
		}
		got := saying(lb1, start, reportOf(true, v)).Reports([]Subject{smtp}, 3*time.Second)["smtp-east"]
		if diff := cmp.Diff([]decide.Report{tc.want}, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

// An answer of two VIPs is as good as the worse of them, in everything.
func TestTwoVIPsOfAnAnswer(t *testing.T) {
	a, b := vip("a", "203.0.113.11"), vip("b", "203.0.113.11")
	a.Flows, a.Capacity, a.InService, a.Reals = 10, 100, 3, 4
	b.Flows, b.Capacity, b.InService, b.Reals = 9, 10, 1, 1
	b.State, b.Why, b.Draining, a.Route = vipreport.Failed, "too few", true, vipreport.RouteUnknown
	want := decide.Report{
		From: "lb1", At: start, Out: true, Draining: true, Used: 9, Capacity: 10, InService: 3, Reals: 4, Route: "announced", Why: "vip b: failed: too few",
	}
	s := saying(lb1, start, reportOf(true, a, b))
	if diff := cmp.Diff(want, s.Reports([]Subject{smtp}, 3*time.Second)["smtp-east"][0]); diff != "" {
		t.Errorf("report (-want +got):\n%s", diff)
	}
	s.readers[lb1].take(reportOf(false, b), start.Add(time.Second))
	if at := s.Reports([]Subject{smtp}, 3*time.Second)["smtp-east"][0].At; at != start {
		t.Errorf("with one of two heard again, it is of %v", at)
	}
}

// A report ends when its balancer says, or when the site selector does, whichever comes first.
func TestReportExpires(t *testing.T) {
	for _, tc := range []struct{ expires, fresh, ends time.Duration }{
		{3 * time.Second, 3 * time.Second, 3 * time.Second},
		{time.Second, 3 * time.Second, time.Second},
		{10 * time.Second, 3 * time.Second, 3 * time.Second},
	} {
		r := reportOf(true, vip("smtp", "203.0.113.11"))
		r.Expires = tc.expires
		got := saying(lb1, start, r).Reports([]Subject{smtp}, tc.fresh)["smtp-east"][0]
		if ends := got.At.Add(tc.fresh).Sub(start); ends != tc.ends {
			t.Errorf("%+v: it ends after %v", tc, ends)
		}
	}
}

// A balancer cannot make a site selector remember more VIPs than there can be.
func TestVIPsAreBounded(t *testing.T) {
	s := saying(lb1, start, reportOf(true))
	for i := range 3 {
		r := reportOf(false)
		for j := range vipreport.MaxVIPs/2 + 1 {
			v := vip("smtp", "203.0.113.11")
			v.Name = string(rune('a'+i)) + time.Duration(j).String()
			r.VIPs = append(r.VIPs, v)
		}
		s.readers[lb1].take(r, start)
	}
	if n := s.Status()[0].VIPs; n != vipreport.MaxVIPs {
		t.Errorf("it holds %d VIPs", n)
	}
}
