package runner

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/nftables"
)

// A machine without power loses its carrier at both ends and says nothing more; with power it is as Up has left it.
func TestPowerOffAndOn(t *testing.T) {
	l := up(t, Options{Topology: three})
	c := dial(t, l, "a", "192.0.2.1:7")
	c.send("before")
	c.expect("before")
	run(t, l, "b", "sh", "-c", "mkdir /sys/fs/bpf/pin && echo kept >/var/lib/anycastle/mail")
	n, err := l.openNetwork("b")
	if err != nil {
		t.Fatal(err)
	}
	defer n.close()
	tables, err := nftables.New(nftables.WithNetNSFd(int(n.ns)))
	if err != nil {
		t.Fatal(err)
	}
	tables.AddTable(&nftables.Table{Name: "own", Family: nftables.TableFamilyIPv4})
	if err := tables.Flush(); err != nil {
		t.Fatal(err)
	}
	if err := l.PowerOn(t.Context(), "b"); err == nil || !strings.Contains(err.Error(), "has power already") {
		t.Errorf("PowerOn of a node that has power: %v", err)
	}
	if _, err := l.Cut(Around("c")); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := l.PowerOff(t.Context(), "b"); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff([]LinkState{LinkDown, LinkDown}, linkStates(t, l)); diff != "" {
		t.Errorf("link states (-want +got):\n%s", diff)
	}
	for _, node := range []string{"a", "c"} { // carrier_down_count: the far end has lost it too
		eventually(t, node+" has no carrier", func() bool { return run(t, l, node, "cat", "/sys/class/net/eth1/carrier") == "0" })
	}
	if diff := cmp.Diff(map[string]NodeState{"a": NodeUp, "b": NodeOff, "c": NodeUp}, nodeStates(t, l)); diff != "" {
		t.Errorf("node states (-want +got):\n%s", diff)
	}
	select {
	case line, open := <-c.heard:
		t.Errorf("the client of a machine without power hears %q (open: %v), want nothing", line, open)
	default:
	}
	if err := l.Start(t.Context(), "b"); err == nil || !strings.Contains(err.Error(), "has no power") {
		t.Errorf("Start without power: %v", err)
	}
	if out := run(t, l, "b", "sh", "-c", "ls /sys/fs/bpf; cat /var/lib/anycastle/mail; ip -br -4 addr show dev eth1 2>/dev/null || true"); strings.Contains(out, "pin") ||
		strings.Contains(out, "192.0.2.1") || !strings.Contains(out, "kept") {
		t.Errorf("a machine without power keeps: %s", out)
	}
	if out := run(t, l, "b", "sh", "-c", "cat /proc/net/tcp /proc/net/tcp6 | grep -v local_address || true"); out != "" {
		t.Errorf("sockets of a machine without power, as the kernel lists them:\n%s", out)
	}
	if left, err := tables.ListTables(); err != nil || len(left) != 1 || left[0].Name != cutTable().Name {
		t.Errorf("tables without power: %v, %v; want that of the cuts alone", left, err)
	}
	if err := l.PowerOn(t.Context(), "b"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "b answers again", func() bool {
		return l.Command(t.Context(), "a", "anycastle", "knock", "192.0.2.1:7").Run() == nil
	})
	if diff := cmp.Diff([]LinkState{LinkUp, LinkCut}, linkStates(t, l)); diff != "" {
		t.Errorf("link states with power (-want +got):\n%s", diff)
	}
}

// The power of several goes and comes at one moment; a name that is wrong is noticed before.
func TestPowerOfSeveral(t *testing.T) {
	l := up(t, Options{Topology: three})
	if err := l.PowerOff(t.Context(), "a", "nobody"); err == nil || !strings.Contains(err.Error(), `no node "nobody"`) {
		t.Errorf("PowerOff of an unknown node: %v", err)
	}
	if err := l.PowerOff(t.Context(), "a", "b"); err != nil {
		t.Fatal(err)
	}
	want := map[string]NodeState{"a": NodeOff, "b": NodeOff, "c": NodeUp}
	if diff := cmp.Diff(want, nodeStates(t, l)); diff != "" {
		t.Errorf("node states (-want +got):\n%s", diff)
	}
	if err := l.PowerOn(t.Context(), "a", "b"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "b answers again", func() bool {
		return l.Command(t.Context(), "a", "anycastle", "knock", "192.0.2.1:7").Run() == nil
	})
}

func nodeStates(t *testing.T, l *Lab) map[string]NodeState {
	t.Helper()
	s, err := l.Status()
	if err != nil {
		t.Fatal(err)
	}
	states := map[string]NodeState{}
	for _, n := range s.Nodes {
		states[n.Name] = n.State
	}
	return states
}

