package rhi

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"anycastle/internal/netnstest"
)

// FRR and BIRD are the routers of others that the speaker must get on with. They run in namespaces of the test, from
// Debian's packages frr and bird2, and touch nothing of an FRR or BIRD that the machine runs.

// foreign is another router: FRR or BIRD.
type foreign struct {
	t    testing.TB
	ns   *netnstest.NS
	name string
	dir  string // its config, its sockets
	// learned asks the router for its best path to a prefix.
	learned func(p netip.Prefix) (seen, bool)
}

// seen is a path as another router saw it.
type seen struct {
	NextHop     string // one of them, if there are several
	ASPath      string // "65011 65011"
	MED         string // "" when there is none, which FRR shows as 0
	Communities string // "65000:1 65535:0", sorted
	Large       string
}

// needPrograms fails a test with the mend, as CI has them.
func needPrograms(t testing.TB, programs ...string) {
	t.Helper()
	for _, p := range programs {
		if _, err := os.Stat(p); err != nil {
			t.Fatalf("%v; install what .ci/packages lists (frr, bird2)", err)
		}
	}
}

// run starts a daemon in the router's namespace and stops it with the test.
func (f *foreign) run(program string, args ...string) {
	f.t.Helper()
	cmd := exec.Command(program, args...)
	cmd.Dir = f.dir
	cmd.Stderr, cmd.Stdout = &logWriter{f.t, f.name}, &logWriter{f.t, f.name}
	f.ns.Do(cmd.Start)
	f.t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
}

// command runs a program that asks a daemon.
func (f *foreign) command(program string, args ...string) (string, error) {
	var out bytes.Buffer
	cmd := exec.Command(program, args...)
	cmd.Stdout = &out
	err := cmd.Run()
	return out.String(), err
}

// newFRR starts zebra, bgpd and further daemons (bfdd, ospfd) of FRR with a config, in the namespace of its links.
func newFRR(t testing.TB, ns *netnstest.NS, name, config string, more ...string) *foreign {
	t.Helper()
	return startFRR(t, ns, name, config, append(more, "bgpd")...) // it asks the others for what it needs
}

// apart runs a daemon that has a directory of its own, $0, where FRR's keep what outlives them, wherever their sockets are.
const apart = `mkdir -p /var/run/frr && mount --bind "$0" /var/run/frr && exec "$@"`

// startFRR starts zebra, and then the given daemons and no other.
func startFRR(t testing.TB, ns *netnstest.NS, name, config string, more ...string) *foreign {
	t.Helper()
	daemons := slices.Concat([]string{"zebra"}, more)
	for _, d := range daemons {
		needPrograms(t, "/usr/lib/frr/"+d)
	}
	f := &foreign{t: t, ns: ns, name: name}
	f.learned = f.frrPath
	var err error
	if f.dir, err = os.MkdirTemp("", "frr"); err != nil { // short: a socket's path has room for 107 characters
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(f.dir) })
	if err := os.WriteFile(filepath.Join(f.dir, "frr.conf"), []byte(config), 0o644); err != nil {
		t.Fatal(err)
	}
	frr, err := user.Lookup("frr")
	if err != nil {
		t.Fatal(err)
	}
	uid, _ := strconv.Atoi(frr.Uid)
	if err := os.Chown(f.dir, uid, -1); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(f.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, d := range daemons {
		args := []string{"-m", "sh", "-c", apart, f.dir, "/usr/lib/frr/" + d,
			"-f", filepath.Join(f.dir, "frr.conf"), "-i", filepath.Join(f.dir, d+".pid"), "-z", filepath.Join(f.dir, "zserv.api"),
			"--vty_socket", f.dir, "-P", "0", "--log", "stdout", "--log-level", "warnings"}
		if d == "bfdd" {
			args = append(args, "--bfdctl", filepath.Join(f.dir, "bfdctl"))
		}
		f.run("unshare", args...)
		eventually(t, name+": "+d+" answers", soon, func() bool {
			_, err := os.Stat(filepath.Join(f.dir, d+".vty"))
			return err == nil
		})
	}
	return f
}

// vtysh gives the answer of one of FRR's daemons to a command.
func (f *foreign) vtysh(command string) string {
	out, err := f.command("/usr/bin/vtysh", "--vty_socket", f.dir, "-c", command)
	if err != nil {
		f.t.Logf("%s: vtysh -c %q: %v", f.name, command, err)
	}
	return out
}

func (f *foreign) frrPath(p netip.Prefix) (seen, bool) {
	var answer struct {
		Paths []struct {
			ASPath    struct{ String string }
			Metric    uint32 // of FRR 8
			Med       uint32
			Community struct{ List []string }
			Large     struct{ List []string } `json:"largeCommunity"`
			NextHops  []struct {
				IP   string
				Used bool
			}
			BestPath struct{ Overall bool }
		}
	}
	family := "ipv4"
	if p.Addr().Is6() {
		family = "ipv6"
	}
	if err := json.Unmarshal([]byte(f.vtysh(fmt.Sprintf("show bgp %s unicast %v json", family, p))), &answer); err != nil {
		return seen{}, false
	}
	for _, path := range answer.Paths {
		if !path.BestPath.Overall {
			continue
		}
		s := seen{ASPath: path.ASPath.String, Communities: strings.Join(path.Community.List, " "), Large: strings.Join(path.Large.List, " ")}
		if med := max(path.Metric, path.Med); med > 0 {
			s.MED = fmt.Sprint(med)
		}
		s.Communities = strings.ReplaceAll(s.Communities, "gracefulShutdown", "65535:0")
		for _, h := range path.NextHops {
			if h.Used || s.NextHop == "" {
				s.NextHop = h.IP
			}
		}
		return s, true
	}
	return seen{}, false
}

