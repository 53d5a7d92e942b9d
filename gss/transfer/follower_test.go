package transfer

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"anycastle/gss/zone"
)

// following is a Follower of example.org, from a primary that signs nothing.
type following struct {
	*Follower
	*primary
	t       *testing.T
	dir     string
	version *zone.Zone
	refuse  error // of what is installed
	faulty  bool  // installing panics
	stop    context.CancelFunc
	ended   chan struct{}

	lock      sync.Mutex
	installed []string // "serial" or "serial expired"
	outcomes  []Outcome
}

// follow starts to follow; dir has what was kept before.
func follow(t *testing.T, dir string, z *zone.Zone, changes ...func(*following)) *following {
	f := &following{t: t, dir: dir, version: z, ended: make(chan struct{})}
	for _, change := range changes {
		change(f)
	}
	f.primary = &primary{t: t, now: func() *zone.Zone { return f.version }, past: NewHistory()}
	f.Follower = NewFollower(Options{
		Log: quiet, Dir: dir, Client: &Client{Dial: f.dial}, Random: func() float64 { return 0 },
		Install: f.install, Observe: f.observe,
	})
	f.Set([]Secondary{{"example.org.", []Peer{peer(nil)}}})
	ctx, cancel := context.WithCancel(t.Context())
	f.stop = cancel
	go func() { defer close(f.ended); f.Run(ctx) }()
	synctest.Wait()
	return f
}

func (f *following) install(origin string, c Content) error {
	f.lock.Lock()
	defer f.lock.Unlock()
	if f.faulty {
		panic("a fault")
	}
	if f.refuse != nil {
		return f.refuse
	}
	text := "none"
	if c.Zone != nil {
		text = strings.Fields(c.Zone.SOA().String())[6]
	}
	if !c.Good {
		text += " expired"
	}
	f.installed = append(f.installed, text)
	return nil
}

func (f *following) observe(o Outcome) {
	f.lock.Lock()
	defer f.lock.Unlock()
	f.outcomes = append(f.outcomes, o)
}

// refuses has versions not be served.
func (f *following) refuses(err error) {
	f.lock.Lock()
	defer f.lock.Unlock()
	f.refuse = err
}

// panics has installing panic, or not.
func (f *following) panics(yes bool) {
	f.lock.Lock()
	defer f.lock.Unlock()
	f.faulty = yes
}

func (f *following) end() {
	f.stop()
	<-f.ended
	f.wg.Wait()
}

// after lets time go by.
func (f *following) after(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func (f *following) want(installed ...string) {
	f.t.Helper()
	f.lock.Lock()
	defer f.lock.Unlock()
	if !slices.Equal(f.installed, installed) {
		f.t.Errorf("after %v what was installed is %q, want %q", time.Since(start), f.installed, installed)
	}
}

func (f *following) status() SecondaryStatus {
	s, _ := f.Status("example.org.")
	return s
}

// A zone is refreshed by its timers, tried again, and expires.
func TestTimers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const refresh, retry, expire = time.Hour, 10 * time.Minute, 24 * time.Hour
		f := follow(t, t.TempDir(), version(t, 1))
		defer f.end()
		f.want("1")
		if s := f.status(); !s.Good || !s.Refreshed.Equal(start) || !s.Next.Equal(start.Add(refresh)) || !s.Expires.Equal(start.Add(expire)) {
			t.Errorf("the status is %+v", s)
		}
		f.set(func() { f.version = version(t, 2) })
		f.after(refresh - time.Second)
		f.want("1")
		f.after(time.Second)
		f.want("1", "2")
		f.after(refresh)
		f.set(func() { f.down = true })
		f.after(refresh)
		if s := f.status(); s.Err == nil || !s.Refreshed.Equal(start.Add(2*refresh)) || !s.Next.Equal(start.Add(3*refresh+retry)) {
			t.Errorf("without the primary the status is %+v", s)
		}
		dialed := f.dials()
		f.after(retry - time.Second)
		if f.dials() != dialed {
			t.Error("the primary is asked again too early")
		}
		f.after(time.Second)
		if f.dials() != dialed+1 {
			t.Error("the primary is not asked again")
		}
		f.after(time.Until(start.Add(2*refresh + expire - time.Second)))
		f.want("1", "2")
		f.after(time.Second)
		f.want("1", "2", "2 expired")
		if s := f.status(); s.Good {
			t.Errorf("the status of the expired zone is %+v", s)
		}
		f.set(func() { f.down = false })
		f.after(retry)
		f.want("1", "2", "2 expired", "2")
		if s := f.status(); !s.Good || s.Err != nil {
			t.Errorf("with the primary back the status is %+v", s)
		}
	})
}

