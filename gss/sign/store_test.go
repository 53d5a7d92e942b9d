package sign

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

func newTestKeeper(t *testing.T, dir, zone string, policy Policy) *Keeper {
	t.Helper()
	store, err := OpenStore(dir, zone)
	if err != nil {
		t.Fatal(err)
	}
	k, err := NewKeeper(store, policy)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { k.Close() })
	return k
}

func step(t *testing.T, k *Keeper, o *Observation, now time.Time) (Ring, Decision) {
	t.Helper()
	ring, d, err := k.Step(o, now)
	if err != nil {
		t.Fatal(err)
	}
	return ring, d
}

func files(t *testing.T, dir string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v, %v", e.Name(), info.Mode(), err)
		}
		names = append(names, e.Name())
	}
	return names
}

// TestKeeperAcrossRestarts rolls a key with a process that restarts all the time, and another server that follows a copy.
func TestKeeperAcrossRestarts(t *testing.T) {
	t.Parallel()
	dir, copied := t.TempDir(), t.TempDir()
	policy := testPolicy()
	policy.Lifetime = 100 * time.Hour
	var parent []string
	var lives []string
	if follower, err := OpenStore(copied, "example.net."); err != nil {
		t.Fatal(err)
	} else if _, _, err := Follow(follower, policy, epoch); !errors.Is(err, ErrNoState) {
		t.Errorf("followed nobody: %v", err)
	}
	for now := epoch; now.Before(epoch.Add(300 * time.Hour)); now = now.Add(time.Hour) {
		store, err := OpenStore(dir, "example.net.")
		if err != nil {
			t.Fatal(err)
		}
		k, err := NewKeeper(store, policy)
		if err != nil {
			t.Fatal(err)
		}
		ring, d := step(t, k, &Observation{At: now, Sets: [][]string{parent}, Complete: true}, now)
		if err := k.Close(); err != nil {
			t.Fatal(err)
		}
		if len(d.Request.Keys) > 0 {
			parent = d.Request.Keys
		}
		for _, id := range d.DNSKEY {
			if !slices.Contains(lives, id) {
				lives = append(lives, id)
			}
		}
		names := files(t, dir)
		if len(names) != 2+2*len(d.Keys) {
			t.Fatalf("after %v, with %v: files %v", now.Sub(epoch), d.Keys, names)
		}
		for _, name := range names {
			text, err := os.ReadFile(filepath.Join(dir, name))
			if err == nil {
				err = os.WriteFile(filepath.Join(copied, name), text, 0o600)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		follower, err := OpenStore(copied, "example.net.")
		if err != nil {
			t.Fatal(err)
		}
		other, od, err := Follow(follower, policy, now)
		if err != nil || !reflect.DeepEqual(od.Keys, d.Keys) || ids(other.Data) != ids(ring.Data) || ids(other.Apex) != ids(ring.Apex) {
			t.Fatalf("after %v: the keeper says %+v, the follower %+v, %v", now.Sub(epoch), d, od, err)
		}
	}
	if len(lives) < 3 {
		t.Errorf("only %v lived", lives)
	}
}

func ids(keys []*Key) (list string) {
	for _, k := range keys {
		list += k.ID() + " "
	}
	return list
}

func TestOneKeeperAtATime(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	k := newTestKeeper(t, dir, "example.net.", testPolicy())
	store, err := OpenStore(dir, "example.net.")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := NewKeeper(store, testPolicy()); !errors.Is(err, ErrKept) {
		t.Errorf("a second keeper: %v", err)
	}
	newTestKeeper(t, dir, "example.com.", testPolicy()) // of another zone
	k.Close()
	newTestKeeper(t, dir, "example.net.", testPolicy())
}

func TestOrdersSurvive(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	k := newTestKeeper(t, dir, "example.net.", testPolicy())
	_, d := step(t, k, nil, epoch)
	first := d.DNSKEY[0]
	if err := k.Compromise("Kexample.net.+013+99999"); err == nil {
		t.Error("a key that is not there was compromised")
	}
	if err := k.Compromise(first); err != nil {
		t.Fatal(err)
	}
	step(t, k, nil, epoch)
	k.Close()
	k = newTestKeeper(t, dir, "example.net.", testPolicy())
	if k.state.Goal == first || !k.state.Keys[first].Compromised {
		t.Errorf("got %+v", k.state)
	}
	second := k.state.Goal
	k.Roll()
	if _, d = step(t, k, nil, epoch); k.state.Goal == second || k.state.Roll || len(d.Keys) != 3 {
		t.Errorf("got %+v", k.state)
	}
}

// TestDiskIsFull shows that nothing is answered that was not kept before.
func TestDiskIsFull(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	k := newTestKeeper(t, dir, "example.net.", testPolicy())
	before, _ := step(t, k, nil, epoch)
	for _, name := range []string{k.store.statePath() + ".new", k.store.path(before.Data[0].ID(), privateExt)} {
		if strings.HasSuffix(name, ".new") { // which cannot be written then, even by root
			if err := os.Mkdir(name, 0o700); err != nil {
				t.Fatal(err)
			}
		}
	}
	k.Roll()
	for range 3 {
		ring, d, err := k.Step(nil, epoch.Add(time.Hour))
		if err == nil || ids(ring.Apex) != ids(before.Apex) || ids(ring.Data) != ids(before.Data) || len(d.Keys) != 1 {
			t.Fatalf("got %+v, %+v, %v", ring, d, err)
		}
	}
	if names, err := filepath.Glob(filepath.Join(dir, "*"+privateExt)); err != nil || len(names) != 1 {
		t.Errorf("keys were left behind: %v, %v", names, err)
	}
	if err := os.Remove(k.store.statePath() + ".new"); err != nil {
		t.Fatal(err)
	}
	if ring, _ := step(t, k, nil, epoch.Add(time.Hour)); len(ring.Apex) != 2 {
		t.Errorf("with room again: %+v", ring)
	}
}

func TestKeeperWaitsForAServerThatIsBehind(t *testing.T) {
	t.Parallel()
	k := newTestKeeper(t, t.TempDir(), "example.net.", testPolicy())
	now := epoch
	for range 20 {
		k.Behind(now)
		step(t, k, nil, now)
		now = now.Add(time.Hour)
	}
	if _, d := step(t, k, nil, now); d.Keys[0].State != Published {
		t.Errorf("got %+v", d)
	}
	if _, d := step(t, k, nil, now.Add(6*time.Hour)); d.Keys[0].State != Ready {
		t.Errorf("got %+v", d)
	}
}

func TestDSSeenByHand(t *testing.T) {
	t.Parallel()
	k := newTestKeeper(t, t.TempDir(), "example.net.", testPolicy())
	now := epoch
	_, d := step(t, k, nil, now)
	first := d.DNSKEY[0]
	for range 40 { // nobody tells, nothing happens
		now = now.Add(24 * time.Hour)
		_, d = step(t, k, nil, now)
	}
	if d.Keys[0].State != Ready || len(d.Request.Keys) != 1 {
		t.Errorf("got %+v", d)
	}
	if _, err := k.DSSeen(now, "Kexample.net.+013+99999"); err == nil {
		t.Error("a key that is not there was seen")
	}
	o, err := k.DSSeen(now, first)
	if err != nil {
		t.Fatal(err)
	}
	step(t, k, &o, now)
	if _, d = step(t, k, nil, now.Add(31*time.Hour)); d.Keys[0].State != Active {
		t.Errorf("got %+v", d)
	}
}

func TestAdopt(t *testing.T) {
	t.Parallel()
	store, err := OpenStore(t.TempDir(), "example.net.")
	if err != nil {
		t.Fatal(err)
	}
	key := newTestKey(t, "example.net.", dns.ED25519)
	if err := store.Adopt(key.ID(), epoch); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a key without files: %v", err)
	}
	if err := store.Add(key); err != nil {
		t.Fatal(err)
	}
	policy := testPolicy()
	policy.Algorithm = dns.ED25519
	if _, err := NewKeeper(store, policy); !errors.Is(err, ErrNoState) {
		t.Errorf("key files of nobody: %v", err)
	}
	newTestKeeper(t, store.dir, "net.", policy) // whose key it is not
	if err := store.Adopt(key.ID(), epoch); err != nil {
		t.Fatal(err)
	}
	if err := store.Adopt(key.ID(), epoch); err == nil {
		t.Error("adopted twice")
	}
	k := newTestKeeper(t, store.dir, "example.net.", policy)
	if err := store.Adopt(key.ID(), epoch); !errors.Is(err, ErrKept) {
		t.Errorf("adopted under a keeper's feet: %v", err)
	}
	ring, d := step(t, k, nil, epoch)
	if ids(ring.Data) != key.ID()+" " || ids(ring.Parent) != ids(ring.Data) || len(d.Keys) != 1 || d.Keys[0].State != Active {
		t.Errorf("got %+v", d)
	}
}

// TestUnsignedZoneHasAState: a zone that went back to unsigned has a state, and may be signed again.
func TestUnsignedZoneHasAState(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	policy := testPolicy()
	policy.Insecure = true
	k := newTestKeeper(t, dir, "example.net.", policy)
	if ring, _ := step(t, k, nil, epoch); len(ring.Apex) > 0 || k.state.Serial == 0 {
		t.Errorf("got %+v, %+v", ring, k.state)
	}
	k.Close()
	if ring, _ := step(t, newTestKeeper(t, dir, "example.net.", testPolicy()), nil, epoch); len(ring.Data) != 1 {
		t.Errorf("got %+v", ring)
	}
}

func TestDamagedStore(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		damage func(t *testing.T, s *Store, id string)
		want   string
	}{
		"no private part":   {func(t *testing.T, s *Store, id string) { os.Remove(s.path(id, privateExt)) }, "no such file"},
		"open to everybody": {func(t *testing.T, s *Store, id string) { os.Chmod(s.path(id, privateExt), 0o644) }, "chmod o="},
		"of another key": {func(t *testing.T, s *Store, id string) {
			public, private := formatKey(newTestKey(t, "example.net.", dns.ECDSAP256SHA256))
			os.WriteFile(s.path(id, publicExt), public, 0o600)
			os.WriteFile(s.path(id, privateExt), private, 0o600)
		}, "holds key"},
		"no state":     {func(t *testing.T, s *Store, id string) { os.Remove(s.statePath()) }, "no state of keys"},
		"half a state": {func(t *testing.T, s *Store, id string) { os.Truncate(s.statePath(), 100) }, "decode"},
		"long":         {func(t *testing.T, s *Store, id string) { os.Truncate(s.statePath(), 10<<20) }, "more than"},
		"unknown goal": {func(t *testing.T, s *Store, id string) {
			os.WriteFile(s.statePath(), []byte(`{"goal": "Kexample.net.+013+00001"}`), 0o600)
		}, "nothing is known"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			k := newTestKeeper(t, dir, "example.net.", testPolicy())
			_, d := step(t, k, nil, epoch)
			k.Close()
			c.damage(t, k.store, d.DNSKEY[0])
			if _, err := NewKeeper(k.store, testPolicy()); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q in it", err, c.want)
			}
			newLock, err := k.store.lock()
			if err != nil {
				t.Fatalf("the lock was left behind: %v", err)
			}
			unlock(newLock)
		})
	}
}

func TestFileNames(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	k := newTestKeeper(t, dir, "0/25.2.0.192.in-addr.arpa.", testPolicy()) // RFC 2317
	step(t, k, nil, epoch)
	for _, name := range files(t, dir) {
		if !strings.Contains(name, "0%2F25.2.0.192.in-addr.arpa.") {
			t.Errorf("got file %s", name)
		}
	}
	k.Close()
	newTestKeeper(t, dir, "0/25.2.0.192.IN-ADDR.arpa", testPolicy())
	if _, err := OpenStore(filepath.Join(dir, "missing"), "example.net."); err == nil {
		t.Error("opened a directory that is not there")
	}
}
