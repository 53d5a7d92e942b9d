package gss

import (
	"errors"
	"log/slog"
	"net/netip"
	"path/filepath"
	"sync"
	"time"

	"anycastle/gss/transfer"
	"anycastle/gss/zone"
)

// zonesDir is where zones are kept that were transferred, in Config.StateDir.
const zonesDir = "zones"

// transfers moves zones in and out, and outlives configs.
type transfers struct {
	log      *slog.Logger
	history  *transfer.History
	follower *transfer.Follower
	notifier *transfer.Notifier
	slots    chan struct{} // of transfers out

	mu        sync.Mutex
	announced map[announced]uint32 // serials that secondaries were told of, or are being told
	waiting   []*arrival
}

// announced is a secondary and one of the zones that it is told of.
type announced struct {
	origin string
	peer   netip.AddrPort
}

func (g *GSS) newTransfers(stateDir string) *transfers {
	return &transfers{
		log: g.log, history: transfer.NewHistory(), slots: make(chan struct{}, maxTransfers), announced: map[announced]uint32{},
		follower: transfer.NewFollower(transfer.Options{
			Log: g.log, Dir: filepath.Join(stateDir, zonesDir), Client: &transfer.Client{}, Install: g.install, Observe: g.metrics.transferredIn,
		}),
		notifier: transfer.NewNotifier(transfer.NotifierOptions{Log: g.log, Observe: g.metrics.notifiedOut}),
	}
}

// begin has the zones followed that come from primaries, and gives a serving with what there is of them already.
func (t *transfers) begin(first *serving) *serving {
	first.moves = t
	t.follower.Set(first.secondaries())
	served, refused, err := first.with(t.follower.Contents())
	if err != nil {
		t.log.Error("zones that were transferred before cannot be served", "err", err)
		served = first
	}
	for origin, err := range refused {
		t.log.Error("a zone that was transferred before cannot be served", "zone", bare(origin), "err", err)
	}
	t.remember(served)
	return served
}

// arrive has a version of a secondary zone wait until it is served.
func (t *transfers) arrive(a *arrival) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.waiting = append(t.waiting, a)
}

// arrivals gives all versions that wait, in the order that they came, which wait no more.
func (t *transfers) arrivals() []*arrival {
	t.mu.Lock()
	defer t.mu.Unlock()
	list := t.waiting
	t.waiting = nil
	return list
}

// remember takes note of the versions of zones that are about to be served.
func (t *transfers) remember(next *serving) {
	origins := map[string]bool{}
	for _, z := range next.zones.Zones() {
		s := next.shared[z.Origin()]
		if len(s.to) == 0 || next.contents[z.Origin()].Zone == nil && len(s.primaries) > 0 {
			continue
		}
		origins[z.Origin()] = true
		if err := t.history.Take(z, s.fingerprint()); errors.Is(err, transfer.ErrSameSerial) {
			t.log.Warn("a zone changed without its serial", "zone", bare(z.Origin()), "serial", z.Serial(), "err", err)
		}
	}
	t.history.Keep(origins)
}

// announce tells secondaries of the zones that are served now, if they were not told of that version.
func (t *transfers) announce(now *serving) {
	t.mu.Lock()
	defer t.mu.Unlock()
	told := map[announced]uint32{}
	for _, z := range now.zones.Zones() {
		if now.absent[z.Origin()] {
			continue
		}
		var news []transfer.Peer
		for _, p := range now.shared[z.Origin()].notify {
			key := announced{z.Origin(), p.Addr}
			if serial, known := t.announced[key]; !known || serial != z.Serial() {
				news = append(news, p)
			}
			told[key] = z.Serial()
		}
		if len(news) > 0 {
			t.notifier.Notify(z.SOA(), news)
		}
	}
	t.announced = told
}

// expire is how many seconds a zone stays good (RFC 7314). One that no primary has given yet does so as long as at a primary.
func (t *transfers) expire(z *zone.Zone, now time.Time) uint32 {
	if s, ok := t.follower.Status(z.Origin()); ok && !s.Refreshed.IsZero() {
		return uint32(max(s.Expires.Sub(now)/time.Second, 0))
	}
	return z.SOA().Expire
}
