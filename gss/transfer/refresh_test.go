package transfer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"anycastle/gss/zone"
)

// A fault that a zone's transfer brings out costs that attempt, and neither the zone nor the others.
func TestPanicOfARefresh(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := follow(t, t.TempDir(), version(t, 1))
		defer f.end()
		f.set(func() { f.version = version(t, 2) })
		f.panics(true)
		f.after(time.Hour)
		f.want("1")
		f.lock.Lock()
		last := f.outcomes[len(f.outcomes)-1]
		f.lock.Unlock()
		if s := f.status(); !errors.Is(s.Err, ErrFault) || !errors.Is(last.Err, ErrFault) || !s.Good || !s.Next.Equal(start.Add(time.Hour+10*time.Minute)) {
			t.Errorf("the status is %+v, the outcome %+v", s, last)
		}
		f.panics(false)
		f.after(10 * time.Minute)
		f.want("1", "2")
	})
}

// So does one when a zone is begun to be followed, expires, or is good again.
func TestPanicOfOtherSteps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const retry = 700 * time.Second
		dir, z := t.TempDir(), versionOf(t, "1 3600 700 86400 5")
		follow(t, dir, z).end()
		f := follow(t, dir, z, func(f *following) { f.faulty = true })
		defer f.end()
		f.after(time.Second)
		f.want()
		faulted := func(step string) {
			t.Helper()
			if s := f.status(); !errors.Is(s.Err, ErrFault) {
				t.Errorf("%s: the status is %+v", step, s)
			}
		}
		f.set(func() { f.down = true })
		f.after(24 * time.Hour)
		faulted("it expires")
		f.set(func() { f.down = false })
		f.after(retry)
		faulted("it is good again")
		f.panics(false)
		f.after(retry)
		f.want("1")
		if s := f.status(); !s.Good || s.Err != nil {
			t.Errorf("the status is %+v", s)
		}
	})
}

// A zone expires when its time is over, also while a primary sends a new version ever so slowly.
func TestExpiresInATransfer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := follow(t, t.TempDir(), versionOf(t, "1 60 60 300 5"))
		defer f.end()
		f.set(func() {
			f.version = versionOf(t, "2 60 60 300 5", many(8000)...)
			f.spoil = func(_ int, wire []byte) []byte {
				time.Sleep(stepTime - time.Second)
				return wire
			}
		})
		f.after(300*time.Second - time.Millisecond)
		f.want("1")
		f.after(time.Millisecond)
		f.want("1", "1 expired")
		f.after(10 * time.Minute)
		f.want("1", "1 expired", "2")
		if s := f.status(); !s.Good || s.Err != nil {
			t.Errorf("the status is %+v", s)
		}
	})
}

// A new version may say that it expires sooner than the one before.
func TestExpiresSooner(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := follow(t, t.TempDir(), versionOf(t, "1 60 60 86400 5"))
		defer f.end()
		f.set(func() { f.version = versionOf(t, "2 86400 60 300 5") })
		f.after(time.Minute)
		f.want("1", "2")
		f.set(func() { f.down = true })
		f.after(86460*time.Second - time.Millisecond) // as long as it is not to be refreshed it is good
		f.want("1", "2")
		f.after(time.Millisecond)
		f.want("1", "2", "2 expired")
	})
}

// Zones whose primary does not answer are not in the way of those of another.
func TestDeadPrimary(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := follow(t, t.TempDir(), version(t, 1))
		defer f.end()
		dead := netip.MustParseAddrPort("192.0.2.54:53")
		f.o.Client.Dial = func(ctx context.Context, network, addr string) (net.Conn, error) {
			if addr == dead.String() {
				<-ctx.Done()
				return nil, ctx.Err()
			}
			return f.dial(ctx, network, addr)
		}
		zones := []Secondary{{"example.org.", []Peer{peer(nil)}}}
		for i := range 5 * maxIncoming {
			zones = append(zones, Secondary{fmt.Sprintf("z%d.example.net.", i), []Peer{{Addr: dead}}})
		}
		f.Set(zones)
		f.after(dialTime / 2)
		f.set(func() { f.version = version(t, 2) })
		serial := uint32(2)
		f.Notified("example.org.", 0, &serial)
		synctest.Wait()
		f.want("1", "2")
	})
}

// A version that comes when its zone is secondary no more leaves no file.
func TestSetWhileAVersionIsInstalled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		f := follow(t, dir, version(t, 1))
		defer f.end()
		reloaded := make(chan struct{})
		f.o.Install = func(string, Content) error {
			<-reloaded
			return nil
		}
		f.set(func() { f.version = version(t, 2) })
		f.after(time.Hour)
		f.Set(nil)
		close(reloaded)
		synctest.Wait()
		if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
			t.Errorf("files are left: %v, %v", left, err)
		}
	})
}

// A primary that lags behind is told of once for each serial that it has, and only where none is current is its serial at fault.
func TestPrimaryLagsBehind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log lines
		f := follow(t, t.TempDir(), version(t, 7))
		defer f.end()
		f.o.Log = slog.New(slog.NewTextHandler(&log, nil))
		behind := &primary{t: t, now: func() *zone.Zone { return version(t, 6) }, past: NewHistory()}
		defer behind.wg.Wait()
		other := netip.MustParseAddrPort("192.0.2.54:53")
		f.o.Client.Dial = func(ctx context.Context, network, addr string) (net.Conn, error) {
			if addr == other.String() {
				return behind.dial(ctx, network, addr)
			}
			return f.dial(ctx, network, addr)
		}
		f.Set([]Secondary{{"example.org.", []Peer{{Addr: other}, peer(nil)}}})
		f.after(5 * time.Hour)
		if got := log.with("192.0.2.54:53"); len(got) != 1 || !strings.Contains(got[0], "it lags behind, or its serial was set back and has to be raised") {
			t.Errorf("it is told of by %q", got)
		}
		if s := f.status(); s.Err != nil || !s.Good {
			t.Errorf("the status is %+v", s)
		}
		behind.set(func() { behind.now = func() *zone.Zone { return version(t, 5) } })
		f.after(5 * time.Hour)
		if got := log.with("192.0.2.54:53"); len(got) != 2 {
			t.Errorf("with another serial it is told of by %q", got)
		}
		behind.set(func() { behind.now = func() *zone.Zone { return version(t, 7) } })
		f.after(time.Hour)
		behind.set(func() { behind.now = func() *zone.Zone { return version(t, 5) } })
		f.after(5 * time.Hour)
		if got := log.with("192.0.2.54:53"); len(got) != 3 {
			t.Errorf("after it had caught up it is told of by %q", got)
		}
		f.want("7")
	})
}

// lines are those of a log.
type lines struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

// with gives the lines that have a text in them.
func (l *lines) with(part string) (found []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for line := range strings.Lines(l.text.String()) {
		if strings.Contains(line, part) {
			found = append(found, line)
		}
	}
	return found
}
