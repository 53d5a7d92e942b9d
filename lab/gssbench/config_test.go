package gssbench

import (
	"fmt"
	"net/netip"
	"strings"

	"anycastle/internal/proctest"
)

const meshKey = "c3a1f5d2784e6b90ab17de5f34c2089d"

// steered is the name that the clients of a failover ask for: east while that works. Below it is a wildcard, so that every
// question for another name there comes past the resolver's cache.
const steered = "smtp.example.org."

// How answers are probed: as README does, and so that none is out only because the machine is busy.
const (
	quick   = "interval: 500ms, timeout: 400ms, fail: 2"
	patient = "interval: 1s, timeout: 1s, fail: 10"
)

// node gives the node file of a place's site selector. Probes and TTL are those of README, but for fail_back: an answer comes
// back sooner than by default, for more rounds.
func (w *world) node(place string) string {
	var join []string
	for _, p := range places() {
		join = append(join, fmt.Sprintf(`"%v:7946"`, w.addr["gss-"+p]))
	}
	listen := fmt.Sprintf(`"%v:53", "%s:53"`, w.addr["gss-"+place], strings.Join(announced(), `:53", "`))
	var b strings.Builder
	b.WriteString(w.announcing(place))
	fmt.Fprintf(&b, `gss:
  name: %[1]s
  listen: [%[6]s]
  state_dir: %[3]s
  mesh: {listen: "%[2]v:7946", key: %[4]q, join: [%[5]s]}
  edns: {id: gss-%[1]s}
  zones:
    - name: example.org
      primary: ns1.example.org
      contact: hostmaster.example.org
      records: |
`, place, w.addr["gss-"+place], w.folder("gss-"+place), meshKey, strings.Join(join, ", "), listen)
	for i, address := range announced() {
		fmt.Fprintf(&b, "        @ 3600 NS ns%d\n        ns%[1]d 3600 A %s\n", i+1, address)
	}
	b.WriteString(`        www A 192.0.2.80
        www AAAA 2001:db8::80
        chain CNAME link
        link CNAME smtp
        *.wild TXT "any name"
`)
	if child, ok := w.addr["gss-child"]; ok {
		fmt.Fprintf(&b, "        sub 3600 NS ns.sub\n        ns.sub 3600 A %v\n", child)
	}
	b.WriteString("  answers:\n")
	for _, site := range places()[:2] {
		fmt.Fprintf(&b, `    - name: %[1]s
      addresses: [%[2]v, "%[3]v"]
      target: mx-%[1]s.example.org
      probes: [{type: tcp, port: 25, %[4]s}]
      fail_back: 2s
`, site, vip4(site), vip6(site), w.probing)
	}
	b.WriteString(`  answer_groups:
    - {name: mail, answers: [east, west]}
    - {name: east, answers: [east]}
    - {name: west, answers: [west]}
  rules:
    - {name: smtp, domains: [smtp.example.org, "*.smtp.example.org"], clauses: [{group: mail, ttl: 5s}]}
    - {name: mx-east, domains: [mx-east.example.org], clauses: [{group: east}]}
    - {name: mx-west, domains: [mx-west.example.org], clauses: [{group: west}]}
    - {name: mx, domains: [example.org], clauses: [{group: mail, count: 2}], records: {MX: "{order} {target}"}}
    - name: srv
      domains: [_imaps._tcp.example.org]
      clauses: [{group: mail, count: 2}]
      records: {SRV: "{order} {weight} 993 {target}"}
    - name: https
      domains: [web.example.org]
      clauses: [{group: mail, count: 2}]
      records: {HTTPS: "{order} {target} alpn=h2 {ipv4hint} {ipv6hint}"}
`)
	return b.String()
}

// child gives the node file of a site selector alone, which has a zone that example.org delegates.
func child(addr netip.Addr, dir string) string {
	return fmt.Sprintf(`gss:
  listen: ["%v:53"]
  state_dir: %s
  zones:
    - name: sub.example.org
      primary: ns.sub.example.org
      contact: hostmaster.example.org
      records: |
        @    NS ns
        ns   A  %[1]v
        deep A  192.0.2.99
`, addr, dir)
}

// startAll starts the site selectors of all places, and waits until they answer, count each other and have both sites serve.
func (w *world) startAll() {
	w.t.Helper()
	for _, place := range places() {
		w.write("gss-"+place, "node.yml", w.node(place))
		w.startGSS(place)
	}
	w.waitGSS(places()...)
	w.waitCounted(len(places()))
	for _, site := range places()[:2] {
		w.waitPlace(site, "serving", places()...)
	}
	w.waitRoute("east")
}

// waitCounted waits until each site selector hears so many, itself among them, and knows that there are three.
func (w *world) waitCounted(n int) {
	w.t.Helper()
	for _, place := range places() {
		proctest.Eventually(w.t, fmt.Sprintf("%s hears %d vantages", place, n), func() bool {
			list := show[struct{ Counts bool }](w, place, "vantage")
			heard := 0
			for _, v := range list {
				if v.Counts {
					heard++
				}
			}
			return len(list) == len(places()) && heard == n
		})
	}
}

// waitPlace waits until an answer stands at a place, such as "out", for these site selectors.
func (w *world) waitPlace(answer, place string, at ...string) {
	w.t.Helper()
	for _, gss := range at {
		proctest.Eventually(w.t, fmt.Sprintf("%s is %s for %s", answer, place, gss), func() bool {
			for _, a := range show[struct{ Name, Place string }](w, gss, "answer") {
				if a.Name == answer {
					return a.Place == place
				}
			}
			return false
		})
	}
}
