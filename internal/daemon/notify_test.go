package daemon

import (
	"context"
	"errors"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// manager is a service manager's socket, a file or a name of no file.
func manager(t *testing.T, name string) *net.UnixConn {
	t.Helper()
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: strings.Replace(name, "@", "\x00", 1), Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	t.Setenv(notifyEnv, name)
	return conn
}

// hears wants the next thing that the manager is told; empty: nothing yet.
func hears(t *testing.T, conn *net.UnixConn, want string) {
	t.Helper()
	wait := 10 * time.Second
	if want == "" {
		wait = 50 * time.Millisecond
	}
	conn.SetReadDeadline(time.Now().Add(wait))
	b := make([]byte, 100)
	n, err := conn.Read(b)
	if err != nil && want != "" || string(b[:n]) != want {
		t.Errorf("the manager hears %q, %v; want %q", b[:n], err, want)
	}
}

func TestServiceManagerIsTold(t *testing.T) {
	for _, name := range []string{filepath.Join(t.TempDir(), "notify"), "@anycastle-test-" + filepath.Base(t.TempDir()) + t.Name()} {
		conn := manager(t, name)
		ready := make(chan struct{})
		stop := start(t, Process{Role: "imap", RunDir: t.TempDir(), Ready: ready})
		hears(t, conn, "")
		close(ready)
		hears(t, conn, "READY=1")
		if err := stop(); err != nil {
			t.Error(err)
		}
		hears(t, conn, "STOPPING=1")
	}
}

func TestRoleThatFailsIsNeverReady(t *testing.T) {
	conn := manager(t, filepath.Join(t.TempDir(), "notify"))
	boom := errors.New("boom")
	p := Process{Role: "imap", RunDir: t.TempDir(), Ready: make(chan struct{})}
	stop := start(t, p, func(ctx context.Context) error { <-ctx.Done(); return boom })
	if err := stop(); !errors.Is(err, boom) {
		t.Errorf("it ends with %v", err)
	}
	hears(t, conn, "STOPPING=1")
}

// TestManagerIsGone has nobody at the socket: the role runs all the same.
func TestManagerIsGone(t *testing.T) {
	t.Setenv(notifyEnv, filepath.Join(t.TempDir(), "nobody"))
	stop := start(t, Process{Role: "imap", RunDir: t.TempDir()})
	if err := stop(); err != nil {
		t.Error(err)
	}
}
