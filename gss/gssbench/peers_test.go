package gssbench

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"anycastle/internal/netnstest"

	"github.com/miekg/dns"
	"golang.org/x/sys/unix"
)

const patience = 60 * time.Second

// server is a program that serves the zone.
type server struct {
	t    testing.TB
	name string
	port int
	cmd  *exec.Cmd
	log  bytes.Buffer
}

// kind says how to run one of the servers.
type kind struct {
	name  string
	write func(t testing.TB, dir string, port, names int) []string // its files; gives the command
	env   string                                                   // of the test binary, if it is the server
	signs bool
}

var kinds = []kind{
	{name: ours, env: "fastpath", signs: true},
	{name: "gdnsd", write: writeGdnsd},
	{name: "knot", write: writeKnot, signs: true},
	{name: "nsd", write: writeNSD},
	{name: "miekg-dns", env: "library"},
}

const ours = "anycastle"

func file(t testing.TB, text string, path ...string) {
	t.Helper()
	name := filepath.Join(path...)
	check(t, os.MkdirAll(filepath.Dir(name), 0o755))
	check(t, os.WriteFile(name, []byte(text), 0o644))
}

func writeGdnsd(t testing.TB, dir string, port, names int) []string {
	file(t, fmt.Sprintf(`options => {
  listen => [ 127.0.0.1:%d ]
  udp_threads => 1
  tcp_threads => 1
  run_dir => %q
  state_dir => %q
}
`, port, dir+"/run", dir+"/state"), dir, "etc/config")
	file(t, zoneFile(names), dir, "etc/zones", strings.TrimSuffix(zone, "."))
	check(t, os.MkdirAll(dir+"/run", 0o755))
	check(t, os.MkdirAll(dir+"/state", 0o755))
	return []string{"gdnsd", "-c", dir + "/etc", "start"}
}

func writeKnot(t testing.TB, dir string, port, names int) []string {
	file(t, fmt.Sprintf(`server:
    listen: 127.0.0.1@%d
    rundir: %[2]s
    udp-workers: 1
    tcp-workers: 1
    background-workers: 1
database:
    storage: %[2]s/db
zone:
  - domain: %[3]s
    file: %[2]s/zone
    dnssec-signing: %[4]s
    zonefile-sync: -1
    journal-content: none
`, port, dir, zone, map[bool]string{true: "on", false: "off"}[names <= maxSigned]), dir, "knot.conf")
	file(t, zoneFile(names), dir, "zone")
	check(t, os.MkdirAll(dir+"/db", 0o755))
	return []string{"knotd", "-c", dir + "/knot.conf"}
}

func writeNSD(t testing.TB, dir string, port, names int) []string {
	file(t, fmt.Sprintf(`server:
    server-count: 1
    ip-address: 127.0.0.1@%d
    do-ip6: no
    username: ""
    pidfile: %[2]s/pid
    xfrdfile: %[2]s/xfrd
    zonelistfile: %[2]s/zonelist
    xfrdir: %[2]s
    database: ""
    zonesdir: %[2]s
    minimal-responses: yes
remote-control:
    control-enable: no
zone:
    name: %[3]s
    zonefile: zone
`, port, dir, zone), dir, "nsd.conf")
	file(t, "$ORIGIN "+zone+"\n"+zoneFile(names), dir, "zone")
	return []string{"nsd", "-d", "-c", dir + "/nsd.conf"}
}

