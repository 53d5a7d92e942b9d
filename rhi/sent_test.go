package rhi

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// fakeSockets are connections by peer, which have written and had acknowledged the given counts.
type fakeSockets map[netip.Addr]tcpCount

func (f fakeSockets) find(peer netip.Addr, _, _ uint16) (socketID, error) {
	_, err := f.count(peer, socketID{})
	return socketID{}, err
}

func (f fakeSockets) count(peer netip.Addr, _ socketID) (tcpCount, error) {
	c, ok := f[peer]
	if !ok {
		return tcpCount{}, errors.New("no such connection")
	}
	return c, nil
}

func (f fakeSockets) close() {}

func newFakeStamper(f fakeSockets) *stamper {
	s := newStamper(slog.New(slog.DiscardHandler), newMetrics(prometheus.NewRegistry()).transitions)
	s.sockets = f
	return s
}

// recordOf is of a transition that was caused 3 ms and decided 2 ms ago.
func recordOf(prefix, kind string, peer netip.Addr) *record {
	now := time.Now()
	return &record{Sent: Sent{
		Prefix: prefixes(prefix)[0], Peer: "core", Address: peer, Kind: kind, Sent: kind, At: now,
		Cause: now.Add(-3 * time.Millisecond), Decided: now.Add(-2 * time.Millisecond),
	}}
}

func TestStamps(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		peer := addrs("192.0.2.1")[0]
		sockets := fakeSockets{peer: {written: 100, acked: 100}}
		s := newFakeStamper(sockets)
		s.up(peer, connection{1, 179, 50}, []*record{recordOf("203.0.113.1/32", sessionUp, peer)})
		s.look()
		begun := time.Now()
		s.begin(map[netip.Addr][]*record{peer: {recordOf(vip, kindWithdraw, peer)}})
		<-time.After(time.Millisecond)
		sockets[peer] = tcpCount{written: 128, acked: 100}
		s.look()
		<-time.After(time.Second)
		sockets[peer] = tcpCount{written: 128, acked: 128}
		if wait := s.look(); wait != 0 {
			t.Errorf("looks again after %v, with nothing to wait for", wait)
		}
		got := s.list()[1]
		want := recordOf(vip, kindWithdraw, peer).Sent
		want.At, want.Cause, want.Decided = begun, begun.Add(-3*time.Millisecond), begun.Add(-2*time.Millisecond)
		want.Written, want.Acknowledged = begun.Add(time.Millisecond), begun.Add(1001*time.Millisecond)
		if diff := cmp.Diff(want, got, byValue); diff != "" {
			t.Errorf("-want +got\n%s", diff)
		}
		if up := s.list()[0]; !up.Written.Equal(begun) || !up.Acknowledged.Equal(begun) {
			t.Errorf("session up: %+v", up)
		}
		if n := testutil.CollectAndCount(s.steps); n != 4 {
			t.Errorf("%d steps of kinds are counted, want the 4 of withdraw", n)
		}
		for step, took := range map[string]float64{"decision": 0.001, "written": 0.003, "acknowledged": 1, "all": 1.004} {
			if sum := sumOf(t, s.steps, step, kindWithdraw); fmt.Sprintf("%.6f", sum) != fmt.Sprintf("%.6f", took) {
				t.Errorf("%s took %v, want %v", step, sum, took)
			}
		}
	})
}

// sumOf is the sum of what a histogram has counted.
func sumOf(t *testing.T, h *prometheus.HistogramVec, step, kind string) float64 {
	t.Helper()
	reg := prometheus.NewRegistry()
	reg.MustRegister(h.WithLabelValues(step, kind).(prometheus.Histogram))
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	return families[0].Metric[0].Histogram.GetSampleSum()
}

// Without a connection to look at there are records and no stamps; nor are there stamps of what was not sent after all.
func TestNothingIsStampedUnseen(t *testing.T) {
	t.Parallel()
	peer := addrs("192.0.2.1")[0]
	sockets := fakeSockets{}
	s := newFakeStamper(sockets)
	s.up(peer, connection{1, 179, 50}, nil)
	s.begin(map[netip.Addr][]*record{peer: {recordOf(vip, kindAnnounce, peer)}})
	sockets[peer] = tcpCount{written: 100, acked: 100}
	if wait := s.look(); wait != 0 || !s.list()[0].Written.IsZero() {
		t.Errorf("after a session whose connection was not found: %v %+v", wait, s.list())
	}
	s.up(peer, connection{2, 179, 50}, nil)
	told := []*record{recordOf(vip, kindWithdraw, peer), recordOf("203.0.113.1/32", kindAnnounce, peer)}
	s.begin(map[netip.Addr][]*record{peer: told})
	s.forget(told, prefixes(vip))
	sockets[peer] = tcpCount{written: 200, acked: 200}
	s.look()
	if list := s.list(); len(list) != 1 || list[0].Prefix == told[0].Prefix || list[0].Acknowledged.IsZero() {
		t.Errorf("after what was not sent: %+v", list)
	}
	if sum := sumOf(t, s.steps, "all", kindWithdraw); sum != 0 {
		t.Errorf("a withdrawal that was not sent is counted with %v", sum)
	}
	s.begin(map[netip.Addr][]*record{peer: {recordOf(vip, kindAnnounce, peer)}})
	delete(sockets, peer)
	if wait := s.look(); wait != 0 {
		t.Error("looks again at a connection that is gone")
	}
}

