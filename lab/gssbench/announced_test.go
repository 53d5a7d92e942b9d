package gssbench

import (
	"fmt"
	"strings"

	"github.com/vishvananda/netlink"

	"anycastle/internal/netnstest"
)

// announced is an address that the site selectors of all places have, and announce to the router by BGP. East's way is the best,
// so all who ask it ask the one that dies; BFD finds that out.
const announced = "192.0.2.53"

// announce has the site selectors have the address and announce it. It must come before they are started.
func (w *world) announce() {
	w.t.Helper()
	w.announces = true
	var neighbors strings.Builder
	for i, place := range places() {
		host := "gss-" + place
		w.addAddr(w.hosts[host], "lo", announced+"/32")
		fmt.Fprintf(&neighbors, "    - {name: %s, address: %v, asn: %d, passive: true, bfd: {}}\n", host, w.addr[host], 65011+i)
		w.speak(host, w.hosts[host], fmt.Sprintf(`rhi:
  asn: %d
  router_id: %v
  state_dir: %s
  neighbors:
    - {name: router, address: %v, asn: 65001, bfd: {}, prepend: %d}
  announce: [%s/32]
`, 65011+i, w.addr[host], w.folder(host), w.addr[host].Prev(), i, announced))
	}
	w.speak("router", w.router, fmt.Sprintf(`rhi:
  asn: 65001
  router_id: 198.51.100.1
  state_dir: %s
  neighbors:
%s  router: {}
`, w.folder("router"), neighbors.String()))
	east, err := w.router.Link.LinkByName("gss-east")
	check(w.t, err)
	eventually(w.t, "the router has a route to "+announced, func() bool {
		list, err := w.router.Link.RouteList(east, netlink.FAMILY_V4)
		check(w.t, err)
		for _, r := range list {
			if r.Dst != nil && r.Dst.String() == announced+"/32" {
				return true
			}
		}
		return false
	})
}

// speak runs a BGP speaker in a namespace.
func (w *world) speak(name string, ns *netnstest.NS, node string) {
	w.t.Helper()
	w.write(name, "rhi.yml", node)
	dir := w.folder(name)
	start(w.t, ns, name+"'s rhi", dir, binary, "rhi", "--config", "rhi.yml", "--run-dir", dir)
}
