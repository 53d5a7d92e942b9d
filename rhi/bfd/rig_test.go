package bfd

import (
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"anycastle/internal/netnstest"
)

// rig is two namespaces on one link, with the addresses of all ways.
type rig struct {
	t            testing.TB
	ours, theirs *netnstest.NS
}

func newRig(t testing.TB) *rig {
	t.Helper()
	r := &rig{t, netnstest.New(t), netnstest.New(t)}
	netnstest.Veth(t, r.ours, "eth1", netip.MustParsePrefix("192.0.2.1/24"), r.theirs, "eth1", netip.MustParsePrefix("192.0.2.2/24"))
	for _, w := range ways[1:] {
		bits := 64
		if w.multihop {
			bits = w.ours.BitLen()
		}
		for i, ns := range []*netnstest.NS{r.ours, r.theirs} {
			own, far, via := w.ours, w.theirs, ways[0].theirs
			if i == 1 {
				own, far, via = far, own, ways[0].ours
			}
			if own.Is6() {
				via = map[bool]netip.Addr{true: ways[1].theirs, false: ways[1].ours}[i == 0]
			}
			name := map[bool]string{true: "lo", false: "eth1"}[w.multihop]
			addAddress(t, ns, name, netip.PrefixFrom(own, bits))
			if w.multihop {
				addRoute(t, ns, netip.PrefixFrom(far, bits), via)
			}
		}
	}
	return r
}

func addAddress(t testing.TB, ns *netnstest.NS, link string, p netip.Prefix) {
	t.Helper()
	l, err := ns.Link.LinkByName(link)
	if err != nil {
		t.Fatal(err)
	}
	a, err := netlink.ParseAddr(p.String())
	if err != nil {
		t.Fatal(err)
	}
	if p.Addr().Is6() {
		a.Flags = unix.IFA_F_NODAD // usable at once; there are no duplicates here
	}
	if err := ns.Link.AddrAdd(l, a); err != nil {
		t.Fatalf("add %v to %s: %v", p, link, err)
	}
}

func addRoute(t testing.TB, ns *netnstest.NS, to netip.Prefix, via netip.Addr) {
	t.Helper()
	dst, err := netlink.ParseIPNet(to.String())
	if err != nil {
		t.Fatal(err)
	}
	if err := ns.Link.RouteAdd(&netlink.Route{Dst: dst, Gw: via.AsSlice()}); err != nil {
		t.Fatalf("add route to %v via %v: %v", to, via, err)
	}
}

// run runs a command in a namespace and gives what it says.
func run(t testing.TB, ns *netnstest.NS, name string, args ...string) (string, error) {
	t.Helper()
	var out []byte
	var err error
	ns.Do(func() error {
		out, err = exec.Command(name, args...).CombinedOutput()
		return nil
	})
	return string(out), err
}

func mustRun(t testing.TB, ns *netnstest.NS, name string, args ...string) string {
	t.Helper()
	out, err := run(t, ns, name, args...)
	if err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
	return out
}

// deafen has a namespace lose every BFD packet that is sent to it, and gives the way back.
func deafen(t testing.TB, ns *netnstest.NS) (hear func()) {
	t.Helper()
	mustRun(t, ns, "nft", "add table inet deaf; add chain inet deaf in { type filter hook input priority 0; }; add rule inet deaf in udp dport { 3784, 4784 } drop")
	return func() { mustRun(t, ns, "nft", "delete table inet deaf") }
}

// daemon starts a foreign daemon in a namespace, until the test ends.
func daemon(t testing.TB, ns *netnstest.NS, path string, args ...string) {
	t.Helper()
	cmd := exec.Command(path, args...)
	cmd.Stdout, cmd.Stderr = &logWriter{t, filepath.Base(path)}, &logWriter{t, filepath.Base(path)}
	ns.Do(cmd.Start)
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
}

