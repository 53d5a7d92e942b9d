package gssbench

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"anycastle/internal/daemon"
	"anycastle/internal/netnstest"
	"anycastle/internal/proctest"
)

// world is the network, and what runs in it.
type world struct {
	t      testing.TB
	router *netnstest.NS
	hosts  map[string]*netnstest.NS
	addr   map[string]netip.Addr        // of each host, IPv4
	dir    string                       // a folder for each host, with its files and sockets
	gss    map[string]*proctest.Process // by place

	probing string // keys of a probe
}

// places have a site selector each; the first two are sites with a VIP.
func places() []string { return []string{"east", "west", "witness"} }

// vip4 and vip6 are the VIP of a site, which is in no network of a host.
func vip4(site string) netip.Addr {
	if site == "east" {
		return netip.MustParseAddr("203.0.113.11")
	}
	return netip.MustParseAddr("203.0.113.21")
}

func vip6(site string) netip.Addr {
	if site == "east" {
		return netip.MustParseAddr("2001:db8:11::25")
	}
	return netip.MustParseAddr("2001:db8:21::25")
}

// newWorld makes the network with a site selector's host in each place, a VIP at each site, a router that takes the routes of
// the former, and more hosts.
func newWorld(t testing.TB, more ...string) *world {
	t.Helper()
	w := &world{
		t: t, router: netnstest.New(t), hosts: map[string]*netnstest.NS{}, addr: map[string]netip.Addr{}, dir: t.TempDir(),
		gss: map[string]*proctest.Process{}, probing: quick,
	}
	sysctl(w.router, map[string]string{"ipv4/ip_forward": "1", "ipv6/conf/all/forwarding": "1", "ipv6/conf/default/accept_dad": "0"})
	for _, place := range places() {
		w.join("gss-" + place)
	}
	for _, site := range places()[:2] {
		w.join("vip-" + site)
		w.serve(site)
	}
	for _, host := range more {
		w.join(host)
	}
	w.startRouter()
	return w
}

// join makes a host with a link to the router: 198.51.100.(4n)/30 and 2001:db8:0:n::/64, the router being the first in them,
// on a port of the host's name.
func (w *world) join(name string) {
	w.t.Helper()
	n := len(w.hosts)
	host := netnstest.New(w.t)
	sysctl(host, map[string]string{"ipv6/conf/default/accept_dad": "0"}) // neighbours are found from the first packet on
	gateway := netip.AddrFrom4([4]byte{198, 51, 100, byte(4*n + 1)})
	w.hosts[name], w.addr[name] = host, gateway.Next()
	netnstest.Veth(w.t, w.router, name, netip.PrefixFrom(gateway, 30), host, "eth1", netip.PrefixFrom(gateway.Next(), 30))
	gateway6 := fmt.Sprintf("2001:db8:0:%x::1", n)
	w.addAddr(w.router, name, gateway6+"/64")
	w.addAddr(host, "eth1", fmt.Sprintf("2001:db8:0:%x::2/64", n))
	for prefix, via := range map[string]string{"0.0.0.0/0": gateway.String(), "::/0": gateway6} {
		proctest.Check(w.t, host.Link.RouteReplace(route(prefix, via)))
	}
}

func sysctl(ns *netnstest.NS, values map[string]string) {
	ns.Do(func() error {
		for file, value := range values {
			if err := os.WriteFile("/proc/sys/net/"+file, []byte(value), 0); err != nil {
				return err
			}
		}
		return nil
	})
}

func (w *world) addAddr(ns *netnstest.NS, link, text string) {
	w.t.Helper()
	l, err := ns.Link.LinkByName(link)
	proctest.Check(w.t, err)
	a, err := netlink.ParseAddr(text)
	proctest.Check(w.t, err)
	if a.IP.To4() == nil {
		a.Flags = unix.IFA_F_NODAD // usable at once; there are no duplicates here
	}
	proctest.Check(w.t, ns.Link.AddrAdd(l, a))
}

func route(prefix, via string) *netlink.Route {
	_, p, err := net.ParseCIDR(prefix)
	if err != nil {
		panic(err)
	}
	return &netlink.Route{Dst: p, Gw: net.ParseIP(via)}
}

