package pod

import (
	"fmt"
	"net/netip"
	"strings"
)

// monitorNode is the file of a site's monitor.
func (l *lab) monitorNode(h *host) string {
	var b strings.Builder
	b.WriteString(l.hostNet(h, "The monitor of the site: it looks at every VIP, every LUN and every site selector."))
	fmt.Fprintf(&b, "mail:\n%s  monitor:\n    listen: \"%v:9110\" # Prometheus, by mutual TLS\n    targets:\n", tlsKey, h.addr())
	target := func(name string, addr netip.Addr, port int, kind, labels string, probe string) {
		fmt.Fprintf(&b, "      - {name: %s, address: \"%v:%d\", labels: {kind: %s%s}, probe: {%s}}\n", name, addr, port, kind, labels, probe)
	}
	const often = "interval: 1s, timeout: 900ms"
	for pod := 1; pod <= l.Pods; pod++ {
		of := ""
		if l.Pods > 1 {
			of = fmt.Sprintf(", pod: \"%d\"", pod)
		}
		for _, k := range kinds {
			probe := "type: smtp, " + often
			if k.role == imap {
				probe = "type: imap, " + often
			}
			target(l.podName(pod)+k.vip, k.sharedVIP(pod), k.ports[0].number, "vip", of, probe)
			for site, name := range l.Sites {
				target(l.podName(pod)+k.vip+"-"+name, k.ownVIP(pod, site+1), k.ports[0].number, "vip", of+", site: "+name, probe)
			}
		}
		for _, n := range l.luns(pod) {
			target(n.name, n.addr, 2424, "lun", of+", site: "+l.Sites[n.home-1], "type: tcp, "+often)
		}
	}
	for _, g := range l.pick(0, 0, gss) {
		target(g.name, g.addr(), 53, "selector", ", site: "+l.site(g), "type: dns, query: "+l.serviceName(kinds[0], 1)+", "+often)
	}
	return b.String()
}
