package main

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"anycastle/internal/mtlstest"
	"anycastle/internal/netnstest"

	"github.com/vishvananda/netlink"
)

// startTime bounds how long a role may take to come up or to give up, on a busy machine.
const startTime = 3 * time.Minute

const startLB = `lb:
  uplinks: [eth1]
  hash_key: "000102030405060708090a0b0c0d0e0f"
  state_dir: DIR/state
  tls: TLS
  farms:
    - name: smtp
      probes: [{type: tcp, port: 25, interval: 1s, timeout: 500ms, fail: 2, pass: 2}]
      reals: [{name: mx1, address: 198.51.100.7}]
  vips:
    - {name: smtp, address: 203.0.113.25, port: 25, farm: smtp}
`

const startReal = `real:
  uplinks: [eth1]
  vips: [203.0.113.25]
  agent: {listen: ":6087", tls: TLS}
`

// nobody runs the rest of a command line as an unprivileged user with all the capabilities that the programs need.
const nobody = "setpriv --reuid=65534 --regid=65534 --clear-groups --inh-caps=-all,+bpf,+net_admin,+perfmon,+net_raw " +
	"--ambient-caps=-all,+bpf,+net_admin,+perfmon,+net_raw"

// bareHost is a host with one uplink, eth1, and no pinned maps of anybody's.
type bareHost struct {
	t    *testing.T
	ns   *netnstest.NS
	dir  string // that anybody may write to
	file string // the node file
}

func newBareHost(t *testing.T, text string) *bareHost {
	t.Helper()
	h := &bareHost{t: t, ns: netnstest.New(t), dir: t.TempDir()}
	far := netnstest.New(t)
	netnstest.Veth(t, h.ns, "eth1", netip.MustParsePrefix("198.51.100.1/24"), far, "eth0", netip.MustParsePrefix("198.51.100.9/24"))
	for dir := h.dir; strings.HasPrefix(dir, filepath.Clean(os.TempDir())+"/"); dir = filepath.Dir(dir) {
		h.do(os.Chmod(dir, 0o777))
	}
	f := mtlstest.NewCA(t).Node(t, "node")
	for _, file := range []string{f.Cert, f.Key, f.CA} { // for a role without root
		h.do(os.Chmod(filepath.Dir(file), 0o755))
		h.do(os.Chmod(file, 0o644))
	}
	text = strings.NewReplacer("TLS", fmt.Sprintf("{cert: %s, key: %s, ca: %s}", f.Cert, f.Key, f.CA), "DIR", h.dir).Replace(text)
	h.file = filepath.Join(h.dir, "node.yml")
	h.do(os.WriteFile(h.file, []byte(text), 0o644))
	return h
}

func (h *bareHost) do(err error) {
	h.t.Helper()
	if err != nil {
		h.t.Fatal(err)
	}
}

// process is a role that runs, in namespaces of its own.
type process struct {
	*exec.Cmd
	stderr lines
	ended  chan error
}

// lines is what a process has said.
type lines struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// start runs `anycastle ROLE` after some shell, in a mount namespace with a bpf file system of its own, or in that of
// another process. wrap goes before the command.
func (h *bareHost) start(role, shell, wrap, runDir string, beside *process) *process {
	h.t.Helper()
	command := fmt.Sprintf("%s anycastle %s -c %s --run-dir %s", wrap, role, h.file, filepath.Join(h.dir, runDir))
	if beside != nil {
		command = fmt.Sprintf("exec nsenter -m -t %d -- %s", beside.Process.Pid, command)
	} else {
		command = "set -e; mount -t bpf bpf /sys/fs/bpf; " + shell + "\nexec " + command
	}
	ctx, cancel := context.WithTimeout(context.Background(), startTime)
	p := &process{Cmd: exec.CommandContext(ctx, "sh", "-c", command), ended: make(chan error, 1)}
	p.Stderr = &p.stderr
	if beside == nil {
		p.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	}
	h.ns.Do(p.Cmd.Start) // it begins in the namespace of the thread that starts it
	go func() {
		p.ended <- p.Wait()
		cancel()
	}()
	h.t.Cleanup(func() {
		cancel()
		if p.ProcessState == nil {
			<-p.ended
		}
	})
	return p
}

