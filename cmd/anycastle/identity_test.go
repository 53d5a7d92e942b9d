package main

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"anycastle/internal/netnstest"
	"anycastle/rhi"
)

// fakeLo notes what is done to lo, and in which order to the speaker.
type fakeLo struct {
	did []string
	bad error
}

func (f *fakeLo) Add(a netip.Addr) error {
	f.did = append(f.did, "add "+a.String())
	return f.bad
}

func (f *fakeLo) Remove(a netip.Addr) error {
	f.did = append(f.did, "remove "+a.String())
	return nil
}

// SetAnnouncements implements speaker.
func (f *fakeLo) SetAnnouncements(_ context.Context, list []rhi.Announcement) error {
	text := "announce"
	var words []string
	for _, a := range list {
		words = append(words, " "+a.Prefix.String())
	}
	slices.Sort(words)
	for _, w := range words {
		text += w
	}
	f.did = append(f.did, text)
	return nil
}

func TestIdentity(t *testing.T) {
	f := &fakeLo{}
	i := newIdentity(f, slog.New(slog.DiscardHandler))
	i.lo = f
	east, west := netip.MustParseAddr("192.0.2.51"), netip.MustParseAddr("2001:db8::52")
	home := netip.MustParseAddr("127.0.0.1")
	for _, err := range []error{
		i.Take("east", []netip.Addr{east, home}, 3), i.Take("west", []netip.Addr{west, home}, 4), i.Drop("east"), i.Drop("east"), i.Drop("west"),
	} {
		if err != nil {
			t.Error(err)
		}
	}
	f.bad = errors.New("no right")
	if err := i.Take("east", []netip.Addr{east}, 5); !errors.Is(err, f.bad) {
		t.Errorf("got %v", err)
	}
	want := []string{
		"add 192.0.2.51", "add 127.0.0.1", "announce 192.0.2.51/32",
		"add 2001:db8::52", "add 127.0.0.1", "announce 192.0.2.51/32 2001:db8::52/128",
		"announce 2001:db8::52/128", "remove 192.0.2.51", // the other LUN has the other address, too
		"announce", "remove 2001:db8::52", "remove 127.0.0.1",
		"add 192.0.2.51",
	}
	if diff := cmp.Diff(want, f.did); diff != "" {
		t.Errorf("did (-want +got):\n%s", diff)
	}
	if old, young := *medOf(7), *medOf(8); young >= old {
		t.Errorf("MED of term 8 is %d, and that of 7 is %d", young, old)
	}
}

// TestLoopback takes real addresses, each twice.
func TestLoopback(t *testing.T) {
	netnstest.Root(t)
	ns := netnstest.New(t)
	for _, text := range []string{"192.0.2.51", "2001:db8::51"} {
		a := netip.MustParseAddr(text)
		there := func() (yes bool) {
			ns.Do(func() (err error) { _, yes, err = onLo(a); return err })
			return yes
		}
		for _, want := range []bool{true, true, false, false} {
			change := loopback{}.Add
			if !want {
				change = loopback{}.Remove
			}
			ns.Do(func() error { return change(a) })
			if there() != want {
				t.Errorf("%v on lo: %v, want %v", a, !want, want)
			}
		}
	}
}