// An older version is not taken, unless ours has expired.
func TestOlderVersion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := follow(t, t.TempDir(), version(t, 7))
		defer f.end()
		f.set(func() { f.version = version(t, 6) })
		f.after(time.Hour)
		f.want("7")
		if s := f.status(); !errors.Is(s.Err, ErrOlder) || !s.Good {
			t.Errorf("the status is %+v", s)
		}
		f.after(23*time.Hour + 10*time.Minute)
		f.want("7", "7 expired", "6")
	})
}

// What comes from a secondary expires when it does there, and does not live on by being handed round.
func TestExpireOfAPrimary(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		left := uint32(7200) // of a day
		f := follow(t, t.TempDir(), version(t, 1))
		defer f.end()
		expires := func(want time.Duration) {
			t.Helper()
			if s := f.status(); !s.Expires.Equal(start.Add(want)) || !s.Good {
				t.Errorf("it expires after %v, want %v", s.Expires.Sub(start), want)
			}
		}
		expires(24 * time.Hour) // the primary said nothing
		f.set(func() { f.primary.left = &left })
		f.after(time.Hour)
		expires(24 * time.Hour) // which is later than what it says now
		f.set(func() { f.version = version(t, 2) })
		f.after(time.Hour)
		f.want("1", "2")
		expires(4 * time.Hour)
		if _, refreshed, err := load(f.dir, "example.org."); err != nil || !refreshed.Equal(start.Add(4*time.Hour-24*time.Hour)) {
			t.Errorf("a restart would take it for refreshed at %v, %v", refreshed, err)
		}
		more := uint32(3 * 3600)
		f.set(func() { f.primary.left = &more })
		f.after(time.Hour)
		expires(6 * time.Hour)
	})
}

// What was transferred is there at once after a restart, for as long as it would have been.
func TestRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		z := version(t, 1, many(100)...)
		f := follow(t, dir, z)
		f.after(90 * time.Minute) // refreshed after an hour
		f.end()
		g := follow(t, dir, z)
		g.want("1")
		sameZone(t, g.Contents()["example.org."].Zone, z)
		if s := g.status(); !s.Refreshed.Equal(start.Add(time.Hour + 30*time.Minute)) { // asked at once
			t.Errorf("the status is %+v", s)
		}
		g.end()

		h := NewFollower(Options{Log: quiet, Dir: dir})
		h.Set([]Secondary{{"example.org.", nil}})
		if s, _ := h.Status("example.org."); !s.Refreshed.Equal(start.Add(90*time.Minute)) || !s.Good {
			t.Errorf("the status is %+v", s)
		}
		time.Sleep(24 * time.Hour)
		late := follow(t, dir, version(t, 2))
		defer late.end()
		late.want("1 expired", "2")
	})
}

func TestDamagedFile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "example.org"), []byte(magic+"junk"), 0o600); err != nil {
			t.Fatal(err)
		}
		f := follow(t, dir, version(t, 1))
		defer f.end()
		f.want("1")
		if z, _, err := load(dir, "example.org."); err != nil || z.Serial() != 1 {
			t.Errorf("the file is not mended: %v", err)
		}
	})
}

func TestNotified(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := follow(t, t.TempDir(), version(t, 1))
		defer f.end()
		f.after(time.Minute)
		serial := func(n uint32) *uint32 { return &n }
		dialed := f.dials()
		f.Notified("example.org.", 0, serial(1)) // which we have
		f.Notified("example.net.", 0, serial(2))
		synctest.Wait()
		if f.dials() != dialed {
			t.Error("the primary is asked for nothing new")
		}
		f.set(func() { f.version = version(t, 2) })
		f.Notified("example.org.", 0, serial(2))
		synctest.Wait()
		f.want("1", "2")
		for range 50 { // more of them cost little
			f.Notified("example.org.", 0, nil)
			f.after(time.Millisecond)
		}
		f.after(5 * time.Second)
		if f.dials() != dialed+2 {
			t.Errorf("%d connections for one new version and 50 notifications within a second", f.dials()-dialed)
		}
	})
}