// said waits until the process has said something.
func (p *process) said(t *testing.T, what string) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !strings.Contains(p.stderr.String(), what) {
		select {
		case err := <-p.ended:
			t.Fatalf("ended with %v before it said %q: %s", err, what, &p.stderr)
		case <-tick.C:
		}
	}
}

// gaveUp checks that the process has ended with an error of one line, which begins and ends as it must.
func (p *process) gaveUp(t *testing.T, code int, begins, mend string) {
	t.Helper()
	<-p.ended
	var errs []string
	for line := range strings.Lines(p.stderr.String()) {
		if !strings.HasPrefix(line, "time=") || strings.Contains(line, "level=ERROR") {
			errs = append(errs, strings.TrimSpace(line))
		}
	}
	if p.ProcessState.ExitCode() != code || len(errs) != 1 || !strings.Contains(errs[0], begins) || !strings.Contains(errs[0], mend) {
		t.Errorf("exit %d, want %d; said %q, want one line with %q and %q\n%s", p.ProcessState.ExitCode(), code, errs, begins, mend, &p.stderr)
	}
}

// TestRolesThatCannotStart gives each role what it cannot start with. Each ends with one line that says how to mend it.
func TestRolesThatCannotStart(t *testing.T) {
	netnstest.Root(t)
	const privilege = "run as root, or with CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON"
	type failure struct {
		name         string
		role         string // empty: both
		old, new     string // in the node file
		shell        string // before it starts
		wrap         string // before its command line
		code         int
		begins, mend string
	}
	for _, f := range []failure{
		{name: "missing uplink", old: "eth1", new: "eth7", code: 1, begins: "eth7: no such interface here", mend: "`ip link` lists those there are"},
		{name: "loopback uplink", old: "eth1", new: "lo", code: 2, begins: ".uplinks[0]: lo is no uplink", mend: "name the interface"},
		{name: "no CAP_NET_ADMIN", wrap: "setpriv --bounding-set=-net_admin", code: 1,
			begins: "no privilege to load programs into the kernel (CAP_NET_ADMIN missing)", mend: privilege},
		{name: "no CAP_BPF", wrap: "setpriv --bounding-set=-bpf,-sys_admin", code: 1,
			begins: "no privilege to load programs into the kernel (CAP_BPF missing)", mend: privilege},
		{name: "no capability", wrap: "setpriv --reuid=65534 --regid=65534 --clear-groups", code: 1,
			begins: "(CAP_BPF, CAP_NET_ADMIN, CAP_PERFMON missing)", mend: privilege},
		{name: "no bpf file system", shell: "while umount /sys/fs/bpf 2>/dev/null; do :; done", code: 1, // the machine may have one below
			begins: "is not in a bpf file system", mend: "mount one with `mount -t bpf bpf /sys/fs/bpf`"},
		{name: "read-only bpf file system", shell: "mount -o remount,ro /sys/fs/bpf", code: 1,
			begins: "make pin directory: mkdir", mend: "make it writable with `mount -o remount,rw /sys/fs/bpf`"},
		{name: "bpf file system turned read-only", shell: "mkdir -p /sys/fs/bpf/anycastle/lb /sys/fs/bpf/anycastle/real; mount -o remount,ro /sys/fs/bpf", code: 1,
			begins: "make a directory for pinned maps: mkdir", mend: "make it writable with `mount -o remount,rw /sys/fs/bpf`"},
		{name: "somebody else's bpf file system", shell: "chmod 755 /sys/fs/bpf", wrap: nobody, code: 1,
			begins: "make pin directory: mkdir /sys/fs/bpf/anycastle: permission denied", mend: "run as root, or make /sys/fs/bpf/anycastle and give it to the user"},
		{name: "somebody else's pin directory", shell: "mkdir -p -m 700 /sys/fs/bpf/anycastle/lb /sys/fs/bpf/anycastle/real", wrap: nobody, code: 1,
			begins: "open pin directory: open", mend: "run as root, or make /sys/fs/bpf/anycastle and give it to the user"},
		{name: "run directory is a file", shell: "touch DIR/run", code: 1, begins: "make the run directory: mkdir", mend: "give another with --run-dir"},
		{name: "node file of somebody else", shell: "chmod 600 DIR/node.yml", wrap: nobody, code: 2,
			begins: "read config: open", mend: "this needs root: run it again with sudo"},
		{name: "no TLS key", old: "node.key", new: "none.key", code: 2, begins: ".tls.key: open", mend: "make the file or correct its name"},
		{name: "no TLS key in the file", old: "node.key", new: "node.pem", code: 2, begins: ".tls.key: tls:", mend: "give the key that"},
		{name: "unreadable TLS key", shell: "chmod 600 DIR/../*/*.key", wrap: nobody, code: 2, begins: "tls.key: open", mend: "permission denied; let the user that runs this read it"},

		{name: "short hash key", role: "lb", old: "00010203", new: "000102", code: 2, begins: "node.yml:3: lb.hash_key: ", mend: "`openssl rand -hex 16` makes some"},
		{name: "state directory is a file", role: "lb", old: "DIR/state", new: "DIR/node.yml", code: 1,
			begins: "make the directory of orders and states: mkdir", mend: "give another with lb.state_dir"},
		{name: "read-only state directory", role: "lb", shell: "mkdir DIR/state; mount -t tmpfs -o ro none DIR/state", code: 1,
			begins: "write orders and states: ", mend: "give another directory with lb.state_dir"},
		{name: "state of nobody's", role: "lb", shell: "mkdir DIR/state; echo no state >DIR/state/state", code: 1,
			begins: "state is damaged", mend: "put a copy of it back, or remove it"},
	} {
		for _, role := range []string{"lb", "real"} {
			if f.role != "" && f.role != role {
				continue
			}
			t.Run(f.name+"/"+role, func(t *testing.T) {
				t.Parallel()
				text := map[string]string{"lb": startLB, "real": startReal}[role]
				h := newBareHost(t, text)
				if f.old != "" {
					h.edit(f.old, f.new)
				}
				p := h.start(role, strings.ReplaceAll(f.shell, "DIR", h.dir), f.wrap, "run", nil)
				p.gaveUp(t, f.code, f.begins, f.mend)
			})
		}
	}
}