// serve answers at a site's VIP: it greets each connection with a byte, the first of the site's name, and closes it.
func (w *world) serve(site string) {
	w.t.Helper()
	name := "vip-" + site
	w.addAddr(w.hosts[name], "lo", vip4(site).String()+"/32")
	w.addAddr(w.hosts[name], "lo", vip6(site).String()+"/128")
	proctest.Check(w.t, w.router.Link.RouteReplace(route(vip4(site).String()+"/32", w.addr[name].String())))
	via6 := fmt.Sprintf("2001:db8:0:%x::2", w.addr[name].As4()[3]/4)
	proctest.Check(w.t, w.router.Link.RouteReplace(route(vip6(site).String()+"/128", via6)))
	var ln net.Listener
	w.hosts[name].Do(func() (err error) {
		ln, err = (&net.ListenConfig{}).Listen(context.Background(), "tcp", ":25")
		return err
	})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			_, _ = c.Write([]byte(site[:1])) // a probe may be gone already
			c.Close()
		}
	})
	w.t.Cleanup(func() { ln.Close(); wg.Wait() })
}

// lose has the router lose packets without a sign, by rules of nftables' chain forward, until heal is called.
func (w *world) lose(rules ...string) (heal func()) {
	w.t.Helper()
	w.nft("add table inet lose; add chain inet lose forward { type filter hook forward priority 0; }; " +
		"add rule inet lose forward " + strings.Join(rules, "; add rule inet lose forward "))
	return func() { w.t.Helper(); w.nft("delete table inet lose") }
}

// loseSite cuts everything of a site off from everything else, the router itself too; within it, it works on.
func (w *world) loseSite(site string) (heal func()) {
	ports := fmt.Sprintf("{ gss-%s, vip-%s }", site, site)
	return w.lose("iifname "+ports+" oifname "+ports+" accept", "iifname "+ports+" drop", "oifname "+ports+" drop; "+
		"add chain inet lose in { type filter hook input priority 0; }; add rule inet lose in iifname "+ports+" drop; "+
		"add chain inet lose out { type filter hook output priority 0; }; add rule inet lose out oifname "+ports+" drop")
}

func (w *world) nft(script string) {
	w.t.Helper()
	cmd := exec.Command("nft", script)
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	w.router.Do(cmd.Run)
	if out.Len() > 0 {
		w.t.Fatalf("nft %q: %s", script, out.String())
	}
}

// folder is that of a host.
func (w *world) folder(host string) string {
	w.t.Helper()
	dir := filepath.Join(w.dir, host)
	proctest.Check(w.t, os.MkdirAll(dir, 0o755))
	return dir
}

// write puts a file into the folder of a host.
func (w *world) write(host, name, text string) string {
	w.t.Helper()
	file := filepath.Join(w.folder(host), name)
	proctest.Check(w.t, os.WriteFile(file, []byte(text), 0o644))
	return file
}

// startGSS starts the site selector of a place by the node file that its folder has.
func (w *world) startGSS(place string) {
	w.t.Helper()
	host := "gss-" + place
	dir := w.folder(host)
	w.gss[place] = proctest.Start(w.t, w.hosts[host], host, dir, binary, "gss", "--config", "node.yml", "--run-dir", dir)
}

// waitGSS waits until site selectors answer.
func (w *world) waitGSS(places ...string) {
	w.t.Helper()
	for _, place := range places {
		proctest.Eventually(w.t, place+" answers", func() bool {
			s := show[struct{ Listen []string }](w, place, "server")
			return len(s) == 1 && len(s[0].Listen) > 0
		})
	}
}

// show gives what `show NOUN` of a site selector has; nothing while it does not answer.
func show[T any](w *world, place, noun string) []T {
	w.t.Helper()
	var list []T
	if daemon.Get(w.t.Context(), w.folder("gss-"+place), "gss", "/v1/"+noun, &list) != nil {
		return nil
	}
	return list
}

// reload has a site selector read its node file again.
func (w *world) reload(place string) error {
	out, err := exec.CommandContext(w.t.Context(), binary, "reload", "gss", "--run-dir", w.folder("gss-"+place)).CombinedOutput()
	if err != nil {
		return fmt.Errorf("reload %s: %w: %s", place, err, out)
	}
	return nil
}
