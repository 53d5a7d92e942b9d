package bodies

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"testing"

	"github.com/google/go-cmp/cmp"

	"anycastle/mailroles/store"
)

// follower is a journal that orders nothing. The methods that are missing would panic.
type follower struct{ store.Journal }

func (follower) Serving() error { return store.ErrPassive }

// openStore has a replica keep its bodies in a store of the product.
func openStore(t *testing.T, r *replica) *store.Store {
	t.Helper()
	s, err := store.OpenWith(store.Options{Root: t.TempDir(), Journal: follower{}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close the store: %v", err)
		}
	})
	s.Expect(0)
	r.opt.Store = s
	return s
}

// TestStoresOfTheProduct pushes, fetches and asks between stores that are not made for tests.
func TestStoresOfTheProduct(t *testing.T) {
	list := newReplicas(t, "east", "west", "west")
	var stores []*store.Store
	for _, r := range list {
		stores = append(stores, openStore(t, r))
	}
	s := sending(t, list[:2])
	list[0].run(NewReceiver(list[0].opt, nil).Run)
	f := NewFetcher(list[2].opt, nil)
	for i, size := range []int{0, 1, 5000, maxSmall + 1, 2 << 20} {
		text := content(size, byte(i))
		b := bodyOf(fmt.Sprintf("1700000000.M%dP1.host", i), text)
		if err := stores[0].TakeBody(b, bytes.NewReader(text)); err != nil {
			t.Fatal(err)
		}
		s.Push(b)
		confirmed(t, s, b, "b")
		if err := f.Get(t.Context(), b); err != nil {
			t.Error(err)
		}
		if err := f.Get(t.Context(), b); err != nil { // it is here
			t.Error(err)
		}
		for i, mail := range stores {
			file, err := mail.OpenBody(b)
			if err != nil {
				t.Errorf("store %d: %v", i, err)
				continue
			}
			got, err := io.ReadAll(file)
			if err != nil || !bytes.Equal(got, text) {
				t.Errorf("store %d has %d octets, want %d: %v", i, len(got), size, err)
			}
			file.Close()
		}
	}
	if err := f.Get(t.Context(), bodyOf("1700000001.M1P1.host", nil)); !errors.Is(err, store.ErrNoMessage) {
		t.Errorf("get what nobody has: %v", err)
	}
}

// TestManifestOfTheProduct seeds a store by what comes over the wire.
func TestManifestOfTheProduct(t *testing.T) {
	list := newReplicas(t, "east", "west")
	openStore(t, list[0])
	blank := openStore(t, list[1])
	list[0].run(NewDesk(list[0].opt, nil).Run)
	c := NewCaller(list[1].opt)
	file, pos, err := c.Manifest(t.Context(), "a", t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	got, err := blank.Install(file)
	if diff := cmp.Diff(pos, got); diff != "" || err != nil {
		t.Error(diff, err)
	}
}