// edit changes the node file.
func (h *bareHost) edit(old, new string) {
	h.t.Helper()
	text, err := os.ReadFile(h.file)
	h.do(err)
	changed := strings.ReplaceAll(string(text), strings.ReplaceAll(old, "DIR", h.dir), strings.ReplaceAll(new, "DIR", h.dir))
	if changed == string(text) {
		h.t.Fatalf("no %q in the node file:\n%s", old, text)
	}
	h.do(os.WriteFile(h.file, []byte(changed), 0o644))
}

// TestAnotherProgramOnTheUplink starts each role where another program has the uplink, with pins of its own.
func TestAnotherProgramOnTheUplink(t *testing.T) {
	netnstest.Root(t)
	for role, text := range map[string]string{"lb": startLB, "real": startReal} {
		t.Run(role, func(t *testing.T) {
			h := newBareHost(t, text)
			ours := h.file
			h.file = filepath.Join(h.dir, "other.yml")
			h.do(os.WriteFile(h.file, []byte("real: {uplinks: [eth1], vips: [203.0.113.26]}\n"), 0o644))
			other := h.start("real", "", "", "other", nil)
			other.said(t, "program attached")
			h.file = ours
			h.start(role, "", "", "run", nil).gaveUp(t, 1, "another program is there", "stop what has put it there")
			h.do(other.Process.Signal(syscall.SIGTERM))
			if err := <-other.ended; err != nil {
				t.Errorf("the other ended with %v: %s", err, &other.stderr)
			}
		})
	}
}

