package gssbench

import (
	"fmt"
	"strings"

	"github.com/vishvananda/netlink"

	"anycastle/internal/proctest"
)

// announced are addresses that the site selectors of all places have, and announce to the router by BGP. East's way is the best
// to both, so all who ask them ask the one that dies; BFD finds that out.
func announced() []string { return []string{"192.0.2.53", "192.0.2.54"} }

// announcing gives the section of a place's node file that announces them.
func (w *world) announcing(place string) string {
	host, worse := "gss-"+place, 0
	for places()[worse] != place {
		worse++
	}
	return fmt.Sprintf(`rhi:
  asn: %d
  router_id: %v
  state_dir: %s
  neighbors:
    - {name: router, address: %v, asn: 65001, bfd: {}, prepend: %d}
  announce: [%s]
`, 65011+worse, w.addr[host], w.folder(host), w.addr[host].Prev(), worse, strings.Join(announced(), "/32, ")+"/32")
}

// startRouter has the router take the routes that site selectors announce. It must come before they are started.
func (w *world) startRouter() {
	w.t.Helper()
	var neighbors strings.Builder
	for i, place := range places() {
		host := "gss-" + place
		for _, address := range announced() {
			w.addAddr(w.hosts[host], "lo", address+"/32")
		}
		fmt.Fprintf(&neighbors, "    - {name: %s, address: %v, asn: %d, passive: true, bfd: {}}\n", host, w.addr[host], 65011+i)
	}
	dir := w.folder("router")
	w.write("router", "node.yml", fmt.Sprintf(`rhi:
  asn: 65001
  router_id: 198.51.100.1
  state_dir: %s
  neighbors:
%s  router: {}
`, dir, neighbors.String()))
	proctest.Start(w.t, w.router, "router", dir, binary, "rhi", "--config", "node.yml", "--run-dir", dir)
}

// waitRoute waits until the router's way to the addresses is that to a place.
func (w *world) waitRoute(place string) {
	w.t.Helper()
	link, err := w.router.Link.LinkByName("gss-" + place)
	proctest.Check(w.t, err)
	proctest.Eventually(w.t, "the router's way to the site selectors is that to "+place, func() bool {
		list, err := w.router.Link.RouteList(link, netlink.FAMILY_V4)
		proctest.Check(w.t, err)
		found := 0
		for _, r := range list {
			for _, address := range announced() {
				if r.Dst != nil && r.Dst.String() == address+"/32" {
					found++
				}
			}
		}
		return found == len(announced())
	})
}