// newBIRD starts BIRD with a config in the namespace of its links.
func newBIRD(t testing.TB, ns *netnstest.NS, name, config string) *foreign {
	t.Helper()
	needPrograms(t, "/usr/sbin/bird", "/usr/sbin/birdc")
	f := &foreign{t: t, ns: ns, name: name}
	f.learned = f.birdPath
	var err error
	if f.dir, err = os.MkdirTemp("", "bird"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(f.dir) })
	file := filepath.Join(f.dir, "bird.conf")
	if err := os.WriteFile(file, fmt.Appendf(nil, "log stderr all;\nlog %q all;\n%s", f.log(), config), 0o644); err != nil {
		t.Fatal(err)
	}
	f.run("/usr/sbin/bird", "-f", "-c", file, "-s", filepath.Join(f.dir, "bird.ctl"), "-P", filepath.Join(f.dir, "bird.pid"))
	eventually(t, name+" answers", soon, func() bool { return strings.Contains(f.birdc("show status"), "Daemon is up") })
	return f
}

// log is the file where BIRD writes what it tells the test as well.
func (f *foreign) log() string { return filepath.Join(f.dir, "log") }

// birdc gives BIRD's answer to a command.
func (f *foreign) birdc(command ...string) string {
	out, _ := f.command("/usr/sbin/birdc", append([]string{"-s", filepath.Join(f.dir, "bird.ctl")}, strings.Fields(strings.Join(command, " "))...)...)
	return out
}

var birdAttribute = regexp.MustCompile(`(?m)^\s+BGP\.(as_path|next_hop|med|community|large_community): (.*)$`)

func (f *foreign) birdPath(p netip.Prefix) (seen, bool) {
	answer := f.birdc("show route for", p.String(), "primary all")
	if !strings.Contains(answer, p.String()) {
		return seen{}, false
	}
	var s seen
	plain := strings.NewReplacer(", ", ":", ",", ":", "(", "", ")", "")
	for _, m := range birdAttribute.FindAllStringSubmatch(answer, -1) {
		switch value := strings.TrimSpace(m[2]); m[1] {
		case "as_path":
			s.ASPath = value
		case "next_hop":
			s.NextHop, _, _ = strings.Cut(strings.TrimPrefix(value, ":: "), " ") // no global one before the link-local one
		case "med":
			s.MED = value
		case "community":
			s.Communities = plain.Replace(value)
		case "large_community":
			s.Large = plain.Replace(value)
		}
	}
	return s, true
}

// has waits until the router sees a prefix with the given attributes. An empty next hop stands for any.
func (f *foreign) has(prefix string, want seen) {
	f.t.Helper()
	var got seen
	eventually(f.t, fmt.Sprintf("%s: %s with %+v", f.name, prefix, want), soon, func() bool {
		s, ok := f.learned(netip.MustParsePrefix(prefix))
		if want.NextHop == "" {
			s.NextHop = ""
		}
		if ok && s != got {
			f.t.Logf("%s: %s has %+v", f.name, prefix, s)
			got = s
		}
		time.Sleep(20 * time.Millisecond) // a process is started for each look
		return ok && s == want
	})
}

// hasNot waits until the router has no path to a prefix.
func (f *foreign) hasNot(prefix string) {
	f.t.Helper()
	eventually(f.t, f.name+": no "+prefix, soon, func() bool {
		_, ok := f.learned(netip.MustParsePrefix(prefix))
		time.Sleep(20 * time.Millisecond)
		return !ok
	})
}

// kernelHop gives the gateway of the namespace's kernel route to a prefix, whoever set it, "" when there is none.
func (f *foreign) kernelHop(prefix string) string {
	f.t.Helper()
	p := netip.MustParsePrefix(prefix)
	family := netlink.FAMILY_V4
	if p.Addr().Is6() {
		family = netlink.FAMILY_V6
	}
	dst, err := netlink.ParseIPNet(prefix)
	if err != nil {
		f.t.Fatal(err)
	}
	routes, err := f.ns.Link.RouteListFiltered(family, &netlink.Route{Dst: dst, Table: unix.RT_TABLE_MAIN}, netlink.RT_FILTER_DST|netlink.RT_FILTER_TABLE)
	if err != nil {
		f.t.Fatal(err)
	}
	for _, r := range routes {
		switch {
		case r.Gw != nil:
			return r.Gw.String()
		case r.Via != nil:
			return r.Via.(*netlink.Via).Addr.String()
		}
	}
	return ""
}

// removals counts how often the kernel loses the route to a prefix from now on.
func (f *foreign) removals(prefix string) (count func() int) {
	f.t.Helper()
	news, done := make(chan netlink.RouteUpdate, 64), make(chan struct{})
	f.ns.Do(func() error { return netlink.RouteSubscribe(news, done) })
	counted, number := make(chan struct{}), 0
	go func() { // ends when the subscription does
		defer close(counted)
		for n := range news {
			if n.Type == unix.RTM_DELROUTE && n.Dst != nil && n.Dst.String() == prefix {
				number++
			}
		}
	}()
	stop := func() int {
		if done != nil {
			close(done)
			done = nil
		}
		<-counted
		return number
	}
	f.t.Cleanup(func() { stop() })
	return stop
}