func TestAgentPortInUse(t *testing.T) {
	netnstest.Root(t)
	h := newBareHost(t, startReal)
	var taken net.Listener
	h.ns.Do(func() (err error) {
		taken, err = net.Listen("tcp", ":6087")
		return err
	})
	defer taken.Close()
	p := h.start("real", "", "", "run", nil)
	p.gaveUp(t, 1, "listen for load balancers (real.agent.listen): ", "stop what listens there, or give another address or port")
	if strings.Contains(p.stderr.String(), "attached") || strings.Contains(p.stderr.String(), "vip changed") {
		t.Errorf("it took packets before: %s", &p.stderr)
	}
}

// TestRoleTwice starts a second process with the status socket of the first, one with its state and one with its pinned maps.
func TestRoleTwice(t *testing.T) {
	netnstest.Root(t)
	for role, text := range map[string]string{"lb": startLB, "real": startReal} {
		t.Run(role, func(t *testing.T) {
			h := newBareHost(t, text)
			first := h.start(role, "", "", "run", nil)
			first.said(t, "program attached")
			h.start(role, "", "", "run", first).gaveUp(t, 1, "another "+role+" answers on ", "stop it, or give this one its own --run-dir")
			if role == "lb" {
				h.start(role, "", "", "run2", first).gaveUp(t, 1, "another process has it", "stop that one, or give this one another directory with lb.state_dir")
				h.edit("DIR/state", "DIR/state2")
			}
			h.start(role, "", "", "run2", first).gaveUp(t, 1, "another process has it", "stop that one, or run this one where another bpf file system is mounted")
			h.do(first.Process.Signal(syscall.SIGTERM))
			if err := <-first.ended; err != nil {
				t.Errorf("the first ended with %v: %s", err, &first.stderr)
			}
		})
	}
}

// TestUplinkWithoutNativeXDP starts each role on a bridge, whose driver runs no programs, and asks it.
func TestUplinkWithoutNativeXDP(t *testing.T) {
	netnstest.Root(t)
	const why = "its driver does not take the program: "
	for role, text := range map[string]string{"lb": startLB, "real": startReal} {
		t.Run(role, func(t *testing.T) {
			h := newBareHost(t, strings.Replace(text, "eth1", "br0", 1))
			h.do(h.ns.Link.LinkAdd(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "br0"}}))
			br0, err := h.ns.Link.LinkByName("br0")
			h.do(err)
			a, err := netlink.ParseAddr("198.51.100.33/27")
			h.do(err)
			h.do(h.ns.Link.AddrAdd(br0, a))
			h.do(h.ns.Link.LinkSetUp(br0))
			p := h.start(role, "", "", "run", nil)
			p.said(t, `level=WARN msg="program attached in generic mode, which is slow" role=`+role+` uplink=br0 mode=generic cause="`+why)
			noun := map[string]string{"lb": "uplink", "real": "host"}[role]
			var out string
			for !strings.Contains(out, "generic") { // it is shown a moment later
				var code int
				var errs string
				if code, out, errs = outcome(t, "show", noun, "--run-dir", filepath.Join(h.dir, "run")); code != 0 {
					t.Fatalf("show %s: %s", noun, errs)
				}
			}
			if !strings.Contains(out, "br0") || !strings.Contains(out, why) {
				t.Errorf("show %s:\n%s", noun, out)
			}
			h.do(p.Process.Signal(syscall.SIGTERM))
			if err := <-p.ended; err != nil {
				t.Errorf("ended with %v: %s", err, &p.stderr)
			}
		})
	}
}