// A machine that hangs: its kernel takes the connection, and nothing is said on it until it goes on.
func TestPauseAndResume(t *testing.T) {
	l := up(t, Options{Topology: three})
	c := dial(t, l, "a", "192.0.2.1:7")
	c.send("before")
	c.expect("before")
	for _, role := range []string{"", "echo"} {
		for range 2 {
			if err := l.Pause(t.Context(), "b", role); err != nil {
				t.Fatal(err)
			}
		}
		if got := nodeStates(t, l)["b"]; got != NodePaused {
			t.Errorf("state of b: %s, want paused", got)
		}
		if out, err := tryRun(t, l, "a", "anycastle", "knock", "192.0.2.1:7"); err == nil || !strings.Contains(out, "timeout") {
			t.Errorf("a machine that hangs: %s, %v; want a timeout of what has connected", out, err)
		}
		c.send("during " + role)
		if err := l.Resume(t.Context(), "b", role); err != nil {
			t.Fatal(err)
		}
		c.expect("during " + role)
	}
	for node, want := range map[string]string{"b": "no process of the role lb runs", "c": "no process of the role lb runs"} {
		if err := l.Pause(t.Context(), node, "lb"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Pause of a role that does not run in %s: %v", node, err)
		}
	}
	if err := l.Pause(t.Context(), "c", ""); err == nil || !strings.Contains(err.Error(), "no process runs") {
		t.Errorf("Pause of a node where nothing runs: %v", err)
	}
	if err := l.Pause(t.Context(), "b", ""); err != nil {
		t.Fatal(err)
	}
	if err := l.Kill(t.Context(), "b"); err != nil { // what is stopped dies too; then Down must not hang either
		t.Fatal(err)
	}
}

func TestRoleOf(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]string{
		"/usr/local/bin/anycastle lb --config x":         "lb",
		"anycastle mail store --config x":                "store",
		"anycastle mail":                                 "mail",
		"anycastle":                                      "",
		"/usr/sbin/bgpd lb":                              "",
		"/usr/local/bin/anycastle node /etc/node.yml lb": "node",
	} {
		if got := roleOf(strings.Fields(line)); got != want {
			t.Errorf("%s plays %q, want %q", line, got, want)
		}
	}
}

func TestStoppedStat(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]bool{
		"1 (sleep) S 0": false, "1 (a) T) T 0": true, "1 (T) R 0": false, "1 (gdb) t 0": true, "": false, "1 (x)": false,
	} {
		if got := stoppedStat(text); got != want {
			t.Errorf("%q is stopped: %v, want %v", text, got, want)
		}
	}
}

func TestMemory(t *testing.T) {
	l := up(t, Options{Topology: three})
	s, err := l.Status()
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := s.MeasureMemory(); err != nil {
			t.Fatal(err)
		}
	}
	var sum int64
	for _, n := range s.Nodes {
		if n.Memory < 100<<10 || n.Memory > 1<<30 {
			t.Errorf("memory of %s: %d bytes", n.Name, n.Memory)
		}
		sum += n.Memory
	}
	if sum != s.Memory {
		t.Errorf("the nodes hold %d bytes, the lab %d", sum, s.Memory)
	}
}

func TestParsePSS(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]int64{
		"5500-5600 ---p 00 00:00 0  [rollup]\nRss: 99 kB\nPss:   1234 kB\nPss_Dirty:  7 kB\n": 1234 << 10,
		"": 0, "Pss: many kB\n": 0,
	} {
		if got := parsePSS(text); got != want {
			t.Errorf("PSS of %q: %d, want %d", text, got, want)
		}
	}
}

func TestDiskOfItsOwn(t *testing.T) {
	l := up(t, Options{Topology: variant(t, "labels: {anycastle-disk: 2M}\n      binds: [\"data:/var/lib/anycastle\"]")})
	write := []string{"sh", "-c", "echo mail >/var/lib/anycastle/new"}
	run(t, l, "b", write...)
	for range 2 {
		if err := l.FillDisk(t.Context(), "b"); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := tryRun(t, l, "b", "sh", "-c", "cat /etc/hostname >/var/lib/anycastle/more"); err == nil || !strings.Contains(out, "No space left") {
		t.Errorf("writing to a full disk: %s, %v", out, err)
	}
	for range 2 {
		if err := l.FreeDisk(t.Context(), "b"); err != nil {
			t.Fatal(err)
		}
	}
	run(t, l, "b", write...)
	if err := l.PowerOff(t.Context(), "b"); err != nil {
		t.Fatal(err)
	}
	if got := run(t, l, "b", "ls", "/var/lib/anycastle"); got != "more\nnew" {
		t.Errorf("on the disk without power: %q", got)
	}
	if err := l.FillDisk(t.Context(), "a"); err == nil || !strings.Contains(err.Error(), "no disk of its own; give it the label `anycastle-disk: 96M`") {
		t.Errorf("FillDisk of a node without a disk: %v", err)
	}
}
