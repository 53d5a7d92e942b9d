package gssbench

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"

	"anycastle/internal/proctest"
)

// resolver is a program of others that clients ask. All of its settings are Debian's but for those given here: where to
// listen and keep files, whom to ask for example.org, and that it is not signed.
type resolver struct {
	name     string
	setting  string // one of its settings that is not Debian's
	iterates bool   // it is not told of the zone, and finds it from the root on
	own      bool   // it is told of each site selector's own address, and not of those that all of them announce
	stale    bool   // it serves what has expired when it can get nothing new, in the way that its manual begins with
	program  string
	args     []string
	config   func(r *resolver, servers []string) string
	follows  bool           // it follows a delegation; one that only forwards leaves that to whom it asks
	bad      *regexp.Regexp // lines of its log that complain of a server
}

// resolvers are all five, or those of the names.
func resolvers(stale bool, names ...string) (list []*resolver) {
	for _, r := range []*resolver{
		{name: "unbound", program: "/usr/sbin/unbound", args: []string{"-d", "-c", "config"}, config: unboundConfig, follows: true,
			bad: regexp.MustCompile(`(?i)error|warning|servfail|caps|throwaway|lame|refused|no_edns|bogus`)},
		{name: "bind", program: "/usr/sbin/named", args: []string{"-g", "-c", "config"}, config: bindConfig, follows: true,
			bad: regexp.MustCompile(`(?i)FORMERR|lame|unexpected|timed out|edns|cookie|failure|REFUSED|broken|disabled|SERVFAIL`)},
		{name: "knot", program: "/usr/sbin/kresd", args: []string{"-n", "-c", "config", "."}, config: knotConfig,
			bad: regexp.MustCompile(`(?i)error|warn|fail|bogus|lame|rejected`)},
		{name: "powerdns", program: "/usr/sbin/pdns_recursor", args: []string{"--config-dir=."}, config: powerdnsConfig, follows: true,
			bad: regexp.MustCompile(`(?i)error|fail|lame|bogus|unable|throttl`)},
		{name: "dnsmasq", program: "/usr/sbin/dnsmasq", args: []string{"-d", "-C", "config"}, config: dnsmasqConfig,
			bad: regexp.MustCompile(`(?i)error|fail|refused|reduc|warning|nameserver`)},
	} {
		r.stale = stale
		if len(names) == 0 || slices.Contains(names, r.name) {
			list = append(list, r)
		}
	}
	return list
}

// ofOwn are all, or those of the names, that are told of the site selectors' own addresses.
func ofOwn(stale bool, names ...string) []*resolver {
	list := resolvers(stale, names...)
	for _, r := range list {
		r.own = true
	}
	return list
}

// tuned are those of ofOwn whose manual has a setting that helps when a server is silent, with it.
func tuned() (list []*resolver) {
	for _, t := range []struct {
		name, setting string
		stale         bool
	}{
		{"unbound", "serve-expired-client-timeout: 1800", true},
		{"powerdns", "network-timeout=500", false},
		{"dnsmasq", "all-servers", false},
		{"dnsmasq", "all-servers", true},
	} {
		r := ofOwn(t.stale, t.name)[0]
		r.setting = t.setting
		list = append(list, r)
	}
	return list
}

// iterating are those that can find a zone from the root on.
func iterating() []*resolver {
	list := resolvers(false, "unbound", "bind", "knot", "powerdns")
	for _, r := range list {
		r.iterates = true
	}
	return list
}

// host is where it runs; its name is that of a link.
func (r *resolver) host() string {
	name := r.name
	switch {
	case r.iterates:
		name += "-it"
	case r.setting != "":
		name += "-set"
	case r.own:
		name += "-own"
	}
	return name + r.ifStale("-st")
}

// row names a row of a benchmark's report: .ci/bench.awk makes columns of what has an equals sign.
func (r *resolver) row(what string) string {
	stale := "off"
	if r.stale {
		stale = "on"
	}
	name := what + "/serve_stale=" + stale
	switch {
	case r.iterates:
		name += "/setting=from-the-root"
	case r.setting != "":
		words := strings.FieldsFunc(r.setting, func(c rune) bool { return strings.ContainsRune(":= ", c) })
		name += "/setting=own-addresses-" + strings.Join(words, "-")
	case r.own:
		name += "/setting=own-addresses"
	}
	return name + "/resolver=" + r.name
}

func hostsOf(list []*resolver) (names []string) {
	for _, r := range list {
		names = append(names, r.host())
	}
	return names
}

// ifStale gives lines that are there only when it serves stale answers.
func (r *resolver) ifStale(lines string) string {
	if r.stale {
		return lines
	}
	return ""
}

// knows gives the lines that say where the root is, or who serves the zone.
func (r *resolver) knows(root, zone string) string {
	if r.iterates {
		return root
	}
	return zone
}

