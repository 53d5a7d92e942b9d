package runner

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"anycastle/internal/netnstest"
)

func TestNodeSeesItsOwnMachine(t *testing.T) {
	l := up(t, Options{Topology: three})
	tests := []struct {
		name string
		node string
		argv []string
		want string
	}{
		{"host name", "a", []string{"cat", "/proc/sys/kernel/hostname", "/etc/hostname"}, "a\na"},
		{"bind", "a", []string{"cat", "/etc/anycastle/node.yml"}, "role: none"},
		{"bind through a link of the host", "a", []string{"cat", "/run/through/a/link/file"}, "seen"},
		{"no bind in another node", "b", []string{"ls", "-A", "/etc/anycastle"}, ""},
		{"environment", "a", []string{"sh", "-c", "echo $GREETING $HOME"}, "hello /"},
		{"interfaces", "b", []string{"ls", "/sys/class/net"}, "eth1\neth2\nlo"},
		{"default MTU", "b", []string{"cat", "/sys/class/net/eth1/mtu"}, "9500"},
		{"given MTU", "c", []string{"cat", "/sys/class/net/eth1/mtu"}, "1500"},
		{"MTU at the first end", "b", []string{"cat", "/sys/class/net/eth2/mtu"}, "1500"},
		{"pins", "a", []string{"sh", "-c", "mkdir /sys/fs/bpf/pin && ls -d /sys/fs/bpf/p[!r]*"}, "/sys/fs/bpf/pin"},
		{"pins of another node", "c", []string{"find", "/sys/fs/bpf", "-name", "pin"}, ""},
		{"own temporary files", "a", []string{"ls", "-A", "/tmp", "/var/tmp", "/run"}, "/run:\nthrough\n\n/tmp:\n\n/var/tmp:"},
		{"new files", "a", []string{"sh", "-c", "echo x >/etc/new && echo y >/var/lib/new && cat /etc/new /var/lib/new"}, "x\ny"},
		{"processes", "c", []string{"sh", "-c", "set -- /proc/[0-9]*; echo $#"}, "2"}, // init and sh
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := run(t, l, tt.node, tt.argv...); got != tt.want {
				t.Errorf("%v says %q, want %q", tt.argv, got, tt.want)
			}
		})
	}
	for _, path := range []string{"/etc/anycastle/node.yml", "/usr/bin/new", "/.host/etc/new"} {
		out, err := tryRun(t, l, "a", "sh", "-c", "echo x >"+path)
		if err == nil || !strings.Contains(out, "Read-only file system") {
			t.Errorf("a node writes %s: %s, %v", path, out, err)
		}
	}
	if _, err := os.Stat("/sys/fs/bpf/pin"); err == nil {
		t.Error("a node's pin has appeared in the host")
	}
	if _, err := os.Stat("/etc/new"); err == nil {
		t.Error("a node's file has appeared in the host")
	}
}

func TestCmdInheritsNothingFromInit(t *testing.T) {
	l := up(t, Options{Topology: three})
	s, err := l.Status()
	if err != nil || len(s.Nodes[1].Processes) != 1 {
		t.Fatalf("processes of b: %+v, %v", s, err)
	}
	pid := strconv.Itoa(s.Nodes[1].Processes[0].Pid)
	// what this test itself was told to ignore, by nohup or a shell in the background, is no doing of init
	if own, got := ignored(t, "self"), ignored(t, pid); got&^own != 0 {
		t.Errorf("the cmd ignores signals %#x, this test %#x; init must hand on none of its own", got, own)
	}
	environ, err := os.ReadFile(filepath.Join("/proc", pid, "environ"))
	want := "GORACE=atexit_sleep_ms=0\x00GREETING=hello\x00HOME=/\x00HOSTNAME=b\x00PATH=" + nodePath + "\x00"
	if err != nil || string(environ) != want {
		t.Errorf("environment of the cmd: %q, %v; want %q", environ, err, want)
	}
}

func TestNodesTalkOverTheirLinks(t *testing.T) {
	l := up(t, Options{Topology: three})
	for node, addr := range map[string]string{"a": "192.0.2.1:7", "c": "198.51.100.0:7"} {
		c := dial(t, l, node, addr)
		c.send("hello")
		c.expect("hello")
	}
}

