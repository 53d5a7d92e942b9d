package runner

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Stop lets the cmd end by itself: the log has no word of a signal, and Start runs it again.
func TestStopAndStart(t *testing.T) {
	l := up(t, Options{Topology: three})
	if err := l.Stop(t.Context(), "b"); err != nil {
		t.Fatal(err)
	}
	if left := processes(t, l, "b"); len(left) != 0 {
		t.Errorf("left after Stop: %v", left)
	}
	if err := l.Stop(t.Context(), "b"); err == nil || !strings.Contains(err.Error(), "does not run") {
		t.Errorf("Stop of what does not run: %v", err)
	}
	if err := l.Start(t.Context(), "b"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "b answers again", func() bool {
		return l.Command(t.Context(), "a", "anycastle", "knock", "192.0.2.1:7").Run() == nil
	})
}

// A blocked port is silent, other ports are not, and both ways of unblocking do.
func TestBlock(t *testing.T) {
	l := up(t, Options{Topology: three})
	knock := func() error { return l.Command(t.Context(), "a", "anycastle", "knock", "192.0.2.1:7").Run() }
	eventually(t, "b answers", func() bool { return knock() == nil })
	for range 2 {
		if err := l.Block("b", 7); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Block("b", 8); err != nil {
		t.Fatal(err)
	}
	if err := knock(); err == nil {
		t.Error("a blocked port answers")
	}
	for range 2 {
		if err := l.Unblock("b", 7); err != nil {
			t.Fatal(err)
		}
	}
	if err := knock(); err != nil {
		t.Errorf("an unblocked port does not answer: %v", err)
	}
}

func TestRoot(t *testing.T) {
	l := up(t, Options{Topology: three})
	root, err := l.Root("b")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(root, "usr/local/bin/anycastle")); err != nil {
		t.Error(err)
	}
}

// A node has socket tables of its own, where the kernel can.
func TestNodeHasSmallTables(t *testing.T) {
	if _, err := os.Stat("/proc/sys/net/ipv4/tcp_child_ehash_entries"); err != nil {
		t.Skip("this kernel shares the tables of all namespaces")
	}
	l := up(t, Options{Topology: three})
	if got := run(t, l, "b", "cat", "/proc/sys/net/ipv4/tcp_ehash_entries"); got != "2048" {
		t.Errorf("TCP table of %s entries, want 2048", got)
	}
	if got, err := os.ReadFile("/proc/sys/net/ipv4/tcp_child_ehash_entries"); err != nil || strings.TrimSpace(string(got)) != "0" {
		t.Errorf("the machine's own setting is %s, %v; want it as it was", got, err)
	}
}
