package transfer

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"testing"
	"testing/synctest"
	"time"
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