func TestDownLeavesNothing(t *testing.T) {
	netnstest.Root(t)
	before, err := net.Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	l := up(t, Options{Topology: three})
	during, err := net.Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	spaces := namespaces(t, l)
	if len(users(t, spaces)) == 0 {
		t.Fatal("nobody is in the lab's namespaces, so this test cannot see anybody leave")
	}
	dial(t, l, "a", "192.0.2.1:7") // runs on while the lab is taken down
	for range 2 {
		if err := l.Down(t.Context(), false); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "the last thread has left the lab's namespaces", func() bool { return len(users(t, spaces)) == 0 })
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(mounts), l.StateDir) {
		t.Errorf("mounts are left in the host:\n%s", mounts)
	}
	if _, err := os.Stat(l.StateDir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the state folder is left: %v", err)
	}
	if diff := cmp.Diff(linkNames(before), linkNames(during)); diff != "" {
		t.Errorf("the lab shows in the host's links (-before +during):\n%s", diff)
	}
	if _, err := Open(l.Name, filepath.Dir(l.StateDir)); !errors.Is(err, ErrNoLab) {
		t.Errorf("Open after Down: %v, want ErrNoLab", err)
	}
}

func linkNames(links []net.Interface) []string {
	var names []string
	for _, l := range links {
		names = append(names, l.Name)
	}
	slices.Sort(names)
	return names
}

