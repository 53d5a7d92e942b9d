package mesh

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func savedMap(t *testing.T) (m *testMap, path string) {
	t.Helper()
	m = newTestMap("lb1")
	check(t, m.Set("order/smtp/mx1", []byte("drain")))
	check(t, m.Set("order/smtp/mx2", []byte("suspend")))
	m.Delete("order/smtp/mx2")
	path = filepath.Join(t.TempDir(), "mesh")
	check(t, m.Save(path))
	return m, path
}

func TestSaveAndLoad(t *testing.T) {
	m, path := savedMap(t)
	again := newTestMap("lb1")
	again.at = again.at.Add(-time.Minute) // a clock that was set back
	check(t, again.Load(path))
	if again.all(t) != m.all(t) {
		t.Errorf("loaded:\n%s\nsaved:\n%s", again.all(t), m.all(t))
	}
	// its next change is later than all that it made before
	check(t, again.Set("order/smtp/mx1", []byte("activate")))
	m.pull(t, again)
	if v, _ := m.Get("order/smtp/mx1"); string(v) != "activate" {
		t.Errorf("after the restart a change lost against an older one: %q", v)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file: %v, %v", info, err)
	}
	if _, err := os.Stat(path + ".new"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the new file is left over: %v", err)
	}
}

func TestLoadOnAFirstStart(t *testing.T) {
	m := newTestMap("lb1")
	check(t, m.Load(filepath.Join(t.TempDir(), "mesh")))
	if err := m.Load(t.TempDir()); err == nil {
		t.Error("a directory was loaded")
	}
	if len(m.Snapshot()) != 0 {
		t.Error("there is something in it")
	}
}

// A file that was cut anywhere or had any bit turned is not taken for a whole one.
func TestDamageIsNoticed(t *testing.T) {
	_, path := savedMap(t)
	good, err := os.ReadFile(path)
	check(t, err)
	for n := range good {
		if _, _, err := decodeFile(good[:n]); err == nil {
			t.Errorf("cut at %d: no error", n)
		}
		for bit := range 8 {
			b := bytes.Clone(good)
			b[n] ^= 1 << bit
			if _, _, err := decodeFile(b); err == nil {
				t.Errorf("bit %d of byte %d turned: no error", bit, n)
			}
		}
	}
}

func TestDamagedFileIsRefused(t *testing.T) {
	_, path := savedMap(t)
	good, err := os.ReadFile(path)
	check(t, err)
	leave := append([]byte(fileMagic+"12345678"), encodeLeave("lb1")...)
	for name, b := range map[string][]byte{
		"empty": nil, "cut": good[:len(good)-1], "longer": append(bytes.Clone(good), 0),
		"too long": make([]byte, maxMessage+fileFixed+10), "no map": binary.BigEndian.AppendUint32(leave, checksum(leave)),
	} {
		check(t, os.WriteFile(path, b, 0o600))
		m := newTestMap("lb1")
		err := m.Load(path)
		if err == nil || !strings.Contains(err.Error(), path+" is damaged: ") || !strings.Contains(err.Error(), "put a copy of it back, or remove it") {
			t.Errorf("%s: %v", name, err)
		}
		if len(m.entries) != 0 {
			t.Errorf("%s: something was taken", name)
		}
	}
}

// A Save that fails at any step leaves the file that was there.
func TestFailedSaveKeepsTheOldFile(t *testing.T) {
	m, path := savedMap(t)
	want, err := os.ReadFile(path)
	check(t, err)
	check(t, m.Set("more", nil))
	check(t, os.Mkdir(path+".new", 0o700))
	if err := m.Save(path); err == nil {
		t.Error("saved where no file can be made")
	}
	if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, want) {
		t.Errorf("the old file is changed: %v", err)
	}
	check(t, os.Remove(path+".new"))
	if err := m.Save(filepath.Join(path, "mesh")); err == nil {
		t.Error("saved below a file")
	}
	check(t, os.Mkdir(path+".dir", 0o700))
	if err := m.Save(path + ".dir"); err == nil { // the rename fails
		t.Error("saved over a directory")
	}
	check(t, m.Save(path))
}

func TestLoadWarns(t *testing.T) {
	for _, tc := range []struct {
		name string
		move time.Duration // of the clock, from Save to Load
		want string
	}{
		{"an old file", TombstoneLife + time.Hour, "the saved mesh map is old"},
		{"a file from the future", -2 * time.Hour, "has changes from the future"},
		{"a good file", time.Hour, ""},
	} {
		_, path := savedMap(t)
		m := newTestMap("lb1")
		m.at = m.at.Add(tc.move)
		var log bytes.Buffer
		m.log = slog.New(slog.NewTextHandler(&log, nil))
		check(t, m.Load(path))
		if tc.want == "" && log.Len() > 0 || !strings.Contains(log.String(), tc.want) {
			t.Errorf("%s: the log says %q", tc.name, log.String())
		}
		if _, ok := m.Get("order/smtp/mx1"); !ok {
			t.Errorf("%s: nothing was loaded", tc.name)
		}
	}
}

func TestKeepSavesEveryChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "mesh")
		m := NewMap("lb1", nil)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- m.Keep(ctx, path) }()
		saved := func() string {
			synctest.Wait()
			again := newTestMap("x")
			again.at = time.Now()
			check(t, again.Load(path))
			return again.all(t)
		}
		if got := saved(); got != "" {
			t.Errorf("at first: %s", got)
		}
		check(t, m.Set("a", nil))
		if got := saved(); !strings.HasPrefix(got, "a=") {
			t.Errorf("after a change: %q", got)
		}
		// while it cannot be saved it is tried again
		check(t, os.Mkdir(path+".new", 0o700))
		check(t, m.Set("b", nil))
		if got := saved(); strings.Contains(got, "b=") {
			t.Errorf("saved where it could not be: %q", got)
		}
		check(t, os.Remove(path+".new"))
		<-time.After(saveAgain)
		if got := saved(); !strings.Contains(got, "b=") {
			t.Errorf("not tried again: %q", got)
		}
		check(t, m.Set("c", nil))
		cancel()
		check(t, <-done)
		if got := saved(); !strings.Contains(got, "c=") {
			t.Errorf("at the end: %q", got)
		}
		if err := m.Keep(t.Context(), filepath.Join(path, "no")); err == nil {
			t.Error("a first Save that fails is no error")
		}
	})
}

func FuzzLoad(f *testing.F) {
	f.Add([]byte(fileMagic))
	f.Add([]byte("{}"))
	m := newTestMap("lb1")
	check(f, m.Set("k", []byte("v")))
	path := filepath.Join(f.TempDir(), "mesh")
	check(f, m.Save(path))
	good, err := os.ReadFile(path)
	check(f, err)
	f.Add(good)
	f.Fuzz(func(t *testing.T, b []byte) {
		decodeFile(b) // nothing may come of it but an error or entries
		// and the same with a checksum that is right
		body := b[:max(0, len(b)-4)]
		sum := checksum(body)
		if _, es, err := decodeFile(append(bytes.Clone(body), byte(sum>>24), byte(sum>>16), byte(sum>>8), byte(sum))); err == nil {
			if _, err := decode(encodeEntries(es)); err != nil {
				t.Error(err)
			}
		}
	})
}