func unboundConfig(r *resolver, servers []string) string {
	return `server:
	interface: 127.0.0.1
	username: ""
	chroot: ""
	directory: "."
	pidfile: ""
	use-syslog: no
	log-servfail: yes
` + r.ifStale("\tserve-expired: yes\n") + "\t" + r.setting + r.knows("\troot-hints: hints", "") + `
remote-control:
	control-enable: no
` + r.knows("", "stub-zone:\n\tname: example.org\n\tstub-addr: "+strings.Join(servers, "\n\tstub-addr: ")+"\n")
}

func bindConfig(r *resolver, servers []string) string {
	return `options {
	directory "."; pid-file none; lock-file none; session-keyfile "./session.key";
	listen-on port 53 { 127.0.0.1; }; listen-on-v6 { none; };
	dnssec-validation no; require-server-cookie no;
	` + r.ifStale("stale-cache-enable yes; stale-answer-enable yes;") + `
};
controls { };
` + r.knows(`zone "." { type hint; file "hints"; };`,
		`zone "example.org" { type static-stub; server-addresses { `+strings.Join(servers, "; ")+"; }; };") + "\n"
}

func knotConfig(r *resolver, servers []string) string {
	return `net.listen('127.0.0.1', 53, {kind = 'dns'})
net.ipv6 = false
modules = {'hints > iterate'` + r.ifStale(", 'serve_stale < cache'") + `}
cache.size = 20 * MB
trust_anchors.remove('.')
modules.unload('ta_update')
modules.unload('detect_time_skew')
` + r.knows("hints.root_file('hints')", "modules.unload('priming')\n"+
		"policy.add(policy.suffix(policy.STUB({'"+strings.Join(servers, "', '")+"'}), policy.todnames({'example.org'})))") + "\n"
}

func powerdnsConfig(r *resolver, servers []string) string {
	return `local-address=127.0.0.1
socket-dir=.
dnssec=off
security-poll-suffix=
dont-query=
disable-syslog=yes
structured-logging=no
` + r.knows("hint-file=hints", "forward-zones=example.org="+strings.Join(servers, ";")) + "\n" +
		r.ifStale("serve-stale-extensions=120\n") + r.setting + "\n"
}

func dnsmasqConfig(r *resolver, servers []string) string {
	text := `listen-address=127.0.0.1
bind-interfaces
no-resolv
no-hosts
no-poll
log-facility=-
`
	for _, s := range servers {
		text += "server=/example.org/" + s + "\n"
	}
	return text + r.ifStale("use-stale-cache\n") + r.setting + "\n"
}

// startCopy runs a program on a host, from a copy: AppArmor's profile of the packaged program would keep it out of our folder.
func (w *world) startCopy(host, program string, args ...string) *proctest.Process {
	w.t.Helper()
	code, err := os.ReadFile(program)
	if err != nil {
		w.t.Fatalf("%v; make bench-gss installs what is missing", err)
	}
	dir := w.folder(host)
	own := filepath.Join(dir, filepath.Base(program))
	proctest.Check(w.t, os.WriteFile(own, code, 0o755))
	return proctest.Start(w.t, w.hosts[host], host, dir, append([]string{own}, args...)...)
}

// startResolver runs a resolver on its host, and waits until it knows a name.
func (w *world) startResolver(r *resolver) *proctest.Process {
	w.t.Helper()
	servers := announced()
	if r.own {
		servers = nil
		for _, place := range places() {
			servers = append(servers, w.addr["gss-"+place].String())
		}
	}
	name := "config"
	if r.name == "powerdns" {
		name = "recursor.conf"
	}
	w.write(r.host(), name, r.config(r, servers))
	if r.iterates {
		w.write(r.host(), "hints", w.hints())
	}
	p := w.startCopy(r.host(), r.program, r.args...)
	proctest.Eventually(w.t, r.host()+" resolves", func() bool {
		if p.Ended() {
			w.t.Fatalf("%s ends: %v", r.host(), p.Wait())
		}
		m, err := w.query(r.host(), "www.example.org.", dns.TypeA)
		return err == nil && m.Rcode == dns.RcodeSuccess && len(m.Answer) == 1
	})
	return p
}

// query asks the resolver of a host one thing, over UDP.
func (w *world) query(host, name string, typ uint16) (*dns.Msg, error) {
	w.t.Helper()
	c, err := w.dial(host, "127.0.0.1:53")
	if err != nil {
		return nil, err
	}
	conn := &dns.Conn{Conn: c, UDPSize: 4096}
	defer conn.Close()
	m := new(dns.Msg).SetQuestion(name, typ)
	m.SetEdns0(1232, false)
	reply, _, err := (&dns.Client{Timeout: 2 * time.Second}).ExchangeWithConn(m, conn)
	if err != nil {
		return nil, fmt.Errorf("ask %s for %s: %w", host, name, err)
	}
	return reply, nil
}

// dial gives a UDP socket of a host.
func (w *world) dial(host, to string) (c net.Conn, err error) {
	w.t.Helper()
	w.hosts[host].Do(func() error {
		c, err = net.Dial("udp", to)
		return nil
	})
	return c, err
}