func TestDownKeepsLogs(t *testing.T) {
	l := up(t, Options{Topology: three})
	if err := l.Down(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(l.LogPath("b"))
	if err != nil || !strings.HasPrefix(string(text), "listening\n") {
		t.Errorf("log of b after Down: %q, %v", text, err)
	}
	names, err := List(filepath.Dir(l.StateDir))
	if err != nil || len(names) != 0 {
		t.Errorf("List finds %v, %v", names, err)
	}
}

func TestAnotherProcessFindsTheLab(t *testing.T) {
	l := up(t, Options{Topology: three, Name: "other"})
	root := filepath.Dir(l.StateDir)
	names, err := List(root)
	if diff := cmp.Diff([]string{"other"}, names); err != nil || diff != "" {
		t.Fatalf("List: %v (-want +got):\n%s", err, diff)
	}
	found, err := Open("other", root)
	if err != nil {
		t.Fatal(err)
	}
	if got := run(t, found, "a", "cat", "/etc/hostname"); got != "a" {
		t.Errorf("a is called %q", got)
	}
	_, err = Up(t.Context(), Options{Topology: three, Name: "other", Root: root})
	if !errors.Is(err, ErrUp) {
		t.Errorf("a second Up: %v, want ErrUp", err)
	}
	if err := found.Down(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	if s, err := l.Status(); err != nil || s.Nodes[0].Alive {
		t.Errorf("after another's Down the nodes live on: %+v, %v", s, err)
	}
}

func TestDeadInit(t *testing.T) {
	l := up(t, Options{Topology: three})
	if err := unix.Kill(l.inits["b"].Pid, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the init of b is dead", func() bool { return !l.inits["b"].alive() })
	if err := l.Command(t.Context(), "b", "true").Run(); !errors.Is(err, ErrNodeGone) {
		t.Errorf("a command in a dead node: %v, want ErrNodeGone", err)
	}
	s, err := l.Status()
	if err != nil {
		t.Fatal(err)
	}
	if s.Nodes[1].Alive || !s.Nodes[0].Alive || s.Links[0].State != LinkGone {
		t.Errorf("status with b dead: %+v", s)
	}
	if err := l.Down(t.Context(), false); err != nil {
		t.Fatal(err)
	}
}

func TestTwoLabsAtOnce(t *testing.T) {
	root := t.TempDir()
	first := up(t, Options{Topology: three, Root: root})
	second := up(t, Options{Topology: three, Root: root, Name: "second"})
	for _, l := range []*Lab{first, second} {
		c := dial(t, l, "a", "192.0.2.1:7")
		c.send(l.Name)
		c.expect(l.Name)
	}
	if err := first.Down(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	c := dial(t, second, "c", "198.51.100.0:7")
	c.send("still here")
	c.expect("still here")
}

func TestUpThatFailsLeavesNothing(t *testing.T) {
	netnstest.Root(t)
	errKeys := errors.New("no keys")
	tests := []struct {
		name string
		text string // put in the place of b's cmd line
		o    Options
		step string // ctx ends when this step begins
		want string
	}{
		{name: "cancelled at the links", step: "joining them by 2 links", want: "context canceled"},
		{name: "cancelled at the commands", step: "starting their commands", want: "context canceled"},
		{name: "prepare", o: Options{Prepare: func(string) error { return errKeys }}, want: "prepare topology: no keys"},
		{name: "binary", o: Options{Binary: "/no/such"}, want: "start init of a"},
		{name: "cmd not there", text: "cmd: nonesuch", want: "start b: no command nonesuch in the node"},
		{name: "exec fails", text: "exec: [\"sh -c 'echo on fire; exit 3'\"]", want: "exit status 3; its log ends: on fire"},
		{name: "bind not there", text: "binds: [\"nokey:/etc/key\"]", want: "set up b: bind nokey:/etc/key: no such file"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			tt.o.Topology, tt.o.Root = three, t.TempDir()
			if tt.text != "" {
				tt.o.Topology = variant(t, tt.text)
			}
			tt.o.Progress = func(line string) {
				if line == tt.step {
					cancel()
				}
			}
			before := inits(t)
			_, err := Up(ctx, tt.o)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("Up: %v, want %q", err, tt.want)
			}
			if diff := cmp.Diff(before, inits(t)); diff != "" {
				t.Errorf("inits are left (-before +after):\n%s", diff)
			}
			if left, err := os.ReadDir(tt.o.Root); err != nil || len(left) > 0 {
				t.Errorf("state is left: %v, %v", left, err)
			}
		})
	}
}

// variant copies the three-node topology with b's cmd replaced.
func variant(t *testing.T, line string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "three")
	if err := copyFolder(dir, filepath.Dir(three)); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "three.clab.yml")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	begin, rest, ok := strings.Cut(string(text), "cmd: anycastle echo :7\n      exec:\n")
	_, end, ok2 := strings.Cut(rest, "    c:\n")
	if !ok || !ok2 {
		t.Fatal("the topology has no node b as this test knows it")
	}
	if err := os.WriteFile(path, []byte(begin+line+"\n    c:\n"+end), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// inits lists this process's children by their pids, ended or not.
func inits(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob("/proc/self/task/*/children")
	if err != nil || len(files) == 0 {
		t.Fatalf("list children: %v, %d files", err, len(files))
	}
	var pids []string
	for _, f := range files {
		text, _ := os.ReadFile(f) // a thread may have ended
		pids = append(pids, strings.Fields(string(text))...)
	}
	return pids
}

func TestLabDiesWithItsParent(t *testing.T) {
	netnstest.Root(t)
	root := t.TempDir()
	parent := exec.Command(os.Args[0], "up", three, root)
	parent.Stderr = os.Stderr
	out, err := parent.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	line := make([]byte, 2)
	if _, err := out.Read(line); err != nil {
		t.Fatal(err)
	}
	l, err := Open("three", root)
	if err != nil {
		t.Fatal(err)
	}
	spaces := namespaces(t, l)
	parent.Process.Kill()
	parent.Wait()
	eventually(t, "the lab has died with its parent", func() bool { return len(users(t, spaces)) == 0 })
	up(t, Options{Topology: three, Root: root}) // clears what is left on disk
}

func TestKilledRunnerIsFoundAgain(t *testing.T) {
	netnstest.Root(t)
	root := t.TempDir()
	parent := exec.Command(os.Args[0], "die", three, root)
	if out, err := parent.CombinedOutput(); !strings.Contains(fmt.Sprint(err), "killed") {
		t.Fatalf("the runner ends with %v: %s", err, out)
	}
	l, err := Open("three", root)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Down(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(root); err != nil || len(left) > 0 {
		t.Errorf("state is left: %v, %v", left, err)
	}
}

func TestHalfRemovedLabIsFoundAgain(t *testing.T) {
	l := up(t, Options{Topology: three})
	if err := os.RemoveAll(filepath.Join(l.StateDir, topoDir)); err != nil {
		t.Fatal(err)
	}
	found, err := Open(l.Name, filepath.Dir(l.StateDir))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(l.Topology, found.Topology); diff != "" {
		t.Errorf("topology found again (-before +after):\n%s", diff)
	}
	if err := found.Down(t.Context(), false); err != nil {
		t.Fatal(err)
	}
}

func TestStateOfOthersIsRefused(t *testing.T) {
	netnstest.Root(t)
	root := t.TempDir()
	if err := os.Chmod(root, 0o777); err != nil {
		t.Fatal(err)
	}
	if _, err := Up(t.Context(), Options{Topology: three, Root: root, DieWithParent: true}); err == nil || !strings.Contains(err.Error(), "others can write there") {
		t.Errorf("Up below a folder of everybody's: %v", err)
	}
	if err := os.Chmod(root, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(root, 65534, 0); err != nil {
		t.Fatal(err)
	}
	if _, err := Open("three", root); err == nil || errors.Is(err, ErrNoLab) {
		t.Errorf("Open below another user's folder: %v", err)
	}
}