// sockets gives a directory whose name is short enough for the path of a Unix socket.
func sockets(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "bfd")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func write(t testing.TB, file, text string) string {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return file
}

// frr is FRR's bfdd, with the zebra that tells it of links.
type frr struct {
	t   testing.TB
	ns  *netnstest.NS
	dir string
}

func startFRR(t testing.TB, ns *netnstest.NS) *frr {
	t.Helper()
	f := &frr{t, ns, sockets(t)}
	if err := os.Chmod(f.dir, 0o777); err != nil { // they run as a user of their own, which nothing here needs to know
		t.Fatal(err)
	}
	for _, d := range []string{"zebra", "bfdd"} {
		args := []string{
			"-f", write(t, filepath.Join(f.dir, d+".conf"), "\n"), "-i", filepath.Join(f.dir, d+".pid"), "-z", filepath.Join(f.dir, "zserv"),
			"--vty_socket", f.dir, "-P", "0",
		}
		if d == "bfdd" {
			args = append(args, "--bfdctl", filepath.Join(f.dir, "bfdctl"))
		}
		daemon(t, ns, "/usr/lib/frr/"+d, args...)
		eventually(t, d+" answers", func() bool {
			_, err := run(t, ns, "vtysh", "--vty_socket", f.dir, "-d", d, "-c", "show version")
			return err == nil
		}, func() string { return "" })
	}
	return f
}

// vtysh gives lines to bfdd.
func (f *frr) vtysh(lines ...string) string {
	f.t.Helper()
	args := []string{"--vty_socket", f.dir, "-d", "bfdd"}
	for _, l := range lines {
		args = append(args, "-c", l)
	}
	return mustRun(f.t, f.ns, "vtysh", args...)
}

// peer changes the session of a way.
func (f *frr) peer(w way, lines ...string) {
	f.t.Helper()
	name := "peer " + w.ours.String()
	if w.multihop {
		name += " multihop local-address " + w.theirs.String()
	} else {
		name += " local-address " + w.theirs.String() + " interface " + w.link
	}
	f.vtysh(append([]string{"configure terminal", "bfd", name}, lines...)...)
}

// bird is BIRD, all of whose BFD sessions are in one protocol.
type bird struct {
	t    testing.TB
	ns   *netnstest.NS
	conf string
	ctl  string
}

// birdConfig has the sessions of all ways, with lines for each.
func birdConfig(lines string) string {
	var b strings.Builder
	b.WriteString("router id 192.0.2.2;\nprotocol device {}\nprotocol bfd peers {\n")
	b.WriteString("interface \"eth1\" { " + lines + " };\nmultihop { " + lines + " };\n")
	for _, w := range ways {
		b.WriteString("neighbor " + w.ours.String())
		if w.multihop {
			b.WriteString(" local " + w.theirs.String() + " multihop yes;\n")
		} else {
			b.WriteString(" dev \"" + w.link + "\";\n")
		}
	}
	return b.String() + "}\n"
}

func startBIRD(t testing.TB, ns *netnstest.NS, text string) *bird {
	t.Helper()
	dir := sockets(t)
	b := &bird{t, ns, write(t, filepath.Join(dir, "bird.conf"), text), filepath.Join(dir, "ctl")}
	daemon(t, ns, "/usr/sbin/bird", "-f", "-c", b.conf, "-s", b.ctl, "-P", filepath.Join(dir, "pid"))
	eventually(t, "bird answers", func() bool {
		_, err := run(t, ns, "/usr/sbin/birdc", "-s", b.ctl, "show", "status")
		return err == nil
	}, func() string { return "" })
	return b
}

func (b *bird) birdc(words ...string) string {
	b.t.Helper()
	return mustRun(b.t, b.ns, "/usr/sbin/birdc", append([]string{"-s", b.ctl}, words...)...)
}

// configure changes the config of a BIRD that runs.
func (b *bird) configure(text string) {
	b.t.Helper()
	write(b.t, b.conf, text)
	b.birdc("configure")
}
