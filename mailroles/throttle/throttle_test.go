package throttle

import (
	"fmt"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"
)

var (
	here  = netip.MustParseAddr("192.0.2.1")
	there = netip.MustParseAddr("198.51.100.1")
)

const alice = "alice@example.org"

// try makes one login and lets the time pass that it has to wait.
func try(l *Logins, source netip.Addr, name string, right bool) (wait time.Duration, ok bool) {
	wait, ok = l.Check(source, name)
	if !ok {
		return wait, ok
	}
	time.Sleep(wait)
	if right {
		l.Succeeded(source, name)
	} else {
		l.Failed(source, name)
	}
	return wait, ok
}

func TestGuessesAtOneAccountWaitLongerAndAreThenRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l Logins
		for i, want := range []time.Duration{0, 0, 0, 0, 1, 2, 4, 8, 8, 8} {
			if wait, ok := try(&l, here, alice, false); !ok || wait != want*time.Second {
				t.Errorf("guess %d: wait %v, ok %v; want %v", i+1, wait, ok, want*time.Second)
			}
		}
		if _, ok := l.Check(here, alice); ok {
			t.Error("guess 11 was let through")
		}
		if _, ok := l.Check(here, "ALICE@Example.ORG"); ok {
			t.Error("another spelling of the account was let through")
		}
		if wait, ok := l.Check(here, "bob@example.org"); !ok || wait != 0 {
			t.Errorf("another account from there: wait %v, ok %v", wait, ok)
		}
		time.Sleep(ofPair.forget)
		if _, ok := try(&l, here, alice, false); !ok {
			t.Error("still refused when a failure should be forgotten")
		}
		if _, ok := l.Check(here, alice); ok {
			t.Error("more than one failure was forgotten")
		}
	})
}

func TestOwnerIsNotLockedOutFromElsewhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l Logins
		// a botnet: 1,000 sources, 10 guesses each
		for i := range 1000 {
			bot := netip.AddrFrom4([4]byte{203, 0, byte(i >> 8), byte(i)})
			for range 10 {
				try(&l, bot, alice, false)
			}
		}
		if wait, ok := try(&l, there, alice, true); !ok || wait > maxWait {
			t.Errorf("owner from a new source: wait %v, ok %v; want %v at most", wait, ok, maxWait)
		}
		if wait, ok := try(&l, there, alice, true); !ok || wait != 0 {
			t.Errorf("owner from a known source: wait %v, ok %v; want no wait", wait, ok)
		}
		time.Sleep(time.Hour)
		if wait, ok := try(&l, here, alice, true); !ok || wait != 0 {
			t.Errorf("owner from a new source an hour later: wait %v, ok %v; want no wait", wait, ok)
		}
	})
}

func TestSourceThatTriesManyAccountsIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l Logins
		try(&l, here, alice, true) // a user behind the same address
		refused := 0
		for i := range 100 {
			if _, ok := try(&l, here, fmt.Sprintf("user%d@example.org", i), false); !ok {
				refused++
			}
			try(&l, here, "attacker@example.org", true) // who has an account of his own gains nothing by it
		}
		if refused < 60 {
			t.Errorf("%d of 100 guesses were refused, want most", refused)
		}
		if wait, ok := try(&l, here, alice, true); !ok || wait != 0 {
			t.Errorf("known user: wait %v, ok %v; want no wait", wait, ok)
		}
		if _, ok := l.Check(here, "carol@example.org"); ok {
			t.Error("account that is not known from there was let through")
		}
	})
}

func TestSourceIsA64OfIPv6AndMappedAddressesAreIPv4(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l Logins
		for i := range 10 {
			try(&l, netip.MustParseAddr(fmt.Sprintf("2001:db8::%x", i+1)), alice, false)
			try(&l, here, "bob@example.org", false)
		}
		for _, tc := range []struct {
			source, name string
			want         bool
		}{
			{"2001:db8::ffff", alice, false},
			{"2001:db8:0:1::1", alice, true},
			{"::ffff:192.0.2.1", "bob@example.org", false},
			{"192.0.2.2", "bob@example.org", true},
		} {
			if _, ok := l.Check(netip.MustParseAddr(tc.source), tc.name); ok != tc.want {
				t.Errorf("%s from %s: ok %v, want %v", tc.name, tc.source, ok, tc.want)
			}
		}
	})
}

func TestGuessesAtOnceAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l Logins
		open := 0
		for range 1000 {
			if _, ok := l.Check(here, alice); ok {
				open++
			}
		}
		if want := ofPair.most * ofPair.share; open != want {
			t.Errorf("%d checks at once, want %d", open, want)
		}
		for range open {
			l.Undecided(here, alice)
		}
		if wait, ok := l.Check(here, alice); !ok || wait != 0 {
			t.Errorf("after checks that decided nothing: wait %v, ok %v", wait, ok)
		}
		for range 1000 {
			l.Check(here, alice)
		}
		time.Sleep(checkTime)
		if wait, ok := l.Check(here, alice); !ok || wait != 0 {
			t.Errorf("after checks whose end nobody told: wait %v, ok %v", wait, ok)
		}
	})
}

func TestManyClientsOfOneUserLogInAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l Logins
		for i := range 12 {
			if wait, ok := l.Check(here, alice); !ok || wait != 0 {
				t.Errorf("client %d: wait %v, ok %v", i+1, wait, ok)
			}
		}
		l.Succeeded(here, alice)
		for i := range 100 {
			if wait, ok := l.Check(here, alice); !ok || wait != 0 {
				t.Errorf("client %d of a known source: wait %v, ok %v", i+13, wait, ok)
			}
		}
	})
}

func TestMemoryIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l Logins
		for i := range room + 1000 { // each evicts the oldest once the tables are full
			source := netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})
			try(&l, source, fmt.Sprint("user", i), false)
			try(&l, source, fmt.Sprint("friend", i), true)
		}
		for name, n := range map[string]int{
			"sources": len(l.sources.entries), "accounts": len(l.accounts.entries),
			"pairs": len(l.pairs.entries), "known": len(l.known.entries),
		} {
			if n > room || n < room-1 { // one may just have been given up
				t.Errorf("%s holds %d entries, want %d", name, n, room)
			}
		}
		if n := l.pairs.order.Len(); n != len(l.pairs.entries) {
			t.Errorf("order of pairs holds %d entries, the table %d", n, len(l.pairs.entries))
		}
	})
}

func TestNothingIsKeptOfWhoDidNotFail(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l Logins
		try(&l, here, alice, true)
		if n := len(l.pairs.entries) + len(l.sources.entries) + len(l.accounts.entries); n != 0 {
			t.Errorf("%d entries after a login", n)
		}
		if len(l.known.entries) != 1 {
			t.Error("the source is not known")
		}
		time.Sleep(knownTime)
		for range 30 {
			try(&l, here, "x@example.org", false)
			try(&l, here, "y@example.org", false)
			try(&l, here, "z@example.org", false)
			try(&l, here, "w@example.org", false)
		}
		if _, ok := l.Check(here, alice); ok {
			t.Error("the source is known for ever")
		}
	})
}

func TestRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r Rate
		take := func(n int) (got int) {
			for range n {
				if r.Take(alice, 60) {
					got++
				}
			}
			return got
		}
		if got := take(100); got != 60 {
			t.Errorf("%d at once, want 60", got)
		}
		if !r.Take("bob@example.org", 60) {
			t.Error("another account has to pay for the first")
		}
		r.Return(alice)
		if got := take(100); got != 1 {
			t.Errorf("%d after one was returned", got)
		}
		time.Sleep(10 * time.Minute)
		if got := take(100); got != 10 {
			t.Errorf("%d after ten minutes, want 10", got)
		}
		time.Sleep(48 * time.Hour)
		if got := take(100); got != 60 {
			t.Errorf("%d after two days, want 60", got)
		}
	})
}
