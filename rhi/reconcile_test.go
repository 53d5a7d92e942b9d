package rhi

import (
	"context"
	"log/slog"
	"net/netip"
	"slices"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// newEmployedRole is a Role with a speaker that has no peers and listens to nobody.
func newEmployedRole(t *testing.T) *Role {
	t.Helper()
	cfg, err := decode("node.yml", []byte(richNode))
	if err != nil {
		t.Fatal(err)
	}
	cfg.Neighbors[1].PasswordFile, cfg.Dynamic, cfg.Announce = "", nil, nil
	r := New(*cfg, Options{Registry: prometheus.NewRegistry()})
	s, err := startSpeaker(t.Context(), &r.cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.stop)
	if err := r.employ(s); err != nil {
		t.Fatal(err)
	}
	return r
}

// What the Role believes to stand is withdrawn before it looks. That it is wrong about that does no harm, and each change
// counts once.
func TestWithdrawBeforeReading(t *testing.T) {
	t.Parallel()
	r := newEmployedRole(t)
	p := prefixes("203.0.113.10/32", "203.0.113.11/32", "2001:db8:10::1/128")
	behind := map[string]func() error{ // the Role's back
		"nothing":     func() error { return nil },
		"withdrawn":   func() error { return r.speaker.withdraw(p[1:]) },
		"announced":   func() error { return r.speaker.announce(p[2:], announceTable{p[2]: {0}}) },
		"other rungs": func() error { return r.speaker.announce(p[:1], announceTable{p[0]: {7}}) },
	}
	var announces, withdraws float64
	for _, step := range []struct {
		want                 []netip.Prefix
		behind               string
		announces, withdraws float64 // at the end of the step, more than before it
	}{
		{p[:2], "nothing", 2, 0},
		{p[:2], "nothing", 0, 0},
		{p[:1], "nothing", 0, 1},
		{p[:2], "nothing", 1, 0},
		{p[:2], "withdrawn", 1, 0},
		{p[:2], "announced", 0, 1},
		{p[:2], "other rungs", 0, 0}, // a change of rungs
		{p[1:], "nothing", 1, 1},
		{nil, "nothing", 0, 2},
		{nil, "nothing", 0, 0},
	} {
		if err := behind[step.behind](); err != nil {
			t.Fatal(err)
		}
		if err := r.set(t.Context(), step.want); err != nil {
			t.Fatalf("%+v: %v", step, err)
		}
		now, _, err := r.announced()
		if err != nil {
			t.Fatal(err)
		}
		var stands []netip.Prefix
		for q := range now {
			stands = append(stands, q)
		}
		slices.SortFunc(stands, comparePrefixes)
		if !slices.Equal(stands, step.want) {
			t.Errorf("%+v: %v stand", step, stands)
		}
		announces, withdraws = announces+step.announces, withdraws+step.withdraws
		if a, w := testutil.ToFloat64(r.metrics.announces), testutil.ToFloat64(r.metrics.withdraws); a != announces || w != withdraws {
			t.Errorf("%+v: %v announces and %v withdraws in all, want %v and %v", step, a, w, announces, withdraws)
		}
	}

	// with its belief alone: nothing is read before the withdrawal
	if err := r.set(t.Context(), p[:1]); err != nil {
		t.Fatal(err)
	}
	r.health = announceTable{}
	if _, early := announcePlan(r.wanted(), r.stands); !slices.Equal(early, p[:1]) {
		t.Errorf("would withdraw %v at once, want %v", early, p[:1])
	}
}

// set announces the given prefixes, and no others, to all groups of peers alike.
func (r *Role) set(ctx context.Context, prefixes []netip.Prefix) error {
	var list []Announcement
	for _, p := range prefixes {
		list = append(list, Announcement{Prefix: p})
	}
	return r.SetAnnouncements(ctx, list)
}
