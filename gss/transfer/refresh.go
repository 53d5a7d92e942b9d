package transfer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"sync"
	"time"
)

// follow keeps one zone like that of its primaries until ctx is done.
func (f *Follower) follow(ctx context.Context, z *followed) {
	timer := time.NewTimer(f.begin(z, time.Now()))
	defer timer.Stop()
	var watching sync.WaitGroup
	defer watching.Wait()
	watching.Go(func() { f.watch(ctx, z) })
	for {
		notified := false
		select {
		case <-ctx.Done():
			return
		case <-z.notified:
			notified = true
		case <-timer.C:
		}
		if notified || f.due(z, time.Now()) {
			f.refresh(ctx, z)
			if notified && !pause(ctx, minGap) {
				return
			}
		}
		timer.Reset(f.wake(z, time.Now()))
	}
}

// watch has the zone served no more when its time is over, until ctx is done: also while its primaries are being asked, which
// may take much longer than is left.
func (f *Follower) watch(ctx context.Context, z *followed) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-z.renewed:
		case <-timer.C:
		}
		timer.Reset(f.expire(z, time.Now()))
	}
}

// begin serves what was in the zone's file, and says when to ask the primaries first.
func (f *Follower) begin(z *followed, now time.Time) time.Duration {
	defer f.contain(z)
	z.serving.Lock()
	defer z.serving.Unlock()
	f.mu.Lock()
	c := Content{Zone: z.zone, Good: z.good}
	z.next = now
	if c.Good {
		z.next = now.Add(time.Duration(f.o.Random() * float64(time.Second)))
	}
	wait := z.next.Sub(now)
	f.mu.Unlock()
	if c.Zone != nil {
		f.settle(z, f.o.Install(z.Origin, c), c.Good)
	}
	return wait
}

func (f *Follower) settle(z *followed, err error, good bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	z.err = err
	if err == nil {
		z.installed = good
	}
}

func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// due says whether the primaries are to be asked now.
func (f *Follower) due(z *followed, now time.Time) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return !now.Before(z.next)
}

// wake is how long the primaries are not to be asked.
func (f *Follower) wake(z *followed, now time.Time) time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	return max(z.next.Sub(now), time.Millisecond)
}

// expire has a zone served no more when its time is over, and gives how long it has not to look again.
func (f *Follower) expire(z *followed, now time.Time) time.Duration {
	defer f.contain(z)
	z.serving.Lock()
	defer z.serving.Unlock()
	f.mu.Lock()
	left := z.schedule.expires().Sub(now)
	over := z.good && left <= 0
	if over {
		z.good = false
	}
	c, refreshed, good := Content{Zone: z.zone}, z.schedule.refreshed, z.good
	f.mu.Unlock()
	if over {
		f.o.Log.Error("zone expired: no primary could be asked for too long", "zone", bare(z.Origin), "refreshed", refreshed)
		f.settle(z, f.o.Install(z.Origin, c), false)
	}
	if !good {
		return maxWait
	}
	return left
}

// ErrFault says that something about a zone came to an end by a fault of our own.
var ErrFault = errors.New("a fault of this server")

// contain has a fault that was met while a zone was followed cost no more than that step: the primaries are asked again as after
// an attempt that failed. It is deferred.
func (f *Follower) contain(z *followed) {
	p := recover()
	if p == nil {
		return
	}
	err := fmt.Errorf("%w: %v", ErrFault, p)
	f.o.Log.Error("a zone met a fault", "zone", bare(z.Origin), "err", err, "stack", string(debug.Stack()))
	f.o.Observe(Outcome{z.Origin, None, err})
	f.mu.Lock()
	defer f.mu.Unlock()
	z.err = err
	z.schedule.failures++
	z.next = time.Now().Add(z.schedule.wait(f.o.Random()))
}

// refresh asks the primaries, one after the other until one has a newer version.
func (f *Follower) refresh(ctx context.Context, z *followed) {
	defer f.contain(z)
	f.mu.Lock()
	peers, first := z.Primaries, z.first
	z.first = 0
	f.mu.Unlock()
	var failed error
	var refreshed time.Time // zero: none has answered
	for i := range peers {
		from := peers[(first+i)%len(peers)]
		u, err := f.ask(ctx, z, from)
		if ctx.Err() != nil {
			return
		}
		if err == nil && u.Kind != None {
			err = f.install(z, from, u)
		}
		f.o.Observe(Outcome{z.Origin, cmp.Or(u.Kind, None), err})
		if f.news(z, from, u, err) {
			f.o.Log.Warn("no refresh of a zone", "zone", bare(z.Origin), "primary", from.Addr, "err", err)
		}
		if err != nil {
			failed = errors.Join(failed, err)
			continue
		}
		if at := time.Now().Add(-u.Age); at.After(refreshed) {
			refreshed = at
		}
		if u.Kind != None {
			break
		}
	}
	f.after(z, refreshed, failed)
}