func TestRecordsEnd(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a, b := addrs("192.0.2.1")[0], addrs("192.0.2.2")[0]
		s := newFakeStamper(fakeSockets{})
		s.begin(map[netip.Addr][]*record{a: {recordOf(vip, kindAnnounce, a), recordOf("203.0.113.1/32", kindWithdraw, a)}})
		s.begin(map[netip.Addr][]*record{b: {recordOf(vip, kindChange, b)}})
		kinds := func() (list []string) {
			for _, r := range s.list() {
				list = append(list, r.Kind)
			}
			return list
		}
		s.down(a, "hold-timer-expired", time.Now())
		if got := kinds(); !slices.Equal(got, []string{kindWithdraw, sessionDown, kindChange}) {
			t.Errorf("after the session's end: %v", got)
		}
		if r := s.list()[1]; r.Why != "hold-timer-expired" || !r.Cause.IsZero() {
			t.Errorf("after the session's end: %+v", r)
		}
		<-time.After(keepGone + time.Second)
		if got := kinds(); !slices.Equal(got, []string{kindChange}) {
			t.Errorf("after an hour: %v", got)
		}
		for i := range maxSent + 10 {
			s.begin(map[netip.Addr][]*record{a: {recordOf(fmt.Sprintf("198.18.%d.%d/32", i/256, i%256), kindWithdraw, a)}})
		}
		if n := len(s.list()); n != maxSent {
			t.Errorf("%d records", n)
		}
		<-time.After(keepGone + time.Second)
		s.begin(map[netip.Addr][]*record{a: {recordOf(vip, kindAnnounce, a)}})
		if n := len(s.list()); n != 2 {
			t.Errorf("%d records when there is room again", n)
		}
	})
}

func TestKindOf(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		from, to int
		want     string
	}{
		{0, 0, ""}, {3, 3, ""}, {-1, -1, ""}, {3, 0, kindAnnounce}, {3, 2, kindAnnounce}, {0, 2, kindChange}, {2, 0, kindChange},
		{-1, 1, kindChange}, {0, 3, kindWithdraw}, {2, 3, kindWithdraw}, {-1, 3, kindWithdraw},
	} {
		if got := kindOf(c.from, c.to, 3); got != c.want {
			t.Errorf("from %d to %d of 3: %q, want %q", c.from, c.to, got, c.want)
		}
	}
}

// Each peer hears of what changes for its group and is of its families.
func TestNews(t *testing.T) {
	t.Parallel()
	cfg := ladderConfig(t)
	cfg.Neighbors = append(cfg.Neighbors, Neighbor{Name: "watched", Address: addrs("192.0.2.9")[0], Watches: []string{"west"}, Peering: cfg.Neighbors[0].Peering})
	r := New(*cfg, Options{})
	row := func(core, other, isp uint32) []uint32 { return []uint32{core, other, isp} }
	p4, p6, none := prefixes(vip)[0], prefixes(vip6)[0], cfg.lastRungs()[1]
	r.asked = map[netip.Prefix]Announcement{p4: {Why: "probe failed"}}
	for _, c := range []struct {
		name         string
		before, want announceTable
		news         []string
	}{
		{"nothing", announceTable{p4: row(0, 0, 1)}, announceTable{p4: row(0, 0, 1)}, nil},
		{"announced", nil, announceTable{p4: row(0, none, 2)}, []string{"core: announce 203.0.113.10/32 announced", "isp a: announce 203.0.113.10/32 prepend 3", "isp b: announce 203.0.113.10/32 prepend 3"}},
		{"another rung for one group", announceTable{p4: row(0, 0, 1)}, announceTable{p4: row(0, 0, 3)}, []string{"isp a: change 203.0.113.10/32 gshut", "isp b: change 203.0.113.10/32 gshut"}},
		{"withdrawn from all that had it", announceTable{p4: row(0, none, 4)}, nil, []string{"core: withdraw 203.0.113.10/32 withdrawn"}},
		{"another family", nil, announceTable{p6: row(1, none, 1)}, []string{"isp b: announce 2001:db8:10::10/128 med 100, community 65011:7, community 65011:1:2"}},
	} {
		var got []string
		for _, n := range cfg.Neighbors {
			for _, rec := range r.news(r.peers[n.Address], slices.Index(cfg.groupNames(), n.Group), c.want, c.before, []netip.Prefix{p4, p6}) {
				got = append(got, fmt.Sprintf("%s: %s %v %s", rec.Peer, rec.Kind, rec.Prefix, rec.Sent.Sent))
				if want := r.asked[rec.Prefix].Why; rec.Why != want {
					t.Errorf("%s: because %q, want %q", c.name, rec.Why, want)
				}
			}
		}
		slices.Sort(got)
		if diff := cmp.Diff(c.news, got); diff != "" {
			t.Errorf("%s: -want +got\n%s", c.name, diff)
		}
	}
}

// What was asked for gives its stamps to what is sent because of it, and to nothing later.
func TestStampsCountOnce(t *testing.T) {
	t.Parallel()
	r := newRole(t)
	if err := r.SetAnnouncements(t.Context(), []Announcement{{Prefix: prefixes(vip)[0], Why: "probe passed"}}); err != nil {
		t.Fatal(err)
	}
	r.settle(nil, nil, prefixes(vip))
	if len(r.asked) != 1 {
		t.Error("the stamps of what could not be sent are lost")
	}
	r.settle(nil, nil, nil)
	if len(r.asked) != 0 {
		t.Errorf("the stamps of what was sent are left: %v", r.asked)
	}
}