// Without any version the primaries are asked ever less often, and never not at all.
func TestFirstTransferFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &following{t: t, ended: make(chan struct{})}
		f.primary = &primary{t: t, down: true}
		f.Follower = NewFollower(Options{
			Log: quiet, Dir: t.TempDir(), Client: &Client{Dial: f.dial}, Random: func() float64 { return 0 }, Install: f.install,
		})
		f.Set([]Secondary{{"example.org.", []Peer{peer(nil)}}})
		ctx, cancel := context.WithCancel(t.Context())
		f.stop = cancel
		go func() { defer close(f.ended); f.Run(ctx) }()
		defer f.end()
		var gaps []time.Duration
		last, at := 0, time.Now()
		for time.Since(start) < time.Hour {
			f.after(time.Second)
			if f.dials() > last {
				gaps = append(gaps, time.Since(at))
				last, at = f.dials(), time.Now()
			}
		}
		want := []time.Duration{4, 8, 16, 32, 64, 128, 256, 300, 300} // in seconds; the first two are less than what is looked at
		same := func(g, w time.Duration) bool { return g == w*time.Second }
		if len(gaps) < 12 || !slices.EqualFunc(gaps[2:11], want, same) {
			t.Errorf("it is asked after %v", gaps)
		}
		f.want()
	})
}

// A version that cannot be served does not replace the one that is, on disk neither.
func TestVersionThatIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		f := follow(t, dir, version(t, 1))
		defer f.end()
		bad := errors.New("a rule's name has records")
		f.set(func() { f.version = version(t, 2) })
		f.refuses(bad)
		f.after(time.Hour)
		f.want("1")
		if s := f.status(); !errors.Is(s.Err, bad) || !s.Next.Equal(start.Add(time.Hour+10*time.Minute)) || !s.Good {
			t.Errorf("the status is %+v", s)
		}
		if z, _, err := load(dir, "example.org."); err != nil || z.Serial() != 1 {
			t.Errorf("the file has %v, %v", z, err)
		}
		f.refuses(nil)
		f.after(10 * time.Minute)
		f.want("1", "2")
	})
}

// A transfer that breaks off leaves what there is.
func TestTransferThatBreaksOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := follow(t, t.TempDir(), version(t, 1, many(3000)...))
		defer f.end()
		f.set(func() { f.version = version(t, 2, many(3000)...) })
		f.set(func() {
			f.spoil = func(n int, wire []byte) []byte {
				if n == 3 {
					return nil
				}
				return wire
			}
		})
		f.after(time.Hour)
		f.want("1")
		f.lock.Lock()
		last := f.outcomes[len(f.outcomes)-1]
		f.lock.Unlock()
		if s := f.status(); s.Err == nil || last.Err == nil {
			t.Errorf("the status is %+v", s)
		}
		f.set(func() { f.spoil = nil })
		f.after(10 * time.Minute)
		f.want("1", "2")
	})
}

// Of several primaries the one that has notified is asked first, and another that is newer is found.
func TestPrimaries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := follow(t, t.TempDir(), version(t, 1))
		defer f.end()
		two := []Peer{peer(nil), peer(nil)}
		f.Set([]Secondary{{"example.org.", two}}) // asks both
		synctest.Wait()
		f.after(minGap)
		f.set(func() { f.asked = nil })
		f.Notified("example.org.", 1, nil)
		synctest.Wait()
		if want := []string{"SOA", "SOA"}; !slices.Equal(f.asked, want) {
			t.Errorf("the primaries are asked %v, want %v", f.asked, want)
		}
	})
}

func TestSetStopsToFollow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		f := follow(t, dir, version(t, 1))
		defer f.end()
		f.Set(nil)
		synctest.Wait()
		dialed := f.dials()
		f.after(48 * time.Hour)
		if _, ok := f.Status("example.org."); ok || f.dials() != dialed {
			t.Error("the zone is still followed")
		}
		if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
			t.Errorf("files are left: %v, %v", left, err)
		}
		f.want("1")
	})
}