// ask asks one primary, when not too many other zones are being asked for there: one that is dead, or slow, makes its own zones
// wait and no others.
func (f *Follower) ask(ctx context.Context, z *followed, from Peer) (Update, error) {
	slots := f.slotsOf(from)
	select {
	case slots <- struct{}{}:
		defer func() { <-slots }()
	case <-ctx.Done():
		return Update{}, ctx.Err()
	}
	f.mu.Lock()
	have, good := z.zone, z.good
	f.mu.Unlock()
	u, err := f.o.Client.Update(ctx, from, z.Origin, have)
	if errors.Is(err, ErrOlder) && !good {
		return f.o.Client.Update(ctx, from, z.Origin, nil) // an older version is better than none
	}
	return u, err
}

func (f *Follower) slotsOf(p Peer) chan struct{} {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.slots[p.Addr] == nil {
		f.slots[p.Addr] = make(chan struct{}, maxIncoming)
	}
	return f.slots[p.Addr]
}

// news says whether somebody is to read of what came of asking a primary: of one that lags behind, once for each of its serials.
func (f *Follower) news(z *followed, from Peer, u Update, err error) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err == nil {
		delete(z.behind, from.Addr)
	}
	if !errors.Is(err, ErrOlder) {
		return err != nil
	}
	told, known := z.behind[from.Addr]
	z.behind[from.Addr] = u.Serial
	return !known || told != u.Serial
}

// install has a new version served and keeps it.
func (f *Follower) install(z *followed, from Peer, u Update) error {
	z.serving.Lock()
	defer z.serving.Unlock()
	if err := f.o.Install(z.Origin, Content{Zone: u.Zone, Good: true}); err != nil {
		return err
	}
	refreshed := time.Now().Add(-u.Age)
	f.mu.Lock()
	var old *uint32
	if z.zone != nil {
		serial := z.zone.Serial()
		old = &serial
	}
	z.has(u.Zone, refreshed)
	z.good, z.installed = true, true
	z.renew()
	f.mu.Unlock()
	attrs := []any{"zone", bare(z.Origin), "primary", from.Addr, "kind", u.Kind, "new", u.Serial, "records", u.Records, "bytes", u.Bytes}
	if old != nil {
		attrs = append(attrs, "old", *old)
	}
	f.o.Log.Info("zone transferred", attrs...)
	replace := func(temporary, path string) error {
		f.mu.Lock()
		defer f.mu.Unlock()
		if f.zones[z.Origin] != z { // Set has removed the file, or it is that of who follows the zone now
			return os.Remove(temporary)
		}
		return os.Rename(temporary, path)
	}
	if err := save(f.o.Dir, u.Zone, refreshed, replace); err != nil { // no reason not to serve it
		f.o.Log.Error("keep a zone for the next start", "zone", bare(z.Origin), "err", err)
	}
	return nil
}

// after sets the timers after an attempt. The zone was known to be good at a time; zero: no primary could say so.
func (f *Follower) after(z *followed, refreshed time.Time, failed error) {
	z.serving.Lock()
	defer z.serving.Unlock()
	now := time.Now()
	current := !refreshed.IsZero()
	f.mu.Lock()
	z.err = failed
	if current {
		z.err = nil // one primary is enough
		z.schedule.failures = 0
		if refreshed.After(z.schedule.refreshed) { // RFC 7314 section 4: it never expires sooner for having asked
			z.schedule.refreshed = refreshed
		}
		refreshed = z.schedule.refreshed
		z.good = now.Before(z.schedule.expires())
		z.renew()
	} else {
		z.schedule.failures++
	}
	z.next = now.Add(z.schedule.wait(f.o.Random()))
	again := z.good && !z.installed
	c := Content{Zone: z.zone, Good: z.good}
	f.mu.Unlock()
	if again { // it had expired
		f.settle(z, f.o.Install(z.Origin, c), true)
	}
	if current {
		if err := touch(f.o.Dir, z.Origin, refreshed); err != nil {
			f.o.Log.Warn("keep the time of a zone's refresh", "zone", bare(z.Origin), "err", err)
		}
	}
}