// start starts a server on a core of its own and waits until it answers. It is ended with the benchmark.
func (k kind) start(t testing.TB, ns *netnstest.NS, port, names int) *server {
	t.Helper()
	s := &server{t: t, name: k.name, port: port}
	core, _ := cores(t)
	argv := []string{"taskset", "-c", strconv.Itoa(core)}
	if k.write != nil {
		argv = append(argv, k.write(t, t.TempDir(), port, names)...)
	} else {
		self, err := os.Executable()
		check(t, err)
		argv = append(argv, self)
	}
	s.cmd = exec.Command(argv[0], argv[1:]...)
	s.cmd.Env = append(os.Environ(), serveEnv+"="+k.env, fmt.Sprint(portEnv, "=", port), fmt.Sprint(namesEnv, "=", names))
	s.cmd.Stdout, s.cmd.Stderr = &s.log, &s.log
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	ns.Do(s.cmd.Start)
	t.Cleanup(s.stop)
	s.await(ns, names)
	return s
}

// stop ends the server. A second call does nothing.
func (s *server) stop() {
	if s.cmd.ProcessState != nil {
		return
	}
	_ = syscall.Kill(-s.cmd.Process.Pid, syscall.SIGKILL) // with its children
	_ = s.cmd.Wait()                                      // killed, as it should be
	if s.t.Failed() {
		s.t.Logf("%s:\n%s", s.name, s.log.String())
	}
}

// await waits until a server gives the right answer for the last name.
func (s *server) await(ns *netnstest.NS, names int) {
	s.t.Helper()
	q := new(dns.Msg).SetQuestion(hostName(names-1), dns.TypeA)
	want := address(names - 1).String()
	var reply *dns.Msg
	var err error
	for end := time.Now().Add(patience); time.Now().Before(end); {
		ns.Do(func() error {
			c := dns.Client{Timeout: 100 * time.Millisecond}
			reply, _, err = c.Exchange(q, fmt.Sprint(loopback, ":", s.port))
			return nil
		})
		if err == nil && len(reply.Answer) == 1 && reply.Answer[0].String() == want && reply.Authoritative {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	s.t.Fatalf("%s does not answer: %v, %v", s.name, reply, err)
}

// cores gives the core of the servers and that of who asks.
func cores(t testing.TB) (server, client int) {
	t.Helper()
	var set unix.CPUSet
	check(t, unix.SchedGetaffinity(0, &set))
	var list []int
	for cpu := range 1024 {
		if set.IsSet(cpu) {
			list = append(list, cpu)
		}
	}
	if len(list) < 2 {
		t.Fatal("needs a core for the servers and another for who asks")
	}
	return list[0], list[1]
}

// processes gives the folders in /proc of all processes of the server.
func (s *server) processes() (folders []string) {
	s.t.Helper()
	list, err := filepath.Glob("/proc/[0-9]*")
	check(s.t, err)
	for _, folder := range list {
		pid, err := strconv.Atoi(filepath.Base(folder))
		check(s.t, err)
		if group, err := unix.Getpgid(pid); err == nil && group == s.cmd.Process.Pid {
			folders = append(folders, folder)
		}
	}
	if len(folders) == 0 {
		s.t.Fatalf("%s has ended", s.name)
	}
	return folders
}

// used gives the processor time of all threads of the server. The kernel counts it in nanoseconds; in /proc/PID/stat it would
// be in hundredths of a second.
func (s *server) used() (sum time.Duration) {
	s.t.Helper()
	for _, folder := range s.processes() {
		threads, err := filepath.Glob(folder + "/task/*/schedstat")
		check(s.t, err)
		for _, name := range threads {
			text, err := os.ReadFile(name)
			check(s.t, err) // the time of a thread that has ended would be missing
			var ns time.Duration
			_, err = fmt.Sscan(string(text), &ns)
			check(s.t, err)
			sum += ns
		}
	}
	return sum
}

// memory gives what the server holds in memory, in MiB.
func (s *server) memory() (sum float64) {
	s.t.Helper()
	for _, folder := range s.processes() {
		text, err := os.ReadFile(folder + "/statm")
		check(s.t, err)
		var size, resident float64
		_, err = fmt.Sscan(string(text), &size, &resident)
		check(s.t, err)
		sum += resident * float64(os.Getpagesize()) / (1 << 20)
	}
	return sum
}
